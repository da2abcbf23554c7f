"""The loop that scales every pool: gather, decide, do only what differs, report. Thin: all judgement is elsewhere.

One thread, one Redis pipeline per tick. A pool that fails is reported and tried again; it never stops the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from postfleet_operator.cluster import Cluster
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.scaling.values import Decision, Sample, Signal
from postfleet_operator.spec import JobPool


class Signals(Protocol):
    """Looks at the work of pools; `sampling.Sampler` is the real one."""

    def sample(self, pools: Sequence[JobPool], now: float) -> Mapping[str, Signal]:
        """One signal per pool, by its key. Never raises for a broken Redis or PostgreSQL: that is a signal too."""


Observer = Callable[[JobPool, Sample, Decision], None]


class Autoscaler:
    """Scales the pools of a cluster.

    Args:
        cluster: where pools live and workers run.
        signals: how their work is seen.
        clock: epoch seconds.
        render_settings: what Deployments are rendered with.
        observer: told of every decision, for metrics and live views.
    """

    def __init__(
        self,
        cluster: Cluster,
        signals: Signals,
        clock: Callable[[], float],
        render_settings: RenderSettings,
        observer: Observer | None = None,
    ) -> None:
        self._cluster = cluster
        self._signals = signals
        self._clock = clock
        self._render_settings = render_settings
        self._observer = observer

    def tick(self, now: float) -> float:
        """Handle every pool that is due at `now`; returns the seconds until the next look (at most 1)."""
        raise NotImplementedError

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set."""
        while not stop.is_set():
            stop.wait(self.tick(self._clock()))
