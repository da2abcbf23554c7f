"""`postfleet send` and `postfleet emails`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine, text

from command import Command
from mail_bench import Bench
from smtp_lab import Lab, running

SEND = (
    "send", "--tenant", "acme", "--to", "Ann Ö <ann@b.example>", "--node", "acme-1",
    "--subject", "Hi {{ contact.name }}", "--text", "For {{ contact.email }}", "--var", "name=Ann",
)  # fmt: skip


@pytest.fixture
def postfleet(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(database_url, monkeypatch)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running(Lab()) as lab:
        yield lab


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
