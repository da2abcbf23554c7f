"""`postfleet worker`: a parent that starts the worker processes, passes signals on and answers probes and Prometheus.

The parent holds no connection and does no work. What its processes count it shows as one. It is ready once every
process has written its first heartbeat; a process that ends by itself ends the replica, so that Kubernetes (or the
local fleet) starts a fresh one.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from multiprocessing.synchronize import Event

import structlog

from postfleet_workers.health import Health
from postfleet_workers.metrics.shared import SharedMetrics
from postfleet_workers.settings import Settings

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5


def supervise(settings: Settings, processes: int, serve: Callable[[Callable[[], None]], int]) -> int:
    """Run `serve(on_ready)` in `processes` children until SIGTERM or until one of them ends.

    Children are forked before any connection, lock or thread exists. They get SIGTERM with the parent, and SIGKILL
    from the kernel if the parent is killed.
    """
    context = multiprocessing.get_context("fork")
    ready = [context.Event() for _ in range(processes)]
    metrics = SharedMetrics()
    children = [
        context.Process(target=_child, args=(serve, event, metrics), name=f"worker-{n}")
        for n, event in enumerate(ready)
    ]
    for child in children:
        child.start()
    stopping = threading.Event()

    def end(_number: int, _frame: object) -> None:
        stopping.set()
        _signal(children, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    health = Health(
        settings.health_host,
        settings.health_port,
        live=lambda: None if stopping.is_set() else _ended(children),
        ready=lambda: "stopping" if stopping.is_set() else _ended(children) or _unready(ready),
        registry=metrics.registry,
    )
    health.start()
    log.info("health", port=health.port)
    left = _wait(children, metrics)
    if not stopping.is_set():
        # One that never got ready has said why itself.
        if all(event.is_set() for event in ready):
            log.error("process_ended", exit_codes=[child.exitcode for child in children])
        _signal(children, signal.SIGTERM)
    while left:
        left = _wait(left, metrics)
    health.stop()
    metrics.close()
    # One that was told to end before it had begun anything ended well.
    told = {-signal.SIGTERM} if stopping.is_set() else set()
    codes = [0 if child.exitcode in told else child.exitcode or 0 for child in children]
    return max(code if code >= 0 else 1 for code in codes)


def _wait(children: list[ForkProcess], metrics: SharedMetrics) -> list[ForkProcess]:
    """Wait until one or more end; those that still run."""
    sentinels = [child.sentinel for child in children]
    while not wait(sentinels, LOOK_SECONDS):  # nobody sees a signal that comes right before a wait without an end
        pass
    left = []
    for child in children:
        if child.is_alive():
            left.append(child)
        elif child.pid:
            metrics.ended(child.pid)
    return left


def _ended(children: list[ForkProcess]) -> str | None:
    names = [child.name for child in children if not child.is_alive()]
    return f"{', '.join(names)} ended" if names else None


def _unready(ready: list[Event]) -> str | None:
    missing = sum(not event.is_set() for event in ready)
    return f"{missing} of {len(ready)} processes have not written their first heartbeat" if missing else None


def _child(serve: Callable[[Callable[[], None]], int], ready: Event, metrics: SharedMetrics) -> None:
    die_with_parent()
    metrics.join()
    code = serve(ready.set)
    # Threads that wait for a slow server must not keep the process.
    os._exit(code)


def _signal(children: list[ForkProcess], number: signal.Signals) -> None:
    for child in children:
        if child.pid and child.is_alive():
            os.kill(child.pid, number)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends (Linux; elsewhere its lease lapses)."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
