"""Do limits hold where they are felt? `python benchmarks/limits.py [--seconds N] [--workers N] [--json]`.

Eight worker processes send to four sites through three nodes, each node×site with a limit of its own, each node with
one over all. The servers write down when each mail arrived. No window of 60 s may hold more than a limit; over the
whole time the tightest limits should be used by more than 95 %. The exit code is 1 when either is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml
from rich.console import Console

from postfleet_local import tally
from postfleet_local.diary import keep_diary
from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import Home
from postfleet_local.stack import Sink

WINDOW_SECONDS = 60.0
# Mails a minute, by site; the site's well-known domain needs no DNS.
SITES = {
    "gmail": ("gmail.com", 300),
    "outlook": ("outlook.com", 200),
    "yahoo": ("yahoo.com", 120),
    "gmx": ("gmx.de", 60),
}
# Mails a minute of the whole node: of the last one it binds before its sites do.
NODES = {"node-1": None, "node-2": 600, "node-3": 400}
WARM_UP_SECONDS = 5.0
LEAST_USE = 0.95

FILL = """
WITH made AS (
    SELECT n, nextval(pg_get_serial_sequence('jobs', 'id')) AS id FROM generate_series(1, %(mails)s) n
), mails AS (
    INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, content)
    SELECT id, 'acme', 'campaign', %(node)s, 'r' || n || '@' || %(domain)s, '<' || id || '@acme.example>',
           '{"subject": "Hi", "text": "Hello", "vars": {}}' FROM made)
INSERT INTO jobs (id, type, queue, tenant, route)
SELECT id, 'email.send', 'campaign-standard', 'acme', %(node)s || '/' || %(site)s FROM made
"""


@dataclass(frozen=True, slots=True)
class Use:
    """How far one limit was used: `worst` is the fullest window, `used` the share of all that it let through."""

    limit: str
    per_minute: int
    arrived: int
    worst: int
    used: float
    binds: bool

    @property
    def good(self) -> bool:
        """Never above it; close to it where it is the one that binds."""
        return self.worst <= self.per_minute and (self.used >= LEAST_USE or not self.binds)


def worst_window(times: Sequence[float], seconds: float = WINDOW_SECONDS) -> int:
    """The most arrivals in any window of so many seconds, open at its end; `times` ascend."""
    worst = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - seconds:
            first += 1
        worst = max(worst, last - first + 1)
    return worst


def use(limit: str, per_minute: int, times: Sequence[float], begun: float, ended: float, *, binds: bool) -> Use:
    """Judge one limit by the arrivals that count against it."""
    inside = [at for at in times if begun <= at <= ended]
    possible = per_minute * (ended - begun) / WINDOW_SECONDS
    return Use(limit, per_minute, len(times), worst_window(times), len(inside) / possible, binds)


def manifests(sinks: dict[str, Sink], workers: int) -> str:
    """A pool of `workers` processes and the nodes, each with a server of its own."""
    pool = {
        "apiVersion": "postfleet.io/v1alpha1", "kind": "JobPool", "metadata": {"name": "email"},
        "spec": {
            "queues": ["priority-high", "campaign-standard", "warmup", "retry"], "mode": "Manual", "replicas": workers,
            "worker": {"threads": 8, "shutdownTimeoutSeconds": 10},
        },
    }  # fmt: skip
    nodes = [
        {
            "apiVersion": "postfleet.io/v1alpha1", "kind": "SendingNode", "metadata": {"name": name},
            "spec": {
                "smtp": {"host": "127.0.0.1", "port": sinks[name].port, "tls": "None"},
                "identity": {"domain": "acme.example"},
                "limits": {
                    **({"perMinute": per_minute} if per_minute else {}),
                    "maxConnections": 40,
                    "sites": [{"name": site, "perMinute": rate} for site, (_, rate) in SITES.items()],
                },
            },
        }
        for name, per_minute in NODES.items()
    ]  # fmt: skip
    return yaml.safe_dump_all([pool, *nodes])


def fill(fleet: Fleet, seconds: float) -> None:
    """Twice as much mail as the limits let through, for every node and site."""
    with psycopg.connect(fleet.database_url) as connection:
        connection.execute("INSERT INTO tenants (name) VALUES ('acme') ON CONFLICT DO NOTHING")
        for node in NODES:
            for site, (domain, rate) in SITES.items():
                mails = int(2 * rate * (seconds + 60) / 60)
                connection.execute(FILL, {"mails": mails, "node": node, "domain": domain, "site": site})


def judge(sinks: dict[str, Sink], begun: float, ended: float) -> list[Use]:
    """Every limit against its server's log."""
    uses = []
    for node, per_minute in NODES.items():
        mails = tally.read(sinks[node].mails)
        whole = sum(rate for _, rate in SITES.values())
        node_binds = per_minute is not None and per_minute < whole
        for site, (domain, rate) in SITES.items():
            times = sorted(mail.at for mail in mails if mail.recipient.endswith(f"@{domain}"))
            uses.append(use(f"{node} {site}", rate, times, begun, ended, binds=not node_binds))
        if per_minute is not None:
            times = sorted(mail.at for mail in mails)
            uses.append(use(node, per_minute, times, begun, ended, binds=node_binds))
    return uses


def run(seconds: float, workers: int, console: Console) -> list[Use]:
    """Send for so long; how the limits were used."""
    with tempfile.TemporaryDirectory(prefix="postfleet-limits-") as folder, ExitStack() as exits:
        directory = Path(folder)
        sinks = {name: Sink(directory / name, delay_seconds=(0.02, 0.1)) for name in NODES}
        for sink in sinks.values():
            exits.callback(sink.stop)
            sink.start()
        file = directory / "manifests.yaml"
        file.write_text(manifests(sinks, workers))
        exits.enter_context(keep_diary(directory / "fleet.log"))
        home = exits.enter_context(Home(directory / "fleet"))
        fleet = exits.enter_context(Fleet(home, Options(sources=(file,)), console.print))
        fill(fleet, seconds)
        fleet.processes.wait(lambda: _ready(fleet) >= workers, 120.0)
        begun = time.time() + WARM_UP_SECONDS
        console.print(f"{_ready(fleet)} workers send for {seconds:.0f} s")
        time.sleep(WARM_UP_SECONDS + seconds)  # the measured time itself
        return judge(sinks, begun, time.time())


def _ready(fleet: Fleet) -> int:
    status = fleet.processes.status("email")
    return status.ready if status else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each limit")
    options = parser.parse_args()
    uses = run(options.seconds, options.workers, Console(stderr=True, highlight=False))
    if not options.json:
        sys.stdout.write(f"{'limit':18}{'a minute':>10}{'arrived':>10}{'worst 60 s':>12}{'used':>9}\n")
    for one in uses:
        if options.json:
            row = {"limit": one.limit, "per_minute": one.per_minute, "worst": one.worst, "used": round(one.used, 4)}
            sys.stdout.write(json.dumps(row | {"good": one.good}) + "\n")
        else:
            note = "" if one.good else "  MISSED"
            used = f"{one.used:8.1%}" + ("" if one.binds else "*")
            sys.stdout.write(f"{one.limit:18}{one.per_minute:>10,}{one.arrived:>10,}{one.worst:>12,}{used:>9}{note}\n")
    if not options.json:
        sys.stdout.write("* another limit of the node binds first\n")
    return 0 if all(one.good for one in uses) else 1


if __name__ == "__main__":
    sys.exit(main())
