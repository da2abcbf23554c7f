"""Policies, monitors, rules and dashboards: off by default, and about what is really there."""

from __future__ import annotations

import json

import yaml
from charts import CHART, Helm, containers, of_kind, one, pods

from postfleet_operator.deployment import HEALTH_PORT, RenderSettings, render
from unit.operator.building import workers

WORKER = render(workers(), RenderSettings("worker:1"))["spec"]["template"]


def test_nothing_of_it_is_made_unasked(helm: Helm) -> None:
    kinds = {found["kind"] for found in helm.render("external")}
    assert not kinds & {"NetworkPolicy", "PodMonitor", "PrometheusRule"}


def test_monitors_find_operator_relay_and_workers(helm: Helm) -> None:
    rendered = helm.render("existing")
    found = {monitor["metadata"]["name"]: monitor["spec"] for monitor in of_kind(rendered, "PodMonitor")}
    assert found.keys() == {"mailroom-operator", "mailroom-relay", "mailroom-workers"}
    targets = [*(pod for _, pod in pods(rendered)), WORKER]
    for name, spec in found.items():
        selector = spec["selector"]["matchLabels"].items()
        [only] = [pod for pod in targets if selector <= pod["metadata"].get("labels", {}).items()]
        [endpoint] = spec["podMetricsEndpoints"]
        ports = [port["name"] for each in containers(only) for port in each.get("ports", ())]
        assert endpoint["port"] in ports, name
        assert endpoint["honorLabels"] is True
        assert endpoint["relabelings"] == [{"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"}]
    assert found["mailroom-workers"]["namespaceSelector"] == {"matchNames": ["mail", "shop"]}
    everywhere = one(helm.render("everywhere"), "PodMonitor", "postfleet-workers")
    assert everywhere["spec"]["namespaceSelector"] == {"any": True}


def test_policies_let_in_metrics_and_out_what_is_needed(helm: Helm) -> None:
    rendered = helm.render("existing")
    for name in ("operator", "relay", "workers"):
        spec = one(rendered, "NetworkPolicy", f"mailroom-{name}")["spec"]
        [metrics] = spec["ingress"]
        assert [port["port"] for port in metrics["ports"]] == [HEALTH_PORT]
        assert metrics["from"]
        out = {port["port"] for rule in spec["egress"] for port in rule["ports"]}
        more = {"operator": {443, 6443, 25, 465, 587}, "relay": set(), "workers": {25, 465, 587, 443}}[name]
        assert out == {53, 5432, 6379} | more
    assert one(rendered, "NetworkPolicy", "mailroom-workers", "shop")
    selector = one(rendered, "NetworkPolicy", "mailroom-workers")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= WORKER["metadata"]["labels"].items()


def test_only_postfleet_reaches_the_development_servers(helm: Helm) -> None:
    dev = {"database": {"url": ""}, "redis": {"url": ""}, "networkPolicy": {"enabled": True}}
    dev["dev"] = {"postgresql": {"enabled": True}, "redis": {"enabled": True}}
    rendered = helm.render(dev)
    for name, port in (("postgresql", 5432), ("redis", 6379)):
        spec = one(rendered, "NetworkPolicy", f"postfleet-dev-{name}")["spec"]
        [rule] = spec["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": port}]
        assert spec["egress"] == []


def test_alerts_link_to_the_runbook_that_is_given(helm: Helm) -> None:
    for given in ("https://wiki.example.com/mail/runbook", "https://wiki.example.com/mail/runbook#"):
        rendered = helm.render({"prometheusRule": {"enabled": True, "runbookUrl": given}})
        groups = one(rendered, "PrometheusRule", "postfleet")["spec"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert {rule["annotations"]["runbook_url"] for rule in rules} == {
            f"https://wiki.example.com/mail/runbook#{rule['alert'].lower()}" for rule in rules
        }


def test_rules_and_dashboards_are_the_files(helm: Helm) -> None:
    rendered = helm.render("existing")
    rules = CHART / "files/alerts.yaml"
    if rules.exists():
        assert one(rendered, "PrometheusRule", "mailroom")["spec"] == yaml.safe_load(rules.read_text())
    maps = [found for found in of_kind(rendered, "ConfigMap") if "-dashboard-" in found["metadata"]["name"]]
    files = {path.name: json.loads(path.read_text()) for path in (CHART / "files/dashboards").glob("*.json")}
    found = {name: json.loads(content) for each in maps for name, content in each["data"].items()}
    assert found == files
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
