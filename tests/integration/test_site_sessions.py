"""Sessions per destination: what counts against a site, who shares a connection and who makes room for whom.

Leases are the in-memory twin's; the servers are two recipients' MX hosts.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.errors import Unreachable
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.sites import SiteLimits
from postfleet_workers.mail.smtp.direct import Direct
from postfleet_workers.mail.smtp.exchange import Destination
from postfleet_workers.mail.smtp.resolver import MemoryResolver
from postfleet_workers.mail.smtp.session import Timeouts
from postfleet_workers.mail.smtp.sessions import Held, Sessions
from postfleet_workers.throttling.memory import MemorySessions
from smtp_lab import FaultyLab, running
from worlds import Clock

TWO = SiteLimits(max_connections=2)
A = Destination("a", ("mx1.a.example", "mx2.a.example"), TWO)
A_TURNED = Destination("a", ("mx2.a.example", "mx1.a.example"), TWO)
A_TOO = Destination("a", ("mx.other.example",), TWO)
B = Destination("b", ("mx1.b.example",), SiteLimits(max_connections=2, messages_per_connection=3))


class World:
    def __init__(self, stack: ExitStack) -> None:
        self.lab: FaultyLab = stack.enter_context(running(FaultyLab(host="127.0.0.2")))
        hosts = (host for destination in (A, A_TOO, B) for host in destination.hosts)
        resolver = MemoryResolver({(host, "A"): ["127.0.0.2"] for host in hosts})
        self.clock = Clock()
        self.epoch = MemoryEpoch(self.clock)
        self.leases = MemorySessions(self.epoch, lease_seconds=30)
        tls = ssl.create_default_context()
        self.direct = Direct(resolver, Timeouts(5, 5, 5), tls=tls, monotonic=self.clock, jitter=lambda: 0.0, local=True)
        self.here, self.there = (
            Sessions(
                self.leases,
                lambda node, destination, login: self.direct.open(node, destination.hosts),
                Credentials(None),
                monotonic=self.clock,
            )
            for _ in range(2)
        )
        stack.callback(self.here.close)
        stack.callback(self.there.close)

    def node(self, name: str = "n1", **limits: Any) -> NodeSpec:
        smtp = {"host": "mx", "port": self.lab.port}
        return parse_node(name, {"smtp": smtp, "identity": {"domain": "a.example"}, "limits": limits})

    def take(self, destination: Destination, sessions: Sessions | None = None, **limits: Any) -> Held | None:
        return (sessions or self.here).take(self.node(**limits), 0, destination)

    def took(self, destination: Destination, sessions: Sessions | None = None, **limits: Any) -> Held:
        held = self.take(destination, sessions, **limits)
        assert held is not None
        return held

    def held(self, place: str) -> int:
        """How many leases count against a place."""
        free = 0
        while self.leases.acquire([(place, 100)], f"probe-{free}"):
            free += 1
        for number in range(free):
            self.leases.release([place], f"probe-{number}")
        return 100 - free


@pytest.fixture
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)


def test_a_site_has_no_more_sessions_than_its_maximum_whatever_the_servers_are_called(world: World) -> None:
    held = [world.took(A), world.took(A_TOO, world.there)]
    assert world.take(A) is None
    assert world.take(A_TOO) is None
    assert world.take(A, name="n2") is not None  # another node is another sender
    other = world.took(B)
    assert (world.held("n1"), world.held("n1|a"), world.held("n1|b")) == (3, 2, 1)
    world.here.give_back(held[0])
    world.there.give_back(held[1])
    world.here.give_back(other)


def test_the_nodes_own_maximum_holds_over_all_sites(world: World) -> None:
    world.took(A, maxConnections=2)
    world.took(B, maxConnections=2)
    assert world.take(B, maxConnections=2) is None


def test_mail_to_the_same_servers_shares_a_session_in_whichever_order_they_are_preferred(world: World) -> None:
    first = world.took(A)
    world.here.give_back(first)
    assert world.took(A_TURNED) is first
    assert first.serves(world.node(), A)
    assert not first.serves(world.node(), A_TOO)
    assert not first.serves(world.node("n2"), A)


def test_mail_to_other_servers_of_a_site_does_not_go_over_anothers_session(world: World) -> None:
    first = world.took(A)
    world.here.give_back(first)
    assert world.took(A_TOO) is not first


def test_an_idle_session_makes_room_for_another_destination_of_its_site(world: World) -> None:
    idle = [world.took(A) for _ in range(2)]
    for held in idle:
        world.here.give_back(held)
    taken = world.took(A_TOO)
    assert [held.session.usable for held in idle] == [False, True]
    assert taken.id == idle[0].id
    assert (world.held("n1"), world.held("n1|a")) == (2, 2)


def test_an_idle_session_makes_room_for_another_site_of_its_node(world: World) -> None:
    first = world.took(A, maxConnections=1)
    world.here.give_back(first)
    taken = world.took(B, maxConnections=1)
    assert not first.session.usable
    assert (world.held("n1"), world.held("n1|a"), world.held("n1|b")) == (1, 0, 1)
    world.here.give_back(taken)


def test_an_idle_session_stays_when_giving_it_up_would_not_help(world: World) -> None:
    theirs = [world.took(B, world.there) for _ in range(2)]
    idle = world.took(A)
    world.here.give_back(idle)
    assert world.take(B) is None
    assert idle.session.usable
    assert world.took(A) is idle
    for held in theirs:
        world.there.give_back(held)


def test_a_session_ends_after_the_sites_share_of_mails(world: World) -> None:
    held = world.took(B)
    held.session.delivered = 2
    assert held.fit
    held.session.delivered = 3
    assert not held.fit
    fewer = world.took(A, messagesPerConnection=1)
    fewer.session.delivered = 1
    assert not fewer.fit


def test_an_idle_session_with_a_recipients_server_is_closed_within_seconds(world: World) -> None:
    held = world.took(A)
    world.here.give_back(held)
    world.clock.advance(4)
    world.here.keep()
    assert held.session.usable
    world.clock.advance(1)
    world.here.keep()
    assert not held.session.usable
    assert (world.held("n1"), world.held("n1|a")) == (1, 1)  # the server may not have seen it yet
    world.here.keep()
    assert (world.held("n1"), world.held("n1|a")) == (0, 0)


def test_a_destination_that_lets_nobody_in_gives_its_leases_back(world: World) -> None:
    world.lab.stop()
    with pytest.raises(Unreachable):
        world.take(A)
    assert (world.held("n1"), world.held("n1|a")) == (0, 0)


def test_after_a_flush_an_ended_session_is_replaced_under_its_lease_at_its_site_only(world: World) -> None:
    held = world.took(A)
    world.epoch.flush()
    world.epoch.keep(live_workers=True)
    held.session.abort()
    world.here.give_back(held)
    assert world.take(B) is None
    again = world.took(A_TOO)
    assert again.id == held.id
    world.here.give_back(again)
