"""The linters of tests/images/lint need Go."""

from __future__ import annotations

import os
import shutil

import pytest

from go_linters import Linters


@pytest.fixture(scope="session")
def linters() -> Linters:
    """With Go; without it the tests are skipped, but for CI, where they fail."""
    if shutil.which("go") is None:
        said = "the linters of Dockerfiles and workflows need Go (https://go.dev/dl)"
        pytest.fail(said) if os.environ.get("CI") else pytest.skip(said)
    return Linters()
