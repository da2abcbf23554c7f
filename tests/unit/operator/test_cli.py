"""The command as people run it: exit codes, and one line per problem on stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pytest
import yaml

from postfleet_operator import cli

POOL = "apiVersion: postfleet.io/v1alpha1\nkind: JobPool\nmetadata: {name: email}\nspec: {queues: [a]}\n"


URLS = {"POSTFLEET_DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "POSTFLEET_REDIS_URL": "redis://127.0.0.1:1"}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return program("main", arguments, env or {})


def plugin(*arguments: str) -> subprocess.CompletedProcess[str]:
    return program("kubectl_jobpool", arguments, {})


def program(entry: str, arguments: Sequence[str], env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    code = f"from postfleet_operator.cli import {entry}; {entry}()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=60,
        check=False,
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


@pytest.mark.parametrize("group", [cli.cli, cli.plugin], ids=["postfleet-operator", "kubectl jobpool"])
def test_what_the_commands_do_is_listed_uncut(group: click.Group) -> None:
    listed = group.get_help(click.Context(group, terminal_width=80)).partition("Commands:")[2].splitlines()
    assert len(listed) == len(group.commands) + 1
    assert [line for line in listed if "..." in line] == []


@pytest.mark.parametrize("command", ["explain", "list", "history"])
def test_the_plugin_takes_a_context_and_tells_its_version(command: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{current-context: a, contexts: [], clusters: []}")
    pool = [] if command == "list" else ["email"]
    result = plugin(command, *pool, "--kubeconfig", str(tmp_path / "config"), "--context", "shop")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"{tmp_path}/config: has no context shop, name one that it has\n"
    assert plugin("--version").stdout.startswith("kubectl jobpool, version ")


@pytest.mark.parametrize("text", ["hello", "a: [1"])
def test_a_kubeconfig_that_is_none_is_bad_input_everywhere(text: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    given = ["--kubeconfig", str(tmp_path / "config")]
    for result in (run("explain", "email", *given), plugin("list", *given), run("run", *given, env=URLS)):
        assert (result.returncode, len(result.stderr.splitlines()), result.stdout) == (2, 1, "")
        assert result.stderr.startswith(f"{tmp_path}/config")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LEASE_NAME", "Bad Name"),
        ("LEASE_NAME", ""),
        ("LEASE_NAME", "x" * 254),
        ("LEASE_NAMESPACE", "a.b"),
        ("NAMESPACES", "a,B"),
    ],
)
def test_names_that_kubernetes_would_refuse_at_every_try_are_bad_input(name: str, value: str) -> None:
    result = run("run", "--kubeconfig", "/nonexistent", env={**URLS, f"POSTFLEET_{name}": value})
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert result.stderr.startswith(f"POSTFLEET_{name}: ")
