"""The rules that a number passes on its way to a decision, each small, pure and named.

Their order is the argument: first what is really needed, then how fast it may change, at last what people set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling import demand, floors, pace, startup
from postfleet_operator.scaling.demand import Demand
from postfleet_operator.scaling.state import Recommendation, State
from postfleet_operator.scaling.values import Clamp, QueueLoad, Sample, Source
from postfleet_operator.scaling.wording import jobs, number
from postfleet_operator.spec import Mode, PoolSpec


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that a rule may look at. `now` is epoch seconds; `state` has learned from `sample` already."""

    sample: Sample
    spec: PoolSpec
    state: State
    now: float
    demand: Demand


# Workers for a cleared backlog are kept for so many start-ups.
BACKLOG_MEMORY = 2.0

Rule = Callable[[int, Look], Clamp | None]


def _clamp(name: DecisionReason, before: int, after: int, why: str, until: float | None = None) -> Clamp | None:
    return None if before == after else Clamp(name, before, after, why, until)


# What is really needed


def activation(replicas: int, look: Look) -> Clamp | None:
    """At zero, a backlog below `activationBacklog` wakes nobody."""
    backlog, threshold = look.sample.signal.backlog, look.spec.autoscaling.activation_backlog
    if look.sample.replicas > 0 or backlog >= threshold:
        return None
    why = f"only {jobs(backlog, 'wait')}, activationBacklog is {threshold:,}"
    return _clamp(DecisionReason.ACTIVATION, replicas, 0, why)


def throttle(replicas: int, look: Look) -> Clamp | None:
    """No more than what the limits let through keeps busy; but what is there at all gets one worker."""
    permitted = look.sample.signal.permitted_per_second
    rate = look.demand.rate
    if permitted is None or (rate is not None and rate <= permitted):
        return None
    capped = demand.workers(permitted, look.sample.signal, look.spec, look.state.throughput)
    if capped is None:
        return None
    after = min(replicas, max(demand.whole(capped), 1))
    why = f"limits let {number(permitted, ',')} jobs/s through, and another worker would wait for them too"
    return _clamp(DecisionReason.THROTTLE, replicas, after, why)


def unmeasured(replicas: int, look: Look) -> Clamp | None:
    """While nobody knows what a worker does, at most double, and only once the last ones are at work."""
    current = look.sample.replicas
    if look.spec.autoscaling.target.latency_seconds is None or look.state.throughput.known:
        return None
    if replicas <= max(current, 1):
        return None
    waiting = look.state.startups.seconds
    grown = look.state.grown_at
    if current and (_coming(look) or (grown is not None and look.now < grown + waiting)):
        until = None if grown is None else max(grown + waiting, look.now)
        why = "what one worker does is not measured yet, and the last ones have only just been asked for"
        return _clamp(DecisionReason.UNMEASURED, replicas, current, why, until)
    why = "what one worker does is not measured yet: at most twice as many"
    return _clamp(DecisionReason.UNMEASURED, replicas, min(replicas, max(2 * current, 1)), why)


def starting(replicas: int, look: Look) -> Clamp | None:
    """Workers that are starting count: what has piled up since they were asked for is theirs to clear."""
    sample, grown, signal = look.sample, look.state.grown_at, look.sample.signal
    coming = _coming(look)
    if not coming or grown is None or replicas <= sample.replicas:
        return None
    if look.spec.autoscaling.target.latency_seconds is None or not look.state.throughput.known:
        return None
    age = min(look.now - grown, look.state.startups.late_seconds)
    served = (look.state.throughput.per_thread() or 0.0) * look.spec.worker.capacity * sample.ready
    piled_up = max(signal.arrivals_per_second - served, 0.0) * age
    share = max(signal.waiting - piled_up, 0.0) / signal.waiting if signal.waiting else 0.0
    as_of_then = tuple(_earlier(queue, share, age) for queue in signal.queues)
    before = demand.measure(
        replace(signal, queues=as_of_then), look.spec, look.state.throughput, look.state.startups.seconds
    )
    needed = before.replicas if before.replicas is not None else replicas
    why = f"{coming} workers asked for {age:.0f} s ago are starting and will clear what piled up since"
    return _clamp(DecisionReason.STARTING, replicas, min(replicas, max(needed, sample.replicas)), why)


def _coming(look: Look) -> int:
    """Workers that are merely starting; one that is overdue or lost clears nothing."""
    overdue = startup.overdue(look.state.startups, look.sample.pods, look.now)
    return max(look.sample.starting - len(overdue), 0)


def _earlier(queue: QueueLoad, share: float, age: float) -> QueueLoad:
    return replace(queue, waiting=math.ceil(queue.waiting * share), oldest_seconds=max(queue.oldest_seconds - age, 0.0))


def unschedulable(replicas: int, look: Look) -> Clamp | None:
    """No more workers while the cluster has no place for those that were asked for.

    Where some do not start, others may be tried, but never more than have started: so one bad machine keeps nobody
    from growing, and a bad image fills no cluster.
    """
    startups, current = look.state.startups, look.sample.replicas
    stuck = startup.stuck(startups, look.sample.pods, look.now)
    if not stuck or replicas <= current:
        return None
    if homeless := sum(pod.unschedulable for pod in stuck):
        why = f"{homeless} workers cannot be scheduled: the cluster has no place for them"
        return _clamp(DecisionReason.UNSCHEDULABLE, replicas, current, why)
    seconds, started = startups.late_seconds, len(startups.started or ())
    why = f"{len(stuck)} workers were never Ready in {seconds:.0f} s: at most twice as many as the {started} that were"
    return _clamp(DecisionReason.UNSCHEDULABLE, replicas, min(replicas, max(current, 2 * started)), why)


def due_soon(replicas: int, look: Look) -> Clamp | None:
    """A worker is there when the next scheduled job falls due, a start-up ahead."""
    due = look.sample.signal.next_run_at
    if replicas > 0 or due is None:
        return None
    lead = look.state.startups.seconds + look.spec.autoscaling.polling_interval_seconds
    if due - look.now > lead:
        return None
    seconds = max(due - look.now, 0.0)
    return _clamp(DecisionReason.DUE_SOON, replicas, 1, f"a scheduled job falls due in {seconds:.0f} s", until=due)


def schedule(replicas: int, look: Look) -> Clamp | None:
    """Not below the floor of a schedule that is on, or will be by the time that workers are up."""
    height, which = floors.floor(look.spec.autoscaling.schedules, look.now, look.state.startups.seconds)
    if which is None or replicas >= height:
        return None
    why = f"the schedule {which.cron!r} ({which.timezone}) asks for {height}"
    return _clamp(DecisionReason.SCHEDULE, replicas, height, why)


# How fast it may change


def tolerance(replicas: int, look: Look) -> Clamp | None:
    """A need that differs by less than `tolerance` from what there is changes nothing, unless somebody waits long."""
    current, workers = look.sample.replicas, look.demand.workers
    if current == 0 or workers is None or workers == 0 or replicas != look.demand.replicas:
        return None
    if abs(workers / current - 1) > look.spec.autoscaling.tolerance_fraction:
        return None
    if replicas > current and any(
        2 * queue.oldest_seconds > demand.latency(look.spec, queue.name) for queue in look.sample.signal.queues
    ):
        return None
    why = f"{workers:.2f} is within tolerance {look.spec.autoscaling.tolerance} of {current}"
    return _clamp(DecisionReason.TOLERANCE, replicas, current, why)


def scale_up_window(replicas: int, look: Look) -> Clamp | None:
    """Grow only as far as every look of `scaleUp.stabilizationWindowSeconds` agrees."""
    current, seconds = look.sample.replicas, look.spec.autoscaling.scale_up.stabilization_window_seconds
    if replicas <= current or not seconds:
        return None
    past = [(each.at, each.workers) for each in look.state.recommendations if each.at > look.now - seconds]
    after = min(replicas, pace.stabilized_up(current, [*past, (look.now, replicas)]))
    return _clamp(
        DecisionReason.SCALE_UP_WINDOW, replicas, after, f"not every look of the last {seconds} s asked for more"
    )


def scale_up_policy(replicas: int, look: Look) -> Clamp | None:
    """Grow no faster than `scaleUp.policies`."""
    current = look.sample.replicas
    if replicas <= current:
        return None
    limit = pace.most(current, look.spec.autoscaling.scale_up, look.state.changes, look.now)
    if limit is None or replicas <= limit:
        return None
    return _clamp(DecisionReason.SCALE_UP_POLICY, replicas, limit, f"scaleUp's policies allow {limit} now")


def scale_down_window(replicas: int, look: Look) -> Clamp | None:
    """Shrink only as far as every look of `scaleDown.stabilizationWindowSeconds` agrees."""
    current, seconds = look.sample.replicas, look.spec.autoscaling.scale_down.stabilization_window_seconds
    if replicas >= current or not seconds:
        return None
    fresh = min(
        max(BACKLOG_MEMORY * look.state.startups.seconds, look.spec.autoscaling.polling_interval_seconds), seconds
    )
    past = [each for each in look.state.recommendations if each.at > look.now - seconds]
    needs = [(each.at, _remembered(each, look.now - fresh)) for each in past]
    after = pace.stabilized_down(current, [*needs, (look.now, replicas)])
    if after <= replicas:
        return None
    holding = [each for each in past if _remembered(each, look.now - fresh) >= after]
    until, at = max((each.at + (seconds if each.sustained >= after else fresh), each.at) for each in holding)
    why = f"{after} were needed {look.now - at:.0f} s ago; shrinking waits {until - at:.0f} s"
    return _clamp(DecisionReason.SCALE_DOWN_WINDOW, replicas, after, why, until=until)


def _remembered(each: Recommendation, fresh_from: float) -> int:
    """What a look of the window asked for.

    Workers that were asked for to clear a backlog are not needed once it is cleared, which took seconds: that part is
    remembered for as long as it would take to get them back, the part for what arrives for the whole window.
    """
    return each.workers if each.at > fresh_from else each.sustained


def scale_down_policy(replicas: int, look: Look) -> Clamp | None:
    """Shrink no faster than `scaleDown.policies`."""
    current = look.sample.replicas
    if replicas >= current:
        return None
    limit = pace.least(current, look.spec.autoscaling.scale_down, look.state.changes, look.now)
    if limit is None or replicas >= limit:
        return None
    return _clamp(DecisionReason.SCALE_DOWN_POLICY, replicas, limit, f"scaleDown's policies allow {limit} now")


def running_jobs(replicas: int, look: Look) -> Clamp | None:
    """Jobs that run keep their workers: none is taken away that the running ones need, wherever they are."""
    busy, capacity = look.sample.signal.running_bundles, look.spec.worker.capacity
    floor = min(look.sample.replicas, math.ceil(busy / capacity))
    if replicas >= floor:
        return None
    why = f"{busy:,} busy threads fill {floor} workers of {capacity}"
    return _clamp(DecisionReason.RUNNING_JOBS, replicas, floor, why)


def cooldown(replicas: int, look: Look) -> Clamp | None:
    """The last worker stays until there was nothing to do for `cooldownSeconds`."""
    if replicas > 0 or look.sample.replicas == 0:
        return None
    since = look.now if look.state.idle_since is None else look.state.idle_since
    until = since + look.spec.autoscaling.cooldown_seconds
    if look.now >= until:
        return None
    why = f"idle for {look.now - since:.0f} of cooldownSeconds {look.spec.autoscaling.cooldown_seconds}"
    return _clamp(DecisionReason.COOLDOWN, replicas, 1, why, until=until)


def signal_broken(replicas: int, look: Look) -> Clamp | None:
    """A broken signal never shrinks a pool; it may grow on what PostgreSQL counts."""
    signal, current = look.sample.signal, look.sample.replicas
    if signal.healthy:
        return None
    held = max(replicas, current) if signal.source is Source.POSTGRESQL else current
    return _clamp(DecisionReason.SIGNAL_BROKEN, replicas, held, f"the signal is broken: {signal.message}")


# What people set


def min_replicas(replicas: int, look: Look) -> Clamp | None:
    """Never fewer than `minReplicas`."""
    floor = look.spec.autoscaling.min_replicas
    return _clamp(DecisionReason.MIN_REPLICAS, replicas, max(replicas, floor), f"minReplicas is {floor}")


def max_replicas(replicas: int, look: Look) -> Clamp | None:
    """Never more than `maxReplicas`; somebody wrote that number, so it holds on a broken signal too."""
    ceiling = look.spec.autoscaling.max_replicas
    return _clamp(DecisionReason.MAX_REPLICAS, replicas, min(replicas, ceiling), f"maxReplicas is {ceiling}")


def manual(replicas: int, look: Look) -> Clamp | None:
    """In mode Manual, people (or an HPA through /scale) say how many."""
    wanted = look.spec.replicas
    return _clamp(DecisionReason.MANUAL, replicas, wanted, f"mode is Manual, replicas is {wanted}")


def external(replicas: int, look: Look) -> Clamp | None:
    """In mode External, something else writes the Deployment."""
    current = look.sample.replicas
    return _clamp(DecisionReason.EXTERNAL, replicas, current, "mode is External: something else sets the number")


def paused(replicas: int, look: Look) -> Clamp | None:
    """A paused pool keeps the workers that it has."""
    if not look.spec.paused:
        return None
    return _clamp(DecisionReason.PAUSED, replicas, look.sample.replicas, "the pool is paused")


NEED: tuple[Rule, ...] = (activation, throttle, unmeasured, starting, unschedulable, due_soon, schedule)
PACE: tuple[Rule, ...] = (
    tolerance,
    scale_up_window,
    scale_up_policy,
    scale_down_window,
    scale_down_policy,
    running_jobs,
    cooldown,
    signal_broken,
)
SET: dict[Mode, tuple[Rule, ...]] = {
    Mode.AUTO: (min_replicas, max_replicas, paused),
    Mode.RECOMMEND: (min_replicas, max_replicas, paused),
    Mode.MANUAL: (manual, paused),
    Mode.EXTERNAL: (external,),
}
