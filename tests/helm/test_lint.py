"""`helm lint --strict` has nothing to say, and versions agree."""

from __future__ import annotations

import tomllib

import pytest
import yaml
from charts import CHART, CRDS, ROOT, SETS, Helm, values_of


@pytest.mark.parametrize("name", SETS)
def test_the_chart_passes_the_strict_lint(helm: Helm, name: str) -> None:
    done = helm.run("lint", "--strict", str(CHART), f"--values={values_of(name)}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_of_the_definitions_passes_too(helm: Helm) -> None:
    done = helm.run("lint", "--strict", str(CRDS))
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_version_is_the_project_s_the_charts_and_the_images() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for chart in (CHART, CRDS):
        found = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert (found["version"], found["appVersion"]) == (version, version)


def test_the_documentation_names_every_value() -> None:
    text = (ROOT / "docs/installation.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    paths = [top for top, inner in values.items() if not isinstance(inner, dict) or not inner or top == "pools"]
    paths += [f"{top}.{name}" for top, inner in values.items() if top not in paths for name in inner]
    assert [path for path in paths if f"`{path}`" not in text] == []
