"""`postfleet send` and `postfleet emails`."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine, text

from command import Command
from mail_bench import Bench
from mail_lab import Lab

SEND = (
    "send", "--tenant", "acme", "--to", "Ann Ö <ann@b.example>", "--node", "acme-1",
    "--subject", "Hi {{ contact.name }}", "--text", "For {{ contact.email }}", "--var", "name=Ann",
)  # fmt: skip


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis, lab: Lab) -> Iterator[Bench]:
    bench = Bench(engine, redis_client)
    bench.node(lab.port)
    yield bench
    bench.close()


def changed(**options: str) -> tuple[str, ...]:
    words = list(SEND)
    for name, value in options.items():
        words[words.index(f"--{name}") + 1] = value
    return tuple(words)


def test_a_mail_is_enqueued_sent_and_shown(postfleet: Command, bench: Bench, lab: Lab) -> None:
    email_id = postfleet(*SEND, "--output", "json").json["id"]
    (job,) = bench.jobs()
    assert (job["queue"], job["type"], job["route"]) == ("priority-high", "email.send", "acme-1")
    assert postfleet("emails", "show", email_id, "--output", "json").json["status"] == "queued"
    jobs, run = bench.claim()
    assert postfleet("emails", "show", email_id, "--output", "json").json["status"] == "sending"
    bench.settle(jobs, bench.perform(jobs, run))
    (mail,) = lab.accepted
    assert "Subject: Hi Ann\r\n" in mail.data.decode()
    assert "From: postmaster@mail.acme.example\r\n" in mail.data.decode()
    shown = postfleet("emails", "show", email_id, "--output", "json").json
    assert (shown["status"], shown["recipient"], shown["message_id"]) == ("sent", "ann@b.example", mail.message_id)
    assert [a["outcome"] for a in shown["attempts"]] == ["sent"]
    assert shown["next_try_at"] is None
    people = postfleet("emails", "show", email_id).out
    assert "250 2.0.0 OK queued" in people


def test_emails_are_listed_newest_first_by_every_filter(postfleet: Command, bench: Bench, lab: Lab) -> None:
    lab.rcpt = {"gone@b.example": "550 5.1.1 no such user"}
    bench.enqueue("a@b.example", "gone@b.example", "c@b.example")
    bench.run()
    bench.enqueue("later@b.example")

    def recipients(*options: str | int) -> list[str]:
        return [row["recipient"] for row in postfleet("emails", "list", *options, "--output", "json").json]

    assert recipients() == ["later@b.example", "c@b.example", "gone@b.example", "a@b.example"]
    assert recipients("--status", "sent") == ["c@b.example", "a@b.example"]
    assert recipients("--status", "bounced") == ["gone@b.example"]
    assert recipients("--status", "queued") == ["later@b.example"]
    assert recipients("--status", "unknown") == []
    assert recipients("--tenant", "acme", "--limit", 1) == ["later@b.example"]
    assert recipients("--tenant", "other") == recipients("--campaign", "none") == []
    bench.claim()
    assert recipients("--status", "sending") == ["later@b.example"]
    assert recipients("--status", "queued") == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (changed(tenant="nobody"), "tenant 'nobody' does not exist"),
        (changed(node="nowhere"), "sending node 'nowhere' does not exist"),
        (changed(to="not an address"), "to: 'not an address' is not an email address"),
        (
            changed(text="a\n{{ contact.nam }}"),
            "text, line 2: unknown variable 'contact.nam'; did you mean 'contact.name'?",
        ),
        (changed(subject="{% if %}"), "subject, line 1: "),
        (changed(var="name"), "--var 'name': give NAME=VALUE"),
        ((*SEND, "--from", "nobody"), "from: 'nobody' is not an email address"),
        ((*SEND, "--queue", "a b"), "queue 'a b' is no name: use 1 to 63 letters"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_and_nothing_is_enqueued(
    postfleet: Command, bench: Bench, words: tuple[str, ...], message: str
) -> None:
    answer = postfleet(*words)
    assert answer.code == 2
    assert answer.err.startswith(f"postfleet: {message}")
    assert answer.err.count("\n") == 1
    assert bench.jobs() == bench.emails() == []


def test_a_unique_key_is_taken_once(postfleet: Command, bench: Bench) -> None:
    assert postfleet(*SEND, "--unique-key", "order-7").code == 0
    again = postfleet(*SEND, "--unique-key", "order-7")
    assert (again.code, again.err) == (
        2, "postfleet: an email with the unique key 'order-7' was enqueued before\n"
    )  # fmt: skip
    assert len(bench.emails()) == 1


def test_a_node_of_another_tenant_is_refused(postfleet: Command, bench: Bench, engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("""UPDATE sending_nodes SET spec = spec || '{"tenants": ["other"]}'"""))
    assert postfleet(*SEND).err == "postfleet: sending node 'acme-1' is not open to tenant 'acme'\n"


def test_an_email_that_does_not_exist_is_said_so(postfleet: Command, bench: Bench) -> None:
    answer = postfleet("emails", "show", 12345)
    assert (answer.code, answer.err) == (2, "postfleet: no email with id 12345\n")


def test_emails_are_found_by_recipient_site_scope_and_time(postfleet: Command, bench: Bench, lab: Lab) -> None:
    lab.rcpt = {"gone@b.example": "550 5.1.1 no such user", "slow@b.example": "451 4.7.0 [TSS04] deferred"}
    bench.enqueue("a@b.example", "gone@b.example", "slow@b.example")
    bench.run()
    with bench.engine.begin() as connection:
        connection.execute(
            text("UPDATE email_attempts SET site = 'gmail' WHERE email_id = (SELECT min(id) FROM emails)")
        )
        connection.execute(text("UPDATE emails SET due_at = due_at - interval '3 days' WHERE recipient LIKE 'gone%'"))

    def recipients(*options: str | int) -> list[str]:
        return [row["recipient"] for row in postfleet("emails", "list", *options, "--output", "json").json]

    assert recipients("--recipient", "A@b.example") == ["a@b.example"]
    assert recipients("--recipient", "nobody@b.example") == []
    assert recipients("--site", "gmail") == ["a@b.example"]
    assert recipients("--scope", "recipient") == ["gone@b.example"]
    assert recipients("--scope", "source") == ["slow@b.example"]
    assert recipients("--site", "gmail", "--scope", "source") == []
    assert recipients("--since", "2d") == ["slow@b.example", "a@b.example"]
    assert recipients("--until", "2d") == ["gone@b.example"]
    assert recipients("--since", "2000-01-01", "--until", "2000-01-02T12:00+02:00") == []
    answer = postfleet("emails", "list", "--since", "yesterday")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "'yesterday' is no time; give 2h, 7d or 2026-03-01T12:00" in answer.err


def test_emails_are_read_page_by_page(postfleet: Command, bench: Bench) -> None:
    ids = bench.enqueue(*(f"{number}@b.example" for number in range(5)))
    seen: list[int] = []
    while page := postfleet(
        "emails", "list", "--limit", 2, "--after", seen[-1] if seen else 2**62, "--output", "json"
    ).json:
        seen += [row["id"] for row in page]
    assert seen == sorted(ids, reverse=True)


def test_an_email_is_shown_with_its_whole_ledger(postfleet: Command, bench: Bench, lab: Lab) -> None:
    lab.rcpt = {"ann@b.example": "450 4.2.0 Greylisted, see you later"}
    (email_id,) = bench.enqueue("ann@b.example")
    bench.run()
    lab.rcpt = {}
    bench.run_again()
    with bench.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO email_events (email_id, kind, detail, unique_key) VALUES (:id, 'complaint', 'arf', 'k')"),
            {"id": email_id},
        )
    shown = postfleet("emails", "show", email_id, "--output", "json").json
    assert (shown["status"], shown["job_state"], shown["deferrals"]) == ("sent", "completed", 1)
    assert [(a["outcome"], a["scope"], a["rule"], a["enhanced"]) for a in shown["attempts"]] == [
        ("deferred", "recipient", "greylisted", "4.2.0"),
        ("sent", None, None, "2.0.0"),
    ]
    assert all(0 <= a["seconds"] < 60 for a in shown["attempts"])
    assert [(e["kind"], e["detail"]) for e in shown["events"]] == [("complaint", "arf")]
    people = postfleet("emails", "show", email_id).out
    assert "greylisted" in people
    assert "complaint" in people


def test_replies_are_listed_together_those_that_no_rule_knows_apart(postfleet: Command, bench: Bench, lab: Lab) -> None:
    lab.rcpt = {
        "a@b.example": "550 5.1.1 <a@b.example>: no such user",
        "b@b.example": "550 5.1.1 <b@b.example>: no such user",
        "c@b.example": "550 5.7.1 Flurble 17 to c@b.example",
        "d@b.example": "550 5.7.1 Flurble 18 to d@b.example",
        "e@b.example": "550 5.7.1 Flurble 19 to e@b.example",
    }
    bench.enqueue(*lab.rcpt, "fine@b.example")
    bench.run()

    def replies(*options: str | int) -> list[tuple[int, str, str]]:
        rows = postfleet("emails", "replies", *options, "--output", "json").json
        return [(row["count"], row["reply"], row["rule"]) for row in rows]

    flurble = (3, "Flurble <n> to <address>", "fallback:rcpt")
    assert replies() == [flurble, (2, "<address>: no such user", "recipient.unknown")]
    assert replies("--unmatched") == [flurble]
    assert replies("--limit", 1) == [flurble]
    assert replies("--since", "2100-01-01") == replies("--site", "gmail") == replies("--node", "other") == []
    (row,) = postfleet("emails", "replies", "--unmatched", "--output", "json").json
    assert (row["code"], row["enhanced"], row["scope"], row["phase"]) == (550, "5.7.1", "message", "rcpt")
    assert row["example"].startswith("550 5.7.1 Flurble 1")


def campaign(bench: Bench, *ids: int) -> None:
    """Make these mails a campaign's, `news`."""
    with bench.engine.begin() as connection:
        list_id = connection.execute(
            text("INSERT INTO contact_lists (tenant, name) VALUES ('acme', 'l') RETURNING id")
        ).scalar_one()
        campaign_id = connection.execute(
            text("""INSERT INTO campaigns (tenant, name, list_id, queue, nodes, subject, text, sender, state)
                    VALUES ('acme', 'news', :list, 'campaign-standard', '{acme-1}', 's', 't', 'a@b.example', 'running')
                    RETURNING id"""),
            {"list": list_id},
        ).scalar_one()
        connection.execute(
            text("UPDATE emails SET campaign_id = :campaign, class = 'campaign', step = id WHERE id = ANY(:ids)"),
            {"campaign": campaign_id, "ids": list(ids)},
        )


def test_who_got_a_campaign_who_did_not_and_why(postfleet: Command, bench: Bench, lab: Lab) -> None:
    lab.rcpt = {
        "gone@b.example": "550 5.1.1 no such user",
        "=cmd@b.example": "451 4.7.0 [TSS04] deferred",
        "odd@b.example": "554 5.7.1 Flurble",
    }
    ids = bench.enqueue("a@b.example", "c@b.example", *lab.rcpt)
    bench.run()
    campaign(bench, *ids)
    bench.enqueue("of-no-campaign@b.example")
    rows = postfleet("emails", "who", "--campaign", "news", "--output", "json").json
    assert [(row["emails"], row["status"], row["reason"]) for row in rows] == [
        (2, "sent", ""),
        (1, "bounced", "message: fallback:rcpt"),
        (1, "bounced", "recipient: recipient.unknown"),
        (1, "deferred", "source: yahoo.complaints"),
    ]
    assert rows[2]["example"] == "550 5.1.1 no such user"
    assert "source: yahoo.complaints" in postfleet("emails", "who", "--campaign", "news").out

    answer = postfleet("emails", "who", "--campaign", "news", "--recipients", "--output", "json")
    assert answer.out.count("\n") == 1
    every = answer.json
    assert [(row["recipient"], row["status"]) for row in every] == [
        ("a@b.example", "sent"), ("c@b.example", "sent"), ("gone@b.example", "bounced"), ("=cmd@b.example", "deferred"),
        ("odd@b.example", "bounced"),
    ]  # fmt: skip
    sheet = list(csv.DictReader(io.StringIO(
        postfleet("emails", "who", "--campaign", "news", "--recipients", "--output", "csv").out
    )))  # fmt: skip
    assert [row["recipient"] for row in sheet][2:4] == ["gone@b.example", "'=cmd@b.example"]
    assert sheet[2]["code"] == "550"
    answer = postfleet("emails", "who", "--campaign", "nothing")
    assert (answer.code, answer.err) == (2, "postfleet: no campaign 'nothing'; `postfleet campaigns list` shows them\n")


def lose(bench: Bench) -> None:
    """Let every mail that waits become unknown."""
    jobs, run = bench.claim()
    for job in jobs:
        assert run.dot(job)
    bench.rescue(jobs, run)


def test_a_person_says_what_became_of_an_unknown_mail_once(postfleet: Command, bench: Bench, lab: Lab) -> None:
    first, second = bench.enqueue("a@b.example", "c@b.example")
    lose(bench)
    answer = postfleet("emails", "resolve", first, "--as", "sent", "--note", "found in their log", "--output", "json")
    assert answer.json == [{"id": first, "was": "unknown", "result": "sent"}]
    assert bench.statuses() == ["sent", "unknown"]
    again = postfleet("emails", "resolve", first, "--as", "sent", "--output", "json")
    assert again.json == [{"id": first, "was": "sent", "result": "is sent already"}]
    refused = postfleet("emails", "resolve", first, second, "--as", "bounced")
    assert (refused.code, refused.err) == (
        1, f"postfleet: 1 of 2 emails not resolved: email {first} is sent, not unknown\n"
    )  # fmt: skip
    assert bench.statuses() == ["sent", "bounced"]
    campaign(bench, first, second)
    told = postfleet("emails", "who", "--campaign", "news", "--output", "json").json
    assert [(row["status"], row["reason"]) for row in told] == [("bounced", "a person said so"), ("sent", "")]
    (word,) = [row for row in bench.attempts() if row["email_id"] == first and row["phase"] == "resolved"]
    assert (word["outcome"], word["reply"]) == ("resolved", "resolved: sent, found in their log")
    assert not lab.accepted


def test_a_person_has_an_unknown_mail_sent_again_once(postfleet: Command, bench: Bench, lab: Lab) -> None:
    (email_id,) = bench.enqueue("a@b.example")
    lose(bench)
    assert postfleet("emails", "resolve", email_id, "--as", "resend").code == 0
    again = postfleet("emails", "resolve", email_id, "--as", "resend")
    assert (again.code, again.err) == (
        1, f"postfleet: 1 of 1 emails not resolved: email {email_id} is queued, not unknown\n"
    )  # fmt: skip
    bench.run()
    (email,), (mail,) = bench.emails(), lab.accepted
    assert (email["status"], email["resends"], email["message_id"]) == ("sent", 1, mail.message_id)
    assert postfleet("emails", "resolve", email_id, "--as", "resend").code == 1
    assert bench.run_again() == []


def test_all_unknown_mails_of_a_campaign_are_settled_at_once(postfleet: Command, bench: Bench, lab: Lab) -> None:
    ids = bench.enqueue(*(f"{number}@b.example" for number in range(3)))
    lose(bench)
    bench.enqueue("other@b.example")
    campaign(bench, *ids)
    resolve = ("emails", "resolve", "--campaign", "news", "--all", "--as", "resend", "--output", "json")
    assert postfleet(*resolve).json == {"found": 3, "changed": 3}
    assert postfleet(*resolve).json == {"found": 0, "changed": 0}
    assert bench.statuses() == ["queued"] * 4
    bench.run()
    assert len(lab.accepted) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--as", "sent"), "give either email ids or --campaign NAME --all"),
        ((1, "--campaign", "x", "--as", "sent"), "give either email ids or --campaign NAME --all"),
        (("--campaign", "x", "--as", "sent"), "--campaign and --all go together"),
        ((1, "--all", "--as", "sent"), "--campaign and --all go together"),
        ((4711, "--as", "sent"), "no email with id 4711; nothing was changed"),
        ((1, "--as", "lost"), "Invalid value for '--as'"),
        ((1,), "Missing option '--as'"),
    ],
)
def test_what_cannot_be_resolved_is_refused_in_one_line(
    postfleet: Command, bench: Bench, words: tuple[str | int, ...], message: str
) -> None:
    answer = postfleet("emails", "resolve", *words)
    assert answer.code == 2
    assert answer.err.startswith(f"postfleet: {message}")
    assert answer.err.count("\n") == 1


def test_a_mail_is_sent_again_if_unknown_when_its_sender_says_so(postfleet: Command, bench: Bench, lab: Lab) -> None:
    assert postfleet(*SEND, "--on-unknown", "resend").code == 0
    lose(bench)
    assert bench.statuses() == ["queued"]
    bench.run()
    assert (bench.statuses(), len(lab.accepted)) == (["sent"], 1)
