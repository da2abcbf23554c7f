"""How the parts of a release find each other."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from charts import CHART, NAMESPACE, Helm, Manifest, containers, env, of_kind, one, pods

from postfleet_operator.settings import Settings as OperatorSettings
from postfleet_operator.spec import parse_pool
from postfleet_workers.settings import Settings as WorkerSettings

NAMED = {
    "operator": {f"POSTFLEET_{name.upper()}" for name in OperatorSettings.model_fields},
    "worker": {f"POSTFLEET_{name.upper()}" for name in WorkerSettings.model_fields},
}
DATABASE, REDIS = "POSTFLEET_DATABASE_URL", "POSTFLEET_REDIS_URL"


def container(rendered: list[Manifest], name: str, prefix: str = "postfleet") -> Manifest:
    [only] = one(rendered, "Deployment", f"{prefix}-{name}")["spec"]["template"]["spec"]["containers"]
    return only


def key_of(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def operator_settings(rendered: list[Manifest], prefix: str = "postfleet") -> OperatorSettings:
    """As its process would read them."""
    urls = {DATABASE: "postgresql://db/postfleet", REDIS: "redis://cache/0"}
    given = {**env(container(rendered, "operator", prefix)), **urls}
    fields = {name.removeprefix("POSTFLEET_").lower(): value for name, value in given.items() if name != "TZ"}
    return OperatorSettings(**fields)


def test_every_variable_is_a_setting(rendered: list[Manifest]) -> None:
    for name, pod in pods(rendered):
        for each in containers(pod):
            known = NAMED["operator" if "-operator" in name else "worker"]
            assert {found for found in env(each) if found.startswith("POSTFLEET_")} <= known, name


def test_the_operator_hands_workers_what_relay_and_operator_use(helm: Helm) -> None:
    rendered = helm.render("existing")
    render = operator_settings(rendered, "mailroom").render
    assert render.worker_image == "registry.example.com/postfleet-worker:0.1.0-rc.1"
    assert set(render.urls) == {DATABASE, REDIS}
    for each in ("operator", "relay"):
        found = env(container(rendered, each, "mailroom"))
        assert (
            found[DATABASE] == key_of(render.urls[DATABASE].name, render.urls[DATABASE].key) == key_of("pg-app", "uri")
        )
        assert found[REDIS] == key_of(render.urls[REDIS].name, render.urls[REDIS].key) == key_of("cache", "url")
    assert of_kind(rendered, "Secret") == []


def test_urls_that_are_given_become_a_secret_where_workers_are(helm: Helm) -> None:
    rendered = helm.render({"watchNamespaces": ["mail", "shop"], "settings": {"POSTFLEET_LEASE_SECONDS": 90}})
    render = operator_settings(rendered).render
    assert render.urls == {}
    for namespace in ("mail", "shop"):
        secret = one(rendered, "Secret", render.connections_secret, namespace)
        assert secret["stringData"] == {DATABASE: "postgresql://u:p@db/postfleet", REDIS: "redis://cache/0"}
        settings = one(rendered, "ConfigMap", render.settings_config_map, namespace)
        assert settings["data"] == {"POSTFLEET_LEASE_SECONDS": "90"}
    assert env(container(rendered, "relay"))[DATABASE] == key_of("postfleet-connections", DATABASE)
    assert container(rendered, "relay")["envFrom"] == [{"configMapRef": {"name": "postfleet-settings"}}]


def test_copies_in_other_namespaces_outlive_a_change_of_the_list(helm: Helm) -> None:
    rendered = helm.render({"watchNamespaces": ["mail", "shop"], "settings": {"POSTFLEET_LEASE_SECONDS": 90}})
    for kind, name in (("Secret", "postfleet-connections"), ("ConfigMap", "postfleet-settings")):
        assert "annotations" not in one(rendered, kind, name)["metadata"]
        assert one(rendered, kind, name, "shop")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_settings_are_what_was_written(helm: Helm) -> None:
    given = {"POSTFLEET_A1": 1000000, "POSTFLEET_B": 0.25, "POSTFLEET_C": True, "POSTFLEET_D": "007"}
    found = one(helm.render({"settings": given}), "ConfigMap", "postfleet-settings")["data"]
    assert found == {
        "POSTFLEET_A1": "1000000",
        "POSTFLEET_B": "0.25",
        "POSTFLEET_C": "true",
        "POSTFLEET_D": "007",
    }


def test_one_url_may_be_given_and_the_other_be_there(helm: Helm) -> None:
    rendered = helm.render("everywhere")
    secret = one(rendered, "Secret", "postfleet-connections")
    assert secret["stringData"].keys() == {REDIS}
    assert "postfleet-migrations" not in {found["metadata"]["name"] for found in of_kind(rendered, "Secret")}
    render = operator_settings(rendered).render
    assert set(render.urls) == {DATABASE}
    assert render.connections_secret == secret["metadata"]["name"]


def test_the_operator_watches_what_it_has_roles_for(helm: Helm) -> None:
    assert operator_settings(helm.render("dev")).watched == (NAMESPACE,)
    assert operator_settings(helm.render("existing"), "mailroom").watched == ("mail", "shop")
    assert operator_settings(helm.render("everywhere")).watched == ()


def test_the_operator_s_lease_is_the_one_that_it_may_change(helm: Helm) -> None:
    settings = operator_settings(helm.render("dev"))
    assert (settings.lease_namespace, settings.lease_name) == (NAMESPACE, "postfleet-operator")
    assert settings.leader_election


def test_probes_ask_where_the_process_listens(rendered: list[Manifest]) -> None:
    for deployment in of_kind(rendered, "Deployment"):
        [only] = deployment["spec"]["template"]["spec"]["containers"]
        if only["name"] not in ("operator", "relay", "web", "inbound"):
            continue
        assert only["ports"][0] == {"name": "health", "containerPort": int(env(only)["POSTFLEET_HEALTH_PORT"])}
        assert env(only)["POSTFLEET_HEALTH_HOST"] == "0.0.0.0"
        paths = {kind: only[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
        assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}


def test_selectors_find_the_pods_that_they_are_for(rendered: list[Manifest]) -> None:
    labels = {name: pod["metadata"].get("labels", {}).items() for name, pod in pods(rendered)}
    for kind, path in (
        ("Deployment", ("selector", "matchLabels")),
        ("PodDisruptionBudget", ("selector", "matchLabels")),
        ("Service", ("selector",)),
    ):
        for found in of_kind(rendered, kind):
            selector = found["spec"]
            for part in path:
                selector = selector[part]
            [only] = [name for name, given in labels.items() if selector.items() <= given]
            assert only == f"Deployment/{found['metadata']['name']}"


def test_every_object_has_a_namespace_and_says_whose_it_is(rendered: list[Manifest]) -> None:
    for found in rendered:
        metadata = found["metadata"]
        assert found["kind"].startswith("Cluster") or metadata["namespace"] in ("mail", "shop")
        assert metadata["labels"]["app.kubernetes.io/instance"] == "postfleet"
        assert len(metadata["name"]) <= 63
    names = [(found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in rendered]
    assert len(names) == len(set(names))


def test_an_upgrade_of_the_chart_leaves_selectors_alone(helm: Helm) -> None:
    for deployment in of_kind(helm.render("dev"), "Deployment"):
        keys = deployment["spec"]["selector"]["matchLabels"].keys()
        assert keys == {f"app.kubernetes.io/{part}" for part in ("name", "instance", "component")}


def test_pools_can_be_read_by_the_operator(rendered: list[Manifest]) -> None:
    found = {pool.name: pool for pool in map(parse_pool, of_kind(rendered, "JobPool"))}
    assert "email" in found
    assert all(pool.metadata.namespace == NAMESPACE for pool in found.values())


@pytest.mark.parametrize("name", ["email", "import", "export", "webhook", "maintenance"])
def test_every_pool_that_may_be_switched_on_can_be_read(helm: Helm, name: str) -> None:
    pool = parse_pool(one(helm.render({"pools": {name: {"enabled": True}}}), "JobPool", name))
    least, most = {"email": (50, 100), "webhook": (10, 20), "maintenance": (1, 5)}.get(name, (2, 5))
    assert least <= pool.spec.worker.capacity <= most


def test_the_mail_pool_serves_every_queue_that_postfleet_s_own_jobs_use(helm: Helm) -> None:
    pool = parse_pool(one(helm.render("dev"), "JobPool", "email"))
    assert set(pool.spec.queues) == {"priority-high", "campaign-standard", "warmup", "retry"}


def test_a_pool_can_be_switched_off(helm: Helm) -> None:
    rendered = helm.render({"pools": {"email": {"enabled": False}}})
    assert of_kind(rendered, "JobPool") == []
    assert [found["metadata"]["name"] for found in of_kind(rendered, "Pod")] == ["postfleet-test-schema"]


def test_migrations_come_before_everything_else(helm: Helm) -> None:
    rendered = helm.render("external")
    job = one(rendered, "Job", "postfleet-migrations")
    secret = one(rendered, "Secret", "postfleet-migrations")
    hooks = [found["metadata"]["annotations"] for found in (secret, job)]
    assert [each["helm.sh/hook"] for each in hooks] == ["pre-install,pre-upgrade"] * 2
    assert int(hooks[0]["helm.sh/hook-weight"]) < int(hooks[1]["helm.sh/hook-weight"])
    [only] = job["spec"]["template"]["spec"]["containers"]
    assert only["command"] == ["postfleet", "migrate"]
    assert env(only)[DATABASE] == key_of("postfleet-migrations", DATABASE)
    assert "serviceAccountName" not in job["spec"]["template"]["spec"]
    assert "initContainers" not in one(rendered, "Deployment", "postfleet-relay")["spec"]["template"]["spec"]


def test_migrations_of_the_release_s_own_database_are_the_relay_s_first_step(helm: Helm) -> None:
    rendered = helm.render("dev")
    assert of_kind(rendered, "Job") == []
    [first] = one(rendered, "Deployment", "postfleet-relay")["spec"]["template"]["spec"]["initContainers"]
    assert first["command"] == ["postfleet", "migrate"]
    assert env(first)[DATABASE] == key_of("postfleet-connections", DATABASE)


def test_migrations_can_be_left_to_others(helm: Helm) -> None:
    rendered = helm.render({"migrations": {"enabled": False}})
    assert of_kind(rendered, "Job") == []
    names = [found["metadata"]["name"] for found in of_kind(rendered, "Secret")]
    assert names == ["postfleet-connections", "postfleet-secret-key"]


def test_the_development_servers_are_where_the_urls_say(helm: Helm) -> None:
    rendered = helm.render("dev")
    urls = one(rendered, "Secret", "postfleet-connections")["stringData"]
    assert urls == {
        DATABASE: "postgresql://postfleet:dev-only@postfleet-postgresql.mail.svc:5432/postfleet",
        REDIS: "redis://postfleet-redis.mail.svc:6379/0",
    }
    for name, port in (("postgresql", 5432), ("redis", 6379)):
        assert one(rendered, "Service", f"postfleet-{name}")["spec"]["ports"][0]["port"] == port
        assert container(rendered, name)["ports"] == [{"name": name, "containerPort": port}]
    assert one(rendered, "Secret", "postfleet-postgresql")["stringData"] == {"POSTGRES_PASSWORD": "dev-only"}
    assert "noeviction" in shlex.join(container(rendered, "redis")["args"])


def test_a_new_url_or_setting_starts_new_pods(helm: Helm) -> None:
    def stamps(values: dict[str, Any]) -> tuple[Any, ...]:
        rendered = helm.render(values)
        return tuple(
            one(rendered, "Deployment", f"postfleet-{name}")["spec"]["template"]["metadata"]["annotations"]
            for name in ("operator", "relay")
        )

    before = stamps({})
    assert stamps({}) == before
    url = stamps({"redis": {"url": "redis://other/0"}})
    assert url[0] != before[0]
    assert url[1] != before[1]
    settings = stamps({"settings": {"POSTFLEET_LEASE_SECONDS": 90}})
    assert settings[1] != before[1]


def test_replicas_spread_and_one_may_be_taken_at_a_time(helm: Helm) -> None:
    rendered = helm.render("external")
    for name in ("operator", "relay"):
        deployment = one(rendered, "Deployment", f"postfleet-{name}")
        assert deployment["spec"]["replicas"] == 2
        [spread] = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
        budget = one(rendered, "PodDisruptionBudget", f"postfleet-{name}")["spec"]
        assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")


def test_workers_are_pulled_with_the_same_secrets(helm: Helm) -> None:
    rendered = helm.render("external")
    assert operator_settings(rendered).render.pull_secrets == ("registry",)
    for _, pod in pods(rendered):
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_a_test_sends_a_job_and_another_asks_for_the_schema(helm: Helm) -> None:
    rendered = helm.render("dev")
    schema, job = (one(rendered, "Pod", f"postfleet-test-{name}") for name in ("schema", "job"))
    assert containers(schema)[0]["command"] == ["postfleet", "jobs", "stats"]
    [program, flag, script] = containers(job)[0]["command"]
    assert (program, flag) == ("python", "-c")
    assert script == (CHART / "files/tests/job.py").read_text()
    assert all(pod["metadata"]["annotations"]["helm.sh/hook"] == "test" for pod in (schema, job))


def test_notes_say_what_to_do_next(helm: Helm) -> None:
    def notes(name: str, *more: str) -> str:
        values = str(CHART / "ci" / f"{name}-values.yaml")
        client = ("--dry-run=client", "--hide-notes=false", *more)
        done = helm.run("install", "postfleet", str(CHART), f"--namespace={NAMESPACE}", f"--values={values}", *client)
        assert done.returncode == 0, done.stderr
        return done.stdout.rpartition("NOTES:")[2]

    assert "helm test postfleet -n mail" in notes("external")
    assert "DEVELOPMENT ONLY" not in notes("external")
    assert "PostgreSQL and Redis of this release keep no volume" in notes("dev")
    assert "mail-key and pg-app and cache, which must be in every namespace" in notes("existing")
    needed = "put pg-app and postfleet-connections and postfleet-secret-key"
    assert f"{needed} there first" in notes("everywhere")
    said = notes("everywhere", "--set=settings.POSTFLEET_LEASE_SECONDS=90")
    assert f"{needed} and the ConfigMap postfleet-settings there first" in said
    assert "rollout status deployment" in said
