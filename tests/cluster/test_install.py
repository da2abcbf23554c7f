"""The charts as somebody would install them: with Helm, RBAC enforced, in namespaces that enforce `restricted`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import assets
import podfiles
import psycopg
import pytest
import redis
from cluster_worlds import World
from nodeagent import Agent
from operators import eventually, node, pool
from releases import CRDS, ENFORCED, Release, Verbs, newer, replicas_told
from servers import ControlPlane
from shops import Shop

from fleet import Fleet
from postfleet_local.stack import Postgres
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.store.session import engine_for
from smtp_lab import Lab, running

MAILS, JOBS = 150, 400
UPGRADE = ("--reset-then-reuse-values", "--wait", "--timeout=90s")
LEAN = {"operator": {"replicas": 1}, "relay": {"replicas": 0}, "migrations": {"enabled": False}}
BACKLOG = {"pollingIntervalSeconds": 1, "target": {"backlogPerReplica": 100}}
LOGIN = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "login"},
    "stringData": {"username": "acme", "password": "p"},
}
# What no request asks for by its name: creations are applied, and OwnerReferencesPermissionEnforcement asks for the
# finalizers where a Deployment names its owner. And a Secret that nobody wants any more is deleted after an hour.
UNSEEN = {
    "apps/deployments": {"create"},
    "secrets": {"create", "delete"},
    "postfleet.io/jobpools/finalizers": {"update"},
}

pytestmark = [pytest.mark.faults, pytest.mark.timeout(240)]


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


@dataclass(slots=True)
class Journey:
    """One release, from the first command to the last."""

    release: Release
    shop: Shop
    lab: Lab

    @property
    def world(self) -> World:
        return self.release.world

    def install(self) -> float:
        """As the documents say; the seconds until everything was ready."""
        began = time.monotonic()
        self.release.helm("install", "postfleet-crds", CRDS)
        urls = (f"--from-literal=database={self.world.database_url}", f"--from-literal=redis={self.world.redis_url}")
        self.world.kubectl("create", "secret", "generic", "urls", *urls)
        values = {
            "database": {"url": "", "existingSecret": {"name": "urls", "key": "database"}},
            "redis": {"url": "", "existingSecret": {"name": "urls", "key": "redis"}},
            "settings": {"POSTFLEET_JOB_MODULES": "probe_jobs"},
        }
        notes = self.release.install(values, "--wait")
        took = time.monotonic() - began
        assert "helm test postfleet" in notes
        assert [self.release.agent.exits[name][0].code for name in self.migrations()] == [0]
        assert len(self.release.pods("operator")) == len(self.release.pods("relay")) == 2
        return took

    def migrations(self) -> list[str]:
        return [name for name in self.release.agent.exits if name.startswith("postfleet-migrations-")]

    def first_mail(self) -> float:
        """Through a node with a login; the seconds until the pool asked for workers."""
        began = time.monotonic()
        smtp = {"host": "127.0.0.1", "port": self.lab.port, "tls": "None", "credentialsSecretRef": {"name": "login"}}
        self.world.apply(LOGIN, node(smtp=smtp, workers={"poolRef": {"name": "email"}}))
        self.shop.fleet.execute("INSERT INTO tenants (name) VALUES ('acme')")
        eventually(lambda: self.world.status("acme-1", "sendingnode").get("phase"), lambda found: found == "Active")
        with self.shop.fleet.engine.begin() as connection:
            for number in range(MAILS):
                to = f"{number}@example.org"
                send_email(connection, NewEmail("acme", to, "acme-1", "s", text="t", sender="a@a.example"))
        eventually(self.world.replicas, lambda found: (found or 0) > 0)
        took = time.monotonic() - began
        eventually(self.shop.left, lambda left: left == 0, seconds=60)
        assert sorted(mail.recipient for mail in self.lab.accepted) == sorted(f"{n}@example.org" for n in range(MAILS))
        assert set(self.lab.logins) == {"acme"}
        return took

    def work(self) -> None:
        """A pool of the user's own beside the release's, with two workers that have enough to do."""
        autoscaling = {"minReplicas": 2, "maxReplicas": 6, "target": {"backlogPerReplica": 10_000}}
        worker = {"threads": 4, "shutdownTimeoutSeconds": 10}
        self.world.apply(pool("own", queues=["probe"], worker=worker, autoscaling=autoscaling))
        self.shop.ready(2, "own")
        self.shop.jobs(JOBS, 0.5)

    def images(self, *components: str) -> set[str]:
        """Tags of what runs."""
        pods = [pod for component in components for pod in self.release.pods(component).values()]
        pods += self.world.items("pod", labelSelector="postfleet.io/pool=own")
        live = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return {pod["spec"]["containers"][0]["image"].partition(":")[2] for pod in live}

    def there_and_back(self, directory: Path) -> None:
        """To the next version and back, under work that must not notice."""
        older = self.images("operator", "relay")
        with replicas_told(self.world) as seen:
            self.release.helm("upgrade", "postfleet", newer(directory), *UPGRADE)
            assert len(self.migrations()) == 2
            eventually(lambda: self.images("operator", "relay"), lambda found: found == {"99.0.0"})
            assert self.maximum() == 17
            self.release.helm("rollback", "postfleet", "1", "--wait", "--timeout=90s")
            eventually(lambda: self.images("operator", "relay"), lambda found: found == older)
            assert self.maximum() == 20
            eventually(self.shop.left, lambda left: left == 0, seconds=60)
        assert seen["own"] == seen["postfleet-operator"] == seen["postfleet-relay"] == [2]
        assert seen["email"] == sorted(seen["email"], reverse=True), "at most the end of the mail before"
        assert self.shop.runs() == {1}
        assert self.shop.fleet.rows("SELECT id FROM jobs WHERE attempt <> 1 OR strikes <> 0") == []
        assert self.killed() == ""

    def killed(self) -> str:
        """The last words of pods that did not end by themselves; before a worker has begun, 1 and 143 are ends too."""
        return self.shop.ended_otherwise(0, 1, 143)

    def maximum(self) -> int:
        return int((self.world.get("jobpool", "email") or {})["spec"]["autoscaling"]["maxReplicas"])

    def leave(self) -> None:
        """What goes, and what stays."""
        self.release.helm("uninstall", "postfleet", "--wait", "--timeout=60s")
        self.release.helm("uninstall", "postfleet-crds", "--wait")
        mail = {"labelSelector": "postfleet.io/pool=email"}
        eventually(lambda: self.world.items("pod", **mail), lambda found: not found, seconds=90)
        assert self.killed() == ""
        eventually(lambda: self.release.pods("operator") | self.release.pods("relay"), lambda found: not found)
        kinds = (
            "deployments,jobs,secrets,configmaps,serviceaccounts,roles,rolebindings,leases,pdb,jobpools,sendingnodes"
        )
        left = set(self.world.kubectl("get", kinds, "-o", "name").split())
        assert left == {
            "configmap/kube-root-ca.crt",
            "deployment.apps/own",
            "jobpool.postfleet.io/own",
            "lease.coordination.k8s.io/postfleet-operator",
            "secret/login",
            "secret/urls",
            "sendingnode.postfleet.io/acme-1",
            "serviceaccount/default",
        }
        assert "postfleet" not in self.world.kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
        assert self.world.replicas("own") == 2
        assert len(self.shop.fleet.rows("SELECT id FROM jobs")) > MAILS + JOBS
        self.world.kubectl("delete", "crd", "jobpools.postfleet.io", "sendingnodes.postfleet.io")
        eventually(lambda: self.world.get("deployment", "own"), lambda found: found is None)


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
