"""The loop that looks after sending nodes: gather, decide, do only what differs, report. Thin: judgement is elsewhere.

It mirrors nodes into PostgreSQL, brings workers their logins, removes what no worker set wants any more, and writes
the nodes' status. It has a thread of its own: whatever keeps it waiting, scaling goes on. A node that fails is reported
and tried again; it never stops the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import psycopg
import structlog

from postfleet_operator import node_reporting, slowdowns, unserved
from postfleet_operator.census import Census, take
from postfleet_operator.cluster import BrokenNode, Cluster
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.credentials import Credentials
from postfleet_operator.deliveries import Deliveries
from postfleet_operator.errors import NotLeader, OperatorError, StoreUnavailable
from postfleet_operator.ledger import Ledger
from postfleet_operator.logins import Logins
from postfleet_operator.node_conditions import NodeFacts
from postfleet_operator.nodes import OWNER_SECONDS, foreign, mirror
from postfleet_operator.probing import Endpoint, Prober
from postfleet_operator.reachability import Reach, judge, judge_direct, on_loopback
from postfleet_operator.reasons import EventReason, EventType, Reason
from postfleet_operator.rivals import doubles
from postfleet_operator.rounds import always, due, go_round
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import SendingNode
from postfleet_operator.spec.node import Tls
from postfleet_operator.stores import Connect
from postfleet_operator.strays import Strays
from postfleet_operator.unserved import Unserved
from postfleet_operator.workerset import is_dedicated

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
# The mirror is written again this often though nothing changed, in case somebody has touched the table.
MIRROR_SECONDS = 60.0
# And this often while others have nodes of the same names.
FOREIGN_SECONDS = 5.0
# How often the ledger is asked what became of mails and which queues nobody serves.
LEDGER_SECONDS = 10.0

T = TypeVar("T")


class Keeper:
    """Looks after the sending nodes of a cluster.

    Args:
        cluster: where they live.
        connect: opens a connection to PostgreSQL.
        owner: who mirrors, unlike any other that uses this database; the same for ever.
        clock: epoch seconds.
        facts: what the autoscaler knows of a worker set, by key.
        prober: reads banners; the default has threads of its own.
        on_unserved: told every few seconds which queues nobody serves, and how many jobs wait there.
        on_phase: told the namespace, name and phase of every node, at every look.
        forget: told the namespace and name of a node that is gone.
    """

    def __init__(
        self,
        cluster: Cluster,
        connect: Connect,
        owner: str,
        clock: Callable[[], float],
        facts: Callable[[str], Facts | None],
        *,
        prober: Prober | None = None,
        on_unserved: Callable[[Mapping[str, int]], None] | None = None,
        on_phase: Callable[[str, str, str], None] | None = None,
        forget: Callable[[str, str], None] | None = None,
    ) -> None:
        self._cluster = cluster
        self._owner = owner
        self._clock = clock
        self._facts = facts
        self._on_unserved = on_unserved
        self._on_phase = on_phase
        self._forget = forget
        self._ledger = Ledger(connect)
        self._prober = prober or Prober(clock)
        self._logins = Logins(cluster)
        self._deliveries = Deliveries(clock)
        self._unserved = Unserved(cluster)
        self._woken = threading.Event()
        self.ticked_at = clock()
        self.reset()

    def reset(self) -> None:
        """Forget what was done: somebody else may have acted in between."""
        self._logins = Logins(self._cluster)
        self._strays = Strays()
        self._reports: dict[str, node_reporting.NodeReport] = {}
        self._mirrored: object = None
        self._mirrored_at: float | None = None
        self._foreign: Mapping[str, str] | None = None  # until the database has told
        self._written_at = 0.0
        self._ledger_at = 0.0
        self._database: Problem | None = None
        self._credentials = Credentials()
        self._credential_problems: Mapping[str, Problem] = {}
        self._delivery_problems: Mapping[str, Problem] = {}
        self._unserved_mail: Mapping[unserved.Road, int] = {}
        self._slowdowns: Mapping[str, tuple[Slowdown, ...]] | None = None  # until the database has told

    def run(
        self,
        stop: threading.Event,
        timed: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        leads: Callable[[], bool] = always,
    ) -> None:
        """Tick until `stop` is set while this replica leads; see `rounds`."""
        go_round(self, stop, self._woken, timed, leads)
        self._ledger.close()
        self._prober.close()

    def look(self) -> float:
        """Tick now."""
        return self.tick(self._clock())

    def wake(self) -> None:
        """Something changed, or it is time to stop: look now."""
        self._woken.set()

    def tick(self, now: float) -> float:
        """Look after everything once, at `now`; returns the seconds until the next look."""
        self.ticked_at = now
        if self._mirrored_at is not None:  # a clock that was set back: whatever waits for time to pass waits anew
            self._mirrored_at = min(self._mirrored_at, now)
        try:
            census = take(self._cluster.pools(), self._cluster.nodes())
            self._guarded("logins", partial(self._bring_logins, census, now))
            self._guarded("mirror", partial(self._mirror, census, now))
            self._guarded("strays", partial(self._tidy, census, now))
            if due(now, self._ledger_at, LEDGER_SECONDS) or self._database is not None:
                self._ledger_at = now + LEDGER_SECONDS
                self._guarded("ledger", partial(self._read_ledger, census, now))
            self._guarded("probes", partial(self._probe, census, now))
            self._report(census, now)
        except NotLeader:
            log.info("not_leading", loop="nodes")
        except OperatorError as error:
            log.warning("nodes_not_listed", error=str(error))
        except Exception:
            log.exception("keeper_crashed")
        return LOOK_SECONDS

    @staticmethod
    def _guarded(what: str, do: Callable[[], None]) -> None:
        try:
            do()
        except NotLeader:
            raise
        except StoreUnavailable as error:  # told when it began, at the nodes and in a notice
            log.debug("keeping_waits", what=what, error=str(error))
        except OperatorError as error:
            log.warning("keeping_failed", what=what, error=str(error))
        except Exception:
            log.exception("keeping_crashed", what=what)

    def _bring_logins(self, census: Census, now: float) -> None:
        if self._foreign is None:  # the first look: asked before any login is brought
            names = [node.name for node in census.mirrored]
            with contextlib.suppress(StoreUnavailable):  # then mail is sent by nobody's row
                self._foreign = self._ask(partial(foreign, names=names, owner=self._owner), now)
        self._credentials = self._logins.read(census.nodes)
        self._credential_problems = {**self._credentials.problems, **self._delivery_problems}
        if self._mirrored != self._to_mirror(census):
            self._mirrored_at = None
        self._delivery_problems = self._logins.deliver(
            census.sets, self._own(census), self._credentials.keys, census.broken_nodes, self._mirrored_at, now
        )
        self._credential_problems = {**self._credentials.problems, **self._delivery_problems}

    def _own(self, census: Census) -> list[SendingNode]:
        """A login never goes to workers that would follow another's row."""
        return [node for node in census.mirrored if node.name not in (self._foreign or ())]

    def _to_mirror(self, census: Census) -> object:
        rows = {(node.name, node.metadata.uid, node.metadata.generation) for node in census.mirrored}
        held = census.held(self._credential_problems)
        return rows, held, {node.metadata.name for node in census.broken_nodes}

    def _mirror(self, census: Census, now: float) -> None:
        wanted = self._to_mirror(census)
        if wanted != self._mirrored:
            self._mirrored_at = None
        period = FOREIGN_SECONDS if self._foreign else MIRROR_SECONDS
        if self._mirrored_at is not None and not due(now, self._written_at + period, MIRROR_SECONDS):
            return
        held, kept = census.held(self._credential_problems), [node.metadata.name for node in census.broken_nodes]
        done = self._ask(partial(mirror, nodes=census.mirrored, owner=self._owner, held=held, kept=kept), now)
        self._foreign = done.foreign
        if done.written or done.deleted:
            log.info("nodes_mirrored", written=done.written, deleted=done.deleted)
        if self._mirrored_at is None:
            self._mirrored_at = self._ledger_at = now  # a new node has numbers too
        self._mirrored, self._written_at = wanted, now

    def _ask(self, ask: Callable[[psycopg.Connection[Any]], T], now: float) -> T:
        try:
            answer = self._ledger.use(ask, now)
        except StoreUnavailable as error:
            self._tell_database(Problem(Reason.DATABASE_UNAVAILABLE, str(error)))
            raise
        self._tell_database(None)
        return answer

    def _tell_database(self, problem: Problem | None) -> None:
        before, self._database = self._database, problem
        if problem is not None and before is None:
            log.warning("database_lost", error=problem.message)
            words = f"sending nodes cannot be mirrored for now: {problem.message}"
            self._cluster.notice(EventType.WARNING, EventReason.DATABASE_LOST, words)
        elif problem is None and before is not None:
            words = "PostgreSQL answers again, the sending nodes are mirrored"
            self._cluster.notice(EventType.NORMAL, EventReason.DATABASE_RESTORED, words)

    def _tidy(self, census: Census, now: float) -> None:
        found = self._cluster.strays(census.sets)
        for stray in self._strays.due(found, [*census.broken_pools, *census.broken_nodes], self._mirrored_at, now):
            log.info("stray_removed", kind=stray.kind, namespace=stray.namespace, name=stray.name)
            self._guarded("strays", partial(self._cluster.remove, stray))

    def _read_ledger(self, census: Census, now: float) -> None:
        names = [node.name for node in census.mirrored]
        self._ask(lambda connection: self._deliveries.look(connection, names, now), now)
        self._slowdowns = self._ask(partial(slowdowns.in_force, nodes=names, now=now), now)
        mail = self._ask(partial(unserved.roads, served=census.served_by_own), now)
        self._unserved_mail = self._unserved_mail if mail is None else mail
        if census.broken_pools:  # nobody can tell which queues they serve
            return
        served = {queue for workers in census.sets for queue in workers.spec.queues}
        jobs = self._ask(partial(unserved.count, served=served), now)
        self._unserved.tell(jobs, now)
        if self._on_unserved is not None:
            self._on_unserved(jobs | {str(road): number for road, number in self._unserved_mail.items()})

    def _probe(self, census: Census, now: float) -> None:
        relayed = [node for node in census.nodes if not node.spec.smtp.direct]
        self._prober.keep({endpoint_of(node) for node in relayed})
        for node in relayed:
            if self._reach(node, now).reason is not Reason.MAIL_TAKEN:
                self._prober.ask(endpoint_of(node), now)

    def _reach(self, node: SendingNode, now: float) -> Reach:
        experience = self._deliveries.experience(node.name)
        if node.spec.smtp.direct:
            return judge_direct(experience, now=now)
        own_place = is_dedicated(node) or on_loopback(node.spec.smtp.host)
        return judge(experience, self._prober.answer(endpoint_of(node)), own_place=own_place, now=now)

    def _report(self, census: Census, now: float) -> None:
        usernames = {key: name for key, own in self._credentials.keys.items() if (name := own.username) is not None}
        twice = doubles(census.nodes, usernames)
        told: dict[str, tuple[SendingNode | BrokenNode, NodeFacts]] = {
            node.key: (node, self._facts_of(node, census, twice, now)) for node in census.nodes
        }
        for broken in census.broken_nodes:
            invalid = Problem(Reason.INVALID_SPEC, "; ".join(broken.problems))
            told[broken.key] = (broken, NodeFacts(broken.metadata.generation, invalid=invalid))
        self._keep(told)
        for key, (node, facts) in told.items():
            self._guarded(key, partial(self._report_one, node, facts, self._reports[key], now))

    def _report_one(
        self, node: SendingNode | BrokenNode, facts: NodeFacts, last: node_reporting.NodeReport, now: float
    ) -> None:
        phase = node_reporting.report(self._cluster, node, facts, last, now)
        if self._on_phase is not None and phase:
            self._on_phase(node.metadata.namespace, node.metadata.name, phase)

    def _keep(self, keys: Iterable[str]) -> None:
        before, self._reports = self._reports, {k: self._reports.get(k) or node_reporting.NodeReport() for k in keys}
        for key in before.keys() - self._reports.keys():
            if self._forget is not None:
                namespace, _, name = key.partition("/")
                self._forget(namespace, name)

    def _rival(self, name: str) -> Problem | None:
        if (owner := (self._foreign or {}).get(name)) is None:
            return None
        return Problem(
            Reason.NAME_TAKEN,
            f"{owner} has a node of this name in the same database: rename this one, give each a database of its own, "
            f"or end the other, whose nodes are free {OWNER_SECONDS / 60:.0f} minutes later",
        )

    def _facts_of(self, node: SendingNode, census: Census, twice: Mapping[str, Problem], now: float) -> NodeFacts:
        name = census.name_problems.get(node.key) or self._rival(node.name)
        reference = node.spec.workers.pool_ref if is_dedicated(node) else None
        own = census.own_sets.get(node.key)
        plan, known = node.spec.warmup, self._slowdowns if name is None and self._database is None else None
        return NodeFacts(
            node.metadata.generation,
            node.spec,
            name=name,
            mirrored=name is None and self._mirrored_at is not None and self._database is None,
            database=self._database,
            credentials=self._credential_problems.get(node.key),
            double=twice.get(node.key),
            pool=census.pool_problems.get(node.key),
            unserved=None if own is None else unserved.problem(own, self._unserved_mail),
            reach=self._reach(node, now) if name is None else None,
            accepted=self._deliveries.accepted(node.name) if name is None else None,
            warmup=None if plan is None else plan.cap(datetime.fromtimestamp(now, UTC).date()),
            slowdowns=None if known is None else known.get(node.name, ()),
            workers=None if own is None else self._facts(own.key),
            deployment="" if reference is None else f"{reference.name}-{node.name}",
        )


def endpoint_of(node: SendingNode) -> Endpoint:
    """Where the node's server listens."""
    smtp = node.spec.smtp
    return Endpoint(smtp.host, smtp.port_used, smtp.tls is Tls.IMPLICIT)
