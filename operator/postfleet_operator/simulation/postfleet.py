"""The pool's own policy: the `decide` of production, fed as the relay, the sampler and the heartbeats feed it there.

The relay counts a quarter of a second before the autoscaler looks, λ is its moving average, workers tell every five
seconds what they got done, and what a worker does and how long it takes to start is learned from that alone.
"""

from __future__ import annotations

from dataclasses import replace

from postfleet_operator.scaling.decide import decide, first_state, remember
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Decision, PodTimes, QueueLoad, Sample, Signal, Source, Work
from postfleet_operator.simulation.fleet import Fleet, View
from postfleet_operator.spec import Mode, PoolSpec

# Half a poll of the relay: how old its record is when it is read.
RECORD_AGE_SECONDS = 0.25
HALF_LIFE_SECONDS = 30.0
SETTLED_SECONDS = 10.0
HEARTBEAT_SECONDS = 5.0


class Arrivals:
    """λ as the relay measures it: a moving average of what becomes ready to run; what a limit holds does not."""

    def __init__(self) -> None:
        self._smoothed = 0.0
        self._before: View | None = None

    def look(self, view: View) -> float:
        """Jobs per second, after another look."""
        before, self._before = self._before, view
        seconds = view.now if before is None else view.now - before.now
        arrived, begun, held = (0, 0, 0) if before is None else (before.arrived, before.begun, before.throttled)
        if seconds > 0:
            # Where a limit holds jobs back, only what it let through became ready.
            came = view.begun - begun if held or view.throttled else view.arrived - arrived
            fade: float = 0.5 ** (seconds / HALF_LIFE_SECONDS)
            self._smoothed = self._smoothed * fade + came / seconds * (1 - fade)
        settled: float = 1 - 0.5 ** (max(view.now, SETTLED_SECONDS) / HALF_LIFE_SECONDS)
        return self._smoothed / settled


class Heartbeats:
    """What workers report of themselves, as the difference between the last two heartbeats."""

    def __init__(self) -> None:
        self._completed = 0
        self._at = 0.0

    def look(self, fleet: Fleet, view: View) -> Work | None:
        """What was done between the last two heartbeats, once; None while there is nothing new."""
        if view.now < self._at + HEARTBEAT_SECONDS:
            return None
        since, self._at = self._at, view.now
        done, self._completed = view.completed - self._completed, view.completed
        if not view.threads:
            return None
        # Who has started in between has not had all of that time; who drains, all of it.
        lived = [view.now - max(since, pod.ready_at) for pod in fleet.pods() if pod.ready_at <= view.now]
        others = view.threads - len(lived) * fleet.shape.threads
        seconds = (sum(lived) * fleet.shape.threads + others * (view.now - since)) / view.threads
        busy_seconds = done * fleet.shape.service_seconds
        return Work(done, busy_seconds, seconds, min(view.running, view.threads), view.threads)


class Postfleet:
    """`decide` and `remember`, every `pollingIntervalSeconds`.

    Args:
        spec: the pool's; it is replayed in mode Auto and not paused.
        began_at: epoch seconds at which the trace begins, for schedules.
    """

    def __init__(self, spec: PoolSpec, began_at: float = 0.0) -> None:
        self.spec = spec.model_copy(update={"mode": Mode.AUTO, "paused": False})
        self.next_at = 0.0
        self._queue = judged_queue(spec)
        self._began_at = began_at
        self._polling = float(spec.autoscaling.polling_interval_seconds)
        self._look_at = RECORD_AGE_SECONDS
        self._arrivals, self._heartbeats = Arrivals(), Heartbeats()
        self._signal = Signal()
        self._work: Work | None = None
        self._state: State | None = None

    def look(self, fleet: Fleet) -> int | None:
        """The relay's look, then the autoscaler's, in turn."""
        if self.next_at < self._look_at:
            view = fleet.view()
            self._signal = self._record(view)
            self._work = self._heartbeats.look(fleet, view) or self._work
            self.next_at = self._look_at
            return None
        self._look_at += self._polling
        self.next_at = self._look_at - RECORD_AGE_SECONDS
        return self._decide(fleet).after

    def _record(self, view: View) -> Signal:
        oldest = 0.0 if view.throttled else view.oldest_seconds
        load = QueueLoad(self._queue, view.free, self._arrivals.look(view), oldest)
        return Signal(
            Source.REDIS,
            ready=view.free,
            in_flight=view.running,
            throttled=view.throttled,
            throttled_by={"permitted-rate": view.throttled} if view.throttled else {},
            oldest_seconds=oldest,
            running=view.running,
            running_bundles=view.running,
            queues=(load,),
        )

    def _decide(self, fleet: Fleet) -> Decision:
        pods, now = fleet.pods(), fleet.now
        ready = sum(pod.ready_at <= now for pod in pods)
        sample = Sample(
            self._limited(fleet),
            replicas=len(pods),
            ready=ready,
            starting=len(pods) - ready,
            pods=tuple(
                PodTimes(
                    str(pod.name),
                    self._began_at + pod.created_at,
                    self._began_at + pod.ready_at if pod.ready_at <= now else None,
                )
                for pod in pods
                if pod.ready_at > pod.created_at  # those there from the beginning teach nothing
            ),
            work=self._work,
        )
        self._work = None
        at = self._began_at + now
        state = self._state or first_state(len(pods), at)
        decision = decide(sample, self.spec, state, at)
        self._state = remember(state, sample, self.spec, decision)
        return decision

    def _limited(self, fleet: Fleet) -> Signal:
        """A limit shows on work that there is; on none it shows as no limit."""
        rate = fleet.shape.permitted_rate
        if rate is None or not (self._signal.backlog or self._signal.throttled):
            return self._signal
        return replace(self._signal, permitted_per_second=rate)


def judged_queue(spec: PoolSpec) -> str:
    """The queue that the trace's jobs arrive in: the first with the pool's own target, else the first."""
    own = {target.name for target in spec.autoscaling.target.queues}
    return next((queue for queue in spec.queues if queue not in own), spec.queues[0])


def slo_seconds(spec: PoolSpec, otherwise: float) -> float:
    """How long a job may wait; `otherwise` where the pool's target is a backlog."""
    latency = spec.autoscaling.target.latency_for(judged_queue(spec))
    return otherwise if latency is None else float(latency)
