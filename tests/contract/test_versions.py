"""One version: written in pyproject.toml, and the same wherever a format wants it again."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CHARTS = sorted((ROOT / "helm").glob("*/Chart.yaml"))


def test_it_is_a_semantic_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9a-z.]+)?", VERSION)


def test_it_is_what_is_installed_and_locked() -> None:
    assert version("postfleet") == VERSION
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert [package["version"] for package in locked if package["name"] == "postfleet"] == [VERSION]


def test_nothing_else_says_it() -> None:
    said = [
        path
        for path in ROOT.glob("*/postfleet_*/**/*.py")
        if re.search(r"^__version__", path.read_text(), re.MULTILINE)
    ]
    assert said == [], "ask importlib.metadata"


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.parent.name)
def test_the_charts_are_of_it(chart: Path) -> None:
    found = yaml.safe_load(chart.read_text())
    assert (found["version"], found["appVersion"]) == (VERSION, VERSION)
    assert found["name"] == chart.parent.name


def test_the_changelog_s_newest_heading_is_it_or_will_be() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest, body = re.findall(r"^## \[([^\]]+)\](.*?)(?=^## \[|\Z)", text, re.MULTILINE | re.DOTALL)[0]
    if newest == "Unreleased":
        assert VERSION in body or f"## [{VERSION}]" in text, "say which version it will be"
    else:
        assert newest == VERSION


def test_released_versions_have_a_day_and_go_downwards() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings
    released = [re.fullmatch(r"\[(\d+)\.(\d+)\.(\d+)\] - \d{4}-\d{2}-\d{2}", each) for each in headings[1:]]
    assert all(released)
    numbers = [tuple(map(int, found.groups())) for found in released if found]
    assert numbers == sorted(numbers, reverse=True)


def test_images_are_tagged_by_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^VERSION := .*pyproject\.toml\)$", makefile, re.MULTILINE)
    assert re.search(r"^TAG \?= \$\(VERSION\)$", makefile, re.MULTILINE)
