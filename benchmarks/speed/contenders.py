"""The bare loops, and other queues that do the same work. Each gives a `Run`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import psycopg

from speed import mails
from speed.runs import Load, Run, count, difference, environment, logs, row, until
from speed.servers import Servers, cpu_seconds, end, python

WARM_UP = 1000
AT_A_TIME = 50

PLAIN_SPAN = """
SELECT extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY done_at)
                        - percentile_disc(0.05) WITHIN GROUP (ORDER BY done_at)),
       extract(epoch FROM max(done_at)) FROM bench_mails WHERE id > %s
"""


def loop(servers: Servers, load: Load, at_a_time: int) -> Run:
    """The bare loop: as many rows for each thread; 1 or 50 at a time."""
    name = "bare loop, one by one" if at_a_time == 1 else f"bare loop, {at_a_time} at a time, pipelined"
    with psycopg.connect(servers.database_url) as connection, logs() as log:
        mails.fill_plain(connection, 1, load.emails)
        each = -(-load.emails // load.processes)
        shares = [(first, min(first + each - 1, load.emails)) for first in range(1, load.emails + 1, each)]
        processes = [
            python(
                "-m",
                "speed.loop",
                *map(str, (load.threads, *share, at_a_time)),
                env=environment(servers),
                log=log / f"{n}",
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
            cpu = difference(before, cpu_seconds(roles))
            return _plain_run(connection, name, load.emails, 0, began, cpu)
        finally:
            for process in processes:
                end(process)


def peer(servers: Servers, load: Load, name: str, module: str, command: tuple[str, ...]) -> Run:
    """Another queue: its workers are stopped while the messages are pushed, then let go."""
    env = environment(servers)
    with psycopg.connect(servers.database_url) as connection, logs() as log:
        warm = WARM_UP
        mails.fill_plain(connection, 1, warm)
        workers = python("-m", *command, env=env, log=log / "workers")
        try:
            _enqueue(module, 1, warm, env, log)
            until(lambda: _queued(connection) == 0, workers, log / "workers")
            os.killpg(workers.pid, signal.SIGSTOP)
            last = warm + load.emails
            mails.fill_plain(connection, warm + 1, last)
            _enqueue(module, warm + 1, last, env, log)
            roles = {**servers.roles, "workers": [workers.pid]}
            before, began = cpu_seconds(roles), time.time()
            os.killpg(workers.pid, signal.SIGCONT)
            until(lambda: _queued(connection) == 0, workers, log / "workers")
            cpu = difference(before, cpu_seconds(roles))
            return _plain_run(connection, name, load.emails, warm, began, cpu)
        finally:
            os.killpg(workers.pid, signal.SIGCONT)
            end(workers)


def _plain_run(
    connection: psycopg.Connection, name: str, emails: int, after: int, began: float, cpu: dict[str, float]
) -> Run:
    span, last = row(connection, PLAIN_SPAN, after)
    return Run(name, emails, 0.9 * emails / span, last - began, cpu)


def _queued(connection: psycopg.Connection) -> int:
    return count(connection, "SELECT count(*) FROM bench_mails WHERE state = 'queued'")


def _enqueue(module: str, first: int, last: int, env: dict[str, str], log: Path) -> None:
    code = f"from speed.{module} import enqueue; enqueue(range({first}, {last} + 1))"
    process = python("-c", code, env=env, log=log / "enqueue")
    process.communicate()
    if process.returncode:
        raise SystemExit(f"throughput: {module} could not enqueue\n{(log / 'enqueue').read_text()[-3000:]}")


def _all_say(word: str, processes: list[Any], log: Path) -> None:
    for number, process in enumerate(processes):
        until(lambda n=number: word in (log / f"{n}").read_text(), process, log / f"{number}")
