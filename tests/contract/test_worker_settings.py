"""What the operator knows of the workers' settings is what the workers read."""

from __future__ import annotations

import math
import re

from postfleet_operator.spec.workerenv import CHOICES, KNOWN, NUMBERS, PREFIX, Bounds
from postfleet_workers.settings import Settings

PROPERTIES = {PREFIX + name.upper(): node for name, node in Settings.model_json_schema()["properties"].items()}


def test_the_variables_are_the_settings() -> None:
    assert PROPERTIES.keys() == KNOWN


def test_numbers_have_the_settings_bounds() -> None:
    numbers = {name: node for name, node in PROPERTIES.items() if node.get("type") in {"number", "integer"}}
    assert {
        name: Bounds(
            least=node.get("exclusiveMinimum", node.get("minimum")),
            most=node.get("maximum", math.inf),
            above="exclusiveMinimum" in node,
            whole=node["type"] == "integer",
        )
        for name, node in numbers.items()
    } == dict(NUMBERS)


def test_choices_are_the_settings_patterns() -> None:
    found = {name: node["pattern"] for name, node in PROPERTIES.items() if "pattern" in node}
    assert {name: tuple(re.sub(r"[()^$]", "", pattern).split("|")) for name, pattern in found.items()} == dict(CHOICES)
