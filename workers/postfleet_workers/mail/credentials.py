"""Logins and signing keys of the nodes: files in a mounted folder, read again when they change.

`<node>.username`, `<node>.password` and `<node>.dkim` (a private key in PEM), as the operator's Secret is mounted.
Kubernetes swaps a symlink when the Secret changes, so a file's identity is its inode, size and time, not its path.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import structlog

from postfleet_workers.mail.errors import DkimMissing, KeyInvalid, LoginMissing
from postfleet_workers.mail.message.dkim import Signer, is_weak, load_key, record
from postfleet_workers.mail.node import Dkim
from postfleet_workers.mail.replies.reply import Phase

log = structlog.get_logger(__name__)

_Identity: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Login:
    """A username and a password; the password never shows in a repr."""

    username: str
    password: str = field(repr=False)


class Credentials:
    """The logins and keys in a folder; safe to share between threads."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._logins: dict[str, tuple[_Identity, Login]] = {}
        self._signers: dict[str, tuple[_Identity, Signer]] = {}
        self._told: dict[str, str] = {}  # node -> what was last logged of its key

    def of(self, node: str) -> Login:
        """The node's login, as it is in the files now.

        Raises:
            LoginMissing: there is none, or it cannot be read.
        """
        if self._folder is None:
            raise LoginMissing(Phase.AUTH, f"node {node} needs a login, but POSTFLEET_CREDENTIALS_DIR is not set")
        files = [self._folder / f"{node}.{part}" for part in ("username", "password")]
        try:
            identity = _identity(*files)
            with self._lock:
                known = self._logins.get(node)
            if known is not None and known[0] == identity:
                return known[1]
            username, password = (file.read_text("utf-8").rstrip("\r\n") for file in files)
        except (OSError, UnicodeDecodeError) as error:
            raise LoginMissing(Phase.AUTH, f"node {node}: no login in {self._folder}: {error}") from None
        login = Login(username, password)
        with self._lock:
            self._logins[node] = (identity, login)
        return login

    def signer(self, node: str, dkim: Dkim) -> Signer:
        """What signs the node's mail, with the key that is in the files now.

        Raises:
            DkimMissing: there is no key, or none that can sign. It is logged once, not for every mail.
        """
        if self._folder is None:
            raise self._missing(node, "POSTFLEET_CREDENTIALS_DIR is not set")
        file = self._folder / f"{node}.dkim"
        try:
            identity = (*_identity(file), dkim)
            with self._lock:
                known = self._signers.get(node)
            if known is not None and known[0] == identity:
                return known[1]
            key = load_key(file.read_bytes())
        except OSError as error:
            raise self._missing(node, str(error)) from None
        except KeyInvalid as error:
            raise self._missing(node, f"{file} {error}") from None
        signer = Signer(dkim.domain, dkim.selector, key)
        with self._lock:
            self._signers[node] = (identity, signer)
        name = f"{dkim.selector}._domainkey.{dkim.domain}"
        self._tell(node, "dkim_key_weak" if is_weak(key) else "dkim_key_read", name, dns_name=name, record=record(key))
        return signer

    def _missing(self, node: str, why: str) -> DkimMissing:
        self._tell(node, "dkim_key_missing", why, error=why)
        return DkimMissing(Phase.CONNECT, f"node {node} cannot sign its mail: {why}")

    def _tell(self, node: str, event: str, what: str, **more: str) -> None:
        """Log how the node's key is when that has changed: mail waits for it by the thousand."""
        with self._lock:
            if self._told.get(node) == event + what:
                return
            self._told[node] = event + what
        (log.info if event == "dkim_key_read" else log.warning)(event, node=node, **more)


def _identity(*files: Path) -> _Identity:
    return tuple((s.st_ino, s.st_size, s.st_mtime_ns) for s in map(Path.stat, files))
