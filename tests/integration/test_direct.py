"""Sessions with recipients' own servers: which server, which address, with or without TLS; on real sockets and DNS."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trustme

from dns_lab import SERVFAIL, DnsLab
from postfleet_workers.actors.email_send import connector
from postfleet_workers.mail.errors import AddressMissing, NowhereToGo, Unreachable
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.smtp.direct import Direct, families_of, source
from postfleet_workers.mail.smtp.exchange import Destination
from postfleet_workers.mail.smtp.resolver import DnsResolver
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts
from postfleet_workers.settings import Settings
from smtp_lab import FaultyLab, running
from smtp_lab import Phase as At
from worlds import Clock

NAMES = ("mx1.b.example", "mx2.b.example")
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


class Receiver:
    """Two MX hosts of one domain at one port, and the name server that names them."""

    def __init__(self, stack: ExitStack, **options: Any) -> None:
        self.dns = stack.enter_context(running(DnsLab()))
        self.first: FaultyLab = stack.enter_context(running(FaultyLab(host=FIRST, **options)))
        self.port = self.first.port
        self.second: FaultyLab = stack.enter_context(running(FaultyLab(host=SECOND, port=self.port, **options)))
        self.dns.say(NAMES[0], "A", FIRST)
        self.dns.say(NAMES[1], "A", SECOND)
        self.clock = Clock()
        self.direct = self.sender()

    def sender(self, *, local: bool = True, trust: ssl.SSLContext | None = None) -> Direct:
        return Direct(
            DnsResolver(self.dns.server),
            Timeouts(5, 5, 5),
            tls=trust or ssl.create_default_context(),
            monotonic=self.clock,
            jitter=lambda: 1.0,
            local=local,
        )

    def node(self, tls: str | None = None, *addresses: str) -> NodeSpec:
        smtp = {"host": "mx", "port": self.port, "tls": tls}
        return parse_node("n1", {"smtp": smtp, "identity": {"domain": "a.example", "ipAddresses": list(addresses)}})

    def open(self, tls: str | None = None, *addresses: str) -> SmtpSession:
        return self.direct.open(self.node(tls, *addresses), NAMES)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with ExitStack() as stack:
        yield Receiver(stack)


@pytest.fixture
def opened() -> Iterator[Callable[[SmtpSession], SmtpSession]]:
    with ExitStack() as stack:

        def keep(session: SmtpSession) -> SmtpSession:
            stack.callback(session.abort)
            return session

        yield keep


Keep = Callable[[SmtpSession], SmtpSession]


def test_the_preferred_server_is_taken(receiver: Receiver, opened: Keep) -> None:
    assert opened(receiver.open()).host == f"mx1.b.example[{FIRST}]"
    assert (receiver.first.connections, receiver.second.connections) == (1, 0)


def test_a_dead_server_is_passed_over_for_the_next_and_for_a_while_not_asked_again(
    receiver: Receiver, opened: Keep
) -> None:
    receiver.first.stop()
    for _ in range(3):
        assert opened(receiver.open()).host == f"mx2.b.example[{SECOND}]"
    assert receiver.second.connections == 3


@pytest.mark.parametrize("banner", ["421 4.3.2 too busy", "554 5.7.1 not you"])
def test_a_server_that_turns_us_away_is_passed_over_for_the_next(receiver: Receiver, opened: Keep, banner: str) -> None:
    receiver.first.fail(At.BANNER, reply=banner, drop=True)
    assert opened(receiver.open()).host == f"mx2.b.example[{SECOND}]"


@pytest.mark.parametrize("at", [At.CONNECT, At.BANNER, At.EHLO])
def test_a_server_that_ends_the_greeting_is_passed_over_for_the_next(receiver: Receiver, opened: Keep, at: At) -> None:
    receiver.first.fail(at, drop=True)
    assert opened(receiver.open()).host == f"mx2.b.example[{SECOND}]"


def test_each_address_of_a_server_is_tried(receiver: Receiver, opened: Keep) -> None:
    receiver.dns.say(NAMES[0], "A", "127.0.0.99", FIRST)
    assert opened(receiver.direct.open(receiver.node(), NAMES[:1])).host == f"mx1.b.example[{FIRST}]"


def test_a_server_without_an_address_is_passed_over(receiver: Receiver, opened: Keep) -> None:
    del receiver.dns.zone[NAMES[0], "A"]
    assert opened(receiver.open()).host == f"mx2.b.example[{SECOND}]"


def test_when_all_are_away_the_fault_says_what_each_did_and_the_next_mail_does_not_wait(receiver: Receiver) -> None:
    receiver.first.stop()
    receiver.second.fail(At.BANNER, reply="421 4.7.0 slow down", drop=True)
    with pytest.raises(Unreachable) as caught:
        receiver.open()
    fault = caught.value
    assert (fault.phase, fault.host, fault.remembered) == (Phase.BANNER, f"mx2.b.example[{SECOND}]", False)
    assert str(fault) == (
        f"mx1.b.example[{FIRST}]:{receiver.port}: Connection refused; refused at banner: 421 4.7.0 slow down"
    )
    assert fault.reply is not None
    with pytest.raises(Unreachable) as caught:
        receiver.open()
    assert caught.value.remembered
    assert receiver.second.connections == 1


def test_a_server_that_was_away_is_asked_again_after_a_while(receiver: Receiver, opened: Keep) -> None:
    receiver.first.fail(At.BANNER, reply="421 busy", drop=True)
    for seconds, host in ((0, SECOND), (19, SECOND), (1, FIRST)):
        receiver.clock.advance(seconds)
        assert host in opened(receiver.open()).host


def test_an_address_that_nobody_answers_for_is_a_deferral(receiver: Receiver) -> None:
    for name in NAMES:
        receiver.dns.say(name, "A", SERVFAIL)
        receiver.dns.say(name, "AAAA", SERVFAIL)
    with pytest.raises(Unreachable, match=r"address of mx1\.b\.example: no name server could answer"):
        receiver.open()


def test_servers_without_any_address_that_could_take_mail_are_no_servers(receiver: Receiver) -> None:
    receiver.direct = receiver.sender(local=False)
    with pytest.raises(NowhereToGo) as caught:
        receiver.open()
    assert str(caught.value.reply) == "550 5.1.2 no address that could take mail: mx1.b.example, mx2.b.example"
    assert receiver.first.connections == 0


def test_the_settings_say_whom_to_ask_and_whether_loopback_takes_mail(receiver: Receiver, opened: Keep) -> None:
    destination = Destination("", NAMES)
    for local in (True, False):
        settings = Settings(
            database_url="postgresql://db", redis_url="redis://r", dns_servers=receiver.dns.server,
            mx_local_addresses=local,
        )  # fmt: skip
        connect = connector(settings, DnsResolver(settings.dns_servers))
        if local:
            assert opened(connect(receiver.node(), destination, None)).host == f"mx1.b.example[{FIRST}]"
        else:
            with pytest.raises(NowhereToGo):
                connect(receiver.node(), destination, None)


# From where


def test_mail_leaves_from_the_nodes_own_address(receiver: Receiver, opened: Keep) -> None:
    opened(receiver.open(None, "127.0.0.7"))
    assert receiver.first.sources == ["127.0.0.7"]


def test_an_address_that_is_not_this_machines_is_said_to_be_so(receiver: Receiver) -> None:
    with pytest.raises(AddressMissing, match=r"^cannot connect from 203.0.113.9 \(identity.ipAddresses\)") as caught:
        receiver.open(None, "203.0.113.9")
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRNOTAVAIL


def test_a_server_of_the_other_family_is_a_deferral_and_no_bounce(receiver: Receiver) -> None:
    with pytest.raises(Unreachable, match=r"is of a kind that node n1 sends from \(::1\)"):
        receiver.open(None, "::1")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_is_used_where_a_server_has_it(receiver: Receiver, opened: Keep) -> None:
    try:
        lab = FaultyLab(host="::1", port=receiver.port)
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with running(lab):
        receiver.dns.say("mx6.b.example", "AAAA", "::1")
        assert opened(receiver.direct.open(receiver.node(), ["mx6.b.example"])).host == "mx6.b.example[::1]"


def test_of_several_addresses_one_server_always_sees_the_same(receiver: Receiver) -> None:
    node = receiver.node(None, "198.51.100.1", "198.51.100.2", "2001:db8::1")
    seen = {server: {source(node, server) for _ in range(5)} for server in map("192.0.2.{}".format, range(50))}
    assert all(len(sources) == 1 for sources in seen.values())
    assert set.union(*seen.values()) == {"198.51.100.1", "198.51.100.2"}
    assert source(node, "2001:db8::25") == "2001:db8::1"
    assert source(receiver.node(), "192.0.2.1") == ""
    assert families_of(node) == families_of(receiver.node()) == ("A", "AAAA")


# TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_tls(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    return context


def test_opportunistic_tls_is_used_where_it_is_offered_whatever_the_certificate(
    authority: trustme.CA, opened: Keep
) -> None:
    with ExitStack() as stack:
        receiver = Receiver(stack, tls=server_tls(authority, "someone.else.example"))
        opened(receiver.open())
        assert (receiver.first.secured, receiver.first.connections) == (1, 1)


def test_opportunistic_tls_goes_on_in_clear_where_it_is_not_offered(receiver: Receiver, opened: Keep) -> None:
    opened(receiver.open())
    assert (receiver.first.secured, receiver.first.connections) == (0, 1)


@pytest.mark.parametrize(("fault", "connections"), [("refuse", 1), ("drop", 2)])
def test_opportunistic_tls_that_fails_goes_on_in_clear(
    authority: trustme.CA, opened: Keep, fault: str, connections: int
) -> None:
    with ExitStack() as stack:
        receiver = Receiver(stack, tls=server_tls(authority, *NAMES), tls_fault=fault)
        assert opened(receiver.open()).host == f"mx1.b.example[{FIRST}]"
        assert (receiver.first.secured, receiver.first.connections) == (0, connections)


def test_required_tls_takes_a_certificate_that_names_the_server(authority: trustme.CA, opened: Keep) -> None:
    with ExitStack() as stack:
        receiver = Receiver(stack, tls=server_tls(authority, *NAMES))
        trust = ssl.create_default_context()
        authority.configure_trust(trust)
        receiver.direct = receiver.sender(trust=trust)
        opened(receiver.open("StartTLS"))
        assert receiver.first.secured == 1


@pytest.mark.parametrize(
    ("names", "fault", "trusted", "says"),
    [
        pytest.param(NAMES, "refuse", True, "refused at starttls: 454", id="refused"),
        pytest.param(NAMES, "drop", True, "starttls|closed during the TLS handshake|reset", id="broken"),
        pytest.param(NAMES, "", False, "certificate not trusted", id="untrusted"),
        pytest.param(("else.example",), "", True, "certificate not trusted", id="another name"),
        pytest.param((), "", True, "does not offer STARTTLS", id="not offered"),
    ],
)
def test_required_tls_never_goes_on_in_clear_and_the_mail_waits_for_its_receiver(
    authority: trustme.CA, names: tuple[str, ...], fault: str, trusted: bool, says: str
) -> None:
    with ExitStack() as stack:
        receiver = Receiver(stack, tls=server_tls(authority, *names) if names else None, tls_fault=fault)
        trust = ssl.create_default_context()
        if trusted:
            authority.configure_trust(trust)
        receiver.direct = receiver.sender(trust=trust)
        with pytest.raises(Unreachable, match=says):
            receiver.open("StartTLS")
        assert (receiver.first.connections, receiver.second.connections) == (1, 1)
        assert not [what for what in receiver.first.log if "MAIL" in str(what)]
