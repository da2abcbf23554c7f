"""The end of a demo: what was counted at the server, held against the ledger, as one `Run`."""

from __future__ import annotations

import os
import platform

from postfleet_local import tally
from postfleet_local.fleet import Fleet
from postfleet_local.gauge import Gauge
from postfleet_local.observing import Observations, least
from postfleet_local.timeline import Run, Summary

SHOWN = 20


def judged(fleet: Fleet, gauge: Gauge, observations: Observations, expected: int) -> Run:
    """Judge the run; `expected` mails should be in the ledger.

    The sink's log is the witness. A server of the user's has none, so there the ledger's accepted attempts are.
    """
    ledger = gauge.ledger()
    first_due, last_sent = gauge.span()
    if fleet.sink is not None:
        mails = tally.read(fleet.sink.mails)
        accepted = tally.copies(mails)
        last_sent = max((mail.at for mail in mails), default=last_sent)
        witness = "counted at the sink, which takes {:.0f} to {:.0f} ms for a mail".format(
            *(1000 * delay for delay in fleet.options.sink_delay_seconds)
        )
    else:
        accepted = gauge.copies()
        witness = f"delivered to {fleet.server}, counted in the ledger"
    verdict = tally.judge(ledger.statuses, accepted)
    missing = max(0, expected - verdict.emails)
    waits, urgent = gauge.waits()
    end = [fleet.cluster.observe(workers) for workers in fleet.worker_sets()]
    summary = Summary(
        emails=verdict.emails + missing,
        delivered=verdict.delivered,
        lost=verdict.lost + missing,
        duplicated=verdict.duplicated,
        unknown=verdict.unknown,
        seconds=max(0.0, last_sent - first_due),
        waits=waits,
        priority_waits=urgent,
        replicas_peak=observations.peak,
        replicas_end=sum(workload.present for workload in end),
        replicas_start=sum(least(workers.pool) for workers in fleet.worker_sets()),
        refused=verdict.refused,
        waiting=verdict.waiting,
    )
    return Run(
        summary=summary,
        samples=tuple(observations.samples),
        seconds=gauge.seconds(observations.begun_at),
        changes=observations.changes(),
        facts=(
            ("Witness", witness),
            ("Pools", ", ".join(f"{pool.name} ({', '.join(pool.spec.queues)})" for pool in fleet.pools())),
            (
                "Machine",
                f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}",
            ),
            ("Folder", str(fleet.home.directory)),
        ),
        bad=complaints(ledger.statuses, ledger.recipients, accepted, missing),
        server="" if fleet.sink is not None else str(fleet.server),
    )


def complaints(
    statuses: dict[str, str], recipients: dict[str, str], accepted: dict[str, int], missing: int
) -> tuple[str, ...]:
    """The first mails that were lost, sent twice, refused or put off, a line each, in this order. Pure."""
    refused, waiting = [], []
    lines = [f"{missing:,} mails never came into the ledger"] if missing else []
    for mail, status in statuses.items():
        count = accepted.get(mail, 0)
        if count > 1:
            lines.append(f"sent {count} times: {recipients[mail]} <{mail}>, {status} in the ledger")
        elif count == 0 and status == tally.REFUSED:
            refused.append(f"refused by the server: {recipients[mail]} <{mail}>")
        elif count == 0 and status == tally.WAITING:
            waiting.append(f"put off by the server, still waiting: {recipients[mail]} <{mail}>")
        elif count == 0 and status != "unknown":
            lines.append(f"lost: {recipients[mail]} <{mail}>, {status} in the ledger")
    lines += refused + waiting
    more = len(lines) - SHOWN
    return tuple(lines[:SHOWN]) + ((f"and {more:,} more",) if more > 0 else ())
