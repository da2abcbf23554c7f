"""What `make dist`, `make sbom` and `make audit` make of this tree."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]

pytestmark = pytest.mark.timeout(600)


def release(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "release/release.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    done = release("dist", "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder


def sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("postfleet-*")}


def test_two_builds_are_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    done = release("dist", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sums(tmp_path) == sums(dist)
    assert set(sums(dist)) == {f"postfleet-{VERSION}.tar.gz", f"postfleet-{VERSION}-py3-none-any.whl"}


def test_the_wheel_holds_what_the_packages_read_and_no_more(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("operator", "workers", "local"):
        done = subprocess.run(["git", "ls-files", "."], cwd=ROOT / folder, capture_output=True, text=True, check=True)
        kept = {
            name for name in done.stdout.split() if name.startswith("postfleet_") and (ROOT / folder / name).exists()
        }
        assert kept <= names
    assert {"postfleet_operator/crds/jobpools.yaml", "postfleet_local/quickstart/contacts.csv"} <= names
    tops = {name.split("/")[0] for name in names}
    info = f"postfleet-{VERSION}.dist-info"
    assert tops == {"postfleet_operator", "postfleet_workers", "postfleet_local", info}
    assert f"{info}/licenses/LICENSE" in names


def test_the_source_distribution_holds_no_leftovers(dist: Path) -> None:
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        names = [name.partition("/")[2] for name in source.getnames()]
    assert {"pyproject.toml", "uv.lock", "LICENSE", "tests/conftest.py", "Makefile"} <= set(names)
    assert not [name for name in names if name.split("/")[0] in {".venv", "dist", "site", ".git", ".postfleet"}]
    assert not [name for name in names if name.endswith((".pyc", ".env"))]


def test_the_bills_of_materials_name_what_the_images_hold(tmp_path: Path) -> None:
    done = release("sbom", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    for image, own, others in (("operator", "kopf", "dramatiq"), ("worker", "dramatiq", "kopf")):
        bill = json.loads((tmp_path / f"postfleet-{image}-{VERSION}.cdx.json").read_text())
        assert bill["bomFormat"] == "CycloneDX"
        assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]) == (
            "postfleet",
            VERSION,
        )
        parts = {part["name"]: part for part in bill["components"]}
        assert own in parts
        assert not {others, "pytest", "pip", "uv"} & set(parts)
        assert all(part["purl"].startswith("pkg:pypi/") for part in parts.values() if part["name"] != "postfleet")
        assert sum("licenses" in part for part in parts.values()) > 0.9 * len(parts)


def test_every_license_in_the_images_is_on_the_list() -> None:
    done = release("audit", "--offline")
    assert done.returncode == 0, done.stderr
    assert "dramatiq" in done.stdout
