"""Usernames and passwords of the nodes: files in a mounted folder, read again when they change.

`<node>.username` and `<node>.password`, as the operator's Secret is mounted. Kubernetes swaps a symlink when the Secret
changes, so a file's identity is its inode, size and time, not its path.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from postfleet_workers.mail.errors import LoginMissing
from postfleet_workers.mail.reply import Phase


@dataclass(frozen=True, slots=True)
class Login:
    """A username and a password; the password never shows in a repr."""

    username: str
    password: str = field(repr=False)


class Credentials:
    """The logins in a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, tuple[object, Login]] = {}

    def of(self, node: str) -> Login:
        """The node's login, as it is in the files now.

        Raises:
            LoginMissing: there is none, or it cannot be read.
        """
        if self._folder is None:
            raise LoginMissing(Phase.AUTH, f"node {node} needs a login, but POSTFLEET_CREDENTIALS_DIR is not set")
        files = [self._folder / f"{node}.{part}" for part in ("username", "password")]
        try:
            identity = [(s.st_ino, s.st_size, s.st_mtime_ns) for s in map(Path.stat, files)]
            with self._lock:
                known = self._known.get(node)
            if known is not None and known[0] == identity:
                return known[1]
            username, password = (file.read_text("utf-8").rstrip("\r\n") for file in files)
        except (OSError, UnicodeDecodeError) as error:
            raise LoginMissing(Phase.AUTH, f"node {node}: no login in {self._folder}: {error}") from None
        login = Login(username, password)
        with self._lock:
            self._known[node] = (identity, login)
        return login
