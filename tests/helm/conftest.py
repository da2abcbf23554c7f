"""Helm for the tests of the charts: from HELM, else built once by tests/cluster/assets.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cluster"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from assets import AssetsError
from assets import helm as program
from charts import SETS, Helm, Manifest


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The program."""
    try:
        return Helm(program(), tmp_path_factory.mktemp("helm"))
    except AssetsError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session", params=SETS)
def rendered(request: pytest.FixtureRequest, helm: Helm) -> list[Manifest]:
    """The objects of each value set in turn."""
    return helm.render(str(request.param))
