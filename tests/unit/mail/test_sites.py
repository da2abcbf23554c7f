"""Sites: which one a recipient belongs to, and what a node may do there."""

from __future__ import annotations

import re
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail import sites
from postfleet_workers.mail.sites import OTHERS, TABLE, SiteLimits, by_domain, limiting_sites, limits_of, of_hosts

DIRECT: dict[str, Any] = {"smtp": {"host": "mx"}, "limits": {}}
SMARTHOST: dict[str, Any] = {"smtp": {"host": "relay.example"}, "limits": {}}
HOSTS = st.lists(st.from_regex(r"[a-z]{1,12}(\.[a-z]{1,12}){1,4}", fullmatch=True), max_size=8)


def listing(spec: dict[str, Any], *entries: dict[str, Any]) -> dict[str, Any]:
    """The spec with these entries under `limits.sites`."""
    return {**spec, "limits": {**spec["limits"], "sites": list(entries)}}


@pytest.mark.parametrize(
    ("domain", "site"),
    [
        ("gmail.com", "gmail"),
        ("GMail.COM.", "gmail"),
        ("googlemail.com", "gmail"),
        ("hotmail.fr", "outlook"),
        ("aol.com", "yahoo"),
        ("yahoo.co.jp", ""),
        ("me.com", "apple"),
        ("web.de", "gmx"),
        ("comcast.net", "comcast"),
        ("mail.gmail.com", ""),
        ("acme.example", ""),
    ],
)
def test_well_known_domains_need_no_dns(domain: str, site: str) -> None:
    assert by_domain(domain) == site


@pytest.mark.parametrize(
    ("hosts", "site"),
    [
        (["gmail-smtp-in.l.google.com.", "alt1.gmail-smtp-in.l.google.com."], "gmail"),
        (["ASPMX.L.GOOGLE.COM", "aspmx2.googlemail.com"], "gmail"),
        (["hotmail-com.olc.protection.outlook.com"], "outlook"),
        (["acme-example.mail.protection.outlook.com"], "outlook"),
        (["acme-example.a-v1.mx.microsoft"], "outlook"),
        (["mta5.am0.yahoodns.net", "mta6.am0.yahoodns.net"], "yahoo"),
        (["mx01.mail.icloud.com"], "apple"),
        (["mx1h1.comcast.net"], "comcast"),
        (["mx00.emig.gmx.net"], "gmx"),
        (["mx-ha02.web.de"], "gmx"),
        (["notgoogle.com"], "mx:notgoogle.com"),
        (["mx2.acme.example.", "MX1.acme.example"], "mx:mx1.acme.example,mx2.acme.example"),
        ([], ""),
    ],
)
def test_the_hosts_of_a_domain_make_its_site(hosts: list[str], site: str) -> None:
    assert of_hosts(hosts) == site


def test_one_host_of_a_named_site_is_enough() -> None:
    assert of_hosts(["mx.acme.example", "aspmx.l.google.com"]) == "gmail"


def test_a_spec_names_a_site_by_its_domain() -> None:
    named = limiting_sites(listing(SMARTHOST, {"name": "partner.example", "perMinute": 5}))
    assert by_domain("Partner.Example", named) == "partner.example"
    assert of_hosts(["mx1.partner.example"], named) == "partner.example"
    assert of_hosts(["mx1.eu.l.google.com"], frozenset({"eu.l.google.com"})) == "eu.l.google.com"


@given(HOSTS)
def test_sites_do_not_hang_on_order_case_or_final_dots(hosts: list[str]) -> None:
    assert of_hosts(hosts) == of_hosts([f"{host.upper()}." for host in reversed(hosts)])


@given(HOSTS, HOSTS)
def test_different_hosts_are_different_sites_and_names_stay_short(first: list[str], second: list[str]) -> None:
    one, two = of_hosts(first), of_hosts(second)
    if sites.is_rolled_up(one) and sites.is_rolled_up(two):
        assert (one == two) == (set(first) == set(second))
    assert len(one) <= sites.LONGEST


def test_a_node_that_delivers_directly_has_the_table() -> None:
    assert limits_of("gmail", DIRECT) == SiteLimits(6000, None, None, 5, 50)
    assert limits_of("mx:mx.acme.example", DIRECT) == OTHERS
    assert limiting_sites(DIRECT) == {site.name for site in TABLE}
    assert sites.needs_hosts(DIRECT)


def test_a_smarthost_is_limited_only_where_its_spec_says_so() -> None:
    spec = listing(SMARTHOST, {"name": "gmail", "perMinute": 60, "maxConnections": None})
    assert limits_of("gmail", spec) == SiteLimits(per_minute=60)
    assert limits_of("yahoo", spec) == limits_of("mx:mx.acme.example", spec) == SiteLimits()
    assert limiting_sites(spec) == {"gmail"}
    assert limiting_sites(SMARTHOST) == frozenset()
    assert sites.needs_hosts(spec)
    assert not sites.needs_hosts(SMARTHOST)


def test_a_spec_overrides_the_table_field_by_field() -> None:
    spec = listing(DIRECT, {"name": "gmail", "perHour": 1000, "maxConnections": 2}, {"name": "default", "perMinute": 9})
    assert limits_of("gmail", spec) == SiteLimits(6000, 1000, None, 2, 50)
    assert limits_of("mx:mx.acme.example", spec) == SiteLimits(9, None, None, 10, 100)
    assert limits_of("apple", spec).per_minute == 6000
    assert limiting_sites(spec) == {site.name for site in TABLE}


@pytest.mark.parametrize("spec", [DIRECT, SMARTHOST])
def test_an_unknown_site_limits_nothing(spec: dict[str, Any]) -> None:
    assert limits_of("", listing(spec, {"name": "default", "perMinute": 1})) == SiteLimits()


def test_names_of_the_table_differ_and_are_no_domains() -> None:
    names = [site.name for site in TABLE]
    assert names == sorted(set(names))
    assert all(re.fullmatch("[a-z0-9-]+", name) and name != sites.DEFAULT for name in names)


def test_a_domain_belongs_to_one_site() -> None:
    for column in ([site.hosts for site in TABLE], [site.domains for site in TABLE]):
        every = list(chain.from_iterable(column))
        assert len(every) == len(set(every))
        assert all(domain == domain.lower().strip(".") for domain in every)


def test_metrics_have_one_label_for_all_sites_without_a_name() -> None:
    assert [sites.label(site) for site in ("gmail", "mx:a.example", "")] == ["gmail", "other", ""]
