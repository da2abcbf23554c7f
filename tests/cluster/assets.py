"""The servers of a Kubernetes control plane, and Helm: as the environment names them, else built once into a cache.

`KUBEBUILDER_ASSETS` is a folder with the servers, `HELM` a program; without them Go builds what tests/cluster/go.mod
and tests/helm/go.mod pin. Run as a program it prints the folder: `python tests/cluster/assets.py`. A cold build takes
about ten minutes on two cores; it is shared by every checkout of this user.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
}
HELM_MODULE = HERE.parent / "helm"
HELM = {"helm": "helm.sh/helm/v4/cmd/helm"}
MONITORS_MODULE = HERE / "monitors"
MONITORS = "github.com/prometheus-operator/prometheus-operator"


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
    return _built("cluster-assets", HERE, PACKAGES, _kubernetes_flags)


def helm() -> Path:
    """Helm, built if it is not there yet.

    Raises:
        AssetsError: HELM is no file, there is no Go, or the build failed.
    """
    if given := os.environ.get("HELM"):
        if not Path(given).is_file():
            raise AssetsError(f"HELM={given} is no file, name the program helm or unset it")
        return Path(given)
    return _built("helm", HELM_MODULE, HELM, _helm_flags) / "helm"


def monitors() -> Path:
    """The folder with the CRDs of the Prometheus operator, by file `monitoring.coreos.com_<plural>.yaml`.

    Raises:
        AssetsError: there is no Go, or the module cannot be had.
    """
    command = [_go(), "mod", "download", "-json", MONITORS]
    done = subprocess.run(command, cwd=MONITORS_MODULE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssetsError(f"go mod download {MONITORS} failed: {done.stdout or done.stderr}")
    return Path(json.loads(done.stdout)["Dir"]) / "example" / "prometheus-operator-crd"


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise AssetsError(
            "the cluster tests need Go (https://go.dev/dl), or KUBEBUILDER_ASSETS with "
            f"{' '.join(PACKAGES)}, and HELM with the program helm"
        )
    return go


def _built(name: str, module: Path, packages: Mapping[str, str], flags: Callable[[], str]) -> Path:
    """The cached folder with the programs of a Go module."""
    go = _go()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postfleet" / name
    target = cache / _fingerprint(go, module)
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        if not target.is_dir():
            _build(go, module, packages, flags(), target)
    return target


def _fingerprint(go: str, module: Path) -> str:
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, check=True).stdout
    content = version.encode() + (module / "go.sum").read_bytes() + (module / "go.mod").read_bytes()
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


def _build(go: str, module: Path, packages: Mapping[str, str], flags: str, target: Path) -> None:
    """Into a folder beside the target, which then takes its name: a broken build leaves nothing."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        for number, (name, package) in enumerate(packages.items(), 1):
            print(f"building {name} ({number} of {len(packages)})", file=sys.stderr, flush=True)
            done = subprocess.run(
                [go, "build", "-ldflags", flags, "-o", f"{folder}/{name}", package],
                cwd=module,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"},
                stdout=sys.stderr,
                check=False,
            )
            if done.returncode:
                raise AssetsError(f"go build {package} failed with exit code {done.returncode}")
        Path(folder).chmod(0o755)
        Path(folder).rename(target)
        Path(folder).mkdir()  # for the context manager to delete


def _kubernetes_flags() -> str:
    version = _version(HERE, "k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    stamps = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(["-s -w", *(f"-X k8s.io/component-base/version.{name}={value}" for name, value in stamps.items())])


def _helm_flags() -> str:
    return f"-s -w -X helm.sh/helm/v4/internal/version.version={_version(HELM_MODULE, 'helm.sh/helm/v4')}"


def _version(module: Path, dependency: str) -> str:
    found = re.search(rf"{re.escape(dependency)} (v\S+)", (module / "go.mod").read_text())
    if found is None:
        raise AssetsError(f"{module / 'go.mod'} names no version of {dependency}")
    return found[1]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the compiler and clears up
    try:
        print(folder())
        helm()
        monitors()
    except AssetsError as error:
        print(f"assets: {error}", file=sys.stderr)
        sys.exit(2)
