"""The long-running commands, `worker` and `relay`, and `migrate`."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import structlog

from postfleet_workers import app as apps
from postfleet_workers import logs
from postfleet_workers.commands.root import Root, logs_to_stderr, pass_root
from postfleet_workers.errors import InputError, PostfleetError
from postfleet_workers.settings import Settings
from postfleet_workers.worker.shares import parse_weights

FAILED = 1
BAD_INPUT = 2


@click.command()
@pass_root
def migrate(root: Root) -> None:
    """Bring the database to the newest schema. Safe to repeat, and to run twice at once.

    A schema that a later version has made is left as it is.
    """
    from postfleet_workers.store import migrate as migrations
    from postfleet_workers.store.session import engine_for, wait_until_up

    logs_to_stderr()
    engine = engine_for(root.settings.database_url, connections=1, application_name="postfleet-migrate")
    try:
        wait_until_up(engine, root.settings.start_wait_seconds)
        before = migrations.current(engine)
        migrations.upgrade(engine)
        after = migrations.current(engine)
    finally:
        engine.dispose()
    if migrations.is_newer(after):
        click.echo(f"schema at {after}, newer than this version: left as it is")
    else:
        click.echo(f"schema at {after}" if before == after else f"schema {before or 'empty'} -> {after}")


@click.command()
@click.option(
    "--queues", required=True, metavar="A,B,C", help="Queues to serve, most urgent first; the first is strict."
)
@click.option("--threads", type=click.IntRange(1, 256), default=8, show_default=True, help="Threads per process.")
@click.option("--processes", type=click.IntRange(1, 32), default=1, show_default=True, help="Processes.")
@click.option(
    "--shutdown-timeout",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="How long running jobs may finish after SIGTERM.",
)
@pass_root
def worker(root: Root, queues: str, threads: int, processes: int, shutdown_timeout: float | None) -> int:
    """Serve queues until SIGTERM: claim bundles of jobs, run them, write their outcomes.

    /readyz answers 200 once every process has written its first heartbeat, /healthz while all of them run; /metrics is
    for Prometheus.
    """
    from postfleet_workers import pipe as pipes
    from postfleet_workers.store.session import engine_for
    from postfleet_workers.worker.supervisor import supervise

    settings = root.settings
    names = queue_names(queues)
    try:
        parse_weights(settings.queue_weights)
    except ValueError as error:
        raise InputError(f"POSTFLEET_QUEUE_WEIGHTS: {error}") from None
    # What cannot work is said before a process, a port or a thread is started.
    engine_for(settings.database_url).dispose()
    pipes.connect(settings.redis_url).close()
    timeout = shutdown_timeout or settings.shutdown_timeout_seconds
    logs.configure(settings.log_format, settings.log_level)

    def serve(on_ready: Callable[[], None]) -> int:
        from postfleet_workers.worker.process import Shape, serve

        try:
            with built(settings) as app:
                return serve(app, Shape(names, threads, timeout), on_ready)
        except PostfleetError as error:
            click.echo(f"postfleet: {' '.join(str(error).split())}", err=True)
            return BAD_INPUT if isinstance(error, InputError) else FAILED

    return supervise(settings, processes, serve)


@click.command()
@pass_root
def relay(root: Root) -> int:
    """Publish due jobs to Redis, fairly and within limits, and rescue what dead workers left. Runs until SIGTERM.

    Start as many as you like: for each queue one is active, the others stand by.
    """
    from prometheus_client import CollectorRegistry

    from postfleet_workers.health import Health
    from postfleet_workers.journal import Journal
    from postfleet_workers.metrics.relay import RelayMetrics
    from postfleet_workers.relay.loop import Relay
    from postfleet_workers.relay.publisher import Publisher
    from postfleet_workers.relay.queue import Pipe

    settings = root.settings
    logs.configure(settings.log_format, settings.log_level)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    with built(settings) as app:
        pipe = Pipe(app.client)
        metrics = CollectorRegistry()
        loop = Relay(
            engine=app.lease_engine,
            client=app.client,
            pipe=pipe,
            publisher=Publisher(pipe, app.limiter, app.registry, settings),
            journal=Journal(app.client),
            registry=app.registry,
            settings=settings,
            stop=stop,
            metrics=RelayMetrics(metrics),
        )
        health = Health(
            settings.health_host,
            settings.health_port,
            live=lambda: None if loop.live() else "the loop hangs: its last round began too long ago",
            ready=lambda: None if loop.ready.is_set() else "the last round failed: PostgreSQL or Redis is away",
            registry=metrics,
        )
        health.start()
        structlog.get_logger(__name__).info("health", port=health.port)
        loop.run()
        health.stop()
    return 0


@contextmanager
def built(settings: Settings) -> Iterator[apps.App]:
    """The process' parts, closed at the end."""
    app = apps.build(settings)
    try:
        yield app
    finally:
        app.close()


def queue_names(value: str) -> tuple[str, ...]:
    """Read `a,b,c`.

    Raises:
        InputError: no queue, one twice, or a name that Dramatiq cannot take.
    """
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise InputError("--queues: name at least one queue, as --queues=priority-high,campaign-standard")
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"--queues: {name!r} is named twice; name each queue once, most urgent first")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", name):
            raise InputError(f"--queues: {name!r} is no queue name; use lower-case letters, digits, '-' and '.'")
    return names
