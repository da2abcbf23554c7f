"""The metrics of several worker processes, shown as one by the parent that started them.

Each process writes its values into files of its own in a folder that the parent made (prometheus_client's multiprocess
mode); the parent reads them when it is asked. Counters of a process that died stay, its gauges go.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from postfleet_workers import clock
from postfleet_workers.errors import InputError
from postfleet_workers.metrics.worker import LEASE

PREFIX = "postfleet-metrics-"
OWNER = "owner"  # locked as long as a process of the worker lives


class SharedMetrics:
    """The folder, made by the parent before it starts a process; `close` removes it.

    Raises:
        InputError: no temporary folder can be written.
    """

    def __init__(self) -> None:
        try:
            self._folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        except OSError as error:
            raise InputError(f"a worker needs a temporary folder to write to; name one with TMPDIR: {error}") from error
        sweep(self._folder.parent)
        # Locked before it has its name: a folder with an unlocked owner is anybody's to remove.
        unnamed = self._folder / "new"
        self._owner = unnamed.open("w")
        fcntl.flock(self._owner, fcntl.LOCK_EX)
        unnamed.rename(self._folder / OWNER)
        self.registry = CollectorRegistry()
        self.registry.register(_Shown(self._folder))

    def join(self) -> None:
        """In a process that was just started, before it makes its metrics: they go into the folder."""
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self._folder)
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]

    def ended(self, pid: int) -> None:
        """A process has ended: what it counted stays, what it was does not."""
        mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._owner.close()


def sweep(parent: Path) -> None:
    """Remove folders whose worker was killed before it could do it itself."""
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        with suppress(OSError), owner.open() as file:  # somebody else's, gone already, or in use
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(owner.parent, ignore_errors=True)


class _Shown(Collector):
    """What the processes wrote, with the time of the oldest lease turned into its age."""

    def __init__(self, folder: Path) -> None:
        self._collector = MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        now = clock.monotonic()
        for metric in self._collector.collect():  # type: ignore[no-untyped-call]
            if metric.name == LEASE:
                metric.samples = [sample._replace(value=max(now - sample.value, 0.0)) for sample in metric.samples]
            yield metric
