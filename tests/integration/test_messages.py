"""Whole messages over real SMTP: signed, with files, in every language, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from email import message_from_bytes, policy
from pathlib import Path

import dkim as verifier
import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sqlalchemy import Engine, text

from command import Command
from mail_bench import Bench
from mail_lab import Lab
from postfleet_workers.campaigns.expansion import expand_chunk
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import Done, Permanent, Snooze
from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.message.attachments import Attachments, File, store
from postfleet_workers.mail.message.dkim import record
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.message.press import Supplies
from postfleet_workers.mail.tokens import Key
from smtp_lab import FaultyLab, running

DKIM = {"dkim": {"selector": "s1"}}
KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis, tmp_path: Path) -> Iterator[Bench]:
    with closing(Bench(engine, redis_client, supplies=Supplies(Credentials(tmp_path)))) as bench:
        yield bench


def put_key(folder: Path) -> None:
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "acme-1.dkim").write_bytes(pem)


def test_mail_waits_for_its_key_and_is_then_signed_as_it_arrives(bench: Bench, lab: Lab, tmp_path: Path) -> None:
    bench.node(lab.port, identity=DKIM)
    bench.enqueue("a@b.example", "c@b.example", text="one\n.\n..two \n\n\n")
    outcomes = bench.run()
    assert {outcome.kind for outcome in outcomes if isinstance(outcome, Snooze)} == {"dkim_missing"}
    assert len(outcomes) == 2
    assert lab.accepted == []
    assert bench.statuses() == ["queued", "queued"]
    assert bench.attempts() == []
    put_key(tmp_path)
    assert {type(outcome) for outcome in bench.run_again()} == {Done}
    for mail in lab.accepted:
        assert verifier.verify(mail.data, dnsfunc=lambda name, timeout=5: record(KEY).encode())
    assert bench.statuses() == ["sent", "sent"]


def test_files_arrive_as_they_were(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    logo = File("logo.png", bytes(range(256)))
    terms = File("Angebot für Jörg.pdf", b"%PDF" * 50_000)
    bench.enqueue("a@b.example", html='<img src="cid:logo.png"> Hello', text="", attachments=[logo, terms])
    bench.run()
    message = message_from_bytes(lab.accepted[0].data, policy=policy.default)
    files = {part.get_filename(): part.get_content() for part in message.walk() if part.get_filename()}
    assert files == {logo.name: logo.body, terms.name: terms.body}
    assert message.get_body(("plain",)).get_content().strip() == "Hello"  # type: ignore[attr-defined]


def test_a_file_is_kept_once_per_tenant(bench: Bench, engine: Engine) -> None:
    with engine.begin() as connection:
        first = store(connection, "acme", [File("a.txt", b"x"), File("b.txt", b"x")])
        assert store(connection, "acme", [File("b.txt", b"x"), File("a.txt", b"x")]) == first[::-1]
        assert connection.scalar(text("SELECT count(*) FROM attachments")) == 2
        kept = Attachments(kept_bytes=5)
        assert {file.name for file in kept.get(connection, first).values()} == {"a.txt", "b.txt"}
        connection.execute(text("DELETE FROM attachments"))
        assert len(kept.get(connection, first)) == 1  # there was room for one


def test_a_mail_whose_file_is_gone_fails_and_says_so(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example", attachments=[File("a.txt", b"x")])
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM attachments"))
    (outcome,) = bench.run()
    assert isinstance(outcome, Permanent)
    assert "attachment" in outcome.error
    assert bench.statuses() == ["failed"]


def test_what_no_mail_can_carry_is_refused_when_it_is_enqueued(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    with pytest.raises(InputError, match=r"receivers refuse mail with \.exe files"):
        bench.enqueue("a@b.example", attachments=[File("a.exe", b"x")])
    assert bench.emails() == []


def test_html_that_shows_a_file_which_is_not_attached_is_refused_when_it_is_enqueued(
    bench: Bench, lab: Lab, postfleet: Command
) -> None:
    bench.node(lab.port)
    answer = postfleet(
        "send", "--tenant", "acme", "--to", "a@b.example", "--node", "acme-1", "--subject", "s",
        "--html", "<img src='cid:logo.png'>",
    )  # fmt: skip
    line = "postfleet: html, line 1: shows cid:logo.png, but no attachment has that name; nothing is attached\n"
    assert (answer.code, answer.err) == (2, line)
    assert bench.emails() == []


@pytest.mark.parametrize("name", ["Jörg Müller", "Acme, Inc.", "山田太郎" * 10])
def test_a_recipients_name_arrives_as_it_was_given(bench: Bench, lab: Lab, name: str) -> None:
    bench.node(lab.port)
    bench.enqueue(f'"{name}" <a@b.example>')
    bench.run()
    message = message_from_bytes(lab.accepted[0].data, policy=policy.default)
    assert message["To"].addresses[0].display_name.replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("field", ["to", "sender", "reply_to"])
def test_an_international_address_takes_a_server_that_takes_them(bench: Bench, lab: Lab, field: str) -> None:
    changes = {"to": "ann@b.example", field: "jörg@bücher.example"}
    bench.node(lab.port)
    bench.enqueue(changes.pop("to"), **changes)
    bench.run()
    assert b"j\xc3\xb6rg@xn--bcher-kva.example" in lab.accepted[0].data
    with running(FaultyLab()) as old:
        bench.node(old.port)
        bench.enqueue("jörg@b.example" if field == "to" else "ann@b.example", **changes)
        bench.run()
        assert old.accepted == []
    assert bench.statuses() == ["sent", "bounced"]
    assert bench.emails()[1]["reply"] == "553 5.6.7 the server takes no international addresses"


CAMPAIGN = """
name: spring
tenant: acme
list: customers
from: News <news@acme.example>
nodes: [acme-1]
subject: Hello {{ contact.first_name }}
html: |
  <style>p { color: red }</style>
  <body><p>Hello {{ contact.first_name }}</p><img src="cid:logo.png"><a href="https://shop.example/">Shop</a>
  <a href="{{ unsubscribe_url }}">No more</a></body>
oneClick: true
trackOpens: true
trackClicks: true
attachments: [logo.png, terms.pdf]
"""


def test_a_campaigns_mails_carry_and_tell_what_its_file_says(
    engine: Engine,
    redis_client: redis.Redis,
    lab: Lab,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    postfleet = Command(database_url, monkeypatch)
    links = Links("https://m.example", Key(b"k" * 32))
    with closing(Bench(engine, redis_client, supplies=Supplies(key=links.key, links=links))) as bench:
        bench.node(lab.port)
        (tmp_path / "contacts.csv").write_text("email,first_name\na@b.example,Ann\nc@b.example,Cid\n")
        (tmp_path / "campaign.yaml").write_text(CAMPAIGN)
        postfleet("contacts", "import", tmp_path / "contacts.csv", "--tenant", "acme", "--list", "customers")
        answer = postfleet("campaigns", "create", tmp_path / "campaign.yaml")
        assert (answer.code, "cannot read" in answer.err, "logo.png: No such file" in answer.err) == (2, True, True)
        for name in ("logo.png", "terms.pdf"):
            (tmp_path / name).write_bytes(name.encode())
        (tmp_path / "bare.yaml").write_text(CAMPAIGN.replace("attachments: [logo.png, ", "attachments: ["))
        answer = postfleet("campaigns", "create", tmp_path / "bare.yaml")
        assert (answer.code, "bare.yaml: html, line 2: shows cid:logo.png" in answer.err) == (2, True)
        campaign_id = postfleet("campaigns", "create", tmp_path / "campaign.yaml", "--output", "json").json["id"]
        postfleet("campaigns", "start", "spring")
        with engine.begin() as connection:
            connection.execute(text("UPDATE jobs SET state = 'completed' WHERE type = 'campaign.expand'"))
            assert expand_chunk(connection, campaign_id, 100).made == 2
        assert {type(outcome) for outcome in bench.run()} == {Done}
        ids = [row["id"] for row in bench.emails()]
    for mail, email_id, name in zip(lab.accepted, ids, ("Ann", "Cid"), strict=True):
        message = message_from_bytes(mail.data, policy=policy.default)
        html = message.get_body(("html",)).get_content()  # type: ignore[attr-defined]
        assert f'<p style="color: red;">Hello {name}</p>' in html
        assert links.click(email_id, "https://shop.example/") in html
        assert links.open(email_id) in html
        assert f"Hello {name}" in message.get_body(("plain",)).get_content()  # type: ignore[attr-defined]
        assert message["List-Unsubscribe"] == f"<{links.unsubscribe(email_id)}>"
        assert message["List-ID"] == "<customers.acme.acme.example>"
        files = [
            (part.get_filename(), part.get_content_disposition()) for part in message.walk() if part.get_filename()
        ]
        assert files == [("logo.png", "inline"), ("terms.pdf", "attachment")]


def test_a_file_is_attached_on_the_command_line(bench: Bench, lab: Lab, postfleet: Command, tmp_path: Path) -> None:
    bench.node(lab.port)
    send = ["send", "--tenant", "acme", "--to", "a@b.example", "--node", "acme-1", "--subject", "s", "--html", "<p>Hi"]
    file = tmp_path / "terms.pdf"
    answer = postfleet(*send, "--attach", file)
    assert (answer.code, answer.err) == (2, f"postfleet: cannot read {file}: No such file or directory\n")
    file.write_bytes(b"%PDF")
    assert postfleet(*send, "--attach", file).code == 0
    bench.run()
    assert b'filename="terms.pdf"' in lab.accepted[0].data
