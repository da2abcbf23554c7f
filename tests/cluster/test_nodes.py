"""Sending nodes on a real API server: logins, workers of their own, and what their status says."""

from __future__ import annotations

import base64
from typing import Any

import psycopg
from cluster_worlds import World
from operators import eventually, node, pool

DEDICATED = {
    "poolRef": {"name": "email"},
    "placement": "Dedicated",
    "nodeSelector": {"place": "eu"},
    "tolerations": [{"key": "egress", "operator": "Exists"}],
}


def secret(password: str, name: str = "smtp") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"username": "u", "password": password},
    }


def with_login(name: str = "acme-1", secret_name: str = "smtp", **spec: Any) -> dict[str, Any]:
    smtp = {"host": "127.0.0.1", "credentialsSecretRef": {"name": secret_name}}
    return node(name, smtp=smtp, **spec)


def files(world: World, name: str = "email-nodes") -> dict[str, str]:
    found = world.get("secret", name)
    data = {} if found is None else found.get("data") or {}
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def rows(world: World) -> dict[str, bool]:
    with psycopg.connect(world.database_url) as connection:
        return dict(connection.execute("SELECT name, paused FROM sending_nodes").fetchall())


def phase(world: World, name: str = "acme-1") -> str:
    return str(world.status(name, "sendingnode").get("phase"))


def test_a_node_waits_for_its_secret_and_follows_its_rotation(world: World) -> None:
    world.backlog(0)
    world.operator()
    world.apply(pool(), with_login(limits={"perDay": 1000}))
    eventually(
        lambda: world.condition("CredentialsReady", "acme-1", "sendingnode"),
        lambda found: found == ("False", "SecretMissing"),
    )
    assert (phase(world), rows(world)) == ("Blocked", {"acme-1": True})
    eventually(lambda: world.reasons("acme-1"), lambda found: "CredentialsMissing" in found)
    world.apply(secret("first"))
    eventually(lambda: files(world), lambda found: found == {"acme-1.username": "u", "acme-1.password": "first"})
    eventually(lambda: (phase(world), rows(world)), lambda found: found == ("Active", {"acme-1": False}))
    world.apply(secret("second"))
    eventually(lambda: files(world).get("acme-1.password"), lambda found: found == "second", seconds=5)
    status = eventually(
        lambda: world.status("acme-1", "sendingnode"), lambda found: "acceptedToday" in found, seconds=5
    )
    assert (status["acceptedToday"], status["capToday"], status["remainingToday"]) == (0, 1000, 1000)
    owner = (world.get("secret", "email-nodes") or {})["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"]) == ("JobPool", "email")


def test_logins_come_back_at_once_when_their_secret_or_their_pool_was_replaced(world: World) -> None:
    world.backlog(0)
    world.operator()
    world.apply(secret("p"), pool(), with_login())
    eventually(lambda: files(world), lambda found: found == {"acme-1.username": "u", "acme-1.password": "p"})
    world.kubectl("delete", "secret", "email-nodes")
    eventually(lambda: files(world), lambda found: found == {"acme-1.username": "u", "acme-1.password": "p"}, seconds=5)

    def owner() -> str:
        found = world.get("secret", "email-nodes") or {"metadata": {}}
        return str(next(iter(found["metadata"].get("ownerReferences", [])), {}).get("uid"))

    for cascade in ("background", "foreground"):
        before = owner()
        world.kubectl("replace", "--force", f"--cascade={cascade}", "-f", "-", given=pool())
        uid = (world.get("jobpool", "email") or {})["metadata"]["uid"]
        assert uid != before
        eventually(owner, lambda found, uid=uid: found == uid, seconds=15)
        assert files(world) == {"acme-1.username": "u", "acme-1.password": "p"}
        eventually(
            lambda: world.condition("CredentialsReady", "acme-1", "sendingnode"),
            lambda found: found == ("True", "LoginDelivered"),
        )


def test_a_dedicated_node_has_a_deployment_and_a_secret_of_its_own_until_it_is_shared_again(world: World) -> None:
    queues = ("priority-high", "retry")
    world.backlog(0, (*queues, *(f"{queue}.acme-1" for queue in queues)))
    world.operator()
    minimum = {"minReplicas": 1}
    world.apply(secret("p"), pool(autoscaling=minimum), with_login(workers=DEDICATED), node("acme-2"))
    world.scaled(1, "email-acme-1")
    world.scaled(1, "email")
    deployment = world.get("deployment", "email-acme-1") or {}
    pod = deployment["spec"]["template"]["spec"]
    assert (pod["nodeSelector"], pod["tolerations"][0]["key"]) == ({"place": "eu"}, "egress")
    assert "--queues=priority-high.acme-1,retry.acme-1" in str(pod["containers"][0]["args"])
    eventually(lambda: files(world, "email-acme-1-nodes"), lambda found: found.keys() >= {"acme-1.username"})
    assert files(world) == {}
    eventually(
        lambda: world.status("acme-1", "sendingnode").get("workers", {}),
        lambda found: (found.get("deployment"), found.get("desiredReplicas")) == ("email-acme-1", 1),
    )

    world.apply(with_login(workers={"poolRef": {"name": "email"}, "placement": "Shared"}))
    eventually(lambda: files(world), lambda found: found.keys() >= {"acme-1.username"})
    eventually(lambda: world.get("deployment", "email-acme-1"), lambda found: found is None)
    assert "workers" not in world.status("acme-1", "sendingnode")
    assert world.replicas("email") == 1


def test_a_pool_that_is_missing_a_server_that_is_and_an_older_double_are_conditions_and_stop_nobody(
    world: World,
) -> None:
    world.backlog(0)
    world.operator()
    world.apply(with_login("lost", workers={"poolRef": {"name": "nope"}}), secret("p"))
    world.apply(node("old", smtp={"host": "mx.invalid"}, identity={"domain": "old.example"}))
    eventually(lambda: world.condition("Reachable", "old", "sendingnode"), lambda found: found == ("False", "NoAnswer"))
    eventually(
        lambda: world.condition("PoolFound", "lost", "sendingnode"), lambda found: found == ("False", "PoolMissing")
    )
    world.apply(node("young", smtp={"host": "mx.invalid"}, identity={"domain": "young.example"}))
    eventually(
        lambda: world.condition("IdentityUnique", "young", "sendingnode"),
        lambda found: found == ("False", "SameLogin"),
    )
    assert world.condition("IdentityUnique", "old", "sendingnode") == ("True", "Unique")
    eventually(lambda: world.reasons("lost") | world.reasons("young"), {"PoolMissing", "IdentityShared"}.issubset)
    assert rows(world) == {"lost": True, "old": False, "young": False}
    world.kubectl("delete", "sendingnode", "old")
    eventually(
        lambda: world.condition("IdentityUnique", "young", "sendingnode"), lambda found: found == ("True", "Unique")
    )
    eventually(lambda: rows(world), lambda found: found == {"lost": True, "young": False})


def test_a_new_leader_takes_away_what_is_not_wanted_any_more(world: World) -> None:
    world.backlog(0)
    first = world.operator()
    world.apply(secret("p"), pool(), with_login(workers=DEDICATED), with_login("acme-2"))
    eventually(lambda: files(world), lambda found: found.keys() == {"acme-2.username", "acme-2.password"})
    eventually(lambda: world.get("deployment", "email-acme-1"))
    first.stop()
    world.kubectl("delete", "sendingnode", "acme-1", "acme-2")
    world.operator()
    eventually(lambda: rows(world), lambda found: found == {})
    eventually(lambda: world.get("deployment", "email-acme-1"), lambda found: found is None)
    eventually(lambda: files(world), lambda found: found == {})


def test_a_node_that_delivers_directly_signs_and_warms_up(world: World) -> None:
    world.backlog(0)
    world.operator()
    key = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "dkim"}, "stringData": {"private.key": "PEM"}}
    identity = {
        "domain": "acme.example",
        "ipAddresses": ["192.0.2.1", "2001:db8::1"],
        "returnPathDomain": "bounces.acme.example",
        "dkim": {"selector": "s1", "privateKeySecretRef": {"name": "dkim"}},
    }
    sites = [{"name": "gmail", "perMinute": 60}, {"name": "default", "maxConnections": 5}]
    warming = node(
        "acme-1",
        smtp={"host": "mx"},
        identity=identity,
        limits={"sites": sites},
        warmup={"startDate": "2999-01-01", "days": [20, 28, 39]},
    )
    world.apply(key, pool(), warming)
    eventually(lambda: files(world), lambda found: found == {"acme-1.dkim": "PEM"})
    eventually(lambda: phase(world), lambda found: found == "Warming")
    assert world.condition("Warming", "acme-1", "sendingnode") == ("True", "WarmupAhead")
    assert world.condition("CredentialsReady", "acme-1", "sendingnode") == ("True", "LoginDelivered")
    with psycopg.connect(world.database_url) as connection:
        [(spec,)] = connection.execute("SELECT spec FROM sending_nodes").fetchall()
        connection.execute(
            "INSERT INTO slowdowns (node, site, action, value, rule, reply, until) VALUES"
            " ('acme-1', 'gmail', 'per_minute', 10, 'gmail.rate', '421 4.7.28', postfleet_now() + interval '1 hour')"
        )
    assert (spec["smtp"]["port"], spec["smtp"]["tls"]) == (25, "Opportunistic")
    assert spec["identity"]["dkim"]["privateKeySecretRef"] == {"name": "dkim", "key": "private.key"}
    assert (spec["warmup"]["growthFactor"], spec["warmup"]["targetPerDay"]) == ("1.3", 50_000)
    status = eventually(lambda: world.status("acme-1", "sendingnode"), lambda found: "slowdowns" in found)
    assert status["capToday"] == 20
    assert status["slowdowns"][0]["value"] == 10
    eventually(lambda: world.reasons("acme-1"), lambda found: "SlowedDown" in found)
