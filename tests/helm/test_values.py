"""What the chart refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
from charts import MINIMAL, Helm

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
        # What the schema says.
        pytest.param(MINIMAL | {"replica": 3}, ["'replica' not allowed"], id="unknown"),
        pytest.param(MINIMAL | {"relay": {"replica": 3}}, ["/relay", "'replica' not allowed"], id="unknown-inside"),
        pytest.param(MINIMAL | {"operator": {"replicas": "2"}}, ["/operator/replicas", "want integer"], id="text"),
        pytest.param(MINIMAL | {"operator": {"logLevel": "debug"}}, ["/operator/logLevel", "DEBUG"], id="level"),
        pytest.param(MINIMAL | {"database": {"url": "mysql://db"}}, ["/database/url", "postgres"], id="mysql"),
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


def test_the_least_that_is_needed_is_two_urls(helm: Helm) -> None:
    assert helm.render({})
