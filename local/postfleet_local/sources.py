"""Manifests from files and folders, read again when they change.

A folder may hold other YAML too (the quickstart has its `campaign.yaml`): files without `apiVersion` and `kind` are
left out there. A file that is named itself must be a manifest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import yaml

from postfleet_local.errors import ManifestError
from postfleet_operator.errors import InvalidManifest
from postfleet_operator.manifests import SUFFIXES, Manifests, load

Fingerprint = tuple[tuple[Path, int, int], ...]


def files(paths: Sequence[Path]) -> list[Path]:
    """The files to read, folders expanded."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(f for f in path.iterdir() if f.suffix in SUFFIXES and f.is_file() and _is_manifest(f))
        else:
            found.append(path)
    return found


def read(paths: Sequence[Path]) -> Manifests:
    """Read all manifests.

    Raises:
        ManifestError: with one line per problem, each naming its file.
    """
    try:
        chosen = files(paths)
        manifests = load(chosen)
    except InvalidManifest as error:
        raise ManifestError("\n".join(error.problems)) from None
    except OSError as error:
        raise ManifestError(f"{error.filename}: cannot be read: {error.strerror}") from None
    if not manifests.pools:
        where = ", ".join(map(str, paths))
        raise ManifestError(f"{where}: holds no JobPool, so there is nothing to run")
    for kind, names in (
        ("JobPool", [pool.name for pool in manifests.pools]),
        ("SendingNode", [node.name for node in manifests.nodes]),
        ("Secret", [secret.name for secret in manifests.secrets]),
    ):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ManifestError(f"{kind} {twice[0]} is given in two namespaces: the local fleet has one")
    return manifests


def fingerprint(paths: Sequence[Path]) -> Fingerprint:
    """What changes when a file is edited, added or removed."""
    marks = []
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):
                stat = file.stat()
                marks.append((file, stat.st_mtime_ns, stat.st_size))
    return tuple(marks)


def _is_manifest(file: Path) -> bool:
    try:
        documents = [d for d in yaml.safe_load_all(file.read_text(encoding="utf-8-sig")) if d is not None]
    except (yaml.YAMLError, UnicodeDecodeError):
        return True
    return any(not isinstance(d, dict) or "kind" in d or "apiVersion" in d for d in documents)
