"""A bench for `email.send`: rows in a real PostgreSQL, limits and leases in a real Redis, a runner right here.

The runner does what the worker's does, one step at a time and in sight: claim, journal, perform, settle.
"""

from __future__ import annotations

import json
import ssl
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import redis
from sqlalchemy import Engine, text

from postfleet_workers import clock, epoch, ledger, outcomes
from postfleet_workers.actors.email_send import email_send
from postfleet_workers.jobs import Job, JobType, Outcome, Registry, Settled
from postfleet_workers.journal import Journal
from postfleet_workers.mail.credentials import Credentials, Login
from postfleet_workers.mail.delivery import Deps
from postfleet_workers.mail.message.press import Supplies
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.replies.outcome import Schedule
from postfleet_workers.mail.smtp import opening
from postfleet_workers.mail.smtp.direct import Direct
from postfleet_workers.mail.smtp.exchange import Destination, MxExchanges
from postfleet_workers.mail.smtp.resolver import CachedResolver, DnsResolver
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts
from postfleet_workers.mail.smtp.sessions import Sessions
from postfleet_workers.throttling.redis import RedisLimiter, RedisSessions

NODE = "acme-1"
TENANT = "acme"
MAIL: dict[str, Any] = {
    "tenant": TENANT, "node": NODE, "subject": "Hello", "text": "Hi {{ contact.email }}", "html": "<p>Hi</p>",
    "sender": "News <news@acme.example>", "queue": "campaign-standard",
}  # fmt: skip


@dataclass
class BenchRun:
    """`jobs.Run` over the real journal. `log` has what is journalled, in order; hooks let a test step in."""

    bench: Bench
    claim: str
    worker: str = "w1"
    log: list[tuple[str, Any]] = field(default_factory=list)
    before_dot: Callable[[Job], Any] = lambda job: None
    on_tell: Callable[[], Any] = lambda: None
    untold: dict[int, str] = field(default_factory=dict)
    lots: dict[int, Sequence[Job]] = field(default_factory=dict)

    def stopping(self) -> bool:
        return False

    def begin(self, lot: Sequence[Job]) -> None:
        now = datetime.now(UTC).timestamp()
        self.bench.journal.advance(self.claim, self.untold, {job.id: now for job in lot})
        self.untold = {}
        self.lots[threading.get_ident()] = lot

    def begun(self) -> Sequence[Job]:
        return self.lots[threading.get_ident()]

    def dot(self, *jobs: Job) -> bool:
        for job in jobs:
            self.before_dot(job)
        granted = self.bench.journal.dot(self.claim, *(job.id for job in jobs))
        self.log += [("journal dot", self.bench.message_id(job.id)) for job in jobs]
        return granted

    def reply(self, job: Job, detail: str) -> None:
        self.untold[job.id] = detail
        self.log.append(("journal reply", self.bench.message_id(job.id)))

    def took(self, job: Job, seconds: float) -> None: ...

    def tell(self) -> None:
        self.bench.journal.advance(self.claim, self.untold, {})
        self.untold = {}
        self.on_tell()

    def now(self) -> datetime:
        return datetime.now(UTC)


class Bench:
    """Everything around `email.send`. Close it at the end."""

    def __init__(
        self,
        engine: Engine,
        client: redis.Redis,
        *,
        timeouts: Timeouts | None = None,
        credentials: Credentials | None = None,
        schedule: Schedule | None = None,
        trust: ssl.SSLContext | None = None,
        session_wait_seconds: float = 0.3,
        place: str = "shared",
        dns: str = "",
        supplies: Supplies | None = None,
        at_once: int = 1,
    ) -> None:
        self.engine = engine
        self.resolver = CachedResolver(DnsResolver(dns), clock.monotonic)
        self.client = client
        self.journal = Journal(client)
        self.epoch, _ = epoch.keep(client, live_workers=False)
        timeouts = timeouts or Timeouts(connect=30, reply=30, dot=30)  # they only bound a failure
        tls = trust or ssl.create_default_context()

        direct = Direct(self.resolver, timeouts, tls=tls, monotonic=clock.monotonic, jitter=lambda: 0.0, local=True)

        def connect(node: NodeSpec, destination: Destination, login: Login | None) -> SmtpSession:
            if node.direct:
                return direct.open(node, destination.hosts)
            return opening.connect(node, login, timeouts=timeouts, tls=tls)

        self.leases = RedisSessions(client, 30.0)
        self.sessions = Sessions(self.leases, connect, credentials or Credentials(None), monotonic=clock.monotonic)
        self.deps = Deps(
            engine=engine,
            limiter=RedisLimiter(client),
            sessions=self.sessions,
            exchanges=MxExchanges(self.resolver, lambda: 0.0),
            monotonic=clock.monotonic,
            jitter=lambda: 0.0,
            pause=clock.pause,
            schedule=schedule or Schedule(300, 432_000),
            session_wait_seconds=session_wait_seconds,
            place=place,
            supplies=supplies or Supplies(),
            at_once=at_once,
        )
        self.job_type: JobType = email_send(self.deps)
        self.registry = Registry([self.job_type])
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO tenants (name) VALUES (:t) ON CONFLICT DO NOTHING"), {"t": TENANT})
            connection.execute(
                text(
                    "INSERT INTO workers (id, replica, queues, threads, lease_until) "
                    "VALUES ('w1', 'w1', '{}', 1, postfleet_now() + interval '1 hour')"
                )
            )

    def close(self) -> None:
        self.sessions.close()

    def node(
        self,
        port: int,
        *,
        name: str = NODE,
        tls: str = "None",
        paused: bool = False,
        login: bool = False,
        placement: str = "Shared",
        host: str = "127.0.0.1",
        addresses: Sequence[str] = (),
        identity: Mapping[str, Any] | None = None,
        **limits: Any,
    ) -> None:
        """Make or change the node."""
        secret = {"name": "s"} if login else None
        spec = {
            "smtp": {"host": host, "port": port, "tls": tls, "credentialsSecretRef": secret},
            "identity": {"domain": "mail.acme.example", "ipAddresses": list(addresses), **(identity or {})},
            "limits": {"maxConnections": 20, "messagesPerConnection": 100, **limits},
            "tenants": [],
            "paused": paused,
            "workers": {"placement": placement, "poolRef": {"name": "email"}},
        }
        with self.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO sending_nodes (name, spec, paused) VALUES (:name, CAST(:spec AS jsonb), :paused) "
                    "ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, paused = excluded.paused"
                ),
                {"name": name, "spec": json.dumps(spec), "paused": paused},
            )
        self.deps.directory.nodes._values.clear()

    def node_spec(self, name: str = NODE) -> NodeSpec:
        """The node as workers see it."""
        with self.engine.connect() as connection:
            return self.deps.directory.nodes.get(connection, [name], clock.monotonic())[name]

    def enqueue(self, *recipients: str, **changes: Any) -> list[int]:
        """One mail to each recipient; their email ids."""
        with self.engine.begin() as connection:
            return [send_email(connection, NewEmail(**{**MAIL, "to": to, **changes})) for to in recipients]

    def claim(self) -> tuple[list[Job], BenchRun]:
        """Claim every available job, as a worker would from a message of the relay."""
        claim = uuid.uuid4().hex
        with self.engine.begin() as connection:
            found = connection.execute(
                text(
                    "UPDATE jobs SET publication = publication + 1, published_until = postfleet_now() + interval '30 s'"
                    " WHERE state = 'available' RETURNING id, publication"
                )
            )
            items = sorted((row.id, row.publication) for row in found)
            jobs = ledger.claim(connection, items, worker="w1", claim=claim, epoch=self.epoch)
        assert self.journal.open(claim, "w1", self.epoch)
        return jobs, BenchRun(self, claim)

    def perform(self, jobs: Sequence[Job], run: BenchRun) -> list[Outcome]:
        """Begin the jobs, lot by lot, and ask for their outcomes."""
        performing = self.job_type.perform(jobs, run)
        found = []
        for start in range(0, len(jobs), self.job_type.at_once):
            lot = jobs[start : start + self.job_type.at_once]
            run.begin(lot)
            found += [next(performing) for _ in lot]
        performing.close()
        run.tell()
        return found

    def settle(self, jobs: Sequence[Job], found: Sequence[Outcome | outcomes.Rescued]) -> list[Settled]:
        """Write the outcomes."""
        results = [
            ledger.Result(job, outcome, outcomes.move(job, self.job_type, outcome, 15, 0.0), datetime.now(UTC))
            for job, outcome in zip(jobs, found, strict=True)
        ]
        with self.engine.begin() as connection:
            return ledger.settle(connection, results, worker="w1", registry=self.registry)

    def run(self) -> list[Outcome]:
        """Claim, perform and settle all that is available."""
        jobs, run = self.claim()
        found = self.perform(jobs, run)
        self.settle(jobs, found)
        return found

    def run_again(self) -> list[Outcome]:
        """Let what waits be due, then run it."""
        with self.engine.begin() as connection:
            connection.execute(text("UPDATE jobs SET state = 'available' WHERE state IN ('scheduled', 'retryable')"))
        return self.run()

    def rescue(self, jobs: Sequence[Job], run: BenchRun) -> list[Outcome | outcomes.Rescued]:
        """What the relay does with the claim of a worker that is gone."""
        traces = self.journal.revoke(run.claim, self.epoch)
        found = [outcomes.recover(job, self.job_type, traces.of(job.id), "its worker died") for job in jobs]
        self.settle(jobs, found)
        return found

    def emails(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text("SELECT * FROM emails ORDER BY id")).mappings()]

    def statuses(self) -> list[str]:
        return [row["status"] for row in self.emails()]

    def attempts(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(text("SELECT * FROM email_attempts ORDER BY id")).mappings()
            return [dict(row) for row in found]

    def jobs(self) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(text("SELECT * FROM jobs ORDER BY id")).mappings()]

    def message_id(self, job_id: int) -> str:
        return next(str(row["message_id"]) for row in self.emails() if row["job_id"] == job_id)
