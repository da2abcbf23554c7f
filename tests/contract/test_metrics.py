"""docs/metrics.md and the code say the same of every metric, and no label can name a tenant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from postfleet_operator.metrics import Metrics
from postfleet_operator.node_conditions import Phase as NodePhase
from postfleet_operator.scaling.values import Bottleneck
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.replies.rules import Scope
from postfleet_workers.metrics.inbound import KINDS as INBOUND_KINDS
from postfleet_workers.metrics.inbound import REFUSALS, InboundMetrics
from postfleet_workers.metrics.jobs import JobMetrics
from postfleet_workers.metrics.relay import KINDS, RelayMetrics
from postfleet_workers.metrics.web import WebMetrics
from postfleet_workers.metrics.worker import WorkerMetrics

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text(encoding="utf-8")
WORKERS = Path(__file__).parents[2] / "workers/postfleet_workers"
SECTIONS: dict[str, type] = {
    "Outcomes": JobMetrics, "Workers": WorkerMetrics, "Relay": RelayMetrics, "Web": WebMetrics,
    "Inbound": InboundMetrics, "Operator": Metrics,
}  # fmt: skip
# What the design promises, as far as it exists: schedules do not.
PROMISED = """
jobs_completed_total{queue,type} jobs_failed_total{queue,type,outcome} jobs_snoozed_total{reason} jobs_ready{queue}
jobs_inflight{queue} jobs_overdue{queue} queue_oldest_ready_seconds{queue} job_wait_seconds{queue} job_run_seconds{type}
jobs_discarded{queue} emails_sent_total{node,site} emails_deferred_total{node,site,scope}
emails_bounced_total{node,site,scope} emails_unknown{} node_permitted_rate{node}
jobpool_replicas{namespace,pool,node,kind} jobpool_backlog{namespace,pool,node}
jobpool_decisions_total{namespace,pool,node,reason} relay_lag_seconds{} worker_lease_age_seconds{}
"""


class Row(NamedTuple):
    name: str
    type: str
    labels: tuple[str, ...]
    seconds: bool
    text: str


@cache
def told(section: str) -> dict[str, Row]:
    """The metrics that the code makes."""
    registry = CollectorRegistry()
    SECTIONS[section](registry)
    shared = told("Outcomes") if section in {"Workers", "Relay"} else {}
    rows = [row(metric) for metric in registry._collector_to_names if isinstance(metric, MetricWrapperBase)]
    return {row.name: row for row in rows if row.name not in shared}


def row(metric: MetricWrapperBase) -> Row:
    kind = str(metric._type)
    name = metric._name + ("_total" if kind == "counter" else "")
    return Row(name, kind, tuple(metric._labelnames), metric._unit == "seconds", metric._documentation.rstrip("."))


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def table(heading: str) -> Iterator[list[str]]:
    """The cells of each row of a section's table."""
    for line in section(heading).splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in re.split(r" \|(?= |$)", line.removeprefix("|"))[:-1]]


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_page_and_the_code_have_the_same_metrics(heading: str) -> None:
    written = {}
    for name, kind, labels, unit, text, _ask in table(heading):
        names = tuple(re.findall(r"`(\w+)`", labels))
        written[name.strip("`")] = Row(name.strip("`"), kind, names, "second" in unit.split(" per ")[0], text)
    assert written == told(heading)


def everything() -> dict[str, Row]:
    return {name: row for heading in SECTIONS for name, row in told(heading).items()}


def test_what_the_design_promises_is_there() -> None:
    found = {f"{row.name}{{{','.join(row.labels)}}}" for row in everything().values()}
    assert set(PROMISED.split()) <= found


def test_names_and_texts_follow_prometheus() -> None:
    for row in everything().values():
        assert re.fullmatch(r"[a-z][a-z_]*[a-z]", row.name)
        assert row.text
        assert row.name.endswith("_total") is (row.type == "counter"), row.name
        assert row.seconds is (re.search(r"(?<!per)_seconds(_total)?$", row.name) is not None), row.name


def test_no_label_is_about_people_and_every_one_is_explained() -> None:
    used = {label for row in everything().values() for label in row.labels}
    explained = {label for cells in table("Labels") for label in re.findall(r"`(\w+)`", cells[0])}
    assert used == explained
    assert not used & {
        "tenant",
        "campaign",
        "recipient",
        "email",
        "job",
        "job_id",
        "domain",
        "worker",
        "replica",
        "pod",
    }


def test_the_values_of_closed_lists_are_all_named() -> None:
    values = {cells[0].split(",")[0].strip("`"): set(re.findall(r"`([\w-]+)`", cells[1])) for cells in table("Labels")}
    assert values["bottleneck"] == {bottleneck.value for bottleneck in Bottleneck}
    assert values["scope"] == {scope.value for scope in Scope} | {"other"}
    assert set(KINDS.values()) <= {word.partition("_")[2] for word in values["limit"]}
    assert values["phase"] == {phase.value for phase in [*NodePhase, *Phase]}
    assert set(REFUSALS) <= values["reason"]
    assert set(INBOUND_KINDS) <= values["kind"]
    code = "".join(path.read_text(encoding="utf-8") for path in WORKERS.glob("**/*.py"))
    snoozes = re.findall(r'Snooze\([^\n]*kind="(\w+)"\)|_refused\([^\n]*, "(\w+)"\)', code)
    assert {word for words in snoozes for word in words if word} <= values["reason"]


def test_every_question_asks_for_a_metric_that_exists() -> None:
    known = set(everything())
    known |= {f"{row.name}_{suffix}" for row in everything().values() if row.type == "histogram"
              for suffix in ("bucket", "sum", "count")}  # fmt: skip
    asks = [cells[-1].strip("`") for heading in SECTIONS for cells in table(heading)]
    for ask in asks:
        plain = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\b(by|ignoring|on) \([^)]*\)', "", ask)
        named = {word for word in re.findall(r"[a-z_]+", plain) if "_" in word} - {
            "histogram_quantile", "min_over_time",
        }  # fmt: skip
        assert named, ask
        assert named <= known, ask
