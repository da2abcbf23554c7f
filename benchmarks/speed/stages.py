"""What each stage of a delivery costs, measured inside the workers: a job module that has no jobs.

Named in POSTFLEET_JOB_MODULES it wraps the functions below in every worker process, adds up the CPU time that their
thread spends in each (less what other stages spend within it) and the time that passes, and writes both to
BENCH_STAGES_DIR twice a second. A run with it is for its shares, not for its speed.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

STAGES = {
    "claim": ("worker.runner:Runner._claim",),
    "load": ("mail.delivery:Delivery._load",),
    "render": ("mail.message.press:Press.make",),
    "admission": (
        "mail.holdings:Holdings.permits", "mail.permits:Permits.take", "mail.permits:Permits.give_back",
    ),
    "journal": (
        "worker.bundle:Bundle.begin", "worker.bundle:Bundle.dot", "worker.bundle:Bundle.reply",
        "worker.runner:Runner._open", "worker.runner:Runner._close",
    ),
    "smtp": (
        "mail.smtp.transactions:Transaction.__init__", "mail.delivery:carry_out",
        "mail.smtp.sessions:Sessions.take", "mail.smtp.sessions:Sessions.give_back",
    ),
    "dkim": ("mail.message.dkim:Signer.sign",),
    "outcomes": ("mail.delivery:Delivery._land", "worker.runner:Runner._write"),
}  # fmt: skip
BOOKKEEPING = ("claim", "admission", "journal", "outcomes")
EVERY_SECONDS = 0.5

Spent = dict[str, list[float]]  # stage -> CPU seconds, seconds


class Meter:
    """Adds up by stage; each thread has its own sums, so that nothing is locked on the way."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._local = threading.local()
        self._sums: list[Spent] = []
        self.missing: list[str] = []

    def wrap(self, stage: str, name: str) -> None:
        """Measure one function."""
        module, _, path = name.partition(":")
        *outer, last = path.split(".")
        try:
            owner: Any = import_module(f"postfleet_workers.{module}")
            for part in outer:
                owner = getattr(owner, part)
            raw = vars(owner)[last]
        except (ImportError, AttributeError, KeyError):
            self.missing.append(name)
            return
        inner = raw.__func__ if isinstance(raw, staticmethod) else raw
        measured = self._measured(stage, inner)
        setattr(owner, last, staticmethod(measured) if isinstance(raw, staticmethod) else measured)

    def _measured(self, stage: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(inner)
        def outer(*args: Any, **kwargs: Any) -> Any:
            local = self._local
            if not hasattr(local, "within"):
                local.within, local.sums = [0.0], defaultdict(lambda: [0.0, 0.0])
                self._sums.append(local.sums)
            local.within.append(0.0)
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return inner(*args, **kwargs)
            finally:
                spent = time.thread_time() - cpu
                sums = local.sums[stage]
                sums[0] += spent - local.within.pop()
                sums[1] += time.perf_counter() - wall
                local.within[-1] += spent

        return outer

    def write_on(self) -> None:
        """Write the sums for as long as the process lives."""
        path = self._folder / f"{os.getpid()}.json"
        while True:
            total: Spent = defaultdict(lambda: [0.0, 0.0])
            for sums in list(self._sums):
                for stage, (cpu, wall) in list(sums.items()):
                    total[stage][0] += cpu
                    total[stage][1] += wall
            path.with_suffix(".new").write_text(
                json.dumps({"stages": total, "process": time.process_time(), "missing": self.missing})
            )
            path.with_suffix(".new").replace(path)
            time.sleep(EVERY_SECONDS)


def job_types(services: object) -> tuple[()]:  # noqa: ARG001 - what a job module offers
    """Begin to measure."""
    meter = Meter(Path(os.environ["BENCH_STAGES_DIR"]))
    for stage, names in STAGES.items():
        for name in names:
            meter.wrap(stage, name)
    threading.Thread(target=meter.write_on, daemon=True).start()
    return ()


def read(folder: Path) -> dict[str, Any]:
    """The sums over all processes so far: `stages`, `process` (their whole CPU time), `missing`."""
    stages: Spent = defaultdict(lambda: [0.0, 0.0])
    process, missing = 0.0, set()
    for path in folder.glob("*.json"):
        found: Mapping[str, Any] = json.loads(path.read_text())
        process += found["process"]
        missing |= set(found["missing"])
        for stage, (cpu, wall) in found["stages"].items():
            stages[stage][0] += cpu
            stages[stage][1] += wall
    return {"stages": dict(stages), "process": process, "missing": sorted(missing)}
