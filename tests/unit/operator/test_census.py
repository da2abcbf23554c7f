"""Nodes that get in each other's way, and the ones that nobody serves."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator import census
from postfleet_operator.cluster import BrokenNode, BrokenPool
from postfleet_operator.reasons import Reason
from postfleet_operator.rivals import doubles
from postfleet_operator.spec import Metadata, SendingNode, parse_node, parse_pool
from unit.operator.building import manifest, node_manifest, pool

OWN = {"poolRef": {"name": "email"}, "placement": "Dedicated"}


def node(
    name: str, born: int = 1, namespace: str = "default", host: str = "smtp", domain: str = "", **spec: Any
) -> SendingNode:
    secret, addresses = spec.pop("secret", None), spec.pop("ipAddresses", [])
    smtp = {"host": host} | ({"credentialsSecretRef": {"name": secret}} if secret else {})
    identity = {"domain": domain or f"{name}.example", "ipAddresses": addresses}
    given = node_manifest(name, smtp=smtp, identity=identity, **spec)
    created = f"2026-01-01T00:00:{born:02}Z"
    return parse_node({**given, "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}})


def test_a_name_belongs_to_the_older_of_two_namespaces() -> None:
    old, young = node("a", 1, "z", workers=OWN), node("a", 2, "default", workers=OWN)
    found = census.take([pool()], [young, old])
    assert found.mirrored == [old]
    assert found.name_problems.keys() == {"default/a"}
    assert "z/a" in found.name_problems["default/a"].message
    assert [workers.key for workers in found.sets] == ["default/email"], "and so do its queues"


def test_a_pool_that_is_being_deleted_gets_nothing_that_would_keep_it() -> None:
    given = manifest()
    going = parse_pool({**given, "metadata": {**given["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    found = census.take([going], [node("a", workers=OWN)])
    assert (found.sets, found.own_sets, found.pools) == ((), {}, [going])


def test_a_node_that_cannot_be_read_keeps_its_name() -> None:
    broken = BrokenNode(Metadata("a", "z", created_at="2026-01-01T00:00:00Z"), ("spec: bad",))
    assert census.take([], [node("a", 2), broken]).mirrored == []


@pytest.mark.parametrize(
    ("older", "younger", "usernames", "reason"),
    [
        pytest.param(node("a"), node("b", 2), {}, Reason.SAME_LOGIN, id="one server, no login"),
        pytest.param(node("a"), node("b", 2, host="SMTP"), {}, Reason.SAME_LOGIN, id="hosts know no case"),
        pytest.param(node("a"), node("b", 2, host="mx2"), {}, None, id="two servers"),
        pytest.param(node("a", host="localhost"), node("b", 2, host="localhost"), {}, None, id="each its own host"),
        pytest.param(node("a", secret="s"), node("b", 2, secret="s"), {}, Reason.SAME_LOGIN, id="one Secret"),
        pytest.param(node("a", secret="s"), node("b", 2, secret="t"), {}, None, id="two Secrets, unread"),
        pytest.param(
            node("a", secret="s"), node("b", 2, secret="t"), {"default/a": "u", "default/b": "u"}, Reason.SAME_LOGIN,
            id="two Secrets, one login",
        ),
        pytest.param(
            node("a", secret="s"), node("b", 2, secret="t"), {"default/a": "u", "default/b": "v"}, None, id="two logins"
        ),
        pytest.param(
            node("a", secret="s", domain="x.example"), node("b", 2, secret="t", domain="X.example"), {},
            Reason.SAME_IDENTITY, id="one domain",
        ),
        pytest.param(
            node("a", domain="x.example"), node("b", 2, host="mx2", domain="x.example"), {}, None,
            id="one domain on two hosts",
        ),
        pytest.param(
            node("a", host="mx", domain="x.example"), node("b", 2, host="mx", domain="y.example"), {}, None,
            id="two that deliver directly",
        ),
        pytest.param(
            node("a", host="mx", domain="x.example"), node("b", 2, host="mx", domain="x.example"), {},
            Reason.SAME_IDENTITY, id="one domain, delivered directly",
        ),
        pytest.param(
            node("a", host="mx", domain="x.example", ipAddresses=["192.0.2.1"]),
            node("b", 2, host="mx", domain="x.example", ipAddresses=["192.0.2.2"]), {}, None,
            id="one domain, delivered directly from two addresses",
        ),
    ],
)  # fmt: skip
def test_the_younger_of_two_that_are_one_says_so(
    older: SendingNode, younger: SendingNode, usernames: dict[str, str], reason: Reason | None
) -> None:
    for order in ([older, younger], [younger, older]):
        found = doubles(order, usernames)
        assert {key: problem.reason for key, problem in found.items()} == ({"default/b": reason} if reason else {})


def test_a_pool_that_is_named_must_be_there_and_may_be_broken() -> None:
    named = node("a", workers={"poolRef": {"name": "email"}})
    assert census.take([], [named]).pool_problems["default/a"].reason is Reason.POOL_MISSING
    assert census.take([pool()], [named]).pool_problems == {}
    assert census.take([BrokenPool(Metadata("email"), ("bad",))], [named]).pool_problems == {}
    assert census.take([pool()], [node("a", namespace="far", workers=OWN)]).pool_problems.keys() == {"far/a"}


def test_mail_waits_where_it_could_only_fail() -> None:
    found = census.take([], [node("a"), node("b", workers=OWN)])
    assert found.held({}) == {"b"}
    missing = census.Problem(Reason.SECRET_MISSING, "")
    unread = census.Problem(Reason.CLUSTER_UNAVAILABLE, "")
    assert found.held({"default/a": missing}) == {"a", "b"}
    assert found.held({"default/a": unread}) == {"b"}
