"""The picture: a document of its own that shows what the replays say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache

import pytest

from postfleet_operator.simulation import plot, report
from postfleet_operator.simulation.policies import makers
from postfleet_operator.simulation.replay import Replay, Scene, replay
from unit.operator.building import latency_spec
from unit.operator.simulation.scenes import scene

NAMES = ("postfleet", "keda_default", "keda_tuned", "kpa")
SVG = "{http://www.w3.org/2000/svg}"


@cache
def compared() -> tuple[Scene, dict[str, Replay]]:
    world = scene({10: 40, 60: 10}, seconds=120)
    return world, {name: replay(world, make()) for name, make in makers(latency_spec(5), world).items()}


def test_every_policy_has_a_line_in_its_three_plots_and_the_legend() -> None:
    tree = ET.fromstring(plot.draw(*compared()))
    titles = [title.text for title in tree.iter(f"{SVG}title")]
    texts = [text.text or "" for text in tree.iter(f"{SVG}text")]
    for name in NAMES:
        assert titles.count(name) == 3
        assert any(text.startswith(f"{name}: ") for text in texts)
    assert "SLO 5 s" in titles


def test_it_needs_nothing_from_elsewhere() -> None:
    drawn = plot.draw(*compared())
    assert "href" not in drawn
    assert drawn.count("http") == 1  # the namespace


def test_everything_is_inside() -> None:
    tree = ET.fromstring(plot.draw(*compared()))
    _, _, width, height = (float(part) for part in tree.attrib["viewBox"].split())
    for path in tree.iter(f"{SVG}path"):
        for point in path.attrib["d"].replace("M", "L").replace("Z", "").split("L")[1:]:
            x, y = map(float, point.split())
            assert 0 <= x <= width
            assert 0 <= y <= height


def test_a_peak_is_not_averaged_away() -> None:
    _, runs = compared()
    run = runs["keda_default"]
    assert max(wait for _, wait in plot.longest_waits(run, 60.0)) == max(run.waits)


def test_the_backlog_is_what_has_arrived_and_not_begun() -> None:
    _, runs = compared()
    run = runs["keda_default"]
    points = dict(plot.backlog(run, 1.0))
    assert points[11.0] == sum(at <= 11.0 for at in run.arrivals) - sum(at <= 11.0 for at in run.starts) > 0
    assert points[max(points)] == 0


def test_a_name_cannot_break_the_document() -> None:
    world, runs = compared()
    hostile = Scene(type(world.trace)("<script>&\"'", world.trace.seconds, world.trace.rows), world.shape, 5.0, 0, 20)
    ET.fromstring(plot.draw(hostile, runs))


@pytest.mark.parametrize("seconds", [60, 3600, 86_400, 31 * 86_400])
def test_the_time_axis_has_few_labels(seconds: int) -> None:
    world, runs = compared()
    longer = replace(world, trace=replace(world.trace, seconds=seconds))
    tree = ET.fromstring(plot.draw(longer, runs))
    labels = [text.text for text in tree.iter(f"{SVG}text") if text.attrib.get("text-anchor") == "middle"]
    assert 5 <= len(labels) <= 12


@pytest.mark.parametrize(("span", "step"), [(4, 1), (7, 2), (20, 5), (300, 100), (0.3, 0.1)])
def test_steps_are_round(span: float, step: float) -> None:
    assert plot.tick(span, 4) == pytest.approx(step)


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.0, "0.00 %"), (1e-9, "<0.01 %"), (0.0312, "3.12 %"), (0.99999, ">99.99 %"), (1.0, "100.00 %")],
)
def test_a_share_is_zero_only_if_it_is(fraction: float, text: str) -> None:
    assert report.percent(fraction) == text


def test_the_table_is_aligned() -> None:
    _, runs = compared()
    lines = report.table({name: run.outcome for name, run in runs.items()}).splitlines()
    assert [line.split()[0] for line in lines] == ["policy", *NAMES]
    assert len({len(line) for line in lines}) == 1


def test_the_heading_says_what_is_replayed() -> None:
    world = scene({10: 40}, seconds=3661, permitted_rate=2.5)
    assert report.heading(world) == (
        "test: 40 jobs in 1:01:01, each to begin within 5 s; 0 to 20 replicas of 1 threads, a job takes 1 s, "
        "a start 5 s, limits let 2.5 jobs/s begin"
    )
