"""One worker process, from its first heartbeat to its last: the lease, Dramatiq's threads, a graceful end."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from postfleet_workers import clock, epoch
from postfleet_workers.app import App
from postfleet_workers.journal import Journal
from postfleet_workers.leases import Identity
from postfleet_workers.metrics.worker import WorkerMetrics
from postfleet_workers.worker import broker as brokers
from postfleet_workers.worker.lanes import Lanes, LaneWorker
from postfleet_workers.worker.lease import Lease
from postfleet_workers.worker.load import LoadMeter
from postfleet_workers.worker.pace import Paces
from postfleet_workers.worker.runner import Runner
from postfleet_workers.worker.shares import Shares, parse_weights, reserved_threads

log = structlog.get_logger(__name__)

POLL_MS = 100  # how long an idle consumer waits before it looks again
WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a worker process serves."""

    queues: tuple[str, ...]
    threads: int
    shutdown_timeout_seconds: float


def serve(app: App, shape: Shape, on_ready: Callable[[], None]) -> int:
    """Serve until SIGTERM; the exit code.

    A second SIGTERM ends the process at once: its lease lapses and the relay rescues what it held.
    """
    stop = threading.Event()

    def end(number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(1)
        log.info("stopping", signal=signal.Signals(number).name)
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    worker, runner, lease = assemble(app, shape)
    lease.start()
    gc.collect()
    gc.freeze()  # what was imported stays: looking through it again for garbage costs mail a few percent
    worker.start()
    on_ready()
    log.info("worker_ready", worker=lease.who.id, queues=list(shape.queues), threads=shape.threads)
    while not stop.wait(WATCH_SECONDS):
        if dead := dead_consumers(worker):
            log.error("consumer_died", queues=dead)
            break
        if not lease.alive():
            log.error("lease_thread_died")
            break
    shut_down(worker, runner, lease, shape.shutdown_timeout_seconds)
    return 0 if stop.is_set() else 1


def dead_consumers(worker: LaneWorker) -> list[str]:
    """Queues that nobody fetches any more: Dramatiq's consumer threads can die of an error while the process lives."""
    return [queue for queue, consumer in worker.consumers.items() if not consumer.is_alive()]


def assemble(app: App, shape: Shape) -> tuple[LaneWorker, Runner, Lease]:
    """Build a process' parts; nothing runs yet."""
    settings = app.settings
    who = Identity(
        id=f"{app.replica}-{uuid4()}",
        replica=app.replica,
        pool=settings.pool,
        node=settings.node,
        queues=shape.queues,
        threads=shape.threads,
    )
    database_clock = clock.DatabaseClock()
    meter = LoadMeter()
    metrics = WorkerMetrics(CollectorRegistry())  # shown by the parent, see `metrics.shared`

    def renewed(sent: float) -> None:
        metrics.beat(sent, shape.threads, meter.read().busy)

    lease = Lease(app.lease_engine, who, settings.lease_seconds, database_clock, meter.read, renewed)
    runner = Runner(
        engine=app.engine,
        lease=lease,
        journal=Journal(app.client),
        epoch=lambda: epoch.current(app.client),
        registry=app.registry,
        meter=meter,
        metrics=metrics,
        paces=Paces(app.client),
        database_clock=database_clock,
        target_seconds=settings.bundle_target_seconds,
        backoff_base_seconds=settings.backoff_base_seconds,
    )
    broker = brokers.make(app.raw_client, who.id, shape.queues, runner.run)
    shares = Shares(shape.queues, parse_weights(settings.queue_weights), settings.node)
    worker = LaneWorker(
        broker,
        queues=list(shape.queues),
        threads=shape.threads,
        poll_ms=POLL_MS,
        reserved=reserved_threads(shape.threads, settings.reserved_fraction, len(shape.queues)),
        lanes=Lanes(shares),
    )
    return worker, runner, lease


def shut_down(worker: LaneWorker, runner: Runner, lease: Lease, timeout_seconds: float) -> None:
    """Finish running jobs, return the rest, say goodbye."""
    runner.stopping.set()
    try:
        worker.stop(timeout=int(timeout_seconds * 1000))
    except Exception:
        log.exception("dramatiq_did_not_stop")
    runner.give_up()
    lease.stop()
    log.info("stopped", worker=lease.who.id)
