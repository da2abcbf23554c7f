"""Where mail goes, and when a name server is asked for it."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.replies.reply import Reply
from postfleet_workers.mail.sites import SiteLimits, limits_of
from postfleet_workers.mail.smtp.exchange import Destination, MxExchanges
from postfleet_workers.mail.smtp.resolver import MemoryResolver, Unresolved

ZONE = {
    ("gmail.com", "MX"): ["5 gmail-smtp-in.l.google.com."],
    ("shop.example", "MX"): ["1 aspmx.l.google.com."],
    ("small.example", "MX"): ["10 mx1.small.example.", "20 mx2.small.example."],
    ("sister.example", "MX"): ["20 mx1.small.example.", "10 mx2.small.example."],
    ("null.example", "MX"): ["0 ."],
    ("broken.example", "MX"): Unresolved("SERVFAIL"),
}


def node(host: str = "mx", *sites: dict[str, Any]) -> NodeSpec:
    spec = {"smtp": {"host": host}, "identity": {"domain": "a.example"}, "limits": {"sites": list(sites)}}
    return parse_node("n1", spec)


@pytest.fixture
def names() -> MemoryResolver:
    return MemoryResolver(ZONE)


@pytest.fixture
def exchanges(names: MemoryResolver) -> MxExchanges:
    return MxExchanges(names, lambda: 0.0)


def test_a_smarthost_takes_everything_and_no_name_server_is_asked(
    names: MemoryResolver, exchanges: MxExchanges
) -> None:
    for domain in ("gmail.com", "small.example", "null.example"):
        assert exchanges.of(node("smtp.relay.example"), domain) == Destination()
    assert names.asked == []


def test_behind_a_smarthost_a_listed_site_is_known_by_its_domains_or_by_its_mx(
    names: MemoryResolver, exchanges: MxExchanges
) -> None:
    relay = node("smtp.relay.example", {"name": "gmail", "maxConnections": 2})
    gmail = Destination("gmail", limits=SiteLimits(max_connections=2))
    assert exchanges.of(relay, "gmail.com") == gmail
    assert names.asked == []
    assert exchanges.of(relay, "shop.example") == gmail
    assert names.asked == [("shop.example", "MX")]


def test_behind_a_smarthost_only_sites_with_limits_on_sessions_have_sessions_of_their_own(
    exchanges: MxExchanges,
) -> None:
    relay = node("smtp.relay.example", {"name": "gmail", "maxConnections": 2}, {"name": "yahoo", "perMinute": 9})
    keys = {domain: exchanges.of(relay, domain).key for domain in ("gmail.com", "yahoo.com", "small.example")}  # type: ignore[union-attr]
    assert keys == {"gmail.com": ("gmail",), "yahoo.com": ("",), "small.example": ("",)}


@pytest.mark.parametrize("domain", ["null.example", "broken.example", "none.example"])
def test_behind_a_smarthost_mail_goes_on_when_no_mx_is_found(exchanges: MxExchanges, domain: str) -> None:
    relay = node("smtp.relay.example", {"name": "gmail", "perMinute": 100})
    assert exchanges.of(relay, domain) == Destination()


def test_direct_mail_goes_to_the_recipients_servers_under_the_tables_limits(exchanges: MxExchanges) -> None:
    gmail = exchanges.of(node(), "gmail.com")
    shop = exchanges.of(node(), "shop.example")
    assert gmail == Destination("gmail", ("gmail-smtp-in.l.google.com",), limits_of("gmail", node().spec))
    assert shop == Destination("gmail", ("aspmx.l.google.com",), limits_of("gmail", node().spec))
    assert isinstance(gmail, Destination)
    assert isinstance(shop, Destination)
    assert gmail.key != shop.key


def test_domains_with_the_same_servers_are_one_site_and_share_connections(exchanges: MxExchanges) -> None:
    one, other = exchanges.of(node(), "small.example"), exchanges.of(node(), "sister.example")
    assert isinstance(one, Destination)
    assert isinstance(other, Destination)
    assert one.hosts == tuple(reversed(other.hosts)) == ("mx1.small.example", "mx2.small.example")
    assert (one.site, one.key) == (other.site, other.key)


@pytest.mark.parametrize(
    ("domain", "code"), [("null.example", "5.1.10"), ("none.example", "5.1.2"), ("broken.example", "4.4.3")]
)
def test_direct_mail_that_has_nowhere_to_go_gets_a_reply(exchanges: MxExchanges, domain: str, code: str) -> None:
    reply = exchanges.of(node(), domain)
    assert isinstance(reply, Reply)
    assert reply.enhanced == code


def test_a_changed_node_is_read_again(exchanges: MxExchanges) -> None:
    assert exchanges.of(node("smtp.relay.example"), "gmail.com") == Destination()
    listed = exchanges.of(node("smtp.relay.example", {"name": "gmail", "perDay": 7}), "gmail.com")
    assert listed == Destination("gmail", limits=SiteLimits(per_day=7))
