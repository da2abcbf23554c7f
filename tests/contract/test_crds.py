"""The CRDs, the pydantic specs and the chart say the same."""

from __future__ import annotations

import json
import re
import tomllib
from functools import reduce
from operator import getitem
from typing import Any

import pytest
import yaml

from contract.crd_schema import CRDS, KINDS, ROOT, schema, walk
from postfleet_operator import definitions, reasons
from postfleet_operator.node_conditions import Phase
from postfleet_operator.scaling.values import Bottleneck, Source
from postfleet_operator.spec import API_VERSION, Mode, NodeSpec, PoolSpec
from postfleet_operator.spec.model import Model
from postfleet_operator.spec.node import Placement, Tls
from refused import DKIM, MINIMAL, identity, sender

SPECS: dict[str, type[Model]] = {"JobPool": PoolSpec, "SendingNode": NodeSpec}
# What both JSON Schema (as pydantic writes it) and a structural schema call by the same name.
FACTS = frozenset(
    {"type", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties", "pattern"}
)
# The API server tells a broken `pattern` without words, so that spellings are rules.
SPELLING = re.compile(r"(?:type\(self\) == int \|\| )?self\.matches\(r'(.+)'\)")


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
