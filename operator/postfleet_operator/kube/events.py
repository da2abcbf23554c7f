"""Writes Events, from a thread of its own: no loop waits for them, and a flood of them is dropped, not queued.

The same words about the same thing within ten minutes are one Event with a count, as `kubectl describe` shows it.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from postfleet_operator.errors import NotFound, OperatorError
from postfleet_operator.kube import paths
from postfleet_operator.kube.client import Api
from postfleet_operator.reasons import EventReason, EventType

log = structlog.get_logger(__name__)

COMPONENT = "postfleet-operator"
SAME_SECONDS = 600.0
WAITING = 1000
MESSAGE_LENGTH = 1024  # the API's bound
REMEMBERED = 5000


@dataclass(frozen=True, slots=True)
class Reference:
    """What an Event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class _Told:
    about: Reference
    type: EventType
    reason: EventReason
    message: str
    at: float

    @property
    def key(self) -> tuple[Reference, EventReason, str]:
        return self.about, self.reason, self.message


@dataclass(slots=True)
class _Written:
    name: str
    first: float
    count: int = 1


class Recorder:
    """Takes Events from any thread and writes them until `stop`.

    Args:
        api: the API, whose writes ask for leadership.
        clock: epoch seconds.
    """

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._queue: queue.Queue[_Told | None] = queue.Queue(WAITING)
        self._written: dict[tuple[Reference, EventReason, str], _Written] = {}
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, for a moment, and end."""
        try:
            self._queue.put(None, timeout=1.0)
        except queue.Full:
            return
        self._thread.join(5.0)

    def record(self, about: Reference, event_type: EventType, reason: EventReason, message: str) -> None:
        """Have an Event written soon."""
        try:
            self._queue.put_nowait(_Told(about, event_type, reason, message[:MESSAGE_LENGTH], self._clock()))
        except queue.Full:
            log.warning("event_dropped", about=about.name, reason=reason, message=message)

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            try:
                self._write(told)
            except OperatorError as error:
                log.warning("event_not_written", about=told.about.name, reason=told.reason, error=str(error))
            except Exception:
                log.exception("event_not_written", about=told.about.name, reason=told.reason)

    def _write(self, told: _Told) -> None:
        before = self._written.get(told.key)
        if before is not None and told.at < before.first + SAME_SECONDS:
            before.count += 1
            path = paths.one("events", told.about.namespace, before.name)
            try:
                self._api.merge(path, {"count": before.count, "lastTimestamp": _stamp(told.at)}, COMPONENT)
            except NotFound:
                del self._written[told.key]
            else:
                return
        name = f"{told.about.name[:200]}.{_digest(told)}"
        self._api.create(paths.collection("events", told.about.namespace), _event(told, name), COMPONENT)
        if len(self._written) >= REMEMBERED:
            self._written.clear()
        self._written[told.key] = _Written(name, told.at)


def _event(told: _Told, name: str) -> dict[str, Any]:
    about = told.about
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": told.type.value,
        "reason": told.reason.value,
        "message": told.message,
        "count": 1,
        "firstTimestamp": _stamp(told.at),
        "lastTimestamp": _stamp(told.at),
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
    }


def _digest(told: _Told) -> str:
    words = f"{told.about.uid}{told.reason}{told.message}{told.at}"
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
