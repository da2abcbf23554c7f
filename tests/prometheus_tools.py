"""The programs `prometheus` and `promtool`: those on the PATH, else from Debian's package, unpacked into a cache.

Run as a program it gets them: `python tests/prometheus_tools.py`. The package is unpacked, not installed: no service is
started, and no root is needed where apt knows its lists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = ("prometheus", "promtool")
PACKAGE = "prometheus"
HOW = "install Debian's package `prometheus`, or put `prometheus` and `promtool` on the PATH; `make test-tools` does it"


class ToolsError(Exception):
    """The programs cannot be had; the message says what to do."""


def find(program: str) -> Path | None:
    """One of the programs, if it is here."""
    if on_path := shutil.which(program):
        return Path(on_path)
    cached = _cache() / "usr/bin" / program
    return cached if cached.is_file() else None


def fetch() -> None:
    """Get what is missing.

    Raises:
        ToolsError: there is no apt, or it cannot download the package.
    """
    if all(find(program) for program in PROGRAMS):
        return
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ToolsError(f"Prometheus is missing and there is no apt: {HOW}")
    target = _cache()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        _download(Path(folder))
        [package] = Path(folder).glob("*.deb")
        unpacked = Path(folder) / "unpacked"
        subprocess.run(["dpkg-deb", "-x", str(package), str(unpacked)], check=True)
        shutil.rmtree(target, ignore_errors=True)
        unpacked.rename(target)


def _download(folder: Path) -> None:
    folder.chmod(0o755)
    download = ["apt-get", "download", "-q", PACKAGE]
    if subprocess.run(download, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0:
        return
    if os.geteuid() == 0:  # the lists of packages may be missing or old
        subprocess.run(["apt-get", "update", "-q"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    again = subprocess.run(download, cwd=folder, capture_output=True, text=True)
    if again.returncode != 0:
        raise ToolsError(f"{HOW}; apt said: {again.stderr.strip()}")


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "postfleet" / "prometheus"


if __name__ == "__main__":
    try:
        fetch()
    except ToolsError as error:
        sys.exit(str(error))
    sys.stdout.write(f"{find('promtool')}\n")
