"""The Dockerfiles, read by BuildKit's own frontend: what its linter says, and what the images will be."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from go_linters import Linters

ROOT = Path(__file__).parents[2]
IMAGES = {"operator": ["postfleet-operator"], "workers": ["postfleet"]}


@pytest.fixture(params=IMAGES)
def folder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def read(linters: Linters, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(linters.dockerfile(ROOT / folder / "Dockerfile"))
    return found


@pytest.mark.timeout(600)  # the first time, Go builds the linter
def test_buildkit_has_nothing_to_say_and_makes_of_it_what_the_chart_needs(read: dict[str, Any], folder: str) -> None:
    assert read["warnings"] == []
    config = read["config"]
    assert config["User"] == "10001:10001", "a number, which the kubelet needs to see that it is not root"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"] == IMAGES[folder], "no shell between the signal and the program"
    assert {"PYTHONDONTWRITEBYTECODE=1", "PYTHONUNBUFFERED=1"} < set(config["Env"])
    assert any(value.startswith("PATH=/opt/postfleet/bin:") for value in config["Env"])
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


@pytest.mark.timeout(600)
def test_both_stages_begin_from_one_pinned_image(read: dict[str, Any]) -> None:
    assert len(set(read["bases"])) == 1, "or the environment that is copied names another Python"
    assert re.fullmatch(r"docker\.io/library/python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", read["bases"][0])


def test_a_mistake_is_found(linters: Linters, tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python\nENV PASSWORD=x\nMAINTAINER me\nENTRYPOINT run this\n")
    rules = {warning["rule"] for warning in json.loads(linters.dockerfile(file))["warnings"]}
    assert {"SecretsUsedInArgOrEnv", "MaintainerDeprecated", "JSONArgsRecommended"} <= rules


def test_the_two_agree_on_all_but_what_they_are_for() -> None:
    def lines(folder: str) -> list[str]:
        text = (ROOT / folder / "Dockerfile").read_text()
        return [line for line in text.splitlines() if line.startswith(("ARG", "FROM", "USER", "COPY", "WORKDIR"))]

    assert lines("operator") == lines("workers")


def test_what_is_built_from_is_what_the_wheel_holds_and_no_more() -> None:
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(kept) == {
        "pyproject.toml",
        "uv.lock",
        "README.md",
        "LICENSE",
        *wheel["packages"],
        *wheel["force-include"],
    }
