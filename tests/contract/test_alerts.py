"""The alerts: promtool takes them, each fires when it should and not when it should not, and each has its words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import test_docs, test_metrics
from prometheus_tools import HOW, find
from promql import named

ROOT = Path(__file__).parents[2]
FILE = ROOT / "helm/postfleet/files/alerts.yaml"
RUNBOOK = ROOT / "docs/runbook.md"
# Read as text: YAML takes 0x20 for a number.
CASES = yaml.load(Path(__file__).with_name("alert_cases.yaml").read_text(encoding="utf-8"), yaml.BaseLoader)
GROUPS = yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
ALERTS: dict[str, dict[str, Any]] = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
EACH_ALERT = pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
# What Prometheus adds to every series of a target; `namespace` is the target's where a metric has none of its own.
OF_TARGETS = {"instance", "job", "namespace", "pod"}


@pytest.fixture(scope="session")
def promtool() -> str:
    found = find("promtool")
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"promtool is missing: {HOW}")
    return str(found)


def test_promtool_takes_the_rules(promtool: str) -> None:
    checked = subprocess.run([promtool, "check", "rules", "--lint-fatal", str(FILE)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(ALERTS)} rules found" in checked.stdout


def cases() -> Iterator[Any]:
    for alert, given in CASES.items():
        for case in given:
            yield pytest.param(alert, case, id=f"{alert} {case['it']}")


@pytest.mark.parametrize(("alert", "case"), list(cases()))
def test_an_alert(promtool: str, tmp_path: Path, alert: str, case: dict[str, Any]) -> None:
    rule = ALERTS[alert]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [short(rule)]}]}))
    expected = [
        {
            "exp_labels": {**fired["labels"], "severity": rule["labels"]["severity"]},
            "exp_annotations": {"summary": fired["summary"]},
        }
        for fired in case.get("fires", [])
    ]
    interval = case.get("every", "1m")
    test = {
        "interval": interval,
        "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
        "alert_rule_test": [{"eval_time": case["at"], "alertname": alert, "exp_alerts": expected}],
    }
    file = {"rule_files": ["rules.yaml"], "evaluation_interval": interval, "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(file))
    ran = subprocess.run([promtool, "test", "rules", "test.yaml"], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def short(rule: dict[str, Any]) -> dict[str, Any]:
    """A rule with its summary as the only annotation."""
    return {**rule, "annotations": {"summary": rule["annotations"]["summary"]}}


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert list(CASES) == list(ALERTS)
    for alert, given in CASES.items():
        assert {bool(case.get("fires")) for case in given} == {True, False}, alert
        assert len({case["it"] for case in given}) == len(given), alert


@EACH_ALERT
def test_an_alert_asks_for_metrics_labels_and_values_that_exist(rule: dict[str, Any]) -> None:
    check_expression(rule["expr"])
    known = known_labels(rule["expr"]) | OF_TARGETS
    used = {label for text in rule["annotations"].values() for label in re.findall(r"\$labels\.(\w+)", text)}
    assert used <= known
    if grouped := named(rule["expr"]).grouped:
        assert used <= grouped, "a label that is not grouped by is empty"


@EACH_ALERT
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    summary, description, url = (rule["annotations"][name] for name in ("summary", "description", "runbook_url"))
    assert len(rule["annotations"]) == 3
    assert summary.endswith(".")
    assert len(summary) < 120
    assert description
    assert url == f"https://postfleet.io/runbook/#{rule['alert'].lower()}"


@EACH_ALERT
def test_commands_in_an_alert_exist(rule: dict[str, Any]) -> None:
    known = test_docs.commands()
    text = re.sub(r"\{\{[^}]*\}\}", "x", rule["annotations"]["description"])
    text = text.replace("kubectl jobpool", "kubectl-jobpool")
    for line in re.findall(r"(?:postfleet|postfleet-operator|kubectl-jobpool) [a-z]+ [^.;,:]*", text):
        words = line.split()
        command = max((k for k in known if list(k) == words[: len(k)]), key=len, default=())
        assert len(command) > 1, line
        assert {word for word in words if word.startswith("-")} <= test_docs.options(known[command]), line


def test_every_alert_has_a_section_in_the_runbook_and_no_other_has() -> None:
    headings = re.findall(r"^## (Postfleet\w+)$", RUNBOOK.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == list(ALERTS)
    for alert in headings:
        text = RUNBOOK.read_text(encoding="utf-8").partition(f"## {alert}\n")[2].partition("\n## ")[0]
        assert f"({ALERTS[alert]['labels']['severity']})" in text, alert
        assert re.findall(r"^\*\*(\w+ ?\w*)\.\*\*", text, re.MULTILINE) == ["Means", "Look", "Do"], alert


def known_labels(expression: str) -> set[str]:
    """The labels of the metrics that an expression names."""
    rows = series_labels()
    return {label for name in named(expression).metrics for label in rows[name]}


def series_labels() -> dict[str, set[str]]:
    """Series that the real registries show, with their labels."""
    found: dict[str, set[str]] = {}
    for row in test_metrics.everything().values():
        labels = set(row.labels)
        if row.type == "histogram":
            found |= {f"{row.name}_bucket": labels | {"le"}, f"{row.name}_sum": labels, f"{row.name}_count": labels}
        else:
            found[row.name] = labels
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"):
        found[name] = set()  # prometheus_client's own
    return found


def check_expression(expression: str) -> None:
    """Metrics, labels and the values of closed lists in an expression exist."""
    rows, asked = series_labels(), named(expression)
    assert asked.metrics, expression
    for name, labels in asked.metrics.items():
        assert name in rows, name
        assert labels <= rows[name], (name, labels)
    assert asked.grouped <= known_labels(expression) | OF_TARGETS, expression
    explained = {
        label: set(re.findall(r"`([\w-]+)`", cells[1]))
        for cells in test_metrics.table("Labels")
        for label in re.findall(r"`(\w+)`", cells[0])
    }
    for label in asked.values.keys() & {"kind", "bound", "state", "bottleneck", "policy", "direction", "loop", "phase",
                                        "outcome"}:  # fmt: skip
        assert asked.values[label] <= explained[label], (label, asked.values[label])
