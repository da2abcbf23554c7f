"""The servers of a Kubernetes control plane: from KUBEBUILDER_ASSETS, else built once from go.mod into a cache.

Run as a program it prints the folder: `python tests/cluster/assets.py`. A cold build takes about seven minutes on two
cores; it is shared by every checkout of this user.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}


class AssetsError(Exception):
    """The servers cannot be had; the message says what to do."""


def folder() -> Path:
    """The folder with the four programs, built if it is not there yet.

    Raises:
        AssetsError: KUBEBUILDER_ASSETS lacks one, there is no Go, or the build failed.
    """
    if given := os.environ.get("KUBEBUILDER_ASSETS"):
        if missing := [name for name in PACKAGES if not (Path(given) / name).is_file()]:
            raise AssetsError(f"KUBEBUILDER_ASSETS={given} lacks {', '.join(missing)}")
        return Path(given)
    go = shutil.which("go")
    if go is None:
        raise AssetsError(
            "the cluster tests need Go (https://go.dev/dl), or KUBEBUILDER_ASSETS with " + " ".join(PACKAGES)
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postfleet" / "cluster-assets"
    target = cache / _fingerprint(go)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        if not target.is_dir():
            _build(go, target)
    return target


def _fingerprint(go: str) -> str:
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    content = version.encode() + (HERE / "go.sum").read_bytes() + (HERE / "go.mod").read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another build", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(go: str, target: Path) -> None:
    """Into a folder beside the target, which then takes its name: a broken build leaves nothing."""
    version = _kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())])
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for number, (name, package) in enumerate(PACKAGES.items(), 1):
            print(f"building {name} ({number} of {len(PACKAGES)})", file=sys.stderr, flush=True)
            done = subprocess.run(
                [go, "build", "-ldflags", flags, "-o", f"{folder}/{name}", package],
                cwd=HERE,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
                stdout=sys.stderr,
                check=False,
            )
            if done.returncode:
                raise AssetsError(f"go build {package} failed with exit code {done.returncode}")
        Path(folder).chmod(0o755)
        Path(folder).rename(target)
        Path(folder).mkdir()  # for the context manager to delete


def _kubernetes_version() -> str:
    found = re.search(r"k8s\.io/kubernetes (v\S+)", (HERE / "go.mod").read_text())
    if found is None:
        raise AssetsError(f"{HERE / 'go.mod'} names no version of k8s.io/kubernetes")
    return found[1]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the compiler and clears up
    try:
        print(folder())
    except AssetsError as error:
        print(f"assets: {error}", file=sys.stderr)
        sys.exit(2)
