"""The Grafana dashboard: it asks for what exists, says what it shows, and its panels have a place each."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from contract.test_alerts import check_expression, known_labels, series_labels
from promql import named

FOLDER = Path(__file__).parents[2] / "helm/postfleet/files/dashboards"
BOARD: dict[str, Any] = json.loads((FOLDER / "postfleet.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
EACH_PANEL = pytest.mark.parametrize("panel", PANELS, ids=[f"{panel['id']} {panel['title']}" for panel in PANELS])
# Units that panels use, as Grafana calls them; `mails/s` is a suffix of our own.
UNITS = {"short", "s", "percentunit", "ops", "reqps", "bytes", "mails/s"}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def expressions(panel: dict[str, Any]) -> list[str]:
    return [target["expr"] for target in panel["targets"]]


def test_this_is_the_only_dashboard() -> None:
    assert [path.name for path in FOLDER.iterdir()] == ["postfleet.json"]
    assert BOARD["uid"] == "postfleet"
    assert "id" not in BOARD, "the number of one Grafana's own"


def test_rows_lead_from_pools_to_the_operator() -> None:
    rows = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
    assert [row["title"] for row in rows] == ["Pools", "Queues", "Mail", "Relay", "Operator"]


def test_it_can_be_narrowed_down() -> None:
    assert list(VARIABLES) == ["datasource", "namespace", "pool", "queue", "node"]
    for name, variable in VARIABLES.items():
        if name == "datasource":
            assert (variable["type"], variable["query"]) == ("datasource", "prometheus")
            continue
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
        check_expression(metric)
        assert label in known_labels(metric)
        assert variable["datasource"] == SOURCE
        assert (variable["includeAll"], variable["allValue"], variable["multi"]) == (True, ".*", True)
    used = {name for panel in PANELS for text in expressions(panel) for name in re.findall(r"\$(\w+)", text)}
    assert used - {"__rate_interval"} == set(VARIABLES) - {"datasource"}


@EACH_PANEL
def test_a_panel_asks_for_metrics_labels_and_values_that_exist(panel: dict[str, Any]) -> None:
    assert panel["datasource"] == SOURCE
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        check_expression(target["expr"])
        shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        grouped = named(target["expr"]).grouped
        assert shown <= (grouped or known_labels(target["expr"])) | {"instance"}
        assert re.findall(r'=(?!~)"\$', target["expr"]) == [], "a variable may stand for several values"
    assert [target["refId"] for target in panel["targets"]] == sorted({target["refId"] for target in panel["targets"]})


@EACH_PANEL
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


def test_no_two_panels_are_in_one_place() -> None:
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    places = [(panel["title"], panel["gridPos"]) for panel in BOARD["panels"]]
    for _, place in places:
        assert place["x"] + place["w"] <= 24
    for (one, a), (other, b) in combinations(places, 2):
        apart = (
            a["x"] + a["w"] <= b["x"]
            or b["x"] + b["w"] <= a["x"]
            or a["y"] + a["h"] <= b["y"]
            or b["y"] + b["h"] <= a["y"]
        )
        assert apart, (one, other)


def test_every_metric_that_people_ask_about_is_on_a_panel() -> None:
    shown = {name for panel in PANELS for expression in expressions(panel) for name in named(expression).metrics}
    hidden = {re.sub(r"_(bucket|sum|count)$", "", name) for name in series_labels().keys() - shown} - {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in shown
    }
    assert hidden == {"process_open_fds"}
