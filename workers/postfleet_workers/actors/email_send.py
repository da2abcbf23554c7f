"""`email.send`: deliver emails over SMTP. Thin: the work is in `mail/`."""

from __future__ import annotations

import random
import ssl
from collections.abc import Generator, Iterable, Sequence
from functools import partial

from postfleet_workers import clock
from postfleet_workers.actors import Services
from postfleet_workers.jobs import Job, JobType, Outcome, Run, Trace
from postfleet_workers.mail.credentials import Credentials, Login
from postfleet_workers.mail.delivery import Delivery, Deps
from postfleet_workers.mail.message.links import links_of
from postfleet_workers.mail.message.press import Supplies
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.outbox import JOB_TYPE
from postfleet_workers.mail.replies.outcome import History, Schedule, Target, outcome_of_trace
from postfleet_workers.mail.settlement import settle
from postfleet_workers.mail.smtp.direct import Direct
from postfleet_workers.mail.smtp.exchange import Destination, MxExchanges
from postfleet_workers.mail.smtp.opening import connect
from postfleet_workers.mail.smtp.resolver import CachedResolver, DnsResolver, Resolver
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts
from postfleet_workers.mail.smtp.sessions import Connect, Sessions
from postfleet_workers.mail.tokens import key_of
from postfleet_workers.placement import node_of, site_of
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.redis import RedisSessions

BUNDLE_SIZE = 50
CONNECT_SECONDS = 30.0
OPENING_SECONDS = 300.0
ANOTHER_SECONDS = 2.0  # for a session beside others, while these stand still


def job_types(services: Services) -> Iterable[JobType]:
    """What this module offers."""
    settings = services.settings
    credentials = Credentials(settings.credentials_dir)
    resolver = CachedResolver(DnsResolver(settings.dns_servers), clock.monotonic)
    secret = settings.secret_key
    key = key_of(secret.get_secret_value() if secret else None)
    deps = Deps(
        engine=services.engine,
        limiter=services.limiter,
        sessions=Sessions(
            RedisSessions(services.client, settings.session_lease_seconds),
            connector(settings, resolver),
            credentials,
            monotonic=clock.monotonic,
            connect_another=connector(settings, resolver, opening_seconds=ANOTHER_SECONDS),
        ),
        exchanges=MxExchanges(resolver, random.random),
        monotonic=clock.monotonic,
        jitter=random.random,
        pause=clock.pause,
        schedule=Schedule(settings.deferral_base_seconds, settings.deferral_max_age_seconds),
        place=settings.node,
        supplies=Supplies(credentials, key, links_of(settings.public_url, key)),
        at_once=settings.smtp_sessions_per_thread,
    )
    return [email_send(deps)]


def connector(settings: Settings, resolver: Resolver, opening_seconds: float = OPENING_SECONDS) -> Connect:
    """How this process opens sessions; certificates must be signed by the system's authorities (or SSL_CERT_FILE).

    Each step before the first mail is waited for at most `opening_seconds`.
    """
    timeouts = Timeouts(
        connect=min(CONNECT_SECONDS, settings.smtp_timeout_seconds),
        reply=settings.smtp_timeout_seconds,
        dot=settings.dot_timeout_seconds,
        opening=opening_seconds,
    )
    tls = ssl.create_default_context()
    direct = Direct(
        resolver,
        timeouts,
        tls=tls,
        monotonic=clock.monotonic,
        jitter=random.random,
        local=settings.mx_local_addresses,
    )

    def open_session(node: NodeSpec, destination: Destination, login: Login | None) -> SmtpSession:
        if node.direct:
            return direct.open(node, destination.hosts)
        return connect(node, login, timeouts=timeouts, tls=tls)

    return open_session


def email_send(deps: Deps) -> JobType:
    """The job type. Its jobs' route is the sending node, and the site if it has a name; each has a row in `emails`."""

    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        return Delivery(deps, jobs, run).outcomes()

    def recover(job: Job, trace: Trace) -> Outcome | None:
        history = History(jitter=deps.jitter())  # of earlier deferrals nothing is known here: the shortest wait
        return outcome_of_trace(trace, Target(node_of(job.route), site_of(job.route)), history, deps.schedule)

    return JobType(
        name=JOB_TYPE,
        queue="campaign-standard",
        perform=perform,
        bundle_size=BUNDLE_SIZE,
        at_once=deps.at_once,
        retry_queue="retry",
        settle=partial(settle, key=deps.supplies.key),
        recover=recover,
        close=deps.sessions.close,
    )
