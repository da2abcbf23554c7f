"""The HorizontalPodAutoscaler (autoscaling/v2) on one external metric with an AverageValue target. Pure.

From its documentation and source: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ ("Algorithm
details", "Configurable scaling behavior", "Default Behavior") and
kubernetes/pkg/controller/podautoscaler/{replica_calculator,horizontal}.go (GetExternalPerPodMetricReplicas,
stabilizeRecommendationWithBehaviors, calculateScaleUpLimitWithScalingRules, calculateScaleDownLimitWithBehaviors).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

SYNC_SECONDS = 15.0  # --horizontal-pod-autoscaler-sync-period
TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance


@dataclass(frozen=True, slots=True)
class Behavior:
    """`spec.behavior`; the defaults are the documented ones: selectPolicy Max of each direction's policies.

    Attributes:
        up_percent: at most so much more within `period_seconds`,
        up_pods: or so many more, whichever is more.
        down_percent: at most so much less within `period_seconds`.
        period_seconds: of all three.
        up_window_seconds: grow only as far as every look of that time agreed.
        down_window_seconds: shrink likewise.
    """

    up_percent: float = 100.0
    up_pods: int = 4
    down_percent: float = 100.0
    period_seconds: float = 15.0
    up_window_seconds: float = 0.0
    down_window_seconds: float = 300.0


@dataclass(slots=True)
class Hpa:
    """The controller of one HPA; remembers recommendations and scale events, as the real one does.

    Attributes:
        target: metric per replica (AverageValue).
        least: minReplicas, at least 1.
        most: maxReplicas.
        behavior: how fast the number may change.
    """

    target: float
    least: int
    most: int
    behavior: Behavior = field(default_factory=Behavior)
    _recommendations: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, metric: float, replicas: int, now: float) -> int:
        """One sync: how many replicas there should be. At 0 the HPA is disabled (ScalingDisabled) and leaves them."""
        if replicas == 0:
            return 0
        wanted = desired(metric, self.target, replicas)
        after = self._limit(replicas, self._stabilize(replicas, wanted, now), now)
        if after != replicas:
            self._changes = [entry for entry in self._changes if entry[0] > now - self.behavior.period_seconds]
            self._changes.append((now, after - replicas))
        return after

    def _stabilize(self, replicas: int, wanted: int, now: float) -> int:
        rules = self.behavior
        up = down = wanted
        if not self._recommendations:
            self._recommendations.append((now, replicas))  # what it finds counts as wanted
        longest = max(rules.up_window_seconds, rules.down_window_seconds)
        self._recommendations = [entry for entry in self._recommendations if entry[0] > now - longest]
        for at, recommendation in self._recommendations:
            if at > now - rules.up_window_seconds:
                up = min(up, recommendation)
            if at > now - rules.down_window_seconds:
                down = max(down, recommendation)
        self._recommendations.append((now, wanted))
        return min(max(replicas, up), down)

    def _limit(self, replicas: int, wanted: int, now: float) -> int:
        if wanted > replicas:
            return min(wanted, self._up_limit(replicas, now), self.most)
        if wanted < replicas:
            return max(wanted, self._down_limit(replicas, now), self.least)
        return min(max(wanted, self.least), self.most)

    def _up_limit(self, replicas: int, now: float) -> int:
        began = self._period_start(replicas, now)
        return max(began + self.behavior.up_pods, math.ceil(began * (1 + self.behavior.up_percent / 100)))

    def _down_limit(self, replicas: int, now: float) -> int:
        return int(self._period_start(replicas, now) * (1 - self.behavior.down_percent / 100))

    def _period_start(self, replicas: int, now: float) -> int:
        return replicas - sum(by for at, by in self._changes if at > now - self.behavior.period_seconds)


def desired(metric: float, target: float, replicas: int) -> int:
    """ceil(metric / target), unless metric / (target x replicas) is within the tolerance of 1."""
    if abs(1.0 - metric / (target * replicas)) <= TOLERANCE:
        return replicas
    return math.ceil(metric / target)
