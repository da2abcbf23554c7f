"""Who sends the mails: Postfleet's own processes, the bare loops, and other queues. Each yields a `Run`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from speed import mails, stages
from speed.servers import Servers, backends, cpu_seconds, end, python

QUEUES = "priority-high,campaign-standard,warmup,retry"
WARM_UP = 3000
AT_A_TIME = 50
STUCK_SECONDS = 60.0
POSTFLEET = str(Path(sys.executable).with_name("postfleet"))


@dataclass(frozen=True, slots=True)
class Load:
    """How much is sent, by how many processes and threads."""

    emails: int
    processes: int
    threads: int


@dataclass(slots=True)
class Run:
    """One contender's result. `cpu` is CPU seconds by process, over the whole run; `stages` of Postfleet's workers.

    `per_second` is taken over the middle nine tenths of the mails, so that it holds neither start nor tail.
    """

    name: str
    emails: int
    per_second: float
    seconds: float
    cpu: dict[str, float]
    stages: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def cpu_us(self) -> float:
        """CPU per email, of all processes and servers."""
        return sum(self.cpu.values()) / self.emails * 1e6

    def as_json(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self) | {
            "cpu_us_per_email": round(self.cpu_us, 1),
            "cpu_seconds_per_1000": {role: round(s / self.emails * 1000, 4) for role, s in self.cpu.items()},
        }


PLAIN_SPAN = """
SELECT extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY done_at)
                        - percentile_disc(0.05) WITHIN GROUP (ORDER BY done_at)),
       extract(epoch FROM max(done_at)) FROM bench_mails WHERE id > %s
"""
SPAN = """
SELECT extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY finished_at)
                        - percentile_disc(0.05) WITHIN GROUP (ORDER BY finished_at)),
       extract(epoch FROM max(finished_at)) FROM emails WHERE campaign_id = %s
"""


def loop(servers: Servers, load: Load, at_a_time: int) -> Run:
    """The bare loop: as many rows for each thread; 1 or 50 at a time."""
    name = "bare loop, one by one" if at_a_time == 1 else f"bare loop, {at_a_time} at a time, pipelined"
    with psycopg.connect(servers.database_url) as connection, _logs() as log:
        mails.fill_plain(connection, 1, load.emails)
        each = -(-load.emails // load.processes)
        shares = [(first, min(first + each - 1, load.emails)) for first in range(1, load.emails + 1, each)]
        processes = [
            python(
                "-m", "speed.loop", *map(str, (load.threads, *share, at_a_time)), env=_env(servers), log=log / f"{n}"
            )
            for n, share in enumerate(shares)
        ]
        try:
            _all_say("ready", processes, log)
            roles = {**servers.roles, "loop": [process.pid for process in processes]}
            before, began = cpu_seconds(roles), time.time()
            for process in processes:
                process.stdin.write(b"\n")
                process.stdin.flush()
            _all_say("done", processes, log)
            cpu = _difference(before, cpu_seconds(roles))
            return _plain_run(connection, name, load.emails, 0, began, cpu)
        finally:
            for process in processes:
                end(process)


def peer(servers: Servers, load: Load, name: str, module: str, command: tuple[str, ...]) -> Run:
    """Another queue: its workers are stopped while the messages are pushed, then let go."""
    env = _env(servers)
    with psycopg.connect(servers.database_url) as connection, _logs() as log:
        warm = WARM_UP // 3
        mails.fill_plain(connection, 1, warm)
        workers = python("-m", *command, env=env, log=log / "workers")
        try:
            _enqueue(module, 1, warm, env, log)
            _until(lambda: _queued(connection) == 0, workers, log / "workers")
            os.killpg(workers.pid, signal.SIGSTOP)
            last = warm + load.emails
            mails.fill_plain(connection, warm + 1, last)
            _enqueue(module, warm + 1, last, env, log)
            roles = {**servers.roles, "workers": [workers.pid]}
            before, began = cpu_seconds(roles), time.time()
            os.killpg(workers.pid, signal.SIGCONT)
            _until(lambda: _queued(connection) == 0, workers, log / "workers")
            cpu = _difference(before, cpu_seconds(roles))
            return _plain_run(connection, name, load.emails, warm, began, cpu)
        finally:
            os.killpg(workers.pid, signal.SIGCONT)
            end(workers)


def postfleet(
    servers: Servers, load: Load, name: str = "postfleet", *, measured: bool = False, dkim: Path | None = None
) -> Run:
    """The whole pipeline: relay and workers, journal, admission and outcomes. `measured`: by stage, which costs a bit.

    `dkim` is a folder with the node's key.
    """
    with psycopg.connect(servers.database_url) as connection, _logs() as log:
        mails.prepare(connection, servers.sink.port, dkim=dkim is not None)
        env = _env(servers)
        if measured:
            env |= {"POSTFLEET_JOB_MODULES": "speed.stages", "BENCH_STAGES_DIR": str(log)}
        if dkim:
            env["POSTFLEET_CREDENTIALS_DIR"] = str(dkim)
        mails.campaign(connection, "warm-up", WARM_UP)
        shape = ("--queues", QUEUES, "--threads", str(load.threads), "--processes", str(load.processes))
        relay = python("relay", env={**env, "POSTFLEET_REPLICA": "relay"}, log=log / "relay", program=POSTFLEET)
        workers = python(
            "worker", *shape, env={**env, "POSTFLEET_REPLICA": "worker"}, log=log / "workers", program=POSTFLEET
        )
        try:
            _until(lambda: _open(connection) == 0, workers, log / "workers")
            campaign = mails.campaign(connection, "bench", load.emails, held=True)
            roles = {**servers.roles, "relay": [relay.pid], "workers": [workers.pid]}
            inside = {
                "relay's": backends(connection, "postfleet relay"),
                "workers'": backends(connection, "postfleet worker"),
            }
            time.sleep(2 * stages.EVERY_SECONDS if measured else 0)  # until the last sums are written
            before, within, spent, began = cpu_seconds(roles), cpu_seconds(inside), stages.read(log), time.time()
            mails.release(connection)
            _until(lambda: _open(connection) == 0, workers, log / "workers")
            cpu, within = _difference(before, cpu_seconds(roles)), _difference(within, cpu_seconds(inside))
            time.sleep(2 * stages.EVERY_SECONDS if measured else 0)
            span, last = _row(connection, SPAN, campaign)
            run = Run(name, load.emails, 0.9 * load.emails / span, last - began, cpu)
            if measured:
                run.stages, run.note = _by_stage(run, within, spent, stages.read(log))
            return run
        finally:
            end(workers)
            end(relay)


def _by_stage(
    run: Run, within: Mapping[str, float], before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, float], str]:
    """CPU in microseconds per email by stage, and which functions were not found.

    PostgreSQL's part for the workers is split over claim, load and outcomes by how long each waited for it.
    """

    def spent(stage: str, which: int) -> float:
        return float(after["stages"][stage][which] - before["stages"].get(stage, (0.0, 0.0))[which])

    us = 1e6 / run.emails
    found = {stage: spent(stage, 0) * us for stage in stages.STAGES if stage in after["stages"]}
    rest = (after["process"] - before["process"]) * us - sum(found.values())
    asking = {stage: spent(stage, 1) for stage in ("claim", "load", "outcomes") if stage in after["stages"]}
    whole = {"relay": run.cpu["relay"] * us, **found, "runner, Dramatiq, rest": rest}
    whole["PostgreSQL for relay"] = within["relay's"] * us
    for stage, seconds in asking.items():
        whole[f"PostgreSQL for {stage}"] = within["workers'"] * us * seconds / sum(asking.values())
    whole["PostgreSQL, writer and checkpointer"] = (run.cpu["postgresql"] - sum(within.values())) * us
    whole["Valkey"] = run.cpu["valkey"] * us
    whole["SMTP server"] = run.cpu["smtp server"] * us
    missing = f"not measured: {', '.join(after['missing'])}" if after["missing"] else ""
    return whole, missing


def bookkeeping_share(by_stage: Mapping[str, float]) -> float:
    """The part of the whole CPU that goes into relay, claim, admission, journal and outcomes, their servers included."""
    kept = ("relay", *stages.BOOKKEEPING, "Valkey", *(f"PostgreSQL for {s}" for s in ("relay", "claim", "outcomes")))
    return sum(by_stage.get(part, 0.0) for part in kept) / sum(by_stage.values())


def _plain_run(
    connection: psycopg.Connection, name: str, emails: int, after: int, began: float, cpu: dict[str, float]
) -> Run:
    span, last = _row(connection, PLAIN_SPAN, after)
    return Run(name, emails, 0.9 * emails / span, last - began, cpu)


def _row(connection: psycopg.Connection, sql: str, *values: Any) -> tuple[float, float]:
    found = connection.execute(sql, values).fetchone()
    connection.commit()
    if found is None or found[0] is None:
        raise SystemExit("throughput: nothing was sent")
    return float(found[0]), float(found[1])


def _queued(connection: psycopg.Connection) -> int:
    return _count(connection, "SELECT count(*) FROM bench_mails WHERE state = 'queued'")


def _open(connection: psycopg.Connection) -> int:
    return _count(
        connection,
        "SELECT count(*) FROM (SELECT FROM jobs WHERE state = 'available' OR state = 'executing'"
        " OR state IN ('scheduled', 'retryable') LIMIT 1) open",
    )


def _count(connection: psycopg.Connection, sql: str) -> int:
    found = connection.execute(sql).fetchone()
    connection.commit()
    return int(found[0]) if found else 0


def _until(done: Callable[[], bool], process: Any, log: Path | None = None) -> None:
    deadline = time.monotonic() + STUCK_SECONDS + 60
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace")[-3000:] if log else ""
            raise SystemExit(f"throughput: {process.args} ended, or moved nothing for long\n{words}")
        time.sleep(0.1)


def _enqueue(module: str, first: int, last: int, env: dict[str, str], log: Path) -> None:
    code = f"from speed.{module} import enqueue; enqueue(range({first}, {last} + 1))"
    process = python("-c", code, env=env, log=log / "enqueue")
    process.communicate()
    if process.returncode:
        raise SystemExit(f"throughput: {module} could not enqueue\n{(log / 'enqueue').read_text()[-3000:]}")


def _env(servers: Servers) -> dict[str, str]:
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")))),
        "BENCH_DATABASE_URL": servers.database_url,
        "BENCH_REDIS_URL": servers.valkey.url(5),
        "BENCH_SMTP_PORT": str(servers.sink.port),
        "POSTFLEET_DATABASE_URL": servers.database_url,
        "POSTFLEET_REDIS_URL": servers.valkey.url(0),
        "POSTFLEET_LOG_LEVEL": "WARNING",
    }


def _difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {role: after[role] - before[role] for role in before}


def _all_say(word: str, processes: list[Any], log: Path) -> None:
    for number, process in enumerate(processes):
        _until(lambda n=number: word in (log / f"{n}").read_text(), process, log / f"{number}")


@contextmanager
def _logs() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="postfleet-bench-") as folder:
        yield Path(folder)
