"""Knative's pod autoscaler (KPA) on concurrency, with its default configuration. Pure.

From its documentation and source: knative.dev/docs/serving/autoscaling/ and
knative/serving/{config/core/configmaps/autoscaler.yaml, pkg/autoscaler/scaling/autoscaler.go,
pkg/reconciler/autoscaling/kpa/scaler.go}. Knative only takes HTTP; here a job is a request, its concurrency counts
jobs that run and jobs that wait, as queued requests count at the activator, and the containerConcurrency is the
replica's threads. At zero, the activator's first statistics wake the autoscaler at once (MultiScaler.Poke).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from postfleet_operator.simulation.fleet import Fleet


@dataclass(frozen=True, slots=True)
class KpaConfig:
    """ConfigMap config-autoscaler."""

    target_utilization: float = 0.7
    tick_seconds: float = 2.0
    stable_window_seconds: int = 60
    panic_window_seconds: int = 6  # 10 % of the stable window
    panic_threshold: float = 2.0
    max_scale_up_rate: float = 1000.0
    max_scale_down_rate: float = 2.0
    target_burst_capacity: float = 211.0
    to_zero_grace_seconds: float = 30.0


DEFAULTS = KpaConfig()


class Kpa:
    """The autoscaler of one revision: `scale` is its arithmetic, `look` gathers concurrency every second.

    Args:
        concurrency: what one replica runs at the same time.
        least: min-scale.
        most: max-scale.
        config: everything else.
    """

    def __init__(self, concurrency: int, least: int, most: int, config: KpaConfig = DEFAULTS) -> None:
        self._concurrency, self._least, self._most, self._config = concurrency, least, most, config
        self._target = concurrency * config.target_utilization
        self._seen: deque[float] = deque(maxlen=config.stable_window_seconds)
        self._panic_since: float | None = None
        self._panic_replicas = 0
        self._proxy_since: float | None = 0.0
        self._active_since = 0.0
        self._tick_at = self.next_at = 0.0

    def look(self, fleet: Fleet) -> int | None:
        """Every second a sample of the concurrency, every tick a decision."""
        view = fleet.view()
        self._seen.append(view.waiting + view.running)
        self.next_at = view.now + 1.0
        poked = view.replicas == 0 and self._seen[-1] > 0
        if view.now < self._tick_at and not poked:
            return None
        self._tick_at = view.now + self._config.tick_seconds
        if poked:
            self._active_since = view.now
        panic = self._average(self._config.panic_window_seconds)
        wanted = self.scale(self._average(self._config.stable_window_seconds), panic, view.ready, view.now)
        spare = view.ready * self._concurrency - self._config.target_burst_capacity - panic
        return self._to_zero(min(max(wanted, self._least), self._most), view.replicas, spare, view.now)

    def scale(self, stable: float, panic: float, ready: int, now: float) -> int:
        """Replicas wanted for the average concurrency of the stable and of the panic window (autoscaler.Scale)."""
        config, pods = self._config, max(1, ready)
        highest = math.ceil(config.max_scale_up_rate * pods)
        lowest = math.floor(pods / config.max_scale_down_rate)
        raw_panic = math.ceil(panic / self._target)
        wanted = min(max(math.ceil(stable / self._target), lowest), highest)
        wanted_in_panic = min(max(raw_panic, lowest), highest)
        if raw_panic / pods >= config.panic_threshold:
            self._panic_since = now
        elif self._panic_since is not None and self._panic_since + config.stable_window_seconds < now:
            self._panic_since, self._panic_replicas = None, 0
        if self._panic_since is not None:  # never shrinks
            self._panic_replicas = max(self._panic_replicas, wanted, wanted_in_panic)
            wanted = self._panic_replicas
        return wanted

    def _to_zero(self, wanted: int, replicas: int, spare: float, now: float) -> int:
        """Zero only once active for a stable window, and in proxy mode for the grace period (kpa/scaler.go).

        Proxy mode, the activator in the path: without spare capacity for a burst, and once nothing is wanted.
        """
        if spare >= 0 and wanted > 0:
            self._proxy_since = None
        elif self._proxy_since is None:
            self._proxy_since = now
        if wanted > 0 or replicas == 0:
            return wanted
        proxied = self._proxy_since is not None and now - self._proxy_since >= self._config.to_zero_grace_seconds
        active = now - self._active_since >= self._config.stable_window_seconds
        return 0 if proxied and active else min(replicas, 1)

    def _average(self, seconds: int) -> float:
        """Over the seconds that there are: a window that is not full yet is not thinned out."""
        recent = list(self._seen)[-seconds:]
        return sum(recent) / len(recent) if recent else 0.0
