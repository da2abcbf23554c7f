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


def test_monitors_find_all_that_runs(helm: Helm) -> None:
    rendered = helm.render("existing")
    found = {monitor["metadata"]["name"]: monitor["spec"] for monitor in of_kind(rendered, "PodMonitor")}
    assert found.keys() == {f"mailroom-{name}" for name in ("operator", "relay", "web", "inbound", "workers")}
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
    for name in ("migrations", "test"):
        spec = one(rendered, "NetworkPolicy", f"mailroom-{name}")["spec"]
        assert (spec["policyTypes"], spec["ingress"]) == (["Ingress", "Egress"], [])
        assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 5432, 6379}
    for name, port, peers in (("web", 8081, True), ("inbound", 2525, False)):
        spec = one(rendered, "NetworkPolicy", f"mailroom-{name}")["spec"]
        metrics, public = spec["ingress"]
        assert [each["port"] for rule in (metrics, public) for each in rule["ports"]] == [HEALTH_PORT, port]
        assert ("from" in metrics, "from" in public) == (True, peers)
        assert {each["port"] for rule in spec["egress"] for each in rule["ports"]} == {53, 5432}
    assert one(rendered, "NetworkPolicy", "mailroom-workers", "shop")
    selector = one(rendered, "NetworkPolicy", "mailroom-workers")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= WORKER["metadata"]["labels"].items()


def test_every_pod_of_the_release_has_its_policy(helm: Helm) -> None:
    rendered = helm.render("existing")
    selectors = [found["spec"]["podSelector"]["matchLabels"].items() for found in of_kind(rendered, "NetworkPolicy")]
    for name, pod in pods(rendered):
        assert len([each for each in selectors if each <= pod["metadata"]["labels"].items()]) == 1, name


def test_the_policy_of_migrations_is_there_before_their_job(helm: Helm) -> None:
    rendered = helm.render("existing")
    job = one(rendered, "Job", "mailroom-migrations")["metadata"]["annotations"]
    policy = one(rendered, "NetworkPolicy", "mailroom-migrations")["metadata"]["annotations"]
    assert policy["helm.sh/hook"] == job["helm.sh/hook"]
    assert int(policy["helm.sh/hook-weight"]) < int(job["helm.sh/hook-weight"])


def test_names_are_asked_for_where_the_cluster_s_dns_listens(helm: Helm) -> None:
    rendered = helm.render({"networkPolicy": {"enabled": True, "dnsPorts": [5353]}})
    for found in of_kind(rendered, "NetworkPolicy"):
        names = found["spec"]["egress"][0]["ports"]
        assert names == [{"protocol": "UDP", "port": 5353}, {"protocol": "TCP", "port": 5353}]


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
