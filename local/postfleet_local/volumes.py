"""Secret volumes as folders, written the way kubelet does it: readers see the old content or the new one, never a mix.

Layout of a volume: `<key>` -> `..data/<key>`, `..data` -> `..<number>/`, one rename swaps the content. Folders are
0700, files 0600.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

DATA = "..data"


def read(folder: Path) -> dict[str, bytes]:
    """The content of a volume; empty when there is none yet."""
    data = folder / DATA
    return {file.name: file.read_bytes() for file in data.iterdir()} if data.exists() else {}


def write(folder: Path, content: Mapping[str, bytes]) -> bool:
    """Make the volume hold exactly `content`; returns whether anything changed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pointer = folder / DATA
    if pointer.exists() and read(folder) == dict(content):
        return False
    old = pointer.readlink().name if pointer.is_symlink() else None
    new = folder / f"..{int((old or '..0').removeprefix('..')) + 1}"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    for key, value in content.items():
        (new / key).touch(mode=0o600)
        (new / key).write_bytes(value)
    _point(pointer, new.name)
    for key in content:
        if not (folder / key).is_symlink():
            _point(folder / key, f"{DATA}/{key}")
    for link in folder.iterdir():
        if not link.name.startswith("..") and link.name not in content:
            link.unlink()
    if old:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _point(link: Path, target: str) -> None:
    temporary = link.with_name("..tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    temporary.symlink_to(target)
    temporary.replace(link)
