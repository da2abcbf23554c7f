"""How much one worker gets done: learned from what workers report. Pure.

The pace is completions per busy thread-second times a worker's threads, so that a half idle pool measures the same as a
full one (completions per replica would not: at partial load they are λ/n, and the pool would never shrink). Threads
share a processor, so the pace of few busy threads promises too much: it is capped by the best that a nearly full pool
has really shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from postfleet_operator.scaling.values import Work

# So many completions make a measurement; fewer are a guess.
ENOUGH = 20
# The memory fades by completions, not by time: an idle night forgets nothing, a new kind of job is learned in seconds.
HALF_LIFE_COMPLETIONS = 200.0
# From this share of busy threads on, a pool shows what it can do.
FULL = 0.8
# A job that takes longer than four months is none.
SLOWEST = 1e-7


@dataclass(frozen=True, slots=True)
class Throughput:
    """What was learned of a thread.

    Attributes:
        completed: completions, faded.
        busy_seconds: the thread-seconds that they took, faded.
        seen: completions ever counted, a measurement that was handed down included.
        best: most completions per thread and second of a nearly full pool; None before it was one.
        full_threads: of a pool that was nearly full at the last heartbeat; 0 of one that was not.
    """

    completed: float = 0.0
    busy_seconds: float = 0.0
    seen: int = 0
    best: float | None = None
    full_threads: int = 0

    @property
    def known(self) -> bool:
        """Whether enough was seen to scale by."""
        return self.seen >= ENOUGH and self.completed > 0 and self.busy_seconds > 0

    def per_thread(self) -> float | None:
        """Jobs per second of a busy thread; a guess while not `known`, None without any completion."""
        if self.completed <= 0 or self.busy_seconds <= 0:
            return None
        pace = self.completed / self.busy_seconds
        return max(pace if self.best is None else min(pace, self.best), SLOWEST)


def handed_down(jobs_per_second: float, threads: int) -> Throughput:
    """What the status of a pool remembers: jobs per second of one worker with so many threads."""
    return Throughput(ENOUGH, ENOUGH * threads / jobs_per_second, ENOUGH)


def learn(known: Throughput, work: Work | None) -> Throughput:
    """Take in what the workers did.

    What a full pool can do is told by an interval that was full at both ends, and no larger at its end: one that only
    became full, or that new workers joined, has few completions, and would cap the pace for good.
    """
    if work is None:
        return known
    full = work.threads if work.busy_threads >= FULL * work.threads else 0
    if work.completed <= 0 or work.busy_seconds <= 0:
        return replace(known, full_threads=full)
    kept = 0.5 ** (work.completed / HALF_LIFE_COMPLETIONS)
    learned = replace(
        known,
        completed=known.completed * kept + work.completed,
        busy_seconds=known.busy_seconds * kept + work.busy_seconds,
        seen=known.seen + work.completed,
        full_threads=full,
    )
    if not 0 < full <= known.full_threads or work.elapsed_seconds <= 0:
        return learned
    shown = work.completed / work.elapsed_seconds / work.threads
    return replace(learned, best=shown if known.best is None else max(known.best, shown))
