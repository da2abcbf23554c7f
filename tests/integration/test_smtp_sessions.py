"""The pool of SMTP sessions: what it may hold open, reuses and gives up. Leases are the in-memory twin's."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mail_lab import Lab
from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.errors import LoginMissing, Unreachable
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.smtp import opening
from postfleet_workers.mail.smtp.session import Timeouts
from postfleet_workers.mail.smtp.sessions import Held, Sessions
from postfleet_workers.throttling.memory import MemorySessions
from smtp_lab import FaultyLab, running, wait_for
from smtp_lab import Phase as At
from worlds import Clock


class Pool:
    """Sessions on clocks that move when told to."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.epoch = MemoryEpoch(self.clock)
        self.leases = MemorySessions(self.epoch, lease_seconds=30)
        tls = ssl.create_default_context()
        self.sessions = Sessions(
            self.leases,
            lambda node, destination, login: opening.connect(node, login, timeouts=Timeouts(5, 5, 5), tls=tls),
            Credentials(folder),
            monotonic=self.clock,
        )

    def forget(self) -> None:
        """As a flush of Redis that the relay has noticed."""
        self.epoch.flush()
        self.epoch.keep(live_workers=True)

    def open(self, node: str = "n1", maximum: int = 100) -> int:
        """How many leases are held now."""
        free = 0
        while self.leases.acquire([(node, maximum)], f"probe-{free}"):
            free += 1
        for number in range(free):
            self.leases.release([node], f"probe-{number}")
        return maximum - free


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    pool = Pool(tmp_path)
    yield pool
    pool.sessions.close()


def node(port: int, name: str = "n1", login: bool = False, **limits: Any) -> NodeSpec:
    secret = {"name": "s"} if login else None
    smtp_spec = {"host": "127.0.0.1", "port": port, "tls": "None", "credentialsSecretRef": secret}
    return parse_node(name, {"smtp": smtp_spec, "identity": {"domain": "a.example"}, "limits": limits})


def test_a_returned_session_is_taken_again(pool: Pool, lab: Lab) -> None:
    first = pool.sessions.take(node(lab.port), 0)
    assert first is not None
    pool.sessions.give_back(first)
    assert pool.sessions.take(node(lab.port), 0) is first
    assert (lab.connections, pool.open()) == (1, 1)
    pool.sessions.give_back(first)


def test_no_more_are_open_than_the_node_allows(pool: Pool, lab: Lab) -> None:
    two = node(lab.port, maxConnections=2)
    held = [pool.sessions.take(two, 0) for _ in range(3)]
    assert held[2] is None
    assert lab.connections == 2
    for one in held[:2]:
        assert one is not None
        pool.sessions.give_back(one)


def test_another_session_is_one_of_the_first_half_idle_or_not(pool: Pool, lab: Lab) -> None:
    four = node(lab.port, maxConnections=4)
    idle = [pool.sessions.take(four, 0) for _ in range(4)]
    for one in idle:
        assert one is not None
        pool.sessions.give_back(one)
    first, second = pool.sessions.take(four, 0), pool.sessions.take_another(four)
    assert first is not None
    assert second is not None
    assert pool.sessions.take_another(four) is None, "two are half of four"
    third = pool.sessions.take(four, 0)
    assert third is not None, "and somebody's first is none of these"
    for one in (first, second, third):
        pool.sessions.give_back(one)


def test_a_server_that_takes_no_other_session_is_not_asked_for_a_while_and_is_none_the_worse(pool: Pool) -> None:
    with running(FaultyLab()) as faulty:
        many = node(faulty.port, maxConnections=20)
        first = pool.sessions.take(many, 0)
        assert first is not None
        faulty.fail(At.BANNER, reply="421 4.7.0 too many connections", drop=True)
        assert pool.sessions.take_another(many) is None
        assert pool.sessions.take_another(many) is None
        assert faulty.connections == 2
        second = pool.sessions.take(many, 0)
        assert second is not None, "a first one may be tried"
        pool.clock.advance(31)
        third = pool.sessions.take_another(many)
        assert third is not None
        for one in (first, second, third):
            pool.sessions.give_back(one)


def test_whoever_waits_gets_the_session_that_comes_back(pool: Pool, lab: Lab) -> None:
    one = node(lab.port, maxConnections=1)
    held = pool.sessions.take(one, 0)
    assert held is not None
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(pool.sessions.take(one, 60)))
    waiting.start()
    pool.sessions.give_back(held)
    waiting.join(10)
    assert got == [held]
    pool.sessions.give_back(held)


def test_a_session_that_could_not_be_opened_gives_its_lease_back(pool: Pool) -> None:
    with running(FaultyLab()) as faulty:
        faulty.fail(At.BANNER, reply="421 busy", drop=True)
        with pytest.raises(Unreachable):
            pool.sessions.take(node(faulty.port), 0)
    assert pool.open() == 0


def test_a_session_that_the_server_closed_meanwhile_is_replaced(pool: Pool) -> None:
    with running(FaultyLab()) as faulty:
        held = pool.sessions.take(node(faulty.port), 0)
        assert held is not None
        pool.sessions.give_back(held)
        faulty.hang_up()
        wait_for(lambda: not held.session.alive())
        again = pool.sessions.take(node(faulty.port), 0)
        assert again is not None
        assert again is not held
        assert (faulty.connections, pool.open()) == (2, 1)
        pool.sessions.give_back(again)
        pool.sessions.close()


def test_an_unusable_session_is_closed_when_it_comes_back(pool: Pool, lab: Lab) -> None:
    held = pool.sessions.take(node(lab.port), 0)
    assert held is not None
    held.session.abort()
    pool.sessions.give_back(held)
    assert pool.open() == 0


def test_a_changed_endpoint_makes_connections_anew(pool: Pool, lab: Lab) -> None:
    held = pool.sessions.take(node(lab.port), 0)
    assert held is not None
    pool.sessions.give_back(held)
    with running(Lab()) as other:
        moved = pool.sessions.take(node(other.port), 0)
        assert moved is not None
        assert (lab.connections, other.connections, pool.open()) == (1, 1, 1)
        pool.sessions.give_back(moved)
        pool.sessions.close()


def test_changed_credentials_make_connections_anew(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "n1.username").write_text("ann")
    (tmp_path / "n1.password").write_text("old")
    with running(Lab(login=("ann", "old"))) as lab:
        held = pool.sessions.take(node(lab.port, login=True), 0)
        assert held is not None
        pool.sessions.give_back(held)
        lab.login = ("ann", "new-one")
        (tmp_path / "n1.password").write_text("new-one")
        held = pool.sessions.take(node(lab.port, login=True), 0)
        assert held is not None
        assert lab.logins == ["ann", "ann"]
        pool.sessions.give_back(held)
        pool.sessions.close()


def test_a_login_that_is_not_there_says_where_it_was_looked_for(pool: Pool, lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(LoginMissing, match=f"node n1: no login in {tmp_path}"):
        pool.sessions.take(node(lab.port, login=True), 0)


def test_idle_sessions_are_closed_after_a_while_and_busy_ones_are_not(pool: Pool, lab: Lab) -> None:
    idle, busy = (pool.sessions.take(node(lab.port), 0) for _ in range(2))
    assert idle is not None
    assert busy is not None
    pool.sessions.give_back(idle)
    pool.clock.advance(20)
    pool.sessions.keep()
    assert pool.open() == 2
    pool.clock.advance(11)
    pool.sessions.keep()
    assert not idle.session.usable
    assert busy.session.usable
    pool.sessions.give_back(busy)


def test_leases_are_renewed_while_sessions_are_open(pool: Pool, lab: Lab) -> None:
    held = pool.sessions.take(node(lab.port), 0)
    assert held is not None
    for _ in range(10):
        pool.clock.advance(10)
        pool.sessions.keep()
    assert pool.open() == 1
    pool.sessions.give_back(held)


def test_a_session_whose_lease_lapsed_is_closed(pool: Pool, lab: Lab) -> None:
    idle, busy = (pool.sessions.take(node(lab.port), 0) for _ in range(2))
    assert idle is not None
    assert busy is not None
    pool.sessions.give_back(idle)
    pool.clock.advance(31)
    assert pool.open() == 0  # whoever asks clears the lapsed ones away
    pool.sessions.keep()
    assert not idle.session.usable
    assert not busy.fit
    pool.sessions.give_back(busy)
    assert not busy.session.usable


def test_closing_ends_the_idle_now_and_the_busy_when_they_come_back(pool: Pool, lab: Lab) -> None:
    idle, busy = (pool.sessions.take(node(lab.port), 0) for _ in range(2))
    assert idle is not None
    assert busy is not None
    pool.sessions.give_back(idle)
    pool.sessions.close()
    assert [held.session.usable for held in (idle, busy)] == [False, True]
    pool.sessions.give_back(busy)
    assert not busy.session.usable
    assert pool.open() == 0


def test_while_nothing_new_is_leased_an_ended_session_is_replaced_under_its_lease(pool: Pool, lab: Lab) -> None:
    one = node(lab.port, maxConnections=1)
    held = pool.sessions.take(one, 0)
    assert held is not None
    pool.forget()
    for _ in range(3):
        held.session.delivered = held.node.messages_per_connection
        pool.sessions.give_back(held)
        pool.sessions.keep()
        held = pool.sessions.take(one, 0)
        assert held is not None
        assert held.fit
        assert pool.sessions.take(one, 0) is None
    assert (lab.connections, lab.most_open) == (4, 1)
    pool.clock.advance(20)
    pool.sessions.keep()
    pool.clock.advance(10)
    assert not pool.leases.acquire([("n1", 1)], "another")
    pool.sessions.give_back(held)


def test_a_spared_lease_is_released_once_new_sessions_are_leased_again(pool: Pool, lab: Lab) -> None:
    held = pool.sessions.take(node(lab.port), 0)
    assert held is not None
    pool.forget()
    held.session.abort()
    pool.sessions.give_back(held)
    for _ in range(2):
        pool.clock.advance(15)
        pool.sessions.keep()
    assert pool.open() == 0


def test_while_nothing_new_is_leased_idle_sessions_stay(pool: Pool, lab: Lab) -> None:
    held = pool.sessions.take(node(lab.port), 0)
    assert held is not None
    pool.sessions.give_back(held)
    pool.clock.advance(29)
    pool.sessions.keep()
    pool.forget()
    pool.clock.advance(29)
    pool.sessions.keep()
    assert pool.sessions.take(node(lab.port), 0) is held
    pool.sessions.give_back(held)
    pool.clock.advance(29)
    pool.sessions.keep()
    pool.clock.advance(2)
    pool.sessions.keep()
    assert not held.session.usable


class Renewed(MemorySessions):
    """Leases that tell how often each was asked to be renewed, and has been."""

    def __init__(self, epoch: MemoryEpoch, lease_seconds: float) -> None:
        super().__init__(epoch, lease_seconds)
        self.renewals: Counter[str] = Counter()

    def renew(self, sessions: Sequence[tuple[Sequence[str], str]]) -> list[tuple[Sequence[str], str]]:
        lapsed = super().renew(sessions)
        self.renewals.update(session_id for _, session_id in sessions)
        return lapsed


class TwoProcesses:
    """Two processes on the leases of one Redis: leases on a clock that moves when told to, keepers on real time."""

    def __init__(self, folder: Path, leases: type[Renewed] = Renewed) -> None:
        self.clock = Clock()
        self.leases = leases(MemoryEpoch(self.clock), lease_seconds=30)
        self.here, self.there = (
            Sessions(
                self.leases,
                lambda node, destination, login: opening.connect(
                    node, login, timeouts=Timeouts(5, 5, 5), tls=ssl.create_default_context()
                ),
                Credentials(folder),
                monotonic=time.monotonic,
                idle_seconds=0.5,
            )
            for _ in range(2)
        )

    def outlast_a_lease(self, *sessions: Held | None) -> None:
        """Let more time pass than a lease lasts, with a renewal of these in between."""
        for _ in range(2):
            seen = self.leases.renewals.copy()
            for session in sessions:
                assert session is not None
                # One may have been under way; the one after it began after the clock was last moved.
                wait_for(partial(self._renewed, session, seen[session.id] + 2), 30)
            self.clock.advance(20)

    def _renewed(self, session: Held, times: int) -> bool:
        return self.leases.renewals[session.id] >= times


def test_silent_servers_do_not_keep_leases_from_being_renewed(tmp_path: Path) -> None:
    two = TwoProcesses(tmp_path)
    with running(FaultyLab()) as faulty:
        silence = threading.Event()
        for _ in range(10):
            faulty.fail(At.QUIT, release=silence)
        eleven = node(faulty.port, maxConnections=11)
        mine = [held for _ in range(11) if (held := two.here.take(eleven, 0))]
        busy = mine.pop()
        for idle in mine:
            two.here.give_back(idle)
        theirs = [two.there.take(eleven, 30) for _ in range(10)]
        two.outlast_a_lease(busy, *theirs)
        assert busy.fit
        assert two.there.take(eleven, 0) is None
        silence.set()
        for held in theirs:
            assert held is not None
            two.there.give_back(held)
        two.here.give_back(busy)
        two.here.close()
        two.there.close()


def test_an_unexpected_error_does_not_end_the_renewals(tmp_path: Path, lab: Lab) -> None:
    class Failing(Renewed):
        failures = 0

        def renew(self, sessions: Sequence[tuple[Sequence[str], str]]) -> list[tuple[Sequence[str], str]]:
            if self.failures < 2:
                self.failures += 1
                raise RuntimeError("not foreseen")
            return super().renew(sessions)

    two = TwoProcesses(tmp_path, Failing)
    one = node(lab.port, maxConnections=1)
    held = two.here.take(one, 0)
    assert held is not None
    two.outlast_a_lease(held)
    assert two.there.take(one, 0) is None
    two.here.give_back(held)
    two.here.close()
    two.there.close()
