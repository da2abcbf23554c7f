"""Why a pool has the workers that it has, in plain words: from its spec and the status that the operator wrote. Pure.

Its sending nodes may be given too, likewise. Nothing else is asked, so that it works on `kubectl get -o yaml` of
yesterday too. Sections are a heading and lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postfleet_operator.scaling.wording import count, jobs
from postfleet_operator.slowdowns import told
from postfleet_operator.spec import Mode, PoolSpec, SendingNode
from postfleet_operator.workerset import is_dedicated

Status = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what there is to say under it."""

    heading: str
    lines: tuple[str, ...]


def explain(key: str, spec: PoolSpec, status: Status, now: float, nodes: Sequence[SendingNode] = ()) -> list[Section]:
    """What there is to say about a pool.

    Args:
        key: `namespace/name`.
        spec: what it asks for.
        status: what the operator wrote last.
        now: epoch seconds.
        nodes: the sending nodes of its namespace, with their statuses.
    """
    if not status.get("conditions"):
        return [Section(key, ("the operator has not looked at this pool yet: is it running, and does it lead?",))]
    head = Section(_headline(key, spec, status), tuple(_why(status, now)))
    found = [
        Section("The work", tuple(_work(status))),
        Section("What one worker does", tuple(_worker(spec, status))),
        Section("What holds the number", tuple(_held(spec, status, now))),
        Section("What would change it", tuple(_advice(spec, status))),
        Section("Trouble", tuple(_trouble(status))),
        Section("Sending nodes", tuple(_nodes(key, status, nodes, now))),
        Section("The shadow policy", tuple(_shadow(status, now))),
        Section("Last changes", tuple(_history(status, now))),
    ]
    return [head, *(section for section in found if section.lines)]


def _headline(key: str, spec: PoolSpec, status: Status) -> str:
    wanted, ready = status.get("desiredReplicas"), status.get("readyReplicas", 0)
    if wanted is None:
        return f"{key}: nothing was decided yet (mode {spec.mode})"
    return f"{key}: {_count(wanted, 'worker')} wanted, {ready} ready (mode {spec.mode})"


def _why(status: Status, now: float) -> Iterator[str]:
    decision = status.get("lastDecision")
    if decision:
        yield f"{_sentence(decision.get('message', ''))} ({_ago(decision.get('time'), now)})"


def _work(status: Status) -> Iterator[str]:
    backlog, inputs = status.get("backlog") or {}, _inputs(status)
    if not backlog:
        return
    waiting = inputs.get("waiting")
    arriving = status.get("arrivalsPerSecond")
    if arriving is not None:
        yield f"{arriving} jobs a second become ready to run"
    if waiting is not None:
        yield f"{_count(waiting, 'job')} waited for a worker at the last decision"
    yield (
        f"{_jobs(backlog.get('running', 0), 'run')}; the oldest that waits does so for "
        f"{_count(backlog.get('oldestSeconds', 0), 'second')}"
    )
    if throttled := backlog.get("throttled"):
        limits = [f"{_count(each['jobs'], 'job')} for {each['limit']}" for each in backlog.get("throttledBy") or []]
        which = f" ({', '.join(limits)})" if limits else ""
        yield f"{_jobs(throttled, 'wait')} for a limit or a pause: more workers do not help{which}"
    if permitted := status.get("permittedPerSecond"):
        yield f"limits let {permitted} jobs a second through"
    if scheduled := backlog.get("scheduled"):
        yield f"{_jobs(scheduled, 'wait')} for a later time"


def _worker(spec: PoolSpec, status: Status) -> Iterator[str]:
    pace, startup = status.get("throughputPerReplica"), status.get("startupSeconds")
    if pace is not None:
        yield f"{pace} jobs a second, measured ({_count(spec.worker.capacity, 'thread')})"
    elif spec.autoscaling.target.latency_seconds is not None:
        yield "not measured yet: 20 completed jobs tell"
    if startup is not None:
        yield f"it takes {startup} s to start (95th percentile)"


def _held(spec: PoolSpec, status: Status, now: float) -> Iterator[str]:
    match spec.mode:
        case Mode.MANUAL:
            yield f"mode is Manual: spec.replicas, {spec.replicas}, is copied"
        case Mode.EXTERNAL:
            yield "mode is External: something else sets the number"
        case Mode.RECOMMEND:
            yield "mode is Recommend: what is decided is not done"
        case Mode.AUTO:
            pass
    decision = status.get("lastDecision") or {}
    yield from _clamps(decision, now)


def _clamps(decision: Mapping[str, Any], now: float) -> Iterator[str]:
    for clamp in decision.get("clamps") or []:
        yield f"{clamp['name']}: {clamp['from']} -> {clamp['to']}, {clamp['why']}"
    if until := decision.get("blockedUntil"):
        yield f"until {until} ({_ahead(until, now)})"


def _advice(spec: PoolSpec, status: Status) -> Iterator[str]:
    """For each thing that holds the number, what somebody could do about it."""
    decision = status.get("lastDecision") or {}
    held = {clamp["name"]: clamp["from"] for clamp in decision.get("clamps") or []}
    if status.get("bottleneck") == "Throttle":
        held.setdefault("Throttle", 0)
    for name, needed in held.items():
        if (advice := ADVICE.get(name)) is not None:
            yield advice.format(bounds=spec.autoscaling, needed=needed, limit=_limit(status))
    limited = _condition(status, "ScalingLimited")
    if limited and limited.get("reason") == "SlowStart":
        yield str(limited.get("message", ""))
    if status.get("bottleneck") == "Signal":
        yield "mend the signal first: nothing shrinks without it"


def _limit(status: Status) -> str:
    """The limit or pause that holds the most."""
    limits: Sequence[Mapping[str, Any]] = (status.get("backlog") or {}).get("throttledBy") or []
    return str(limits[0]["limit"]) if limits else "of the nodes or tenants"


ADVICE: Mapping[str, str] = {
    "MaxReplicas": "raise autoscaling.maxReplicas from {bounds.max_replicas} to {needed}, or accept the wait",
    "MinReplicas": "lower autoscaling.minReplicas from {bounds.min_replicas} to {needed}: more is not needed now",
    "Throttle": "the limit {limit} binds, another worker would not help: raise it if the receivers stand it, "
    "or end the pause (postfleet nodes list, postfleet tenants list)",
    "Unschedulable": "make room in the cluster, or lower worker.resources: kubectl describe pod tells what is missing",
    "ScaleDownWindow": "a shorter scaleDown.stabilizationWindowSeconds than "
    "{bounds.scale_down.stabilization_window_seconds} lets it shrink sooner",
    "ScaleDownPolicy": "scaleDown's policies slow it down",
    "Cooldown": "a shorter cooldownSeconds than {bounds.cooldown_seconds} lets the last worker go sooner",
    "ScaleUpPolicy": "scaleUp's policies slow it down: without any it jumps to what is needed",
    "ScaleUpWindow": "scaleUp's window slows it down: without one it jumps to what is needed",
    "Schedule": "a schedule's floor holds it; it ends by itself",
    "Activation": "activationBacklog {bounds.activation_backlog} keeps it asleep: lower it to wake sooner",
    "Paused": "set spec.paused to false to scale again",
}
"""What somebody could do about a rule, by its name; some only wait for what will come by itself."""


def _trouble(status: Status) -> Iterator[str]:
    good = {"Ready": "True", "SignalHealthy": "True", "QueuesExclusive": "True"}
    for kind, wanted in good.items():
        condition = _condition(status, kind)
        if condition and condition.get("status") != wanted:
            yield f"{kind} is {condition['status']} ({condition.get('reason')}): {condition.get('message', '')}"


def _nodes(key: str, status: Status, nodes: Sequence[SendingNode], now: float) -> Iterator[str]:
    """What is to be said of the nodes whose mail the pool sends; those that any pool serves only while mail waits."""
    namespace, _, name = key.partition("/")
    waits = bool((status.get("backlog") or {}).get("throttled"))
    for node in sorted(nodes, key=lambda node: node.name):
        reference = node.spec.workers.pool_ref
        concerned = waits if reference is None else reference.name == name
        if concerned and node.metadata.namespace == namespace:
            yield from _node(node, now)


def _node(node: SendingNode, now: float) -> Iterator[str]:
    status: Status = node.status
    if status.get("phase") not in (None, "Active", "Warming"):
        wrong = [
            each for each in status.get("conditions") or [] if each["status"] == "False" and each["type"] != "Paused"
        ]
        why = "; ".join(str(each.get("message", "")) for each in wrong if each["type"] != "Ready")
        yield f"{node.name} is {status['phase']}{': ' if why else ''}{why}"
    if status.get("remainingToday") == 0:
        sent, cap = status.get("acceptedToday"), status.get("capToday")
        day = status.get("warmupDay")
        warmup = "" if day is None else f", day {day} of its warmup"
        yield f"{node.name} has sent {sent} of {cap} mails in the last 24 hours{warmup}"
    for slow in status.get("slowdowns") or []:
        yield f"{node.name} sends {told(slow)}, over {_ahead(slow['until'], now)}, by rule {slow['rule']}"
    own = status.get("workers") or {}
    if not is_dedicated(node) or not own:
        return
    decision = own.get("lastDecision") or {}
    wanted, ready = own.get("desiredReplicas", 0), own.get("readyReplicas", 0)
    yield (
        f"{node.name} has workers of its own: {_count(wanted, 'worker')} wanted, {ready} ready"
        f" (bottleneck {own.get('bottleneck', 'None')}): {decision.get('message', 'nothing was decided yet')}"
    )
    for line in _clamps(decision, now):
        yield f"{node.name}: {line}"


def _shadow(status: Status, now: float) -> Iterator[str]:
    if shadow := status.get("shadow"):
        yield f"it asks for {_count(shadow['desiredReplicas'], 'worker')}: {shadow.get('message', '')}"
        yield (
            f"it would have used {shadow.get('replicaHours')} replica-hours instead of "
            f"{shadow.get('liveReplicaHours')} (since {_ago(shadow.get('since'), now)})"
        )


def _history(status: Status, now: float) -> Iterator[str]:
    for decision in (status.get("recentDecisions") or [])[:5]:
        moved = f"{decision['from']} -> {decision['to']}"
        yield f"{_ago(decision.get('time'), now)}: {moved} ({decision.get('reason')})"


def _condition(status: Status, kind: str) -> Mapping[str, Any] | None:
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or []
    return next((condition for condition in conditions if condition.get("type") == kind), None)


def _inputs(status: Status) -> Mapping[str, Any]:
    inputs: Mapping[str, Any] = (status.get("lastDecision") or {}).get("inputs") or {}
    return inputs


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _jobs(number: object, verb: str) -> str:
    return jobs(int(str(number)), verb)


def _count(number: object, noun: str) -> str:
    return count(int(str(number)), noun)


def _seconds(timestamp: str | None) -> float | None:
    if not timestamp:
        return None
    try:
        return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
    except ValueError:
        return None


def _ago(timestamp: str | None, now: float) -> str:
    at = _seconds(timestamp)
    return "some time ago" if at is None else f"{_span(now - at)} ago"


def _ahead(timestamp: str | None, now: float) -> str:
    at = _seconds(timestamp)
    if at is None:
        return "some time"
    return f"in {_span(at - now)}" if at > now else "over by now"


def _span(seconds: float) -> str:
    whole = max(round(seconds), 0)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"
