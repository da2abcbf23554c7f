"""What holds of a scaling decision for every input."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_operator.scaling.decide import decide, first_state, remember
from postfleet_operator.scaling.state import Recommendation, State
from postfleet_operator.scaling.throughput import Throughput
from postfleet_operator.scaling.values import QueueLoad, Sample, Signal, Source
from postfleet_operator.spec import PoolSpec
from unit.operator.building import lost, sample, spec

counts = st.integers(0, 200_000)
signals = st.builds(
    Signal,
    source=st.sampled_from(Source),
    ready=counts,
    in_flight=counts,
    held=counts,
    throttled=counts,
    scheduled=counts,
    running=st.integers(0, 5000),
    running_bundles=st.integers(0, 5000),
    permitted_per_second=st.none() | st.floats(0, 10_000),
    queues=st.lists(
        st.builds(
            QueueLoad,
            name=st.sampled_from(["priority-high", "retry"]),
            waiting=st.integers(0, 200_000),
            arrivals_per_second=st.floats(0, 10_000),
            oldest_seconds=st.floats(0, 10_000),
        ),
        max_size=2,
        unique_by=lambda queue: queue.name,
    ).map(tuple),
)
idle = st.just(Signal(Source.REDIS))
targets = st.builds(lambda n: {"backlogPerReplica": n}, st.integers(1, 2000)) | st.builds(
    lambda n: {"latencySeconds": n}, st.integers(1, 600)
)


@st.composite
def specs(draw: st.DrawFn) -> PoolSpec:
    low = draw(st.integers(0, 30))
    return spec(
        worker={"threads": draw(st.integers(1, 256)), "processes": draw(st.integers(1, 4))},
        autoscaling={
            "minReplicas": low,
            "maxReplicas": draw(st.integers(max(low, 1), 60)),
            "cooldownSeconds": draw(st.integers(0, 120)),
            "activationBacklog": draw(st.integers(1, 1000)),
            "target": draw(targets),
            "tolerance": draw(st.sampled_from(["0", "0.1", "0.5"])),
            "scaleDown": {"stabilizationWindowSeconds": draw(st.sampled_from([0, 10, 120]))},
        },
    )


NOW = 1000.0
states = st.builds(
    State,
    idle_since=st.none() | st.floats(800, NOW),
    recommendations=st.lists(
        st.builds(Recommendation, st.floats(880, NOW), st.integers(0, 80), st.integers(0, 80)), max_size=4
    ).map(tuple),
    grown_at=st.none() | st.floats(900, NOW),
    throughput=st.builds(
        Throughput,
        completed=st.floats(0, 1000),
        busy_seconds=st.floats(0, 1000),
        seen=st.integers(0, 100),
        best=st.none() | st.floats(0.01, 100),
    ),
)
replicas = st.integers(0, 80)
samples = st.builds(
    lambda signal, wanted, ready: sample(signal, wanted, min(wanted, ready)), signals | idle, replicas, replicas
)


@given(samples, specs(), states)
def test_never_below_min_nor_above_max(seen: Sample, pool: PoolSpec, state: State) -> None:
    decision = decide(seen, pool, state, NOW)
    assert pool.autoscaling.min_replicas <= decision.after <= pool.autoscaling.max_replicas


@given(samples, specs(), states)
def test_a_broken_signal_never_shrinks_a_pool_except_to_a_lowered_max(
    seen: Sample, pool: PoolSpec, state: State
) -> None:
    decision = decide(seen, pool, state, NOW)
    if not seen.signal.healthy:
        assert decision.after >= min(seen.replicas, pool.autoscaling.max_replicas)


@given(samples, specs(), states)
def test_without_any_signal_nothing_moves_but_to_the_bounds(seen: Sample, pool: PoolSpec, state: State) -> None:
    blind = replace(seen, signal=lost())
    bounds = pool.autoscaling
    held = min(max(seen.replicas, bounds.min_replicas), bounds.max_replicas)
    assert decide(blind, pool, state, NOW).after == held


@given(samples, specs(), states, st.integers(0, 100_000))
def test_more_backlog_never_means_fewer_workers(seen: Sample, pool: PoolSpec, state: State, more: int) -> None:
    signal = seen.signal
    first = signal.queues[0] if signal.queues else QueueLoad("retry")
    queues = (replace(first, waiting=first.waiting + more), *signal.queues[1:])
    heavier = replace(seen, signal=replace(signal, held=signal.held + more, queues=queues))
    lighter = replace(seen, signal=replace(signal, queues=(first, *signal.queues[1:])))
    assert decide(heavier, pool, state, NOW).after >= decide(lighter, pool, state, NOW).after


@given(samples, specs(), states)
def test_what_limits_hold_changes_nothing(seen: Sample, pool: PoolSpec, state: State) -> None:
    free = replace(seen, signal=replace(seen.signal, throttled=0))
    assert decide(free, pool, state, NOW).after == decide(seen, pool, state, NOW).after


@given(samples, specs(), states)
def test_running_jobs_keep_their_workers(seen: Sample, pool: PoolSpec, state: State) -> None:
    floor = min(
        seen.replicas, math.ceil(seen.signal.running_bundles / pool.worker.capacity), pool.autoscaling.max_replicas
    )
    assert decide(seen, pool, state, NOW).after >= floor


@given(samples, specs(), states)
def test_zero_only_after_fresh_idleness_for_the_cooldown(seen: Sample, pool: PoolSpec, state: State) -> None:
    if decide(seen, pool, state, NOW).after > 0 or seen.replicas == 0:
        return
    assert seen.signal.healthy
    assert seen.signal.backlog == 0
    idle_since = NOW if state.idle_since is None else state.idle_since
    assert NOW - idle_since >= pool.autoscaling.cooldown_seconds


@given(samples, specs(), states, st.booleans())
def test_a_paused_pool_keeps_what_it_has(seen: Sample, pool: PoolSpec, state: State, manual: bool) -> None:
    held = pool.model_copy(update={"paused": True, **({"mode": "Manual"} if manual else {})})
    assert decide(seen, held, state, NOW).after == seen.replicas


@given(samples, specs(), states)
def test_the_clamps_lead_from_the_need_to_the_number_without_a_gap(seen: Sample, pool: PoolSpec, state: State) -> None:
    decision = decide(seen, pool, state, NOW)
    steps = [decision.needed, *(clamp.after for clamp in decision.clamps)]
    assert [clamp.before for clamp in decision.clamps] == steps[:-1]
    assert steps[-1] == decision.after
    assert all(clamp.before != clamp.after for clamp in decision.clamps)


@settings(max_examples=50)
@given(st.lists(signals | idle, min_size=1, max_size=60), specs())
def test_over_time_zero_is_reached_only_through_unbroken_idleness(seen: list[Signal], pool: PoolSpec) -> None:
    now, current, state = NOW, 5, first_state(5, NOW)
    idle_from: float | None = None
    for signal in seen:
        now += 2.0
        fresh_idle = signal.healthy and signal.backlog == 0
        idle_from = (now if idle_from is None else idle_from) if fresh_idle else None
        decision = decide(sample(signal, current), pool, state, now)
        if current > 0 and decision.after == 0:
            assert idle_from is not None
            assert now - idle_from >= pool.autoscaling.cooldown_seconds
        state, current = remember(state, sample(signal, current), pool, decision), decision.after
