"""Who may take a Lease: by what a candidate has seen, never by comparing clocks."""

from __future__ import annotations

import pytest

from postfleet_operator.kube import election
from postfleet_operator.kube.election import Record, Seen

THEIRS = Record("other", 10.0, "a", "r1", 3)


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        pytest.param(None, 0.0, True, id="there is no Lease"),
        pytest.param(Seen(THEIRS, 100.0), 109.9, False, id="it changed less than its duration ago"),
        pytest.param(Seen(THEIRS, 100.0), 110.0, True, id="it has not changed for its duration"),
        pytest.param(Seen(Record("me"), 100.0), 100.0, True, id="it is held already"),
        pytest.param(Seen(Record(""), 100.0), 100.0, True, id="its holder let go"),
        pytest.param(Seen(Record("other", 60.0), 100.0), 130.0, False, id="the duration is the Lease's own"),
    ],
)
def test_who_may_take_it(seen: Seen | None, now: float, expected: bool) -> None:
    assert election.free(seen, "me", now) is expected


def test_only_a_change_counts_as_a_sign_of_life() -> None:
    seen = election.observe(None, THEIRS, 100.0)
    assert election.observe(seen, THEIRS, 105.0) == seen
    renewed = Record("other", 10.0, "a", "r2", 3)
    assert election.observe(seen, renewed, 105.0) == Seen(renewed, 105.0)


def test_a_takeover_is_counted_and_a_renewal_is_not() -> None:
    taken = election.taken(Seen(THEIRS, 0.0), "me", 0.0)
    assert (taken.holder, taken.transitions) == ("me", 4)
    assert taken.acquired == taken.renewed == "1970-01-01T00:00:00.000000Z"
    renewed = election.taken(Seen(taken, 0.0), "me", 5.0)
    assert (renewed.transitions, renewed.acquired) == (4, taken.acquired)
    assert renewed.renewed == "1970-01-01T00:00:05.000000Z"
    assert election.taken(None, "me", 0.0).transitions == 0


def test_who_lets_go_is_nobody_s_obstacle() -> None:
    gone = election.given_up(THEIRS, 0.0)
    assert election.free(Seen(gone, 100.0), "me", 100.0)
    assert gone.transitions == THEIRS.transitions


def test_a_record_survives_the_lease() -> None:
    record = election.taken(None, "me", 1000.5)
    assert election.read(election.write(record)) == record
    assert election.read({}) == Record()


def test_a_leader_stops_before_anyone_may_take_over() -> None:
    assert election.RENEW_SECONDS < election.DEADLINE_SECONDS < election.DURATION_SECONDS
