"""A campaign through everything that can break: `python benchmarks/chaos.py [--emails N] [--seed N] [--json]`.

The server puts off 10 % of the recipients and refuses 2 % for good. While the campaign runs, workers are killed with
SIGKILL, Redis and PostgreSQL are killed and started again, and the SMTP server is away for 20 seconds. At the end what
the server accepted is held against the ledger. The exit code is 1 when a mail was lost or sent twice, or an unknown one
is not listed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from rich.console import Console

from postfleet_local import demo, tally
from postfleet_local.diary import keep_diary
from postfleet_local.fleet import Fleet, Options
from postfleet_local.gauge import Gauge
from postfleet_local.home import Home
from postfleet_local.live import Plain
from postfleet_local.replica import child_environment
from postfleet_local.routing import Endpoint
from postfleet_local.sink import Manners
from postfleet_local.stack import Sink
from postfleet_operator.stores import database
from postfleet_workers.settings import Settings

POOL = """
apiVersion: postfleet.io/v1alpha1
kind: JobPool
metadata: {name: email}
spec:
  queues: [priority-high, campaign-standard, warmup, retry]
  worker: {threads: 4, shutdownTimeoutSeconds: 30}
  mode: Manual
  replicas: 3
"""
NODE = """
apiVersion: postfleet.io/v1alpha1
kind: SendingNode
metadata: {name: acme-1}
spec:
  smtp: {host: 127.0.0.1, tls: None}
  identity: {domain: acme.example}
  limits: {maxConnections: 100, messagesPerConnection: 1000}
"""
DEFER, BOUNCE = 0.10, 0.02
DELAY_SECONDS = (0.02, 0.1)
OUTAGE_SECONDS = 20.0
THREADS = 4  # of a worker
# As many mails may be unknown when it is killed.
SESSIONS = THREADS * Settings.model_fields["smtp_sessions_per_thread"].default
STUCK_SECONDS = 240.0
# Impatient: deferred mail comes back in seconds, what a dead worker held in a quarter of a minute.
SETTINGS = {
    "POSTFLEET_DEFERRAL_BASE_SECONDS": "5",
    "POSTFLEET_LEASE_SECONDS": "15",
    "POSTFLEET_SESSION_LEASE_SECONDS": "10",
}


@dataclass
class Chaos:
    """What is done to the fleet, in the order of the campaign's progress (final mails of all)."""

    fleet: Fleet
    sink: Sink
    chance: random.Random
    emails: int
    console: Console
    kills: int = 0
    began: float = field(default_factory=time.monotonic)

    def plan(self) -> list[tuple[float, str, Callable[[], None]]]:
        """Share of the campaign at which each blow falls."""
        workers = [(share, "kill -9 of a worker", self._kill_worker) for share in (0.1, 0.25, 0.45, 0.7, 0.85)]
        others: list[tuple[float, str, Callable[[], None]]] = [
            (0.2, "kill -9 of Redis", self.fleet.valkey.kill),
            (0.4, "kill -9 of PostgreSQL", self.fleet.postgres.kill),
            (0.6, f"the SMTP server away for {OUTAGE_SECONDS:.0f} s", self._outage),
        ]
        return sorted(workers + others, key=lambda blow: blow[0])

    def strike(self, final: int, blows: list[tuple[float, str, Callable[[], None]]]) -> None:
        """Let fall what is due at so many final mails."""
        while blows and final >= blows[0][0] * self.emails:
            _, name, blow = blows.pop(0)
            self.console.print(f"{time.monotonic() - self.began:6.1f} s  {final:6,} final  {name}")
            blow()

    def _kill_worker(self) -> None:
        status = self.fleet.processes.status("email")
        pids = sorted(status.pids.values()) if status else []
        if pids:
            with suppress(ProcessLookupError):
                os.killpg(self.chance.choice(pids), signal.SIGKILL)
                self.kills += 1

    def _outage(self) -> None:
        self.sink.signal(signal.SIGTERM)
        time.sleep(OUTAGE_SECONDS)  # the blow itself
        self.sink.start()


@contextmanager
def server(directory: Path) -> Iterator[Sink]:
    """The SMTP server, outside the fleet, which would start it again at once."""
    sink = Sink(directory / "server", delay_seconds=DELAY_SECONDS, defer=DEFER, bounce=BOUNCE)
    sink.start()
    try:
        yield sink
    finally:
        sink.stop()


def watch(gauge: Gauge, chaos: Chaos, emails: int) -> float:
    """Strike and wait until every mail is final; the seconds it took."""
    blows = chaos.plan()
    final, moved_at, counts = -1, time.monotonic(), None
    while True:
        with suppress(psycopg.OperationalError):
            counts = gauge.counts()
            if counts.final != final:
                final, moved_at = counts.final, time.monotonic()
            chaos.strike(final, blows)
            if final >= emails:
                return time.monotonic() - chaos.began
        if time.monotonic() - moved_at > STUCK_SECONDS:
            chaos.console.print(f"no mail has moved for {STUCK_SECONDS:.0f} s: {counts}")
            return time.monotonic() - chaos.began
        time.sleep(0.5)


def listed(fleet: Fleet) -> int:
    """How many mails `postfleet emails list --status unknown` tells of."""
    command = ["postfleet", "emails", "list", "--status", "unknown", "--limit", "10000", "--output", "json"]
    environment = child_environment(fleet.variables)
    done = subprocess.run(  # noqa: S603
        command,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        executable=str(Path(sys.executable).with_name("postfleet")),
    )
    return len(json.loads(done.stdout))


def judge(fleet: Fleet, gauge: Gauge, sink: Sink, emails: int) -> dict[str, int]:
    """The server's count held against the ledger."""
    ledger = gauge.ledger()
    accepted = tally.copies(tally.read(sink.mails))
    manners = Manners(defer_fraction=DEFER, bounce_fraction=BOUNCE)
    bounced = {m for m, status in ledger.statuses.items() if status == "bounced"}
    gone = {m for m, recipient in ledger.recipients.items() if manners.bounces(recipient)}
    verdict = tally.judge(ledger.statuses, accepted)
    return {
        "emails": verdict.emails,
        "delivered": verdict.delivered,
        "bounced": len(bounced & gone),
        "lost": emails - verdict.emails + verdict.lost - len(bounced & gone),
        "duplicated": verdict.duplicated,
        "unknown": verdict.unknown,
        "listed": listed(fleet),
        "bounced_in_error": len(bounced - gone),
    }


def run(emails: int, seed: int, console: Console) -> dict[str, float]:
    """One campaign; the result."""
    with tempfile.TemporaryDirectory(prefix="postfleet-chaos-") as folder, server(Path(folder)) as sink:
        manifests = Path(folder) / "manifests"
        manifests.mkdir()
        (manifests / "pool.yaml").write_text(POOL)
        (manifests / "node.yaml").write_text(NODE)
        options = Options(sources=(manifests,), smtp=Endpoint("127.0.0.1", sink.port), settings=SETTINGS)
        display = Plain(console)
        with (
            keep_diary(Path(folder) / "fleet.log"),
            Home(Path(folder) / "fleet") as home,
            Fleet(home, options, console.print) as fleet,
        ):
            gauge = Gauge(database(fleet.database_url))
            joined = demo.import_contacts(fleet, emails, display)
            demo.start_campaign(fleet, display)
            chaos = Chaos(fleet, sink, random.Random(seed), joined, console)  # noqa: S311
            seconds = watch(gauge, chaos, joined)
            result: dict[str, float] = dict(judge(fleet, gauge, sink, joined))
            gauge.close()
    return result | {"kills": chaos.kills, "unknown_bound": chaos.kills * SESSIONS, "seconds": round(seconds, 1)}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--emails", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False)
    result = run(options.emails, options.seed, console)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, value in result.items():
            sys.stdout.write(f"{name:18} {value:>10,}\n")
    good = not (result["lost"] or result["duplicated"] or result["bounced_in_error"])
    return 0 if good and result["listed"] == result["unknown"] <= result["unknown_bound"] else 1


if __name__ == "__main__":
    sys.exit(main())
