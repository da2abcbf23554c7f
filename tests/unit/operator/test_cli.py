"""The command as people run it: exit codes, and one line per problem on stderr."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

POOL = "apiVersion: postfleet.io/v1alpha1\nkind: JobPool\nmetadata: {name: email}\nspec: {queues: [a]}\n"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from postfleet_operator.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_crds_are_printed_for_kubectl() -> None:
    result = run("crds")
    assert (result.returncode, result.stderr) == (0, "")
    assert {crd["kind"] for crd in yaml.safe_load_all(result.stdout)} == {"CustomResourceDefinition"}


def test_good_manifests_are_counted(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL)
    result = run("check", "-f", str(tmp_path))
    assert (result.returncode, result.stdout) == (0, "1 manifest ok\n")


def test_the_quickstart_is_checked_as_a_folder() -> None:
    quickstart = Path(__file__).parents[3] / "examples" / "01-quickstart"
    result = run("check", "-f", str(quickstart))
    assert (result.returncode, result.stdout) == (0, "3 manifests ok\n")
    assert result.stderr == f"skipped {quickstart}/campaign.yaml: no apiVersion and kind\n"


def test_bad_manifests_are_told_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(POOL.replace("queues: [a]", "queue: [a], replicas: -1"))
    result = run("check", "-f", str(tmp_path / "pool.yaml"))
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"{tmp_path}/pool.yaml:4: JobPool email: spec.queues: is missing, give it a value",
        f"{tmp_path}/pool.yaml:4: JobPool email: spec.replicas: -1 is out of range, give 0 to 1000",
        f"{tmp_path}/pool.yaml:4: JobPool email: spec.queue: unknown field, did you mean queues?",
    ]


def test_a_file_without_a_manifest_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    result = run("check", "-f", str(tmp_path / "empty.yaml"))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/empty.yaml: holds no manifest\n"


def test_without_a_command_the_help_is_shown() -> None:
    result = run()
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: postfleet-operator [OPTIONS] COMMAND")


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("check",), "postfleet-operator check"),
        (("check", "--filename"), "postfleet-operator"),
        (("chek",), "postfleet-operator"),
        (("--wrong",), "postfleet-operator"),
    ],
)
def test_wrong_usage_is_one_line(arguments: tuple[str, ...], command: str) -> None:
    result = run(*arguments)
    assert (result.returncode, len(result.stderr.splitlines()), result.stdout) == (2, 1, "")
    assert result.stderr.startswith("postfleet-operator: ")
    assert result.stderr.endswith(f" (see `{command} --help`)\n")
