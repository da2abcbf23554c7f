"""KEDA's Redis lists trigger: KEDA itself between 0 and 1, an HPA from there on. Pure.

From its documentation and source: keda.sh/docs/2.20/reference/scaledobject-spec/ (pollingInterval 30, cooldownPeriod
300), keda.sh/docs/2.20/scalers/redis-lists/ (listLength 5, activationListLength 0),
keda.sh/docs/2.20/concepts/scaling-deployments/ ("Activating and scaling thresholds") and
kedacore/keda/pkg/scaling/executor/scale_scaledobjects.go (scaleFromZeroOrIdle, scaleToZeroOrIdle). The HPA asks KEDA
for the metric at each sync, so pollingInterval only matters at zero (useCachedMetrics is off by default).

The metric is everything that is due: waiting, running and held back by a limit. A list knows no limits. With Dramatiq,
that is the hash `dramatiq:<queue>.msgs` (listName takes it); the list alone would not show what workers hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postfleet_operator.simulation.fleet import Fleet
from postfleet_operator.simulation.hpa import SYNC_SECONDS, Behavior, Hpa


@dataclass(frozen=True, slots=True)
class ScaledObject:
    """A ScaledObject with one Redis lists trigger; defaults as documented, except for the replicas."""

    min_replicas: int
    max_replicas: int
    list_length: float = 5
    activation_list_length: float = 0
    polling_interval_seconds: float = 30.0
    cooldown_seconds: float = 300.0
    behavior: Behavior = field(default_factory=Behavior)


class Keda:
    """KEDA's loop and its HPA, each with its own period; both begin with the trace."""

    def __init__(self, spec: ScaledObject) -> None:
        self._spec = spec
        self._hpa = Hpa(spec.list_length, max(spec.min_replicas, 1), spec.max_replicas, spec.behavior)
        self._active_at: float | None = None
        self._poll_at = self._sync_at = self.next_at = 0.0

    def look(self, fleet: Fleet) -> int | None:
        """Whichever loop is due; KEDA's first, if both are."""
        view = fleet.view()
        metric, replicas, now = view.waiting + view.running, view.replicas, view.now
        if now >= self._poll_at:
            replicas = self.poll(metric, replicas, now)
            self._poll_at = now + self._spec.polling_interval_seconds
        if now >= self._sync_at:
            replicas = self._hpa.sync(metric, replicas, now)
            self._sync_at = now + SYNC_SECONDS
        self.next_at = min(self._poll_at, self._sync_at)
        return replicas

    def poll(self, metric: float, replicas: int, now: float) -> int:
        """KEDA's own decision: from zero when active, to zero when not for `cooldownPeriod`."""
        if metric > self._spec.activation_list_length:
            self._active_at = now
            return replicas or min(max(1, self._spec.min_replicas), self._spec.max_replicas)
        if replicas == 0 or self._spec.min_replicas > 0:
            return max(replicas, self._spec.min_replicas)
        if self._active_at is None or self._active_at + self._spec.cooldown_seconds < now:
            return 0
        return replicas
