"""The CRDs, the pydantic specs, the status that is written and the chart say the same."""

from __future__ import annotations

import json
import re
import tomllib
import zoneinfo
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from postfleet_operator import definitions, reasons
from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts as PoolFacts
from postfleet_operator.conditions import Problem
from postfleet_operator.errors import InvalidManifest
from postfleet_operator.node_conditions import NodeFacts, Phase
from postfleet_operator.node_status import compose as compose_node
from postfleet_operator.reachability import Reach
from postfleet_operator.scaling.decide import decide, first_state
from postfleet_operator.scaling.shadow import step
from postfleet_operator.scaling.values import Bottleneck, QueueLoad, Sample, Signal, Source
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import API_VERSION, JobPool, Mode, NodeSpec, PoolSpec, parse_node, parse_pool
from postfleet_operator.spec.model import Model
from postfleet_operator.spec.node import Placement, Tls
from postfleet_operator.spec.warmup import WarmupDay
from postfleet_operator.status import compose
from refused import BROKEN, CRONS, DKIM, MINIMAL, identity, manifest, sender

ROOT = Path(__file__).parents[2]
CRDS = {
    "JobPool": yaml.safe_load((ROOT / "crds/jobpools.yaml").read_text()),
    "SendingNode": yaml.safe_load((ROOT / "crds/sendingnodes.yaml").read_text()),
}
SPECS: dict[str, type[Model]] = {"JobPool": PoolSpec, "SendingNode": NodeSpec}
KINDS = sorted(CRDS)
# What both JSON Schema (as pydantic writes it) and a structural schema call by the same name.
FACTS = frozenset(
    {"type", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "pattern"}
)
# The API server tells a broken `pattern` without words, so that spellings are rules.
SPELLING = re.compile(r"(?:type\(self\) == int \|\| )?self\.matches\(r'(.+)'\)")


def schema(kind: str) -> dict[str, Any]:
    [version] = CRDS[kind]["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def crd_facts(node: dict[str, Any], path: str = "spec") -> dict[str, dict[str, Any]]:
    """Every field of a structural schema: type, bounds, spelling, values, default, required and unknown fields."""
    facts = {key: value for key, value in node.items() if key in FACTS or key in {"enum", "default"}}
    for rule in node.get("x-kubernetes-validations", []):
        if spelling := SPELLING.fullmatch(rule["rule"]):
            facts["pattern"] = spelling[1]
    if node.get("x-kubernetes-int-or-string"):
        facts |= {"type": "quantity"}
    if "properties" in node:
        facts["required"] = sorted(node.get("required", []))
        facts["open"] = node.get("x-kubernetes-preserve-unknown-fields", False)
    found = {path: facts}
    for name, child in node.get("properties", {}).items():
        found |= crd_facts(child, f"{path}.{name}")
    if "items" in node:
        found |= crd_facts(node["items"], f"{path}[]")
    if "additionalProperties" in node:
        found |= crd_facts(node["additionalProperties"], f"{path}{{}}")
    return found


def spec_facts(node: dict[str, Any], defs: dict[str, Any], path: str = "spec") -> dict[str, dict[str, Any]]:
    """The same of pydantic's JSON schema."""
    default = {"default": node["default"]} if node.get("default") is not None else {}
    if "anyOf" in node:
        kinds = [option for option in node["anyOf"] if option.get("type") != "null"]
        if [option.get("type") for option in kinds] == ["integer", "string"]:
            return {path: {"type": "quantity", "pattern": node["pattern"], "maxLength": node["maxLength"]}}
        [only] = kinds
        return spec_facts({**only, **default}, defs, path)
    if "$ref" in node:
        node = {**defs[node["$ref"].rsplit("/", 1)[1]], **default}
    facts = {key: value for key, value in node.items() if key in FACTS or key == "enum"} | default
    if node.get("type") == "object" and "properties" in node:
        facts["required"] = sorted(node.get("required", []))
        facts["open"] = node["additionalProperties"]
    found = {path: facts}
    for name, child in node.get("properties", {}).items():
        found |= spec_facts(child, defs, f"{path}.{name}")
    if "items" in node:
        found |= spec_facts(node["items"], defs, f"{path}[]")
    if isinstance(node.get("additionalProperties"), dict):
        found |= spec_facts(node["additionalProperties"], defs, f"{path}{{}}")
    return found


# What the operator fills in and the API server does not, and why.
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    # A stored default would be the second of two targets when somebody gives the other one.
    "JobPool.spec.autoscaling.target": {"latencySeconds": 5, "queues": []},
}


def without_object_defaults(facts: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """An object's default is compared by its effect (see `defaulted`): `{}` in a CRD is filled in from below."""
    return {
        path: {key: value for key, value in fact.items() if key != "default" or fact["type"] != "object"}
        for path, fact in facts.items()
    }


def defaulted(node: dict[str, Any], value: Any) -> Any:
    """What the API server makes of `value`: defaults filled in from the outside inwards."""
    if isinstance(value, dict):
        value = dict(value)
        for name, child in node.get("properties", {}).items():
            if name not in value and "default" in child:
                value[name] = child["default"]
            if name in value:
                value[name] = defaulted(child, value[name])
    if isinstance(value, list):
        return [defaulted(node["items"], item) for item in value]
    return value


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            yield from walk(node[key], path + mark)


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_the_same_type_bounds_default_and_requirement_in_both(kind: str) -> None:
    own = SPECS[kind].model_json_schema(by_alias=True)
    assert without_object_defaults(crd_facts(schema(kind)["properties"]["spec"])) == without_object_defaults(
        spec_facts(own, own.get("$defs", {}))
    )


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        *MINIMAL.items(),
        ("JobPool", {"queues": ["a"], "autoscaling": {}, "worker": {"env": [{"name": "A"}], "envFrom": []}}),
        ("JobPool", {"queues": ["a"], "worker": {"envFrom": [{"secretRef": {"name": "s"}}], "resources": {}}}),
        (
            "JobPool",
            {
                "queues": ["a"],
                "autoscaling": {
                    "target": {"backlogPerReplica": 5},
                    "shadow": {"scaleUp": {}, "target": {"latencySeconds": 1}},
                },
            },
        ),
        (
            "JobPool",
            {
                "queues": ["a"],
                "autoscaling": {"schedules": [{"cron": "0 8 * * *", "durationMinutes": 5, "minReplicas": 1}]},
            },
        ),
        ("JobPool", {"queues": ["a"], "podTemplate": {"spec": {"containers": [{"name": "worker", "tty": True}]}}}),
        ("SendingNode", {**MINIMAL["SendingNode"], "workers": {"poolRef": {"name": "p"}, "placement": "Dedicated"}}),
        ("SendingNode", {**MINIMAL["SendingNode"], "limits": {"perMinute": 3}, "tenants": ["t"]}),
        ("SendingNode", sender(limits={"sites": [{"name": "gmail", "perDay": 3}]})["spec"]),
        ("SendingNode", sender(warmup={"startDate": "2026-01-01"})["spec"]),
        ("SendingNode", identity(dkim=DKIM, ipAddresses=["::1"], returnPathDomain="r.example")["spec"]),
    ],
)
def test_the_api_server_and_the_parser_fill_in_the_same_defaults(kind: str, spec: dict[str, Any]) -> None:
    parsed = SPECS[kind].model_validate_json(json.dumps(spec), by_alias=True, by_name=False)
    filled = defaulted(schema(kind)["properties"]["spec"], spec)
    for path, default in OWN_DEFAULTS.items():
        own, *outer, last = path.split(".")[0:1] + path.split(".")[2:]
        if own == kind:
            reduce(getitem, outer, filled).setdefault(last, default)
    assert parsed.model_dump(mode="json", exclude_none=True) == filled


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained(kind: str) -> None:
    for path, node in walk(schema(kind), kind):
        if path == f"{kind}.metadata":
            continue  # the API server allows no description there
        text = node.get("description", "")
        assert text[:1].isupper(), f"{path} has no description"
        assert text.endswith("."), f"{path}: its description is no sentence"


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_structural(kind: str) -> None:
    for path, node in walk(schema(kind), kind):
        assert "type" in node or node.get("x-kubernetes-int-or-string"), f"{path} has no type"
        assert not {"$ref", "oneOf", "allOf", "not"} & node.keys(), f"{path} uses what a structural schema may not"
        assert node.get("additionalProperties") is not True, f"{path} takes anything"
        assert set(node.get("required", [])) <= node.get("properties", {}).keys(), path
        if node.get("type") == "array" and path.split(".")[1:2] == ["spec"]:
            assert "maxItems" in node, f"{path}: lists without a bound make CEL rules too dear"


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_a_spec_has_a_pattern_that_is_told_without_words(kind: str) -> None:
    assert [path for path, node in walk(schema(kind), kind) if "pattern" in node and ".spec" in path] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_names_follow_the_conventions(kind: str) -> None:
    spec = CRDS[kind]["spec"]
    names = spec["names"]
    [version] = spec["versions"]
    assert CRDS[kind]["metadata"]["name"] == f"{names['plural']}.{spec['group']}"
    assert (names["kind"], spec["scope"], names["categories"]) == (kind, "Namespaced", ["postfleet"])
    assert names["shortNames"] == {"JobPool": ["jp"], "SendingNode": ["sn"]}[kind]
    assert f"{spec['group']}/{version['name']}" == API_VERSION
    assert ("status" in version.get("subresources", {})) == ("status" in schema(kind)["properties"])


def test_a_pool_has_a_scale_subresource_whose_paths_exist() -> None:
    [version] = CRDS["JobPool"]["spec"]["versions"]
    fields = {path.removeprefix("JobPool") for path, _ in walk(schema("JobPool"), "JobPool")}
    assert set(version["subresources"]["scale"].values()) <= fields


@pytest.mark.parametrize("kind", KINDS)
def test_printer_columns_show_fields_that_exist(kind: str) -> None:
    [version] = CRDS[kind]["spec"]["versions"]
    fields = dict(walk(schema(kind), ""))
    for column in version["additionalPrinterColumns"]:
        path, column_type = column["jsonPath"], column["type"]
        if condition := re.fullmatch(r'\.status\.conditions\[\?\(@\.type=="(\w+)"\)\](\.\w+)', path):
            assert condition[1] in fields[".status.conditions[].type"]["enum"], column
            path = f".status.conditions[]{condition[2]}"
        if not path.startswith(".metadata"):
            assert fields[path]["type"] == column_type, column


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


def conforms(node: dict[str, Any], value: Any, path: str = "status") -> None:
    match node["type"]:
        case "object":
            assert set(value) <= node["properties"].keys(), (
                f"{path}: {set(value) - node['properties'].keys()} would be pruned"
            )
            assert set(node.get("required", [])) <= set(value), path
            for name, item in value.items():
                conforms(node["properties"][name], item, f"{path}.{name}")
        case "array":
            for item in value:
                conforms(node["items"], item, f"{path}[]")
        case "integer":
            assert type(value) is int, path
        case "number":
            assert type(value) in {int, float}, path
        case "string":
            assert type(value) is str, path
            assert value in node.get("enum", [value]), path
            if node.get("format") == "date-time":
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value), path


def pool_facts(source: Source) -> tuple[JobPool, PoolFacts]:
    """A pool about which all is known, and its shadow's."""
    autoscaling = {"shadow": {"target": {"backlogPerReplica": 10}}}
    given = manifest("JobPool", {"spec": {**MINIMAL["JobPool"], "autoscaling": autoscaling}})
    pool = parse_pool({**given, "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}})
    shadow_spec = pool.spec.shadow_spec()
    assert shadow_spec is not None
    signal = Signal(
        source,
        "why",
        ready=12_000,
        throttled=3,
        throttled_by={"tenant a": 3},
        oldest_seconds=1.6,
        permitted_per_second=5.5,
        queues=(QueueLoad("a", 12_000, 3.25, 1.6),),
    )
    sample = Sample(signal, replicas=2, ready=1, starting=1)
    state = first_state(2, 0.0, throughput_per_replica=38.2, startup_seconds=4.2, threads=64)
    decision = decide(sample, pool.spec, state, 5.0)
    facts = PoolFacts(
        1,
        pool.spec,
        Workload(True, 2, 1, 2),
        signal,
        decision,
        shadow=step(None, sample, shadow_spec, state, 5.0),
        taken={"a": "default/older"},
    )
    return pool, facts


@pytest.mark.parametrize("source", list(Source))
def test_the_status_of_a_pool_that_is_written_is_the_status_of_the_crd(source: Source) -> None:
    pool, facts = pool_facts(source)
    status = compose(pool, {}, facts, 5.0)
    conforms(schema("JobPool")["properties"]["status"], status)
    if source is Source.REDIS:
        assert set(status) == schema("JobPool")["properties"]["status"]["properties"].keys()
        assert {condition["type"] for condition in status["conditions"]} == set(reasons.ConditionType)


def test_the_status_of_a_node_that_is_written_is_the_status_of_the_crd() -> None:
    limited = {**MINIMAL["SendingNode"], "limits": {"perDay": 100}, "warmup": {"startDate": "2026-01-01"}}
    node = parse_node(manifest("SendingNode", {"spec": limited}))
    problem = Problem(reasons.Reason.POOL_MISSING, "there is no such pool")
    reach = Reach(False, reasons.Reason.NO_ANSWER, "it does not answer")
    facts = NodeFacts(
        1,
        node.spec,
        mirrored=True,
        pool=problem,
        reach=reach,
        accepted=7,
        warmup=WarmupDay(3, 84),
        slowdowns=(
            Slowdown("gmail", "per_minute", 10, "gmail.rate", "421 4.7.28 unusual rate", 3600.0),
            Slowdown("yahoo", "suspend", None, "yahoo.complaints", "421 [TSS04]", 7200.0),
        ),
        workers=pool_facts(Source.REDIS)[1],
        deployment="email-x",
    )
    status = compose_node(facts, {}, 5.0)
    conforms(schema("SendingNode")["properties"]["status"], status)
    assert set(status) == schema("SendingNode")["properties"]["status"]["properties"].keys()
    assert {condition["type"] for condition in status["conditions"]} == set(reasons.NodeConditionType)


def test_enums_are_the_code_s_own() -> None:
    fields = dict(walk(schema("JobPool"), "JobPool"))
    assert fields["JobPool.status.bottleneck"]["enum"] == list(Bottleneck)
    assert fields["JobPool.status.lastDecision.reason"]["enum"] == list(reasons.DecisionReason)
    assert fields["JobPool.status.lastDecision.inputs.source"]["enum"] == list(Source)
    assert fields["JobPool.status.recentDecisions[].reason"]["enum"] == list(reasons.DecisionReason)
    assert set(fields["JobPool.status.conditions[].type"]["enum"]) == set(reasons.ConditionType)
    assert fields["JobPool.spec.mode"]["enum"] == list(Mode)
    node = dict(walk(schema("SendingNode"), "SendingNode"))
    assert node["SendingNode.spec.smtp.tls"]["enum"] == list(Tls)
    assert node["SendingNode.spec.workers.placement"]["enum"] == list(Placement)
    assert node["SendingNode.status.phase"]["enum"] == list(Phase)
    assert node["SendingNode.status.conditions[].type"]["enum"] == list(reasons.NodeConditionType)
    assert node["SendingNode.status.workers.bottleneck"]["enum"] == list(Bottleneck)


def test_a_node_s_last_decision_is_told_as_a_pool_s() -> None:
    node = schema("SendingNode")["properties"]["status"]["properties"]["workers"]["properties"]["lastDecision"]
    pool = schema("JobPool")["properties"]["status"]["properties"]["lastDecision"]
    assert node["properties"] == pool["properties"]


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


@pytest.mark.parametrize("name", definitions.FILES)
def test_the_chart_s_templates_are_the_crds_kept_on_uninstall(name: str) -> None:
    own = (ROOT / "crds" / name).read_text()
    kept = re.sub(r"(?m)^  name: .*$", r"\g<0>\n  annotations:\n    helm.sh/resource-policy: keep", own, count=1)
    assert "{{" not in own
    chart = ROOT / "helm/postfleet-crds/templates" / name
    assert chart.read_text() == kept, f"write it anew: cp crds/{name} {chart} and add the annotation"


def test_the_chart_has_the_version_of_the_distribution() -> None:
    chart = yaml.safe_load((ROOT / "helm/postfleet-crds/Chart.yaml").read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_command_prints_them_all() -> None:
    assert [crd["spec"]["names"]["kind"] for crd in yaml.safe_load_all(definitions.text())] == KINDS
