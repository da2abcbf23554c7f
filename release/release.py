"""What a release is made of: `make dist`, `make sbom`, `make audit`.

The version is the one in pyproject.toml; what is given out is named by it. Environments are made from uv.lock as the
images are, so that the bills of materials and the audit are about what the images hold.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from licenses import complaints, packages, table

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
UV = Path(sys.executable).with_name("uv")
IMAGES = {"operator": "operator", "worker": "workers"}


def version() -> str:
    """The one place where it is written."""
    found: str = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return found


def run(*command: str | Path, env: dict[str, str] | None = None, check: bool = True) -> int:
    """Run a program in front of the person; its exit code."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **(env or {})}, check=False)
    if check and done.returncode:
        raise SystemExit(f"release: {Path(words[0]).name} {words[1]} failed with exit code {done.returncode}")
    return done.returncode


def tool(*command: str | Path, check: bool = True) -> int:
    """A program of the dependency group `release`, in an environment of its own."""
    return run(UV, "run", "--quiet", "--isolated", "--frozen", "--only-group=release", "--", *command, check=check)


def committed() -> str:
    """Seconds since 1970 of the last commit: the time of everything that is built, so that two builds are the same."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return given
    done = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "1577836800"


def dist(target: Path) -> None:
    """Source distribution and wheel; the wheel is built from the former."""
    for old in target.glob("postfleet-*"):
        if old.name.endswith((".whl", ".tar.gz")):
            old.unlink()
    run(UV, "build", "--quiet", "--out-dir", target, env={"SOURCE_DATE_EPOCH": committed()})
    for file in sorted(target.glob(f"postfleet-{version()}*")):
        print(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)


@contextmanager
def environments() -> Iterator[dict[str, Path]]:
    """What each image holds, installed from the lock."""
    with tempfile.TemporaryDirectory(prefix="postfleet-release-") as folder:
        found = {image: Path(folder) / image for image in IMAGES}
        for image, place in found.items():
            env = {"UV_PROJECT_ENVIRONMENT": str(place)}
            sync = ("sync", "--quiet", "--frozen", "--no-default-groups", "--no-editable")
            run(UV, *sync, f"--extra={IMAGES[image]}", env=env)
        yield found


def sbom(target: Path) -> None:
    """A bill of materials for each image's Python packages, as CycloneDX JSON."""
    target.mkdir(exist_ok=True)
    with environments() as found:
        for image, place in found.items():
            file = target / f"postfleet-{image}-{version()}.cdx.json"
            options = ("--output-reproducible", "--output-format=JSON", "--pyproject=pyproject.toml")
            tool("cyclonedx-py", "environment", *options, f"--output-file={file}", place / "bin/python")
            print(file.relative_to(ROOT) if file.is_relative_to(ROOT) else file)


def audit(offline: bool) -> int:
    """Licenses against the list of licenses.py, and known vulnerabilities by pip-audit, which asks PyPI."""
    with environments() as found:
        held = {image: packages(place) for image, place in found.items()}
    print(table({package.name: package for members in held.values() for package in members}.values()))
    said = complaints(held)
    for line in said:
        print(f"release: {line}", file=sys.stderr)
    return 1 if (not offline and vulnerable()) or said else 0


def vulnerable() -> bool:
    """Whether a locked package of the images has a known vulnerability, or that could not be found out."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        extras = [f"--extra={extra}" for extra in IMAGES.values()]
        export = ("export", "--quiet", "--frozen", "--no-default-groups", "--no-emit-project")
        run(UV, *export, *extras, f"--output-file={file}")
        # Strict: a package that could not be looked up is not one without vulnerabilities.
        options = ("--strict", "--disable-pip", "--require-hashes", "--progress-spinner=off")
        return tool("pip-audit", *options, "--requirement", file, check=False) != 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="release.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("version", "dist", "sbom", "audit"))
    parser.add_argument("--out", type=Path, default=DIST, help="folder for what is made")
    parser.add_argument("--offline", action="store_true", help="audit: licenses only")
    options = parser.parse_args()
    match options.what:
        case "version":
            print(version())
        case "dist":
            dist(options.out.resolve())
        case "sbom":
            sbom(options.out.resolve())
        case _:
            return audit(options.offline)
    return 0


if __name__ == "__main__":
    sys.exit(main())
