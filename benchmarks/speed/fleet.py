"""Postfleet itself: its own relay and worker processes, and what the whole pipeline comes to."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import psycopg

from speed import mails, stages
from speed.runs import Load, Run, count, difference, environment, logs, row, until
from speed.servers import Servers, backends, cpu_seconds, end, python

QUEUES = "priority-high,campaign-standard,warmup,retry"
WARM_UP = 3000
POSTFLEET = str(Path(sys.executable).with_name("postfleet"))

SPAN = """
SELECT extract(epoch FROM percentile_disc(0.95) WITHIN GROUP (ORDER BY finished_at)
                        - percentile_disc(0.05) WITHIN GROUP (ORDER BY finished_at)),
       extract(epoch FROM max(finished_at)) FROM emails WHERE campaign_id = %s
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Running processes, on a connection to their database; `log` is the folder of what they say."""

    relay: Popen[bytes]
    workers: Popen[bytes]
    connection: psycopg.Connection
    log: Path

    def until_all_are_sent(self) -> None:
        """Return once no mail waits or runs."""
        until(lambda: not still_open(self.connection), self.workers, self.log / "workers")


@contextmanager
def running(
    servers: Servers,
    load: Load,
    env: Mapping[str, str] | None = None,
    *,
    dkim: Path | None = None,
    relay_port: int = 0,
) -> Iterator[Fleet]:
    """A relay and workers that have warmed up.

    Args:
        servers: what they work with.
        load: how many processes and threads.
        env: more settings.
        dkim: a folder with the node's key.
        relay_port: where the relay shows its metrics.
    """
    with psycopg.connect(servers.database_url) as connection, logs() as log:
        mails.prepare(connection, servers.sink.port, dkim=dkim is not None)
        variables = environment(servers) | {"BENCH_STAGES_DIR": str(log)} | dict(env or {})
        if dkim:
            variables["POSTFLEET_CREDENTIALS_DIR"] = str(dkim)
        mails.campaign(connection, "warm-up", WARM_UP)
        shape = ("--queues", QUEUES, "--threads", str(load.threads), "--processes", str(load.processes))
        relay_env = {**variables, "POSTFLEET_REPLICA": "relay", "POSTFLEET_HEALTH_PORT": str(relay_port)}
        relay = python("relay", env=relay_env, log=log / "relay", program=POSTFLEET)
        worker_env = {**variables, "POSTFLEET_REPLICA": "worker"}
        workers = python("worker", *shape, env=worker_env, log=log / "workers", program=POSTFLEET)
        try:
            fleet = Fleet(relay, workers, connection, log)
            fleet.until_all_are_sent()
            yield fleet
        finally:
            end(workers)
            end(relay)


def postfleet(
    servers: Servers, load: Load, name: str = "postfleet", *, measured: bool = False, dkim: Path | None = None
) -> Run:
    """The whole pipeline: relay and workers, journal, admission, outcomes. `measured`: by stage, which costs a bit."""
    env = {"POSTFLEET_JOB_MODULES": "speed.stages"} if measured else {}
    with running(servers, load, env, dkim=dkim) as fleet:
        connection, log = fleet.connection, fleet.log
        campaign = mails.campaign(connection, "bench", load.emails, held=True)
        roles = {**servers.roles, "relay": [fleet.relay.pid], "workers": [fleet.workers.pid]}
        inside = {role: backends(connection, role) for role in ("relay", "worker")}
        pause = 2 * stages.EVERY_SECONDS if measured else 0.0  # until the last sums are written
        time.sleep(pause)
        before, within, spent, began = cpu_seconds(roles), cpu_seconds(inside), stages.read(log), time.time()
        mails.release(connection)
        fleet.until_all_are_sent()
        cpu, within = difference(before, cpu_seconds(roles)), difference(within, cpu_seconds(inside))
        time.sleep(pause)
        span, last = row(connection, SPAN, campaign)
        run = Run(name, load.emails, 0.9 * load.emails / span, last - began, cpu)
        if measured:
            run.stages, run.note = _by_stage(run, within, spent, stages.read(log))
        return run


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
    whole["PostgreSQL for relay"] = within["relay"] * us
    for stage, seconds in asking.items():
        whole[f"PostgreSQL for {stage}"] = within["worker"] * us * seconds / sum(asking.values())
    whole["PostgreSQL, writer and checkpointer"] = (run.cpu["postgresql"] - sum(within.values())) * us
    whole["Valkey"] = run.cpu["valkey"] * us
    whole["SMTP server"] = run.cpu["smtp server"] * us
    missing = f"not measured: {', '.join(after['missing'])}" if after["missing"] else ""
    return whole, missing


def bookkeeping_share(by_stage: Mapping[str, float]) -> float:
    """The part of all CPU that goes into relay, claim, admission, journal and outcomes, their servers included."""
    kept = ("relay", *stages.BOOKKEEPING, "Valkey", *(f"PostgreSQL for {s}" for s in ("relay", "claim", "outcomes")))
    return sum(by_stage.get(part, 0.0) for part in kept) / sum(by_stage.values())


def still_open(connection: psycopg.Connection) -> bool:
    """Whether a mail waits or runs."""
    states = ("available", "executing", "scheduled", "retryable")  # asked for one by one: each has its index
    asked = " OR ".join(f"EXISTS (SELECT FROM jobs WHERE state = '{state}')" for state in states)
    return bool(count(connection, f"SELECT (SELECT {asked})::int"))
