"""How long a server that did not let us in is passed over; time moves when the test says so."""

from __future__ import annotations

import pytest

from postfleet_workers.mail.smtp import absences
from postfleet_workers.mail.smtp.absences import Absences


class Watched:
    def __init__(self) -> None:
        self.now = 0.0
        self.absences = Absences(lambda: self.now, jitter=lambda: 1.0)

    def passed_over(self, seconds: float, server: str = "mx1") -> bool:
        """Whether it still is, so long after now; asking is trying, once it no longer is."""
        self.now += seconds
        return self.absences.of(server) is not None


def test_a_server_that_nobody_complained_of_is_tried() -> None:
    assert not Watched().passed_over(0)


def test_the_pause_doubles_to_ten_minutes_and_success_ends_it() -> None:
    watched = Watched()
    for pause in (20, 40, 80, 160, 320, 600, 600):
        watched.absences.note("mx1", "refused")
        assert watched.absences.of("mx1") == "refused"
        assert watched.passed_over(pause - 0.1)
        assert not watched.passed_over(0.1)
    watched.absences.forget("mx1")
    watched.absences.note("mx1", "refused")
    assert not watched.passed_over(20)


def test_one_thread_tries_again_and_the_others_go_on_passing_it_over() -> None:
    watched = Watched()
    watched.absences.note("mx1", "timed out")
    assert not watched.passed_over(20)
    assert watched.passed_over(59)
    assert not watched.passed_over(1)  # that one never said how it went


def test_other_servers_are_not_concerned() -> None:
    watched = Watched()
    watched.absences.note("mx1", "refused")
    assert not watched.passed_over(0, "mx2")


def test_who_was_away_the_longest_ago_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absences, "KEPT", 2)
    watched = Watched()
    for server in ("mx1", "mx2", "mx1", "mx3"):
        watched.absences.note(server, "refused")
    assert [watched.passed_over(0, server) for server in ("mx1", "mx2", "mx3")] == [True, False, True]
