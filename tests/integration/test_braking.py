"""Replies that slow a node down at a site: counted and acted on where they are written down."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from sqlalchemy import Engine, event, text
from structlog.testing import capture_logs

from integration.ledger_steps import ask, change
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.replies import braking

SPEC = '{"smtp": {"host": "h"}, "identity": {"domain": "acme.example"}}'
DEFERRED = "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred"


@dataclass(frozen=True)
class Answer:
    """As much of a `MailRecord` as matters here."""

    rule: str = "yahoo.complaints"
    site: str = "yahoo"
    node: str = "n1"
    text: str = DEFERRED


@pytest.fixture
def email(engine: Engine) -> int:
    """A mail for the attempts to belong to."""
    change(engine, "INSERT INTO tenants (name) VALUES ('acme')")
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES ('n1', :spec)", spec=SPEC)
    with engine.begin() as connection:
        return send_email(connection, NewEmail("acme", "a@yahoo.com", "n1", "Hi", "Hello"))


def settle(engine: Engine, email: int, *answers: Answer, ago: str = "0 seconds") -> list[tuple[object, ...]]:
    """Write attempts and act on them, as settlement does; what then is in force."""
    with engine.begin() as connection:
        for answer in answers:
            connection.execute(
                text("""INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, site, rule,
                                                    reply, fenced, finished_at)
                        VALUES (:email, 1, 'w', :node, 'mail', 'deferred', :site, :rule, :reply, false,
                                postfleet_now() - CAST(:ago AS interval))"""),
                {"email": email, "node": answer.node, "site": answer.site, "rule": answer.rule, "reply": answer.text,
                 "ago": ago},
            )  # fmt: skip
        braking.act(connection, answers)
    return in_force(engine)


def in_force(engine: Engine) -> list[tuple[object, ...]]:
    """Node, site, action, value, rule and minutes left of each."""
    return [tuple(row) for row in ask(engine, """
        SELECT node, site, action, value, rule, round(extract(epoch FROM until - postfleet_now()) / 60)::integer
        FROM slowdowns WHERE until > postfleet_now() ORDER BY 1, 2, 3""")]  # fmt: skip


def test_a_rule_acts_when_its_threshold_is_reached(engine: Engine, email: int) -> None:
    assert settle(engine, email, Answer()) == []
    assert settle(engine, email, Answer()) == [("n1", "yahoo", "suspend", None, "yahoo.complaints", 120)]


def test_two_replies_of_one_bundle_count_twice(engine: Engine, email: int) -> None:
    assert len(settle(engine, email, Answer(), Answer())) == 1


def test_replies_before_the_window_do_not_count(engine: Engine, email: int) -> None:
    settle(engine, email, Answer(), Answer(), ago="61 minutes")
    change(engine, "DELETE FROM slowdowns")
    assert settle(engine, email, Answer()) == []


def test_nodes_and_sites_are_counted_apart(engine: Engine, email: int) -> None:
    general = Answer("rate.connections", "mx:mx.acme.example")
    others = [replace(general, node="n2"), replace(general, site="mx:mx.other.example"), general]
    assert settle(engine, email, *others) == []
    assert settle(engine, email, general, general) == [
        ("n1", "mx:mx.acme.example", "connections", 1, "rate.connections", 30)
    ]


def test_several_actions_begin_together(engine: Engine, email: int) -> None:
    assert settle(engine, email, Answer("outlook.rate", "outlook")) == [
        ("n1", "outlook", "connections", 1, "outlook.rate", 90),
        ("n1", "outlook", "per_minute", 1, "outlook.rate", 90),
    ]


def test_the_stricter_value_and_the_later_end_hold(engine: Engine, email: int) -> None:
    settle(engine, email, Answer("outlook.rate", "gmail"))
    unusual = Answer("gmail.rate", "gmail")
    after = settle(engine, email, unusual, unusual)
    assert ("n1", "gmail", "per_minute", 1, "gmail.rate", 90) in after
    both = [replace(unusual, node="n2"), replace(unusual, node="n2"), Answer("outlook.rate", "gmail", "n2")]
    after = settle(engine, email, *both)
    assert ("n2", "gmail", "per_minute", 1, "outlook.rate", 90) in after


def test_what_is_over_does_not_bind_what_begins_anew(engine: Engine, email: int) -> None:
    settle(engine, email, Answer("outlook.rate", "gmail"))
    change(engine, "UPDATE slowdowns SET until = postfleet_now() - interval '1 minute'")
    unusual = Answer("gmail.rate", "gmail")
    assert settle(engine, email, unusual, unusual) == [("n1", "gmail", "per_minute", 10, "gmail.rate", 30)]


def test_a_beginning_is_logged_once(engine: Engine, email: int) -> None:
    with capture_logs() as logs:
        for _ in range(3):
            settle(engine, email, Answer())
    (begun,) = logs
    assert begun["event"] == "node_slowed_down"
    assert (begun["node"], begun["site"], begun["rule"], begun["reply"]) == (
        "n1",
        "yahoo",
        "yahoo.complaints",
        DEFERRED,
    )


def test_ordinary_mail_costs_no_query(engine: Engine) -> None:
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    with engine.begin() as connection:
        braking.act(connection, [Answer(""), Answer("some-bounce"), Answer(site="")])
    assert asked == []


def test_the_counts_are_read_from_the_rules_index(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        rows = '[{"node": "n", "site": "s", "rule": "r", "window_seconds": 60, "threshold": 2}]'
        plan = connection.execute(text(f"EXPLAIN {braking.COUNT.text}"), {"rows": rows}).scalars().all()
    assert any("ix_email_attempts_rule" in line for line in plan)
