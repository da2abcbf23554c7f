"""Names asked of a real name server, on a socket."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dns_lab import REFUSED, SERVFAIL, SILENT, DnsLab
from postfleet_workers.mail.smtp import resolver
from postfleet_workers.mail.smtp.resolver import Absent, DnsResolver, Found, Unresolved
from smtp_lab import running


@pytest.fixture
def lab() -> Iterator[DnsLab]:
    with running(DnsLab(ttl_seconds=120)) as lab:
        yield lab


def test_records_come_with_their_ttl(lab: DnsLab) -> None:
    lab.say("b.example", "MX", "10 mx1.b.example.", "20 mx2.b.example.")
    answer = DnsResolver(lab.server).look_up("b.example", "MX")
    assert isinstance(answer, Found)
    assert (sorted(answer.records), answer.ttl_seconds) == (["10 mx1.b.example.", "20 mx2.b.example."], 120)


def test_a_null_mx_is_a_record(lab: DnsLab) -> None:
    lab.say("b.example", "MX", "0 .")
    assert DnsResolver(lab.server).look_up("b.example", "MX") == Found(("0 .",), 120)


def test_a_name_without_the_record_is_told_from_no_such_name(lab: DnsLab) -> None:
    lab.say("b.example", "A", "198.51.100.1")
    names = DnsResolver(lab.server)
    assert names.look_up("b.example", "MX") == Absent(name_exists=True)
    assert names.look_up("c.example", "MX") == Absent(name_exists=False)


@pytest.mark.parametrize("failure", [SERVFAIL, REFUSED])
def test_a_server_that_fails_says_nothing_about_the_name(lab: DnsLab, failure: str) -> None:
    lab.say("b.example", "MX", failure)
    answer = DnsResolver(lab.server).look_up("b.example", "MX")
    assert answer == Unresolved("no name server could answer (SERVFAIL or REFUSED)")


def test_a_silent_server_is_waited_for_so_long(lab: DnsLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "ANSWER_SECONDS", 0.2)
    lab.say("b.example", "MX", SILENT)
    assert DnsResolver(lab.server).look_up("b.example", "MX") == Unresolved("no name server answered in time")


def test_the_next_server_is_asked_when_one_fails(lab: DnsLab) -> None:
    lab.say("b.example", "MX", "10 mx1.b.example.")
    with running(DnsLab()) as broken:
        broken.say("b.example", "MX", SERVFAIL)
        names = DnsResolver(f"{broken.server},{lab.server}")
        assert names.look_up("b.example", "MX") == Found(("10 mx1.b.example.",), 120)


@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", ".".join(["label"] * 60)])
def test_a_name_that_can_be_none_does_not_exist(lab: DnsLab, name: str) -> None:
    assert DnsResolver(lab.server).look_up(name, "MX") == Absent(name_exists=False)
    assert lab.asked == []
