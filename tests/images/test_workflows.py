"""The GitHub workflow: by a linter, and by what it must agree with."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from go_linters import Linters

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
EACH = pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)


@pytest.mark.timeout(600)
@EACH
def test_actionlint_has_nothing_to_say(linters: Linters, file: Path) -> None:
    assert linters.workflow(file) == ""


@EACH
def test_actions_are_pinned_and_may_read_only(file: Path) -> None:
    for line in re.findall(r"uses: (.+)", file.read_text()):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
    assert yaml.safe_load(file.read_text())["permissions"] == {"contents": "read"}


@EACH
def test_every_job_ends_and_calls_targets_that_exist(file: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name, job in yaml.safe_load(file.read_text())["jobs"].items():
        assert job["timeout-minutes"] <= 90, name
        for step in job["steps"]:
            for line in re.findall(r"^make (.+)$", step.get("run", ""), re.MULTILINE):
                named = {word for word in line.split(" ARGS=")[0].split() if "=" not in word}
                assert named <= targets, (name, line)


def test_helm_is_the_one_of_the_tests() -> None:
    [pinned] = re.findall(r"helm\.sh/helm/v4 (v\S+)", (ROOT / "tests/helm/go.mod").read_text())
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    [step] = [step for step in jobs["kind"]["steps"] if step.get("uses", "").startswith("azure/setup-helm@")]
    assert step["with"]["version"] == pinned


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_the_gate_is_good_shell() -> None:
    done = subprocess.run(["shellcheck", ROOT / ".ci/run"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
