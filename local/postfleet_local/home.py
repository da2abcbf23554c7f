"""The folder of a fleet: what lies where, who holds it, and which ports it had the last time.

env            POSTFLEET_DATABASE_URL, POSTFLEET_REDIS_URL and the like, in shell syntax
manifests/     the quickstart's, when no others were given: edit them
logs/          one file per replica, and fleet.log
secret-key     what signs links in mails; made once
status/        status of every pool and node, as JSON
events.log     their Events
postgresql/, valkey/, sink/, volumes/
"""

from __future__ import annotations

import fcntl
import json
import secrets
import shlex
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from postfleet_local.errors import ManifestError
from postfleet_local.stack import Server, free_port

QUICKSTART_MANIFESTS = ("pool.yaml", "node.yaml", "secrets.yaml")


def quickstart() -> Path:
    """The folder `examples/01-quickstart`, in a source tree or in an installed wheel."""
    package = Path(__file__).resolve().parent
    packed = package / "quickstart"
    return packed if packed.is_dir() else package.parents[1] / "examples" / "01-quickstart"


class Home:
    """A fleet's folder, held by one fleet at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        """Create the folder and take hold of it.

        Raises:
            ManifestError: it cannot be used, or another fleet runs in it.
        """
        try:
            for name in ("logs", "status"):
                (self.directory / name).mkdir(parents=True, exist_ok=True)
            self._lock = (self.directory / "fleet.lock").open("a+")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise ManifestError(
                f"--dir: another fleet runs in {self.directory}, stop it or give another folder"
            ) from None
        except OSError as error:
            raise ManifestError(f"--dir: {self.directory} cannot be used: {error.strerror}") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Let go of it."""
        (self.directory / "env").unlink(missing_ok=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_env(self, variables: Mapping[str, str]) -> Path:
        """Write `env`: plain NAME=value lines, quoted for the shell, as `set -a; . DIR/env` and `env -S` take them."""
        file = self.directory / "env"
        temporary = file.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
        temporary.replace(file)
        return file

    def settle_port(self, server: Server, wanted: int | None = None) -> None:
        """Give the server its `port`."""
        server.port = self.port(server.directory.name, wanted)

    def port(self, name: str, wanted: int | None = None) -> int:
        """The port that `name` had the last time, else `wanted`, else any, whichever is free; it is remembered."""
        file = self.directory / "ports.json"
        known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
        candidates = [port for port in (known.get(name), wanted) if port is not None]
        found = next((port for port in candidates if is_free(port)), None) or free_port()
        file.write_text(json.dumps(known | {name: found}))
        return found

    def secret_key(self) -> str:
        """The fleet's secret key: the same for as long as the folder is there."""
        file = self.directory / "secret-key"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(32))
        return file.read_text()

    def default_manifests(self, sink_port: int) -> Path:
        """A copy of the quickstart's manifests to play with, its node at the sink's port; kept when it is there."""
        folder = self.directory / "manifests"
        if not folder.exists():
            fresh = self.directory / "manifests.new"
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            for name in QUICKSTART_MANIFESTS:
                text = (quickstart() / name).read_text(encoding="utf-8")
                (fresh / name).write_text(text.replace("port: 2525", f"port: {sink_port}"), encoding="utf-8")
            fresh.replace(folder)
        return folder

    def clean(self) -> None:
        """Remove the servers' data; logs and reports stay."""
        for name in ("postgresql", "valkey", "volumes"):
            shutil.rmtree(self.directory / name, ignore_errors=True)


def is_free(port: int) -> bool:
    """Whether the port of 127.0.0.1 can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
