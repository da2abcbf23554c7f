"""What the chart refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from charts import MINIMAL, Helm, containers, env, of_kind, one, pods

URL = "postgresql://u:p@db/postfleet"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param({}, ["database: nothing to connect to", "dev.postgresql.enabled=true"], id="nothing"),
        pytest.param({"database": {"url": URL}}, ["redis: nothing to connect to", "redis.url"], id="no-redis"),
        pytest.param(
            MINIMAL | {"dev": {"postgresql": {"enabled": True}}},
            ["database.url and dev.postgresql.enabled", "keep one"],
            id="two-ways",
        ),
        pytest.param(MINIMAL | {"watchNamespaces": ["*", "a"]}, ['"*" is all namespaces'], id="all-and-one"),
        pytest.param(
            MINIMAL | {"watchNamespaces": ["shop"]},
            ["pools.email", "add", "pools.email.enabled=false"],
            id="pool-unwatched",
        ),
        pytest.param(MINIMAL | {"image": {"tag": "latest"}}, ["image.tag", "give a version"], id="latest"),
        pytest.param(
            MINIMAL | {"settings": {"POSTFLEET_DATABASE_URL": URL}}, ["settings.POSTFLEET_DATABASE_URL"], id="url"
        ),
        pytest.param(MINIMAL | {"settings": {"POSTFLEET_POOL": "x"}}, ["settings.POSTFLEET_POOL"], id="own"),
        pytest.param(
            MINIMAL | {"settings": {"POSTFLEET_SECRET_KEY": "x"}},
            ["settings.POSTFLEET_SECRET_KEY", "secretKey.existingSecret.name"],
            id="key",
        ),
        pytest.param(
            MINIMAL | {"settings": {"POSTFLEET_PUBLIC_URL": "https://x"}},
            ["settings.POSTFLEET_PUBLIC_URL", "publicUrl"],
            id="public-url",
        ),
        pytest.param(
            MINIMAL | {"web": {"enabled": True}}, ["web.enabled", "Give publicUrl", "https://"], id="web-nowhere"
        ),
        pytest.param(
            MINIMAL | {"publicUrl": "https://a.example", "web": {"ingress": {"enabled": True}}},
            ["web.ingress.enabled", "web.enabled=true"],
            id="ingress-to-nothing",
        ),
        pytest.param(
            MINIMAL | {"operator": {"serviceAccount": {"create": False}}},
            ["operator.serviceAccount", "`default` would get", "give operator.serviceAccount.name"],
            id="everybody-s-account",
        ),
        # What the schema says.
        pytest.param(MINIMAL | {"replica": 3}, ["'replica' not allowed"], id="unknown"),
        pytest.param(MINIMAL | {"relay": {"replica": 3}}, ["/relay", "'replica' not allowed"], id="unknown-inside"),
        pytest.param(MINIMAL | {"operator": {"replicas": "2"}}, ["/operator/replicas", "want integer"], id="text"),
        pytest.param(MINIMAL | {"operator": {"logLevel": "debug"}}, ["/operator/logLevel", "DEBUG"], id="level"),
        pytest.param(MINIMAL | {"database": {"url": "mysql://db"}}, ["/database/url", "postgres"], id="mysql"),
        pytest.param(MINIMAL | {"publicUrl": "news.example.com"}, ["/publicUrl", "https"], id="no-url"),
        pytest.param(MINIMAL | {"publicUrl": "https://news.example.com/mail"}, ["/publicUrl"], id="url-with-path"),
        pytest.param(MINIMAL | {"inbound": {"service": {"type": "Mail"}}}, ["/inbound/service/type"], id="service"),
        pytest.param(MINIMAL | {"settings": {"LEASE": 3}}, ["/settings", "'LEASE' not allowed"], id="not-ours"),
        pytest.param(MINIMAL | {"watchNamespaces": ["A"]}, ["/watchNamespaces/0"], id="namespace"),
        pytest.param(
            MINIMAL | {"pools": {"Mail": {"enabled": True, "spec": {"queues": ["a"]}}}},
            ["/pools", "'Mail' not allowed"],
            id="pool",
        ),
        pytest.param(MINIMAL | {"pools": {"mail": {"enabled": True}}}, ["/pools/mail", "spec"], id="pool-empty"),
        pytest.param(
            MINIMAL | {"image": {"worker": {"digest": "sha256:1"}}}, ["/image/worker/digest", "sha256"], id="digest"
        ),
        pytest.param(MINIMAL | {"networkPolicy": {"smtpPorts": [70000]}}, ["/networkPolicy/smtpPorts/0"], id="port"),
    ],
)
def test_values_that_cannot_work_are_named(helm: Helm, values: dict[str, Any], words: list[str]) -> None:
    said = helm.refusal(values)
    assert [word for word in words if word.lower() not in said.lower()] == [], said


@pytest.mark.parametrize("component", ["operator", "relay", "web", "inbound"])
def test_no_variable_of_the_chart_s_own_can_be_given_twice(helm: Helm, component: str) -> None:
    rendered = helm.render({"image": {"pullSecrets": ["a"]}, "settings": {"POSTFLEET_LEASE_SECONDS": 90}})
    existing = helm.render("existing")
    names = {
        name
        for objects, prefix in ((rendered, "postfleet"), (existing, "mailroom"))
        for found in of_kind(objects, "Deployment")
        if found["metadata"]["name"] == f"{prefix}-{component}"
        for each in containers(found["spec"]["template"])
        for name in env(each)
    } - {"TZ", *({"POSTFLEET_LOG_LEVEL"} if component == "relay" else ())}
    for name in sorted(names):
        said = helm.refusal(MINIMAL | {component: {"env": [{"name": name, "value": "x"}]}})
        assert f"{component}.env: the chart sets {name} itself" in said


def test_without_the_chart_s_roles_any_account_will_do(helm: Helm) -> None:
    assert helm.render({"rbac": {"create": False}, "operator": {"serviceAccount": {"create": False}}})


def test_another_target_can_take_the_place_of_a_pool_s_own(helm: Helm) -> None:
    target = {"backlogPerReplica": 100, "latencySeconds": None, "queues": None}
    rendered = helm.render({"pools": {"email": {"spec": {"autoscaling": {"target": target}}}}})
    assert one(rendered, "JobPool", "email")["spec"]["autoscaling"]["target"] == {"backlogPerReplica": 100}


def test_what_looks_like_a_number_stays_a_text(helm: Helm) -> None:
    given = {
        "dev": {"postgresql": {"enabled": True, "password": "0123"}, "redis": {"enabled": True}},
        "image": {"pullSecrets": ["5"]},
        "operator": {"serviceAccount": {"name": "8"}, "priorityClassName": "9"},
        "networkPolicy": {"enabled": True},
        "podMonitor": {"enabled": True},
        "fullnameOverride": "12",
        "nameOverride": "3",
        "database": {"url": ""},
        "redis": {"url": ""},
    }
    for found in helm.render(given, "--namespace=2024"):
        assert isinstance(found["metadata"].get("namespace", ""), str)
        assert {type(label) for label in found["metadata"]["labels"].values()} == {str}
    rendered = helm.render(given, "--namespace=2024")
    assert one(rendered, "Secret", "12-postgresql", "2024")["stringData"] == {"POSTGRES_PASSWORD": "0123"}
    operator = one(rendered, "Deployment", "12-operator", "2024")["spec"]["template"]["spec"]
    assert operator["serviceAccountName"] == "8"
    assert operator["priorityClassName"] == "9"
    assert operator["imagePullSecrets"] == [{"name": "5"}]
    for name, pod in pods(rendered):
        assert {type(each.get("value", "")) for one in containers(pod) for each in one.get("env", ())} <= {str}, name
    for role in of_kind(rendered, "RoleBinding"):
        assert role["subjects"] == [{"kind": "ServiceAccount", "name": "8", "namespace": "2024"}]


def test_the_least_that_is_needed_is_two_urls(helm: Helm) -> None:
    assert helm.render({})
