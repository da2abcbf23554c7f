"""PostgreSQL, Valkey and an SMTP server on this machine, and the CPU time that each takes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from postfleet_local.stack import Postgres, Server, Sink, Valkey
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for

PACKAGE = "postfix"
Roles = Mapping[str, list[int]]


class SmtpSink(Server):
    """Postfix's `smtp-sink`: a server in C that takes any mail at once. It offers PIPELINING, and no STARTTLS."""

    name = "smtp-sink"

    def __init__(self, directory: Path, program: Path) -> None:
        super().__init__(directory)
        self._program = program

    def start(self) -> None:
        """Start it and wait until it listens."""
        library = self._program.parent.parent / "lib/postfix"
        env = {**os.environ, "LD_LIBRARY_PATH": str(library)}
        user = ["-u", "nobody"] if os.geteuid() == 0 else []  # it insists
        self.spawn([str(self._program), *user, "-m", "1000", f"127.0.0.1:{self.port}", "1000"], env=env)
        self.wait_until_up()

    def stop(self) -> None:
        """End it; it keeps nothing."""
        self.signal(signal.SIGTERM)

    def answers(self) -> bool:
        """Whether it accepts connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=2).close()
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Servers:
    """What every contender uses. `smtp` says which SMTP server it is."""

    postgres: Postgres
    valkey: Valkey
    sink: SmtpSink | Sink
    smtp: str

    @property
    def database_url(self) -> str:
        """The database of the bench."""
        return self.postgres.url("bench")

    @property
    def roles(self) -> Roles:
        """The servers' processes by what they are."""
        servers = {"postgresql": self.postgres, "valkey": self.valkey, "smtp server": self.sink}
        return {name: [s.process.pid] for name, s in servers.items() if s.process}


@contextmanager
def serving() -> Iterator[Servers]:
    """Start all of them, on an empty database with Postfleet's schema."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="postfleet-bench-")))
        program = smtp_sink()
        sink = SmtpSink(folder / "smtp", program) if program else Sink(folder / "smtp")
        servers = Servers(
            Postgres(folder / "pg"), Valkey(folder / "valkey"), sink,
            "smtp-sink (Postfix)" if program else "postfleet_local.sink (Python)",
        )  # fmt: skip
        for server in (servers.postgres, servers.valkey, servers.sink):
            stack.callback(server.stop)
            server.start()
        with psycopg.connect(servers.postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE bench")
        engine = engine_for(servers.database_url, connections=1)
        upgrade(engine)
        engine.dispose()
        yield servers


def smtp_sink() -> Path | None:
    """The program `smtp-sink`: installed, or unpacked from Debian's package into a cache; None where neither goes."""
    if installed := shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
        return Path(installed)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "postfleet" / PACKAGE
    program = cache / "usr/sbin/smtp-sink"
    if not program.exists() and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        cache.parent.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=cache.parent) as folder,
            suppress(subprocess.CalledProcessError, ValueError),
        ):
            _quietly("apt-get", "download", "-q", PACKAGE, cwd=folder)
            [package] = Path(folder).glob("*.deb")
            _quietly("dpkg-deb", "-x", str(package), f"{folder}/unpacked", cwd=folder)
            Path(folder, "unpacked").rename(cache)
    return program if program.exists() else None


def _quietly(*command: str, cwd: str) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603


def cpu_seconds(roles: Roles) -> dict[str, float]:
    """User and system time so far by role, of its processes and of all their children, also of those that ended."""
    return {role: sum(_seconds(pid) for pid in pids) for role, pids in roles.items()}


def rss_bytes(pids: list[int]) -> int:
    """Resident memory of these processes and their children."""
    return sum(process.memory_info().rss for pid in pids for process in _family(pid))


def _seconds(pid: int) -> float:
    total = 0.0
    for process in _family(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _family(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def backends(connection: psycopg.Connection, name: str) -> list[int]:
    """PostgreSQL's processes that serve the connections of a replica."""
    found = connection.execute(
        "SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s", (f"postfleet% {name}",)
    )
    return [row[0] for row in found]


def python(*args: str, env: Mapping[str, str], log: Path, program: str = sys.executable) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, its output in `log`, its stdin a pipe."""
    with log.open("ab") as out:
        return subprocess.Popen(  # noqa: S603
            [program, *args], env={**os.environ, **env}, stdin=subprocess.PIPE, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program and its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
