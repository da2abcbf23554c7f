"""Replies that slow a node down at a site."""

from __future__ import annotations

from postfleet_workers.mail.replies import slowdown
from postfleet_workers.mail.replies.rules import rulebook
from postfleet_workers.mail.replies.slowdown import BRAKES, Action, Kind, due


def test_a_brake_is_due_from_its_threshold_on() -> None:
    assert [due("yahoo.complaints", count) for count in (0, 1)] == [(), ()]
    assert due("yahoo.complaints", 2) == due("yahoo.complaints", 9) == (Action(Kind.SUSPEND, 7200),)


def test_an_address_that_is_mistrusted_slows_down_at_once() -> None:
    assert due("outlook.rate", 1) == (Action(Kind.PER_MINUTE, 5400, 1), Action(Kind.CONNECTIONS, 5400, 1))


def test_most_rules_slow_nothing_down() -> None:
    assert slowdown.find("recipient.unknown") is None
    assert due("recipient.unknown", 100) == ()


def test_every_brake_is_of_a_rule_that_the_classifier_knows() -> None:
    assert {brake.rule for brake in BRAKES} <= {rule.id for rule in rulebook().texts}


def test_each_brake_stands_once_and_does_something() -> None:
    names = [brake.rule for brake in BRAKES]
    assert names == sorted(set(names))
    for brake in BRAKES:
        assert brake.threshold >= 1
        assert len({action.kind for action in brake.actions}) == len(brake.actions) >= 1
        assert all((action.value is None) == (action.kind is Kind.SUSPEND) for action in brake.actions)
