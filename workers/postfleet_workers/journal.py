"""The journal of a claim: what a worker was doing when it died. In Redis, one hash per claim of a bundle.

A worker opens its claim, notes each job as it begins, asks `dot` before a mail's final dot and notes the reply. A
rescuer first revokes the claim, which no later `open` or `dot` survives, and then reads: a reply completes the mail, a
dot without a reply makes it unknown, no entry means safe to run again, if the journal can be trusted to be complete.

Layout and the atomic steps are in `journal.lua`. Keys live at most 7 days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from postfleet_workers.jobs import Trace


@dataclass(frozen=True, slots=True)
class Traces:
    """What a revoked claim's journal knows.

    `complete` is False when entries may have been lost: another epoch than the claim's, or the journal's key is gone.
    """

    complete: bool
    known: Mapping[int, Trace] = field(default_factory=dict)

    def of(self, job_id: int) -> Trace:
        """The job's trace; without an entry an empty one, which proves something only if it is `complete`."""
        return self.known.get(job_id) or Trace(complete=self.complete)


class ClaimJournal(Protocol):
    """The seam: `Journal` in Redis, `MemoryJournal` its twin. Every method raises PipeUnavailable."""

    def open(self, claim: str, worker: str, epoch: str) -> bool:
        """Start a claim's journal. False: it was opened or revoked before, or `epoch` is not the live one."""

    def begin(self, claim: str, job_id: int, at: float) -> None:
        """Note that a job begins, at epoch seconds. Does nothing unless the claim is open."""

    def dot(self, claim: str, job_id: int) -> bool:
        """Note that the final dot goes out now. False: the claim is revoked, closed or of an old epoch: do not send."""

    def reply(self, claim: str, job_id: int, detail: str) -> None:
        """Note the server's answer to the dot. Does nothing unless the claim is open."""

    def advance(self, claim: str, replied: tuple[int, str] | None, begin: tuple[int, float] | None) -> None:
        """`reply` of one job and `begin` of the next in one round trip."""

    def revoke(self, claim: str, epoch: str) -> Traces:
        """Close a claim for ever and tell what it knew; again gives the same. `epoch` is the one it was claimed in."""

    def close(self, claim: str) -> None:
        """Its outcomes are committed: forget it soon. A claim that was revoked stays so."""
