"""Manifests from files and folders, as the operator reads them, and again when they change."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from postfleet_local.errors import ManifestError
from postfleet_operator.errors import InvalidManifest
from postfleet_operator.manifests import Manifests, load

Fingerprint = tuple[tuple[Path, int, int], ...]


def read(paths: Sequence[Path]) -> Manifests:
    """Read all manifests.

    Raises:
        ManifestError: with one line per problem, each naming its file.
    """
    try:
        manifests = load(paths)
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


class Watch:
    """Tells when sources have changed and are at rest.

    An editor empties a file before it writes it: what is read in between would delete the resources of that file.
    """

    def __init__(self, applied: Fingerprint) -> None:
        self._applied = self._seen = applied

    def changed(self, now: Fingerprint) -> bool:
        """Whether to read the sources again: they are not those last applied, and stood still since the last look."""
        at_rest = now == self._seen
        self._seen = now
        if not at_rest or now == self._applied:
            return False
        self._applied = now
        return True
