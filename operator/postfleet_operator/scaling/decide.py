"""How many workers there should be now. Pure: `decide` makes the decision, `remember` what the next one knows.

What the work asks for (`demand`) passes the clamps. The same function runs in production, in the local fleet, in the
simulator and in tests.
"""

from __future__ import annotations

from dataclasses import replace

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling import clamps, demand, startup, throughput
from postfleet_operator.scaling.clamps import Look
from postfleet_operator.scaling.state import Recommendation, State
from postfleet_operator.scaling.values import Bottleneck, Clamp, Decision, Sample, Source
from postfleet_operator.scaling.wording import count, jobs, number
from postfleet_operator.spec import Mode, PoolSpec

CHANGES_SECONDS = 1800.0  # no policy's period is longer


def first_state(
    replicas: int,
    now: float,
    throughput_per_replica: float | None = None,
    startup_seconds: float | None = None,
    threads: int = 1,
) -> State:
    """The state of a pool seen for the first time.

    What it has counts as needed, so that a restart shrinks nothing at once.

    Args:
        replicas: what the Deployment asks for.
        now: epoch seconds.
        throughput_per_replica: what its status remembers, jobs per second.
        startup_seconds: likewise.
        threads: of one worker, as the throughput was measured.
    """
    pace = throughput.Throughput()
    if throughput_per_replica is not None and throughput_per_replica > 0:
        pace = throughput.handed_down(throughput_per_replica, threads)
    return State(
        recommendations=(Recommendation(now, replicas, replicas),),
        throughput=pace,
        startups=startup.Startups(started=None, handed_down=startup_seconds),
    )


def decide(sample: Sample, spec: PoolSpec, state: State, now: float) -> Decision:
    """Decide on the number of workers.

    Args:
        sample: the work and the workers, as just seen.
        spec: what the pool asks for.
        state: what earlier looks left, from `first_state` or `remember`.
        now: epoch seconds.
    """
    state = _learned(state, sample)
    asked = demand.measure(sample.signal, spec, state.throughput, state.startups.seconds)
    needed = _needed(asked, sample, spec)
    look = Look(sample, spec, state, now, asked)
    replicas, applied = needed, list[Clamp]()
    if spec.mode in (Mode.AUTO, Mode.RECOMMEND):
        replicas = _apply(clamps.NEED, replicas, look, applied)
    recommended = replicas
    if spec.mode in (Mode.AUTO, Mode.RECOMMEND):
        replicas = _apply(clamps.PACE, replicas, look, applied)
    replicas = _apply(clamps.SET[spec.mode], replicas, look, applied)
    pace = state.throughput.per_thread()
    return Decision(
        time=now,
        before=sample.replicas,
        after=replicas,
        needed=needed,
        recommended=recommended,
        sustained=_sustained(look, recommended),
        reason=_reason(look, applied),
        message=_message(look, needed, replicas, applied),
        inputs=_inputs(look),
        clamps=tuple(applied),
        bottleneck=_bottleneck(look, recommended, applied),
        blocked_until=max((clamp.until for clamp in applied if clamp.until is not None), default=None),
        throughput_per_replica=pace * spec.worker.capacity if pace is not None and state.throughput.known else None,
        startup_seconds=state.startups.p95_seconds,
    )


def remember(state: State, sample: Sample, spec: PoolSpec, decision: Decision) -> State:
    """The state after a decision. A broken look proves no idleness, and recommends what there is."""
    now, signal = decision.time, sample.signal
    state = _learned(state, sample)
    by = decision.after - decision.before if spec.mode is Mode.AUTO else 0
    changes = tuple(entry for entry in state.changes if entry[0] > now - CHANGES_SECONDS)
    state = replace(
        state,
        changes=(*changes, (now, by)) if by else changes,
        grown_at=now if by > 0 else state.grown_at,
        recommendations=_recent(state, spec, now),
    )
    if not signal.healthy:
        held = Recommendation(now, sample.replicas, sample.replicas)
        return replace(state, idle_since=None, recommendations=(*state.recommendations, held))
    busy = signal.backlog > 0 or (sample.work is not None and sample.work.completed > 0)
    idle_since = None if busy else now if state.idle_since is None else state.idle_since
    asked = Recommendation(now, decision.recommended, decision.sustained)
    return replace(state, idle_since=idle_since, recommendations=(*state.recommendations, asked))


def _recent(state: State, spec: PoolSpec, now: float) -> tuple[Recommendation, ...]:
    policy = spec.autoscaling
    window = max(policy.scale_up.stabilization_window_seconds, policy.scale_down.stabilization_window_seconds)
    return tuple(each for each in state.recommendations if each.at > now - window)


def _learned(state: State, sample: Sample) -> State:
    return replace(
        state,
        throughput=throughput.learn(state.throughput, sample.work),
        startups=startup.learn(state.startups, sample.pods),
    )


def _apply(rules: tuple[clamps.Rule, ...], replicas: int, look: Look, applied: list[Clamp]) -> int:
    for rule in rules:
        if clamp := rule(replicas, look):
            replicas = clamp.after
            applied.append(clamp)
    return replicas


def _needed(asked: demand.Demand, sample: Sample, spec: PoolSpec) -> int:
    """Whole workers; by eye while the throughput is unknown."""
    signal, current = sample.signal, sample.replicas
    if asked.replicas is not None:
        # Jobs that are due or running keep a worker, however few they are.
        return max(asked.replicas, 1) if signal.backlog else asked.replicas
    if signal.backlog == 0:
        return 0
    if signal.waiting == 0:
        return max(-(-signal.running_bundles // spec.worker.capacity), 1)
    return max(2 * current, 1)


def _sustained(look: Look, recommended: int) -> int:
    """How much of what is recommended is for what arrives; all of it where arrivals are not what it is scaled by."""
    if look.demand.rate is None:
        return recommended
    arriving = demand.workers(
        look.sample.signal.arrivals_per_second, look.sample.signal, look.spec, look.state.throughput
    )
    return recommended if arriving is None else min(recommended, demand.whole(arriving))


def _reason(look: Look, applied: list[Clamp]) -> DecisionReason:
    if applied:
        return applied[-1].name
    match look.spec.mode:
        case Mode.MANUAL:
            return DecisionReason.MANUAL
        case Mode.EXTERNAL:
            return DecisionReason.EXTERNAL
    if not look.sample.signal.healthy:
        return DecisionReason.SIGNAL_BROKEN
    if look.sample.signal.backlog == 0 and not look.demand.replicas:
        return DecisionReason.IDLE
    if look.spec.autoscaling.target.latency_seconds is None:
        return DecisionReason.BACKLOG
    return DecisionReason.LATENCY if look.demand.replicas is not None else DecisionReason.UNMEASURED


def _bottleneck(look: Look, recommended: int, applied: list[Clamp]) -> Bottleneck:
    signal, sample = look.sample.signal, look.sample
    names = {clamp.name for clamp in applied}
    if not signal.healthy:
        return Bottleneck.SIGNAL
    if signal.backlog and DecisionReason.MAX_REPLICAS in names:
        return Bottleneck.MAX_REPLICAS
    if DecisionReason.UNSCHEDULABLE in names or (signal.waiting and sample.starting):
        return Bottleneck.STARTING
    if DecisionReason.THROTTLE in names:
        return Bottleneck.THROTTLE
    if recommended > sample.replicas:
        return Bottleneck.WORKERS
    return Bottleneck.THROTTLE if signal.throttled else Bottleneck.NONE


def _message(look: Look, needed: int, replicas: int, applied: list[Clamp]) -> str:
    before = look.sample.replicas
    move = f"stays at {replicas}" if replicas == before else f"{before} -> {replicas}"
    steps = (f"{clamp.name} {clamp.before} -> {clamp.after}, {clamp.why}" for clamp in applied)
    return "; ".join([f"{move}: {_work(look, needed)}", *steps])


def _work(look: Look, needed: int) -> str:
    signal, asked, target = look.sample.signal, look.demand, look.spec.autoscaling.target
    pace = look.state.throughput.per_thread()
    if signal.source is Source.NONE:
        work = "the backlog is not known"
    elif signal.backlog == 0 and not needed:
        work = "nothing is due"
    elif target.backlog_per_replica is not None:
        work = f"{count(signal.backlog, 'job')} / {target.backlog_per_replica:,} per worker = {needed}"
    elif asked.rate is None or pace is None:
        work = f"{jobs(signal.waiting, 'wait')}, and what one worker does is not measured yet"
    else:
        waiting = (
            f" + {signal.waiting:,} waiting within {number(asked.deadline_seconds, ',')} s"
            if signal.waiting and asked.deadline_seconds is not None
            else ""
        )
        arriving = f"{number(signal.arrivals_per_second, ',')}/s arriving"
        work = f"({arriving}{waiting}) / {number(pace * look.spec.worker.capacity, ',')}/s per worker = {needed}"
    if signal.throttled:
        most = max(signal.throttled_by, key=lambda name: signal.throttled_by[name], default="")
        work += f" ({signal.throttled:,} more wait for a limit{': ' + most if most else ''})"
    return work


def _inputs(look: Look) -> dict[str, int | float | str]:
    signal, sample, target = look.sample.signal, look.sample, look.spec.autoscaling.target
    pace = look.state.throughput.per_thread()
    found: dict[str, int | float | str | None] = {
        "source": signal.source.value,
        "backlog": signal.backlog,
        "waiting": signal.waiting,
        "ready": signal.ready,
        "inFlight": signal.in_flight,
        "held": signal.held,
        "throttled": signal.throttled,
        "scheduled": signal.scheduled,
        "running": signal.running,
        "busyThreads": signal.running_bundles,
        "oldestSeconds": round(signal.oldest_seconds),
        "arrivalsPerSecond": _digits(signal.arrivals_per_second),
        "permittedPerSecond": _digits(signal.permitted_per_second),
        "throughputPerReplica": None if pace is None else _digits(pace * look.spec.worker.capacity),
        "startupSeconds": _digits(look.state.startups.p95_seconds),
        "deadlineSeconds": _digits(look.demand.deadline_seconds),
        "latencySeconds": target.latency_seconds,
        "backlogPerReplica": target.backlog_per_replica,
        "replicas": sample.replicas,
        "readyReplicas": sample.ready,
    }
    return {name: value for name, value in found.items() if value is not None}


def _digits(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
