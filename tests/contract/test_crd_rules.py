"""The rules of the CRDs and the validators of the parser refuse the same, in the same words."""

from __future__ import annotations

import re
import zoneinfo

import pytest

from contract.crd_schema import KINDS, schema, walk
from postfleet_operator.errors import InvalidManifest
from postfleet_operator.spec import API_VERSION, parse_node, parse_pool
from refused import BROKEN, CRONS, MINIMAL, manifest


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_a_spec_has_a_pattern_that_is_told_without_words(kind: str) -> None:
    assert [path for path, node in walk(schema(kind), kind) if "pattern" in node and ".spec" in path] == []


def rules() -> list[tuple[str, dict[str, str]]]:
    """Every rule on a value; what may not change is no matter of a single manifest."""
    return [
        (path, rule)
        for kind in KINDS
        for path, node in walk(schema(kind), kind)
        for rule in node.get("x-kubernetes-validations", [])
        if "oldSelf" not in rule["rule"]
    ]


@pytest.mark.parametrize(
    ("path", "rule"), rules(), ids=lambda value: value if isinstance(value, str) else value["message"]
)
def test_every_cel_rule_is_a_validator_too_and_speaks_the_same_words(path: str, rule: dict[str, str]) -> None:
    starts = [start for at, start in BROKEN if at == path and rule["message"].startswith(start)]
    broken = BROKEN[path, max(starts, key=len)]
    kind = path.split(".")[0]
    with pytest.raises(InvalidManifest) as caught:
        (parse_pool if kind == "JobPool" else parse_node)(manifest(kind, broken))
    assert rule["message"] in str(caught.value)


def test_the_table_of_broken_manifests_names_no_rule_that_is_gone() -> None:
    assert len(BROKEN) == len(rules())


def test_unique_keys_of_lists_are_validators_too() -> None:
    keyed = {path for kind in KINDS for path, node in walk(schema(kind), kind) if node.get("x-kubernetes-list-type")}
    pod = "JobPool.spec.podTemplate.spec"
    lists = {f"{pod}.{field}" for field in ("containers", "initContainers", "volumes")}
    inner = {
        f"{pod}.{field}[].{name}" for field in ("containers", "initContainers") for name in ("env", "volumeMounts")
    }
    assert {path for path in keyed if ".spec." in path} == {
        "JobPool.spec.worker.env",
        "SendingNode.spec.tenants",
        "SendingNode.spec.identity.ipAddresses",
        "SendingNode.spec.limits.sites",
        *lists,
        *inner,
    }
    pool = {"queues": ["a"], "worker": {"env": [{"name": "A"}, {"name": "A"}]}}
    with pytest.raises(InvalidManifest, match="A: names of environment variables must differ"):
        parse_pool({"apiVersion": API_VERSION, "kind": "JobPool", "metadata": {"name": "x"}, "spec": pool})
    node = {**MINIMAL["SendingNode"], "tenants": ["t", "t"]}
    with pytest.raises(InvalidManifest, match="tenants must differ from each other: t"):
        parse_node({"apiVersion": API_VERSION, "kind": "SendingNode", "metadata": {"name": "x"}, "spec": node})


@pytest.mark.parametrize("where", ["containers", "initContainers", "volumes", "env", "volumeMounts"])
def test_entries_of_a_pod_template_are_unique_in_the_parser_too(where: str) -> None:
    twice = [{"name": "a", "mountPath": "/a"}] * 2
    pod = {where: twice} if where not in {"env", "volumeMounts"} else {"containers": [{"name": "b", where: twice}]}
    with pytest.raises(InvalidManifest, match="is given twice, merge the two"):
        parse_pool(manifest("JobPool", {"spec": {"queues": ["a"], "podTemplate": {"spec": pod}}}))


def test_what_a_sender_is_cannot_change() -> None:
    domain = schema("SendingNode")["properties"]["spec"]["properties"]["identity"]["properties"]["domain"]
    assert "self == oldSelf" in [rule["rule"] for rule in domain["x-kubernetes-validations"]]


def backwards(first: str, last: str) -> bool:
    """Whether a range goes backwards, told as the rule does (the cluster tests ask the API server itself)."""
    if first.isdigit() and last.isdigit():
        return int(first) > int(last)
    order = "sun mon tue wed thu fri sat jan feb mar apr may jun jul aug sep oct nov dec"
    return first.isalpha() and last.isalpha() and order.index(first) > order.index(last)


@pytest.mark.parametrize("expression", CRONS)
def test_a_cron_expression_that_the_crd_takes_is_one(expression: str) -> None:
    """The other way round too: the rule is no stricter than the parser, so far as it can tell."""
    node = schema("JobPool")["properties"]["spec"]["properties"]["autoscaling"]["properties"]["schedules"]["items"]
    [rule] = node["properties"]["cron"]["x-kubernetes-validations"]
    patterns = re.findall(r"self\.matches\('([^']+)'\)", rule["rule"])
    assert len(patterns) == 6
    matches = all(re.search(pattern.replace("^(?i)", "(?i)^"), expression) for pattern in patterns)
    taken = matches and not any(backwards(*found) for found in re.findall(r"(\w+)-(\w+)", expression.lower()))
    floor = {"cron": expression, "durationMinutes": 1, "minReplicas": 1}
    given = manifest("JobPool", {"spec": {"queues": ["a"], "autoscaling": {"schedules": [floor]}}})
    if CRONS[expression]:
        assert taken
        parse_pool(given)
    else:
        assert not taken
        with pytest.raises(InvalidManifest, match="not a cron expression"):
            parse_pool(given)


def test_every_time_zone_that_there_is_has_the_shape_that_the_crd_asks_for() -> None:
    node = schema("JobPool")["properties"]["spec"]["properties"]["autoscaling"]["properties"]["schedules"]["items"]
    [rule] = node["properties"]["timezone"]["x-kubernetes-validations"]
    patterns = re.findall(r"self\.matches\('([^']+)'\)", rule["rule"])
    assert len(patterns) == 2
    no_zones = {"Factory", "localtime"}
    for zone in zoneinfo.available_timezones() - no_zones:
        assert any(re.search(pattern, zone) for pattern in patterns), zone
