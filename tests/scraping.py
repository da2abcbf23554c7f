"""Reads a process' /metrics as Prometheus would."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

from prometheus_client.parser import text_string_to_metric_families

from fleet import Process

Scrape = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(page: str) -> Scrape:
    """Values by name and labels."""
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples), "a series stands there twice"
    return found


def scrape(process: Process) -> Scrape:
    with urllib.request.urlopen(f"http://127.0.0.1:{process.port}/metrics", timeout=10) as answer:
        return parse(answer.read().decode())


def value(page: Scrape, name: str, **labels: str) -> float | None:
    return page.get((name, tuple(sorted(labels.items()))))


def reader(process: Process) -> Callable[..., float | None]:
    """`value` of a fresh scrape."""
    return lambda name, **labels: value(scrape(process), name, **labels)


def labelled(page: Scrape, label: str) -> set[str]:
    """Every value of a label."""
    return {found for _, labels in page for name, found in labels if name == label}
