"""Which replica of the operator acts: a Lease in the cluster, renewed by a thread of its own.

`check` is asked in the moment before every write. It goes by the monotonic clock, so that a process that was stopped
for longer than its lead does not write when it goes on, beyond a call that was under way already.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from postfleet_operator import clock
from postfleet_operator.errors import NotFound, NotLeader, OperatorError
from postfleet_operator.kube import election, paths
from postfleet_operator.kube.client import Api
from postfleet_operator.kube.election import Record, Seen

log = structlog.get_logger(__name__)

MANAGER = "postfleet-leadership"
# What goes on failing is told again this often.
COMPLAIN_SECONDS = 30.0


class Leads(Protocol):
    """Whether this process may act."""

    def holds(self) -> bool:
        """Whether it leads now."""

    def check(self) -> None:
        """Raises NotLeader if it does not."""


class Alone:
    """The only replica there is."""

    def holds(self) -> bool:
        """Always."""
        return True

    def check(self) -> None:
        """Never raises."""


class Leadership:
    """The Lease `namespace/name`, sought after by `identity`.

    Args:
        api: a client that needs no leadership to write.
        namespace: of the Lease.
        name: of the Lease.
        identity: this process, unlike any other.
        changed: told whenever the lead was won or lost.
    """

    def __init__(
        self, api: Api, namespace: str, name: str, identity: str, changed: Callable[[bool], None] | None = None
    ) -> None:
        self.identity = identity
        self._api = api
        self._namespace, self._name = namespace, name
        self._changed = changed
        self._seen: Seen | None = None
        self._version = ""
        self._led_from = float("-inf")
        self._told = False
        self._complained: tuple[type[OperatorError], float] | None = None
        self.since = float("-inf")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="leadership", daemon=True)

    def start(self) -> None:
        """Seek the lead until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Stop seeking; a lead is given up, so that the next one need not wait for it to lapse."""
        self._stop.set()
        self._thread.join(election.DURATION_SECONDS)
        if self.holds() and self._seen is not None:
            self._led_from = float("-inf")
            try:
                self._write(election.given_up(self._seen.record, clock.now()))
            except OperatorError as error:
                log.warning("lead_not_given_up", error=str(error))

    def holds(self) -> bool:
        """Whether it leads, by a renewal that was sent recently enough."""
        return clock.monotonic() - self._led_from < election.DEADLINE_SECONDS

    def check(self) -> None:
        """Raises NotLeader if it does not lead."""
        if not self.holds():
            raise NotLeader("another replica of the operator leads")

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def round(self) -> None:
        """Take, renew or watch the Lease, once."""
        sent = clock.monotonic()
        try:
            lease = self._api.get(paths.one("leases", self._namespace, self._name))
        except NotFound:
            lease = None
        if lease is None:
            self._seen, self._version = None, ""
        else:
            self._version = str(lease["metadata"]["resourceVersion"])
            self._seen = election.observe(self._seen, election.read(lease.get("spec") or {}), sent)
        if not election.free(self._seen, self.identity, sent):
            self._led_from = float("-inf")  # whatever our clock says: somebody else was given it
            return
        self._write(election.taken(self._seen, self.identity, clock.now()))
        self._led_from = sent

    def _run(self) -> None:
        while not self._stop.is_set():
            pause = election.RENEW_SECONDS
            try:
                self.round()
            except OperatorError as error:
                self._complain(error)
                pause = election.RETRY_SECONDS if self.holds() else pause
            except Exception:
                log.exception("lease_not_renewed", leads=self.holds())
            else:
                self._complained = None
            self._tell()
            self._stop.wait(pause)
        self._tell()

    def _complain(self, error: OperatorError) -> None:
        """Say it when it begins or is another error than before, then now and then."""
        now = clock.monotonic()
        if self._complained is None or self._complained[0] is not type(error) or now >= self._complained[1]:
            log.warning("lease_not_renewed", error=str(error), leads=self.holds())
            self._complained = type(error), now + COMPLAIN_SECONDS

    def _tell(self) -> None:
        leads = self.holds()
        if leads != self._told:
            self._told, self.since = leads, clock.monotonic()
            log.info("lead_won" if leads else "lead_lost", identity=self.identity)
            if self._changed is not None:
                self._changed(leads)

    def _write(self, record: Record) -> None:
        metadata = {"name": self._name, "namespace": self._namespace}
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": election.write(record),
        }
        if not self._version:
            answer = self._api.create(paths.collection("leases", self._namespace), body, MANAGER)
        else:  # whoever wrote in between has won
            body["metadata"] = {**metadata, "resourceVersion": self._version}
            answer = self._api.replace(paths.one("leases", self._namespace, self._name), body, MANAGER)
        self._version = str(answer["metadata"]["resourceVersion"])
        written = election.read(answer.get("spec") or {})
        self._seen = replace(self._seen or Seen(written, 0.0), record=written, since=clock.monotonic())
