"""How many emails a second, at what cost? `make bench [ARGS="--emails N --only postfleet,bare …"]`.

Everything runs on this machine in one go: PostgreSQL with its default durability, Valkey, an SMTP server in a process
of its own, and each contender in turn on as many mails. Prints a table and writes `benchmarks/results/throughput.json`.
See docs/benchmarks.md for how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from speed import contenders, fleet, keys, latency, mails
from speed.runs import Load, Run
from speed.servers import Servers, serving

RESULTS = Path(__file__).parent / "results"


def signing(servers: Servers, load: Load, kind: str) -> Run:
    """Postfleet with DKIM."""
    with tempfile.TemporaryDirectory(prefix="postfleet-bench-") as folder:
        keys.write(Path(folder), mails.NODE, kind)
        return fleet.postfleet(servers, load, f"postfleet, DKIM {kind}", dkim=Path(folder))


RUNS: dict[str, Callable[[Servers, Load], Run]] = {
    "bare": lambda servers, load: contenders.loop(servers, load, 1),
    "bare-50": lambda servers, load: contenders.loop(servers, load, contenders.AT_A_TIME),
    "postfleet": fleet.postfleet,
    "stages": lambda servers, load: fleet.postfleet(servers, load, "postfleet, by stage", measured=True),
    "ed25519": lambda servers, load: signing(servers, load, "ed25519"),
    "rsa-2048": lambda servers, load: signing(servers, load, "rsa-2048"),
    "dramatiq": lambda servers, load: contenders.peer(
        servers, load, "dramatiq", "on_dramatiq",
        ("dramatiq", "speed.on_dramatiq", "-p", str(load.processes), "-t", str(load.threads)),
    ),
    "celery": lambda servers, load: contenders.peer(
        servers, load, "celery", "on_celery",
        (
            "celery", "-A", "speed.on_celery", "worker", "-c", str(2 * load.processes), "-l", "WARNING",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ),
    ),
    "taskiq": lambda servers, load: contenders.peer(
        servers, load, "taskiq", "on_taskiq",
        (
            "taskiq", "worker", "speed.on_taskiq:broker", "--workers", str(load.processes),
            "--max-threadpool-threads", str(load.threads), "--log-level", "WARNING",
        ),
    ),
}  # fmt: skip
LATENCIES = ("priority", "million")


def table(runs: Mapping[str, Run]) -> Table:
    """The contenders side by side."""
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", "emails/s", "of the bare loop", "of 50 at a time", "CPU us/email", "CPU s per 1,000 emails"):
        grid.add_column(heading, justify="left" if heading in {"", "CPU s per 1,000 emails"} else "right")
    for run in runs.values():
        cells = [
            f"{run.per_second / runs[base].per_second:.0%}" if base in runs else "-" for base in ("bare", "bare-50")
        ]
        cost = ", ".join(f"{role} {seconds / run.emails * 1000:.3f}" for role, seconds in run.cpu.items())
        grid.add_row(run.name, f"{run.per_second:,.0f}", *cells, f"{run.cpu_us:,.0f}", cost)
    return grid


def stage_table(run: Run) -> Table:
    """What a mail costs, stage by stage."""
    whole = sum(run.stages.values())
    grid = Table(box=None, header_style="bold", pad_edge=False)
    grid.add_column("stage")
    grid.add_column("CPU us/email", justify="right")
    grid.add_column("share", justify="right")
    for stage, us in run.stages.items():
        grid.add_row(stage, f"{us:,.1f}", f"{us / whole:.1%}")
    return grid


def report(runs: Mapping[str, Run], load: Load, smtp: str) -> dict[str, Any]:
    """What goes into the results' file."""
    found: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "smtp_server": smtp,
        "emails": load.emails,
        "processes": load.processes,
        "threads": load.threads,
        "runs": {name: run.as_json() for name, run in runs.items()},
    }
    if "stages" in runs:
        found["bookkeeping_share"] = round(fleet.bookkeeping_share(runs["stages"].stages), 3)
    return found


def latencies(servers: Servers, load: Load, chosen: Collection[str], console: Console) -> dict[str, Any]:
    """The runs that are about time and memory, not speed."""
    found: dict[str, Any] = {}
    if "priority" in chosen:
        urgent = latency.urgent(servers, load)
        found["priority"] = asdict(urgent)
        console.print(
            f"{urgent.mails} transactional mails beside a campaign of {latency.CAMPAIGN:,} ({urgent.beside:,} left at"
            f" the end): median {urgent.median_seconds:.3f} s, p99 {urgent.p99_seconds:.3f} s"
        )
    if "million" in chosen:
        found["million"] = []
        for queued in latency.BACKLOGS:
            backlog = latency.backlog(servers, load, queued)
            found["million"].append(asdict(backlog))
            console.print(
                f"{queued:,} mails queued: {backlog.rounds} rounds of the relay, {backlog.round_ms:.1f} ms each,"
                f" {backlog.rss_mib:.0f} MiB"
            )
    return found


def main() -> None:
    """The command line."""
    names = (*RUNS, *LATENCIES)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--emails", type=int, default=20_000, metavar="N")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="worker processes of each contender")
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="threads of each process")
    parser.add_argument("--only", default="", metavar="A,B", help=f"some of: {', '.join(names)}")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception: what was started is ended
    chosen = [name for name in options.only.split(",") if name] or list(RUNS)
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"--only: no {', '.join(unknown)}; there are {', '.join(names)}")
    load = Load(options.emails, options.processes, options.threads)
    console = Console(width=max(160, Console().width))
    runs: dict[str, Run] = {}
    with serving() as servers:
        console.print(f"{load.emails:,} emails, {load.processes} processes x {load.threads} threads, to {servers.smtp}")
        for name in chosen:
            if name in RUNS:
                runs[name] = RUNS[name](servers, load)
                console.print(f"  {runs[name].name}: {runs[name].per_second:,.0f} emails/s")
        results = report(runs, load, servers.smtp) | latencies(servers, load, chosen, console)
    if runs:
        console.print(table(runs))
    if "stages" in runs:
        console.print(stage_table(runs["stages"]))
        console.print(f"bookkeeping: {results['bookkeeping_share']:.0%} of the whole {runs['stages'].note}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "throughput.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
