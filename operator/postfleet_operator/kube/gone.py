"""Tells the ledger of pods that are gone for certain, from a thread of its own: their jobs come back at once.

A pod whose containers were never seen to end, because its node was lost or it was deleted by force, may still run: it
is left to its lease.
"""

from __future__ import annotations

import queue
import threading

import psycopg
import structlog

from postfleet_operator.departures import depart
from postfleet_operator.errors import StoreUnavailable, said
from postfleet_operator.kube.objects import PodView
from postfleet_operator.stores import Connect

log = structlog.get_logger(__name__)


class Gone:
    """Takes pods from any thread."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gone", daemon=True)

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell of what is left, and end."""
        self._queue.put(None)
        self._thread.join(5.0)

    def note(self, view: PodView) -> None:
        """A pod is gone from the API."""
        if view.ended:
            self._queue.put(view.pod.name)

    def _run(self) -> None:
        while (replica := self._queue.get()) is not None:
            try:
                with self._connect() as connection:
                    depart(connection, replica, 0.0)
            except (StoreUnavailable, psycopg.Error) as error:  # its lease lapses all the same
                log.warning("departure_not_told", replica=replica, error=said(error))
            except Exception:
                log.exception("departure_not_told", replica=replica)
