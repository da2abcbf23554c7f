"""A virtual fleet: jobs arrive, replicas start, work and stop, on a virtual clock. Deterministic; exact to the job.

A replica has so many threads; each runs one job at a time for the service time, the same for every job: results need
no seed, can be checked by hand, and no policy is lucky. Jobs begin first come, first served, on the thread that has
been free for longest. A replica works `startup_seconds` after it was asked for. One that is told to stop takes no
more jobs, ends when its last one has, and costs until then. A limit, if any, is a GCRA over the beginnings of jobs;
see `limit`.

Because every job takes equally long, threads become free in the order in which they were taken: one queue of free
times is the whole machine, and a million jobs take about a second.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from postfleet_operator.simulation.limit import Limit

# The relay plans a limit so far ahead: due jobs beyond that are throttled.
PLAN_SECONDS = 60.0
# Above so many jobs, several move together: see `grain`.
EXACT_JOBS = 2_000_000


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fleet is made of.

    Attributes:
        threads: of one replica, all processes together.
        service_seconds: what a job takes.
        startup_seconds: from asking for a replica to its being Ready.
        permitted_rate: jobs per second that the limits let begin; None without one.
    """

    threads: int
    service_seconds: float = 1.0
    startup_seconds: float = 5.0
    permitted_rate: float | None = None

    @property
    def throughput(self) -> float:
        """Jobs per second of one replica whose threads are all busy."""
        return self.threads / self.service_seconds


@dataclass(slots=True)
class Replica:
    """One life. `ready_at` is when it works, or would have; `ended_at` is None while it is wanted."""

    name: int
    created_at: float
    ready_at: float
    ended_at: float | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What there is at one moment; counts are jobs.

    Attributes:
        now: seconds since the trace began.
        arrived: so far.
        begun: of these.
        completed: of these.
        free: arrived, not begun, and no limit holds them for the next minute.
        throttled: arrived, not begun, and held by the limit for longer.
        oldest_seconds: how long the oldest job has waited that has not begun.
        replicas: asked for.
        ready: of these.
        threads: of all replicas that live, those that drain included.
    """

    now: float
    arrived: int
    begun: int
    completed: int
    free: int
    throttled: int
    oldest_seconds: float
    replicas: int
    ready: int
    threads: int

    @property
    def waiting(self) -> int:
        """Arrived and not begun, limits or not."""
        return self.free + self.throttled

    @property
    def running(self) -> int:
        """Begun and not completed: busy threads."""
        return self.begun - self.completed


def grain(jobs: int, threads: int) -> int:
    """How many jobs move together on as many threads of one replica, so that a huge trace does not take for ever.

    The smallest divisor of `threads` that leaves no more than `EXACT_JOBS` moves, or all threads.
    """
    fitting = (size for size in range(1, threads + 1) if threads % size == 0 and jobs / size <= EXACT_JOBS)
    return next(fitting, threads)


class Fleet:
    """The fleet at `now`, and everything that happened so far.

    Args:
        arrivals: when jobs arrive, ascending; each entry stands for `size` jobs that move together.
        jobs: how many there are.
        shape: what it is made of.
        replicas: Ready from the beginning.
        size: see `grain`; divides the shape's threads.
    """

    def __init__(self, arrivals: Sequence[float], jobs: int, shape: Shape, replicas: int, size: int = 1) -> None:
        self.now = 0.0
        self.arrivals = arrivals
        self.jobs = jobs
        self.shape = shape
        self.size = size
        self.starts = array("d")
        self.everyone: list[Replica] = []
        self._wanted: list[Replica] = []
        self._draining: list[Replica] = []
        self._starting: deque[Replica] = deque()
        self._free: deque[float] = deque()  # when each thread is (or becomes) free, ascending
        self._owners: deque[int] = deque()  # whose thread it is
        self._limit = None if shape.permitted_rate is None else Limit(shape.permitted_rate / size)
        self._arrived = self._completed = 0
        for _ in range(replicas):
            self._add(0.0)
        self._open()

    @property
    def replicas(self) -> int:
        """Replicas asked for."""
        return len(self._wanted)

    @property
    def drained(self) -> bool:
        """Whether every job of the trace has begun."""
        return len(self.starts) == len(self.arrivals)

    @property
    def last_end(self) -> float:
        """When the last job that has begun ends."""
        return self.starts[-1] + self.shape.service_seconds if self.starts else 0.0

    def advance(self, until: float) -> None:
        """Let time pass."""
        while self._starting and self._starting[0].ready_at <= until:
            self._serve(self._starting[0].ready_at)
            self._open_one(self._starting.popleft())
        self._serve(until)
        self.now = until

    def scale(self, replicas: int) -> None:
        """Ask for so many replicas now. First go those that have not started, then those with the least to do."""
        for _ in range(replicas - len(self._wanted)):
            self._add(self.shape.startup_seconds)
        if replicas < len(self._wanted):
            self._remove(len(self._wanted) - replicas)

    def view(self) -> View:
        """What there is now."""
        self._arrived = bisect_right(self.arrivals, self.now, self._arrived)
        ended = self.now - self.shape.service_seconds
        self._completed = bisect_right(self.starts, ended + 1e-9, self._completed)
        self._draining = [replica for replica in self._draining if (replica.ended_at or 0.0) > self.now]
        begun, ready = len(self.starts), len(self._wanted) - len(self._starting)
        waiting = self._jobs(self._arrived) - self._jobs(begun)
        free = min(waiting, self._permits())
        return View(
            now=self.now,
            arrived=self._jobs(self._arrived),
            begun=self._jobs(begun),
            completed=self._jobs(self._completed),
            free=free,
            throttled=waiting - free,
            oldest_seconds=self.now - self.arrivals[begun] if waiting else 0.0,
            replicas=len(self._wanted),
            ready=ready,
            threads=(ready + len(self._draining)) * self.shape.threads,
        )

    def pods(self) -> tuple[Replica, ...]:
        """The replicas that are wanted."""
        return tuple(self._wanted)

    def replica_seconds(self, until: float) -> float:
        """What all replicas cost up to `until`: each from being asked for to its end."""
        ends = (until if replica.ended_at is None else min(replica.ended_at, until) for replica in self.everyone)
        return sum(max(end - replica.created_at, 0.0) for replica, end in zip(self.everyone, ends, strict=True))

    def waits(self, until: float) -> Sequence[float]:
        """How long each job waited for a thread; until `until`, where it never began. What a limit held is left out."""
        found = array("d", map(_since, self.starts, self.arrivals)) if self._limit is None else self._limit.waits[:]
        rest = self.arrivals[len(self.starts) :]
        found.extend(_since(until, at) for at in (rest if self._limit is None else self._limit.alone(rest)))
        return found

    def _jobs(self, entries: int) -> int:
        return min(entries * self.size, self.jobs)

    def _permits(self) -> int:
        """What the limit lets begin within its plan."""
        return self.jobs if self._limit is None else self._limit.permits(self.now, PLAN_SECONDS) * self.size

    def _serve(self, until: float) -> None:
        if self._limit is not None:
            self._serve_limited(until, self._limit)
            return
        arrivals, starts, free, owners = self.arrivals, self.starts, self._free, self._owners
        service, position, count = self.shape.service_seconds, len(starts), len(arrivals)
        take, give, begin, rotate = free.popleft, free.append, starts.append, owners.rotate
        if not free:
            return
        while position < count:
            at = arrivals[position]
            if free[0] > at:
                at = free[0]
            if at > until:
                return
            take()
            give(at + service)
            rotate(-1)
            begin(at)
            position += 1

    def _serve_limited(self, until: float, limit: Limit) -> None:
        while self._free and len(self.starts) < len(self.arrivals):
            arrival, free = self.arrivals[len(self.starts)], self._free[0]
            at = max(arrival, free, limit.opens_at)
            if at > until:
                return
            limit.begin(arrival, at, free)
            self._free.popleft()
            self._free.append(at + self.shape.service_seconds)
            self._owners.rotate(-1)
            self.starts.append(at)

    def _add(self, startup_seconds: float) -> None:
        replica = Replica(len(self.everyone), self.now, self.now + startup_seconds)
        self.everyone.append(replica)
        self._wanted.append(replica)
        self._starting.append(replica)

    def _open(self) -> None:
        while self._starting and self._starting[0].ready_at <= self.now:
            self._open_one(self._starting.popleft())

    def _open_one(self, replica: Replica) -> None:
        # Free right now, like every thread ahead of the busy ones.
        threads = self.shape.threads // self.size
        self._free.extendleft([replica.ready_at] * threads)
        self._owners.extendleft([replica.name] * threads)

    def _remove(self, count: int) -> None:
        unstarted = [self._starting.pop() for _ in range(min(count, len(self._starting)))]
        for replica in unstarted:
            replica.ended_at = self.now
        busy = Counter(owner for at, owner in zip(self._free, self._owners, strict=True) if at > self.now)
        # Newest first among equals, as a ReplicaSet does.
        ranked = sorted(
            (replica for replica in self._wanted if replica.ended_at is None),
            key=lambda replica: (busy[replica.name], -replica.name),
        )
        going = {replica.name: replica for replica in ranked[: count - len(unstarted)]}
        for replica in going.values():
            replica.ended_at = self.now
        kept = [
            (at, owner)
            for at, owner in zip(self._free, self._owners, strict=True)
            if not self._leaves(going, at, owner)
        ]
        self._free = deque(at for at, _ in kept)
        self._owners = deque(owner for _, owner in kept)
        self._draining += [replica for replica in going.values() if (replica.ended_at or 0.0) > self.now]
        self._wanted = [replica for replica in self._wanted if replica.ended_at is None]

    @staticmethod
    def _leaves(going: dict[int, Replica], at: float, owner: int) -> bool:
        replica = going.get(owner)
        if replica is None:
            return False
        replica.ended_at = max(replica.ended_at or 0.0, at)
        return True


def _since(later: float, earlier: float) -> float:
    return max(later - earlier, 0.0)
