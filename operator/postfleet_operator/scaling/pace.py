"""How fast a number may change: stabilization windows and policies, as the HPA has them. Pure.

Semantics: kubernetes/pkg/controller/podautoscaler/horizontal.go (stabilizeRecommendationWithBehaviors,
calculateScaleUpLimitWithScalingRules). One difference: from zero, a percentage lets the first worker through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from postfleet_operator.spec.pool import PolicyType, ScalingRules, SelectPolicy

Changes = tuple[tuple[float, int], ...]
"""(epoch seconds, by how many workers) of the last changes, oldest first."""


Needs = Sequence[tuple[float, int]]
"""(epoch seconds, workers) of the looks of a window, the present one included."""


def stabilized_up(current: int, needs: Needs) -> int:
    """As far up as every look of the window agrees."""
    return max(current, min(needed for _, needed in needs))


def stabilized_down(current: int, needs: Needs) -> int:
    """As far down as every look of the window agrees."""
    return min(current, max(needed for _, needed in needs))


def most(current: int, rules: ScalingRules, changes: Changes, now: float) -> int | None:
    """The most workers that `scaleUp` policies allow now; None where there are no policies."""

    def limit(kind: PolicyType, value: int, base: int) -> int:
        return base + value if kind is PolicyType.PODS else max(math.ceil(base * (1 + value / 100)), 1)

    return _limit(current, rules, changes, now, limit, up=True)


def least(current: int, rules: ScalingRules, changes: Changes, now: float) -> int | None:
    """The fewest workers that `scaleDown` policies allow now; None where there are no policies."""

    def limit(kind: PolicyType, value: int, base: int) -> int:
        return max(base - value if kind is PolicyType.PODS else int(base * (1 - value / 100)), 0)

    return _limit(current, rules, changes, now, limit, up=False)


def _limit(
    current: int,
    rules: ScalingRules,
    changes: Changes,
    now: float,
    limit: Callable[[PolicyType, int, int], int],
    *,
    up: bool,
) -> int | None:
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    if not rules.policies:
        return None
    allowed = []
    for policy in rules.policies:
        base = current - sum(by for at, by in changes if at > now - policy.period_seconds)
        allowed.append(limit(policy.type, policy.value, max(base, 0)))
    # "Max" means the most change: upwards the highest number, downwards the lowest.
    widest = (rules.select_policy is SelectPolicy.MAX) is up
    found = max(allowed) if widest else min(allowed)
    return max(found, current) if up else min(found, current)
