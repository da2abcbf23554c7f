"""The states of a job and the moves between them. Pure: the one place that knows what may follow what.

`scheduled` and `retryable` wait for their `run_at`, `available` may run now, `executing` is claimed by a worker;
`completed`, `cancelled` and `discarded` (the dead letters) are final.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a job, as written to `jobs.state`."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


FINAL = frozenset({State.COMPLETED, State.CANCELLED, State.DISCARDED})
UNFINISHED = frozenset(State) - FINAL
WAITING = frozenset({State.SCHEDULED, State.AVAILABLE, State.RETRYABLE})

# From -> to. `available -> available` is a publication; `executing -> available` a hand-back or a rescue;
# `executing -> scheduled` a snooze; a final job moves only by a person's `jobs retry`, a completed one only to send
# again a mail of which nobody knows whether it arrived (`mail.unknown`).
MOVES: dict[State, frozenset[State]] = {
    State.SCHEDULED: frozenset({State.AVAILABLE, State.CANCELLED}),
    State.AVAILABLE: frozenset({State.AVAILABLE, State.EXECUTING, State.SCHEDULED, State.CANCELLED, State.DISCARDED}),
    State.EXECUTING: frozenset(
        {
            State.COMPLETED,
            State.RETRYABLE,
            State.SCHEDULED,
            State.AVAILABLE,
            State.DISCARDED,
            State.CANCELLED,
        }
    ),
    State.RETRYABLE: frozenset({State.AVAILABLE, State.CANCELLED, State.DISCARDED}),
    State.COMPLETED: frozenset({State.AVAILABLE}),
    State.CANCELLED: frozenset({State.AVAILABLE}),
    State.DISCARDED: frozenset({State.AVAILABLE}),
}


def may_move(current: State, to: State) -> bool:
    """Whether a job in `current` may become `to`."""
    return to in MOVES[current]


def sources(to: State) -> frozenset[State]:
    """Every state from which a job may become `to`; what a guarded UPDATE compares with."""
    return frozenset(state for state, targets in MOVES.items() if to in targets)
