"""What the manifest of a node may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.spec import parse_node
from unit.operator.building import node_manifest, problems


@pytest.mark.parametrize("field", ["username", "password", "auth"])
def test_who_looks_for_the_login_is_told_where_it_goes(field: str) -> None:
    [line] = problems(parse_node, node_manifest(smtp={"host": "h", field: "x"}))
    assert line == (
        f"SendingNode acme-1: spec.smtp.{field}: unknown field, the login is in a Secret with the keys username and "
        "password: name it in credentialsSecretRef"
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param(
            node_manifest(smtp={"host": "mx.example.com:25"}),
            "SendingNode acme-1: spec.smtp.host: 'mx.example.com:25' is not a host, "
            "give a host name or an IP address without brackets or port",
            id="host with port",
        ),
        pytest.param(
            node_manifest(smtp={}), "SendingNode acme-1: spec.smtp.host: is missing, give it a value", id="no host"
        ),
        pytest.param(
            node_manifest(smtp={"host": "h", "tls": "STARTTLS"}),
            "SendingNode acme-1: spec.smtp.tls: 'STARTTLS' is not one of StartTLS, Opportunistic, Implicit, None",
            id="tls",
        ),
        pytest.param(
            node_manifest(limits={"perMinute": 0}),
            "SendingNode acme-1: spec.limits.perMinute: 0 is out of range, give 1 to 10000000",
            id="zero limit",
        ),
        pytest.param(
            node_manifest(identity={"domain": "-x.com"}),
            "SendingNode acme-1: spec.identity.domain: '-x.com' is not a domain name, give one like mail.example.com",
            id="domain",
        ),
        pytest.param(
            node_manifest(tenants=["a", "a"]),
            "SendingNode acme-1: spec.tenants: tenants must differ from each other: a is listed more than once",
            id="tenants",
        ),
        *(
            pytest.param(
                node_manifest(name),
                f"SendingNode {name}: metadata.name: a node may not be named msgs "
                "(Dramatiq keeps messages under that name) or shared (it names the pool's own workers)",
                id=name,
            )
            for name in ("msgs", "shared")
        ),
    ],
)
def test_a_mistake_in_a_node_is_one_line(given: dict[str, Any], line: str) -> None:
    assert problems(parse_node, given) == [line]


@pytest.mark.parametrize("host", ["mx.example.com", "10.0.0.1", "::1", "localhost"])
def test_hosts_are_names_or_addresses(host: str) -> None:
    assert parse_node(node_manifest(smtp={"host": host})).spec.smtp.host == host


@pytest.mark.parametrize(
    ("workers", "line"),
    [
        pytest.param(
            {"placement": "Dedicated"},
            ": placement Dedicated needs poolRef: the pool whose template and policy its workers have",
            id="dedicated to nobody",
        ),
        pytest.param(
            {"nodeSelector": {"a": "b"}},
            ": nodeSelector and tolerations need placement Dedicated: shared workers are placed by their pool",
            id="a place for shared workers",
        ),
        pytest.param({"poolRef": {}}, ".poolRef.name: is missing, give it a value", id="no name"),
        pytest.param(
            {"placement": "Dedicated", "poolRef": {"name": "p"}, "tolerations": [{"operator": "Is"}]},
            ".tolerations[0].operator: 'Is' is not one of Exists, Equal",
            id="operator",
        ),
    ],
)
def test_a_mistake_in_a_node_s_workers_is_one_line(workers: dict[str, Any], line: str) -> None:
    assert problems(parse_node, node_manifest(workers=workers)) == [f"SendingNode acme-1: spec.workers{line}"]


def test_a_node_dumps_what_the_workers_read() -> None:
    assert parse_node(node_manifest(limits={"perMinute": 100})).spec.dump() == {
        "smtp": {
            "host": "smtp.example.com",
            "port": 587,
            "tls": "StartTLS",
            "heloName": None,
            "credentialsSecretRef": None,
        },
        "identity": {"domain": "example.com", "ipAddresses": [], "returnPathDomain": None, "dkim": None},
        "limits": {
            "perMinute": 100,
            "perHour": None,
            "perDay": None,
            "maxConnections": 20,
            "messagesPerConnection": 100,
            "sites": [],
        },
        "warmup": None,
        "workers": {"poolRef": None, "placement": "Shared", "nodeSelector": {}, "tolerations": []},
        "tenants": [],
        "paused": False,
    }


def test_a_node_that_delivers_directly_has_the_ports_and_manners_of_servers() -> None:
    dump = parse_node(node_manifest(smtp={"host": "mx"})).spec.dump()
    assert (dump["smtp"]["port"], dump["smtp"]["tls"]) == (25, "Opportunistic")
    required = parse_node(node_manifest(smtp={"host": "mx", "port": 2525, "tls": "StartTLS"})).spec.dump()
    assert (required["smtp"]["port"], required["smtp"]["tls"]) == (2525, "StartTLS")


def test_a_node_dumps_its_sites_its_key_and_its_warmup() -> None:
    dkim = {"selector": "s1", "privateKeySecretRef": {"name": "keys"}}
    dump = parse_node(
        node_manifest(
            identity={"domain": "example.com", "ipAddresses": ["192.0.2.1", "2001:db8::1"], "dkim": dkim},
            limits={"sites": [{"name": "gmail", "perMinute": 60}]},
            warmup={"startDate": "2026-03-01"},
        )
    ).spec.dump()
    assert dump["identity"]["ipAddresses"] == ["192.0.2.1", "2001:db8::1"]
    assert dump["identity"]["dkim"] == {
        "selector": "s1",
        "domain": None,
        "privateKeySecretRef": {"name": "keys", "key": "private.key"},
    }
    (site,) = dump["limits"]["sites"]
    assert {key: value for key, value in site.items() if value is not None} == {"name": "gmail", "perMinute": 60}
    assert dump["warmup"] == {
        "enabled": True,
        "startDate": "2026-03-01",
        "initialPerDay": 50,
        "growthFactor": "1.3",
        "targetPerDay": 50_000,
        "days": [],
    }


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        pytest.param(
            {"smtp": {"host": "mx", "credentialsSecretRef": {"name": "s"}}},
            "smtp: host mx is the recipients' own servers, which know no login of ours: leave credentialsSecretRef out",
            id="login for everybody",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "ipAddresses": ["1:2:3"]}},
            "identity.ipAddresses[0]: '1:2:3' is not an IP address, give one like 192.0.2.1 or 2001:db8::1",
            id="half an address",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "ipAddresses": ["192.0.2.1", "192.0.2.1"]}},
            "identity.ipAddresses: addresses must differ from each other: 192.0.2.1 is listed more than once",
            id="one address twice",
        ),
        pytest.param(
            {"identity": {"domain": "a.example", "dkim": {"selector": "s1"}}},
            "identity.dkim.privateKeySecretRef: is missing, give it a value",
            id="no key",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmial", "perMinute": 1}]}},
            "limits.sites[0].name: 'gmial' is not a site, give apple, comcast, gmail, gmx, orange, outlook, qq, yahoo, "
            "default (each other one by itself) or a domain in lower case like example.org",
            id="no such site",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmail", "perMinute": 1}, {"name": "gmail", "perDay": 1}]}},
            "limits.sites: sites must differ from each other: gmail is listed more than once",
            id="one site twice",
        ),
        pytest.param(
            {"limits": {"sites": [{"name": "gmail"}]}},
            "limits.sites[0]: give at least one of perMinute, perHour, perDay, maxConnections and "
            "messagesPerConnection, or leave the site out",
            id="a site without a limit",
        ),
        pytest.param(
            {"warmup": {"initialPerDay": 50}},
            "warmup: an enabled warmup needs startDate, the first day of its plan",
            id="no start",
        ),
        pytest.param(
            {"warmup": {"startDate": "2027-02-29"}},
            "warmup.startDate: '2027-02-29' is not a date, give one like \"2026-11-24\" (quote it)",
            id="no such day",
        ),
        pytest.param(
            {"warmup": {"startDate": "tomorrow"}},
            "warmup.startDate: 'tomorrow' is not a date, give one like \"2026-11-24\" (quote it)",
            id="no date",
        ),
        pytest.param(
            {"warmup": {"startDate": "2026-03-01", "growthFactor": "1.0"}},
            'warmup.growthFactor: \'1.0\' is not a growth factor, give one from "1.01" to "10" (quote it)',
            id="no growth",
        ),
    ],
)
def test_a_mistake_in_what_limits_a_sender_is_one_line(spec: dict[str, Any], line: str) -> None:
    assert problems(parse_node, node_manifest(**spec)) == [f"SendingNode acme-1: spec.{line}"]


@pytest.mark.parametrize("name", ["gmail", "default", "partner.example", "mx1.a-b.example.org"])
def test_a_site_is_the_tables_or_a_domain(name: str) -> None:
    (site,) = parse_node(node_manifest(limits={"sites": [{"name": name, "perMinute": 1}]})).spec.limits.sites
    assert site.name == name


@pytest.mark.parametrize("factor", ["1.01", "1.3", "1.1234", "2", "2.5", "10"])
def test_a_growth_factor_is_a_decimal_in_quotes(factor: str) -> None:
    plan = parse_node(node_manifest(warmup={"startDate": "2026-03-01", "growthFactor": factor})).spec.warmup
    assert plan is not None
    assert plan.growth_factor == factor
