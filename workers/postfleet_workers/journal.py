"""The journal of a claim: what a worker was doing when it died. In Redis, one hash per claim of a bundle.

A worker opens its claim, notes each job as it begins, asks `dot` before a mail's final dot and notes the reply. A
rescuer first revokes the claim, which no later `open` or `dot` survives, and then reads: a reply completes the mail, a
dot without a reply makes it unknown, no entry means safe to run again, if the journal can be trusted to be complete.

Layout and the atomic steps are in `journal.lua`. Keys live at most 7 days.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import redis

from postfleet_workers.epoch import EPOCH_KEY, MemoryEpoch
from postfleet_workers.jobs import Trace
from postfleet_workers.lua import script, source
from postfleet_workers.pipe import Line, pack, pipe_errors

OPEN_CLAIMS_KEY = "postfleet:journals"


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
    """The seam: `Journal` in Redis, `MemoryJournal` its twin.

    Every method raises PipeUnavailable when Redis does not answer; then what it was to note may be noted or not. What
    a thread notes is noted in that order. `advance` and `close` may return before it is, and be told of an outage at
    the thread's next call; what they were given outlives this process. `open`, `dot` and `revoke` wait.
    """

    def open(self, claim: str, worker: str, epoch: str) -> bool:
        """Start a claim's journal. False: it was opened or revoked before, or `epoch` is not the live one."""

    def dot(self, claim: str, *job_ids: int) -> bool:
        """Note that their final dots go out now. False: the claim is revoked, closed or of another epoch: do not."""

    def advance(self, claim: str, replied: Mapping[int, str], begun: Mapping[int, float]) -> None:
        """Note how some jobs ended, and when others begin (epoch seconds), by job id; only while the claim is open."""

    def revoke(self, claim: str, epoch: str) -> Traces:
        """Close a claim for ever and tell what it knew; again gives the same. `epoch` is the one it was claimed in."""

    def close(self, claim: str) -> None:
        """Its outcomes are committed: forget it soon. A claim that was revoked stays so."""


class Journal:
    """The `ClaimJournal` in Redis; each thread has a line of its own, and no call is ever repeated."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = script(client, "journal")
        self._sha = str(self._script.sha).encode()
        self._own = threading.local()

    def open(self, claim: str, worker: str, epoch: str) -> bool:
        """See `ClaimJournal`."""
        return self._ask(claim, b"open", worker.encode(), epoch.encode())

    def dot(self, claim: str, *job_ids: int) -> bool:
        """See `ClaimJournal`."""
        return self._ask(claim, b"dot", *(b"%d" % job_id for job_id in job_ids))

    def advance(self, claim: str, replied: Mapping[int, str], begun: Mapping[int, float]) -> None:
        """See `ClaimJournal`."""
        notes: list[bytes] = []
        for job_id, detail in replied.items():
            notes += [b"reply", b"%d" % job_id, b"reply:" + detail.encode()]
        for job_id, at in begun.items():
            notes += [b"begin", b"%d" % job_id, b"begun:%.6f" % at]
        if notes:
            self._line().send(self._packed(claim, b"record", *notes))

    def revoke(self, claim: str, epoch: str) -> Traces:
        """See `ClaimJournal`."""
        self._line().settle()
        with pipe_errors():
            flat: Any = self._script(keys=_keys(claim), args=["revoke", claim, epoch])
        entries = dict(zip(flat[::2], flat[1::2], strict=True))
        return _traces(entries, complete=entries["complete"] == "1")

    def close(self, claim: str) -> None:
        """See `ClaimJournal`."""
        self._line().send(self._packed(claim, b"close"))

    def _line(self) -> Line:
        line: Line | None = getattr(self._own, "line", None)
        if line is None:
            line = self._own.line = Line(self._client, source("journal"))
        return line

    def _ask(self, claim: str, *words: bytes) -> bool:
        line = self._line()
        line.connect()
        return line.ask(self._packed(claim, words[0], line.run_id, *words[1:])) == b"1"

    def _packed(self, claim: str, act: bytes, *words: bytes) -> bytes:
        keys = [key.encode() for key in _keys(claim)]
        return pack(b"EVALSHA", self._sha, b"3", *keys, act, claim.encode(), *words)


def _keys(claim: str) -> list[str]:
    return [f"postfleet:journal:{claim}", OPEN_CLAIMS_KEY, EPOCH_KEY]


class MemoryJournal:
    """The twin of `Journal`, on a `MemoryEpoch`."""

    def __init__(self, epoch: MemoryEpoch) -> None:
        self._epoch = epoch

    def open(self, claim: str, worker: str, epoch: str) -> bool:
        """See `ClaimJournal`."""
        with self._epoch.lock:
            if claim in self._journals or self._epoch.current() != epoch:
                return False
            self._journals[claim] = {"state": "open", "worker": worker, "epoch": epoch}
            self._opened[claim] = True
            return True

    def dot(self, claim: str, *job_ids: int) -> bool:
        """See `ClaimJournal`."""
        with self._epoch.lock:
            journal = self._if_open(claim)
            if journal is None or journal["epoch"] != self._epoch.current():
                return False
            for job_id in job_ids:
                journal[str(job_id)] = "dot"
            return True

    def advance(self, claim: str, replied: Mapping[int, str], begun: Mapping[int, float]) -> None:
        """See `ClaimJournal`."""
        with self._epoch.lock:
            journal = self._if_open(claim)
            if journal is None:
                return
            for job_id, detail in replied.items():
                journal[str(job_id)] = f"reply:{detail}"
            for job_id, at in begun.items():
                journal.setdefault(str(job_id), f"begun:{at:.6f}")

    def revoke(self, claim: str, epoch: str) -> Traces:
        """See `ClaimJournal`."""
        with self._epoch.lock:
            journal = self._journals.get(claim)
            if journal is None or journal["state"] != "revoked":
                kept = claim not in self._opened if journal is None else journal["epoch"] == epoch
                complete = kept and self._epoch.current() == epoch
                journal = {**(journal or {}), "state": "revoked", "complete": "1" if complete else "0"}
                self._journals[claim] = journal
                self._opened.pop(claim, None)
            return _traces(journal, complete=journal["complete"] == "1")

    def close(self, claim: str) -> None:
        """See `ClaimJournal`."""
        with self._epoch.lock:
            if (journal := self._if_open(claim)) is not None:
                journal["state"] = "closed"
            self._opened.pop(claim, None)

    def lose(self, claim: str) -> None:
        """As DEL of the claim's key."""
        self._journals.pop(claim, None)

    @property
    def _journals(self) -> dict[str, dict[str, str]]:
        return self._epoch.room("journal")

    @property
    def _opened(self) -> dict[str, bool]:
        return self._epoch.room("journals")

    def _if_open(self, claim: str) -> dict[str, str] | None:
        journal = self._journals.get(claim)
        return journal if journal and journal["state"] == "open" else None


def _traces(entries: Mapping[str, str], *, complete: bool) -> Traces:
    known = {}
    for key, value in entries.items():
        if key.isdigit():
            phase, _, detail = value.partition(":")
            known[int(key)] = Trace(phase, detail, complete)
    return Traces(complete, known)
