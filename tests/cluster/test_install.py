"""The charts as somebody would install them: with Helm, RBAC enforced, in namespaces that enforce `restricted`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import assets
import podfiles
import psycopg
import pytest
import redis
from cluster_worlds import World
from journeys import LOGIN, Journey
from nodeagent import Agent
from operators import eventually, node, pool
from releases import ENFORCED, Release, Verbs
from servers import ControlPlane
from shops import Shop

from fleet import Fleet
from mail_lab import Lab
from postfleet_local.stack import Postgres
from postfleet_workers.store.session import engine_for
from smtp_lab import running

LEAN = {"operator": {"replicas": 1}, "relay": {"replicas": 0}, "migrations": {"enabled": False}}
BACKLOG = {"pollingIntervalSeconds": 1, "target": {"backlogPerReplica": 100}}
# What no request asks for by its name: creations are applied, and OwnerReferencesPermissionEnforcement asks for the
# finalizers where a Deployment names its owner. And a Secret that nobody wants any more is deleted after an hour.
UNSEEN = {
    "apps/deployments": {"create"},
    "secrets": {"create", "delete"},
    "postfleet.io/jobpools/finalizers": {"update"},
}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(480)]


@pytest.fixture(autouse=True)
def _tokens() -> None:
    if not podfiles.able():
        pytest.fail(podfiles.UNABLE, pytrace=False)


@pytest.fixture
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A cluster in which nobody has installed anything."""
    plane = ControlPlane(assets.folder(), tmp_path_factory.mktemp("bare"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture
def empty_database(postgres: Postgres) -> Iterator[str]:
    name = f"empty_{uuid4().hex[:8]}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        yield postgres.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@contextmanager
def restricted(plane: ControlPlane, namespace: str, directory: Path) -> Iterator[Agent]:
    """The namespace as a platform engineer would give it out, and a Node for it."""
    plane.kubectl("create", "namespace", namespace, check=False)
    plane.kubectl("label", "namespace", namespace, *ENFORCED)
    agent = Agent(plane, namespace, directory / f"pods-{namespace}")
    agent.start()
    try:
        yield agent
    finally:
        agent.close()


@pytest.fixture
def release(world: World, plane: ControlPlane, tmp_path: Path) -> Iterator[Release]:
    """None yet, in the test's namespace; what is installed of it goes with the test."""
    with restricted(plane, world.namespace, tmp_path) as agent:
        release = Release(world, agent, assets.helm())
        yield release
        release.helm("uninstall", "postfleet", "--ignore-not-found", "--no-hooks")


def test_a_release_from_its_installation_to_its_end(
    bare: ControlPlane,
    empty_database: str,
    redis_client: redis.Redis,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))  # an image with probe_jobs in it
    with ExitStack() as exits:
        world = World(bare, "mail", redis_client, redis_url, empty_database, tmp_path, exits)
        agent = exits.enter_context(restricted(bare, "mail", tmp_path))
        release = Release(world, agent, assets.helm())
        engine = engine_for(empty_database, connections=4)
        exits.callback(engine.dispose)
        journey = Journey(
            release,
            Shop(world, agent, Fleet(tmp_path, engine, {})),
            exits.enter_context(running(Lab(login=("acme", "p")))),
        )

        installed, scaled = journey.install(), journey.first_mail()
        record_property("installed_seconds", installed)
        record_property("scaled_seconds", installed + scaled)
        assert "Succeeded" in release.helm("test", "postfleet", "--timeout=60s")
        journey.unsubscribe()
        journey.work()
        journey.there_and_back(tmp_path)
        assert release.refused() == []
        assert not [said for said in release.said if "violate" in said]
        journey.leave()


@pytest.mark.parametrize("everywhere", [False, True], ids=["two namespaces", "all namespaces"])
def test_pools_of_other_namespaces_are_looked_after_where_they_are_watched(
    release: Release, tmp_path: Path, everywhere: bool
) -> None:
    plane = release.world.plane
    eventually(
        lambda: plane.kubectl("get", "jobpools", "-A", "-o", "name"), lambda found: "jobpool.postfleet.io/" not in found
    )
    a, b, _ = names = [f"{release.world.namespace}-{letter}" for letter in "abc"]
    for name in names:
        plane.kubectl("create", "namespace", name)
    watched = ["*"] if everywhere else [a, b]
    try:
        for name in names:
            release.world.record(name, held=300)
            plane.kubectl("apply", "-f", "-", namespace=name, given=pool(queues=[name], autoscaling=BACKLOG))
        release.install({**LEAN, "watchNamespaces": watched, "pools": {"email": {"enabled": False}}})

        def scaled() -> list[str]:
            columns = ["--no-headers", "-o", "custom-columns=:.spec.replicas"]
            return [plane.kubectl("get", "deployments", *columns, namespace=name).strip() for name in names]

        eventually(scaled, lambda found: found == ["3", "3", "3" if everywhere else ""], seconds=40)
        assert release.refused() == []
    finally:
        for name in names:
            plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.timeout(120)
def test_the_operator_uses_every_permission_that_it_has(release: Release, tmp_path: Path) -> None:
    name = f"{release.world.namespace}-shop"
    world = replace(release.world, namespace=name, operators=[])
    with restricted(world.plane, name, tmp_path) as agent:
        agent.pretend_ready_seconds = 0.1
        try:
            release.install({**LEAN, "watchNamespaces": [name], "pools": {"email": {"enabled": False}}})
            live(world)
            eventually(lambda: missing(release, name), lambda found: found == UNSEEN)
            assert release.refused() == []
        finally:
            world.plane.kubectl("delete", "namespace", name, "--wait=false")


def live(world: World) -> None:
    """What makes the operator do all that it does."""
    world.record("priority-high", held=300)
    world.record("retry", held=0)
    scaling = {**BACKLOG, "cooldownSeconds": 0, "scaleDown": {"stabilizationWindowSeconds": 0}}
    workers = {"poolRef": {"name": "email"}, "placement": "Dedicated"}
    smtp = {"host": "127.0.0.1", "tls": "None", "credentialsSecretRef": {"name": "login"}}
    world.apply(pool(autoscaling=scaling), node(smtp=smtp, workers=workers))
    world.scaled(3)
    eventually(lambda: world.condition("CredentialsReady", "acme-1", "sendingnode"), lambda found: found[0] == "False")
    world.apply(LOGIN)
    eventually(lambda: world.get("deployment", "email-acme-1"))
    eventually(lambda: world.get("secret", "email-acme-1-nodes"))
    for _ in range(2):  # the second time, the Events of the first are counted up
        world.record("priority-high", held=100)
        world.scaled(1)
        world.record("priority-high", held=300)
        world.scaled(3)
    world.kubectl("delete", "sendingnode", "acme-1")
    eventually(lambda: world.get("deployment", "email-acme-1"), lambda found: found is None)
    world.apply(pool(mode="External"))
    eventually(lambda: world.condition("ScalingActive"), lambda found: found == ("False", "External"))


def missing(release: Release, namespace: str) -> Verbs:
    """The verbs that the operator has and has not used."""
    used = release.asked()
    left = {what: verbs - used.get(what, set()) for what, verbs in release.granted(namespace).items()}
    return {what: verbs for what, verbs in left.items() if verbs}


def test_a_permission_that_is_missing_is_told_of(release: Release) -> None:
    world = release.world
    world.backlog(300)
    release.install({**LEAN, "pools": {"email": {"enabled": False}}})
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(3)
    role = json.loads(world.kubectl("get", "role", "postfleet-operator", "-o", "json"))
    less = [rule for rule in role["rules"] if rule["resources"] != ["deployments/scale"]]
    world.kubectl("replace", "-f", "-", given={**role, "rules": less})
    world.backlog(500)
    eventually(lambda: world.condition("Ready"), lambda found: found == ("False", "Rejected"))
    told = next(each for each in world.status()["conditions"] if each["type"] == "Ready")["message"]
    assert 'cannot patch resource "deployments/scale"' in told
    eventually(lambda: world.reasons("email"), lambda found: "ApplyFailed" in found)
    assert release.calls()["403"]
    assert world.replicas() == 3
    assert [release.agent.exits[name] for name in release.pods("operator")] == [[]], "it runs as before"
    world.kubectl("replace", "-f", "-", given={**role, "metadata": {"name": "postfleet-operator"}})
    world.scaled(5)
    eventually(lambda: world.condition("Ready")[1], lambda found: found != "Rejected")
