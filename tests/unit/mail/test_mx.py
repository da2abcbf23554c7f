"""Which servers take a domain's mail, and when an answer is asked for again; names come from a zone in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from itertools import cycle

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.mail.replies.classify import Bounced, Deferred, classify
from postfleet_workers.mail.replies.reply import Phase, Reply
from postfleet_workers.mail.replies.rules import Scope
from postfleet_workers.mail.smtp import resolver as resolving
from postfleet_workers.mail.smtp.mx import Addresses, Hosts, addresses, mail_hosts, takes_mail
from postfleet_workers.mail.smtp.resolver import (
    Absent,
    Answer,
    CachedResolver,
    DnsResolver,
    Found,
    MemoryResolver,
    Unresolved,
    kept_seconds,
)

Zone = dict[tuple[str, str], Sequence[str] | Unresolved]


def hosts(zone: Zone, *jitters: float) -> Hosts | Reply:
    drawn: Iterator[float] = cycle(jitters or (0.0,))
    return mail_hosts("b.example", MemoryResolver(zone), lambda: next(drawn))


def test_servers_are_tried_by_preference() -> None:
    zone: Zone = {("b.example", "MX"): ["20 mx2.b.example.", "5 MX0.b.example.", "10 mx1.b.example."]}
    assert hosts(zone) == Hosts(("mx0.b.example", "mx1.b.example", "mx2.b.example"))


def test_servers_of_one_preference_share_the_mail() -> None:
    zone: Zone = {("b.example", "MX"): ["10 a.example.", "10 b.example.", "20 c.example."]}
    assert hosts(zone, 0.1, 0.9) == Hosts(("a.example", "b.example", "c.example"))
    assert hosts(zone, 0.9, 0.1) == Hosts(("b.example", "a.example", "c.example"))


def test_a_server_that_is_named_twice_is_tried_once() -> None:
    zone: Zone = {("b.example", "MX"): ["10 a.example.", "20 a.example.", "10 a.example."]}
    assert hosts(zone) == Hosts(("a.example",))


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_a_domain_without_mx_takes_mail_itself(kind: str) -> None:
    assert hosts({("b.example", kind): ["192.0.2.1" if kind == "A" else "2001:db8::1"]}) == Hosts(("b.example",))


@pytest.mark.parametrize(
    ("zone", "code", "scope"),
    [
        pytest.param({("b.example", "MX"): ["0 ."]}, "5.1.10", Scope.RECIPIENT, id="null MX"),
        pytest.param({}, "5.1.2", Scope.RECIPIENT, id="no such domain"),
        pytest.param({("b.example", "TXT"): ["x"]}, "5.1.2", Scope.RECIPIENT, id="neither MX nor address"),
        pytest.param({("b.example", "MX"): Unresolved("SERVFAIL")}, "4.4.3", Scope.DESTINATION, id="no answer"),
        pytest.param(
            {("b.example", "TXT"): ["x"], ("b.example", "A"): Unresolved("SERVFAIL")},
            "4.4.3", Scope.DESTINATION, id="no MX, no answer for the address",
        ),
    ],
)  # fmt: skip
def test_a_domain_without_servers_bounces_and_one_that_nobody_answers_for_is_deferred(
    zone: Zone, code: str, scope: Scope
) -> None:
    reply = hosts(zone)
    assert isinstance(reply, Reply)
    assert reply.enhanced == code
    verdict = classify(reply, Phase.CONNECT)
    assert isinstance(verdict, Bounced if code.startswith("5") else Deferred)
    assert verdict.reading.scope is scope


def test_addresses_of_both_families_are_tried_ipv4_first() -> None:
    zone: Zone = {("a.example", "AAAA"): ["2001:4860::1"], ("a.example", "A"): ["198.51.100.1", "198.51.100.2"]}
    names = MemoryResolver(zone)
    assert addresses("a.example", names) == Addresses(("198.51.100.1", "198.51.100.2", "2001:4860::1"))
    assert addresses("a.example", names, ["AAAA"]) == Addresses(("2001:4860::1",))


def test_an_address_that_was_found_is_used_though_the_other_family_is_not_answered() -> None:
    zone: Zone = {("a.example", "AAAA"): Unresolved("timed out"), ("a.example", "A"): ["198.51.100.1"]}
    assert addresses("a.example", MemoryResolver(zone)) == Addresses(("198.51.100.1",))
    assert addresses("a.example", MemoryResolver(zone), ["AAAA"]) == Unresolved("timed out")


def test_an_address_that_can_be_no_mail_server_is_passed_over() -> None:
    zone: Zone = {("a.example", "A"): ["127.0.0.1", "0.0.0.0", "198.51.100.1"], ("c.example", "A"): ["127.0.0.1"]}
    assert addresses("a.example", MemoryResolver(zone)) == Addresses(("198.51.100.1",))
    assert addresses("c.example", MemoryResolver(zone)) == Addresses(())
    assert addresses("c.example", MemoryResolver(zone), local=True) == Addresses(("127.0.0.1",))


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        ("127.0.0.53", False), ("0.0.0.0", False), ("0.1.2.3", False), ("169.254.169.254", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::", False), ("::1", False), ("::ffff:127.0.0.1", False), ("fe80::1", False),
        ("ff02::1", False), ("8.8.8.8", True), ("10.0.0.25", True), ("192.168.1.1", True), ("100.64.0.1", True),
        ("2a00:1450::1b", True), ("64:ff9b::808:808", True), ("fd00::25", True),
    ],
)  # fmt: skip
def test_only_what_cannot_be_a_mail_server_is_refused(address: str, taken: bool) -> None:
    assert takes_mail(ip_address(address)) is taken


# What is remembered


class Counting:
    """Answers what it is told to, and counts."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked = 0

    def look_up(self, name: str, kind: str) -> Answer:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (Found(("10 a.",), 300), 300), (Found(("10 a.",), 0), 60), (Found(("10 a.",), 86_400), 3600),
        (Absent(name_exists=True), 60), (Absent(name_exists=False), 60), (Unresolved("SERVFAIL"), 15),
    ],
)  # fmt: skip
def test_an_answer_is_remembered_by_its_ttl_within_bounds(answer: Answer, seconds: float) -> None:
    now = [0.0]
    asked = Counting(answer)
    names = CachedResolver(asked, lambda: now[0])
    assert kept_seconds(answer) == seconds
    for at, times in ((0.0, 1), (seconds - 0.1, 1), (seconds, 2)):
        now[0] = at
        assert names.look_up("b.example", "MX") == answer
        assert asked.asked == times


def test_what_was_not_used_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "KEPT", 2)
    asked = Counting(Absent(name_exists=False))
    names = CachedResolver(asked, lambda: 0.0)
    for name in ("a", "b", "a", "c"):
        names.look_up(name, "MX")
    assert asked.asked == 3
    names.look_up("a", "MX")
    assert asked.asked == 3
    names.look_up("b", "MX")
    assert asked.asked == 4


def test_threads_that_want_the_same_name_ask_once() -> None:
    release = threading.Event()

    class Slow(Counting):
        def look_up(self, name: str, kind: str) -> Answer:
            answer = super().look_up(name, kind)
            release.wait(10)
            return answer

    asked = Slow(Found(("10 a.",)))
    names = CachedResolver(asked, lambda: 0.0)
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(names.look_up("b", "MX"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join(10)
    assert (answers, asked.asked) == ([Found(("10 a.",))] * 8, 1)


def test_an_unexpected_error_is_not_remembered() -> None:
    class Failing(Counting):
        def look_up(self, name: str, kind: str) -> Answer:
            if not super().look_up(name, kind) or self.asked == 1:
                raise RuntimeError("not foreseen")
            return self.answer

    names = CachedResolver(Failing(Absent(name_exists=False)), lambda: 0.0)
    with pytest.raises(RuntimeError):
        names.look_up("b", "MX")
    assert names.look_up("b", "MX") == Absent(name_exists=False)


@pytest.mark.parametrize("servers", ["ns.example", "192.0.2.1:x", "192.0.2.1,", "1.2.3.4:70000", "::1:x"])
def test_a_name_server_that_is_no_address_is_refused_in_one_line(servers: str) -> None:
    with pytest.raises(
        InputError, match=r"^POSTFLEET_DNS_SERVERS: .* is no name server; write address or address:port"
    ):
        DnsResolver(servers)


@pytest.mark.parametrize("make", [lambda: DnsResolver("192.0.2.1, [2001:db8::1]:53,127.0.0.1:5353")])
def test_name_servers_are_addresses_with_or_without_a_port(make: Callable[[], DnsResolver]) -> None:
    make()
