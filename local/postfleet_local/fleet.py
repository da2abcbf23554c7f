"""A fleet on this machine: servers, relay, workers and the operator's loops, from start to stop.

Everything it starts is a child process that ends with it. One thread watches: edited manifests take effect (a broken
edit is told and the last good state stays), a server that died is started again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import structlog

from postfleet_local import routing, services, sources
from postfleet_local.cluster import ProcessCluster, Teller
from postfleet_local.errors import ManifestError, StackError
from postfleet_local.home import Home
from postfleet_local.processes import Processes
from postfleet_local.replica import SERVER_STAGE
from postfleet_local.routing import Endpoint
from postfleet_local.services import INBOUND, RELAY, WEB
from postfleet_local.stack import Postgres, Server, Sink, Valkey
from postfleet_local.warden import Warden
from postfleet_operator.autoscaler import Autoscaler, Observer
from postfleet_operator.departures import depart
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.keeper import Keeper
from postfleet_operator.manifests import Manifests
from postfleet_operator.progress import Progress
from postfleet_operator.sampling import Sampler
from postfleet_operator.spec import JobPool, SendingNode
from postfleet_operator.stores import database, redis_client
from postfleet_operator.workerset import WorkerSet, worker_sets
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for

log = structlog.get_logger(__name__)

DATABASE = "postfleet"
CONNECTIONS = "postfleet-connections"
OWNER = "a fleet on one machine"
RELAY_START_SECONDS = 10.0
SINK_PORT = 2525
RECEIVER_PORTS = {WEB: 8080, INBOUND: 2526}  # if they are free
WATCH_SECONDS = 0.5

Route = Callable[[Manifests, Endpoint], Manifests]


@dataclass(frozen=True, slots=True)
class Options:
    """What kind of fleet.

    Attributes:
        sources: files and folders with manifests; none takes a copy of the quickstart's into the fleet's folder.
        smtp: turns every node to this server; None runs a sink.
        route: how nodes meet the sink, see `routing`.
        sink_delay_seconds: shortest and longest wait before the sink answers a final dot.
        sink_port: where the sink should listen, if that port is free.
        sink_asks_login: the sink lets in only the login of the first node.
        receivers: which of `web` and `inbound` run; with web, links in mails lead to it.
        settings: more POSTFLEET_* settings for relay and workers.
    """

    sources: tuple[Path, ...] = ()
    smtp: Endpoint | None = None
    route: Route = routing.kept_here
    sink_delay_seconds: tuple[float, float] = (0.0, 0.0)
    sink_port: int | None = SINK_PORT
    sink_asks_login: bool = False
    receivers: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


class Fleet:
    """A running fleet, as a context manager.

    Args:
        home: its folder, held.
        options: what kind of fleet.
        tell: is given a line for people now and then.
        observer: is told of every scaling decision.
    """

    def __init__(self, home: Home, options: Options, tell: Teller, observer: Observer | None = None) -> None:
        self.home = home
        self.options = options
        self.postgres = Postgres(home.directory / "postgresql")
        self.valkey = Valkey(home.directory / "valkey")
        self.sink: Sink | None = None
        self.sources = options.sources
        self.ports: dict[str, int] = {}  # of the receivers
        self._tell = tell
        self._observer = observer
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._loops: list[Autoscaler | Keeper] = []
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        """Start everything.

        Raises:
            ManifestError: the manifests cannot be used.
            StackError: a server did not come up.
        """
        try:
            self._start()
            self.home.write_env(self.variables)
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop everything, workers first. Ctrl-C meanwhile shortens their grace."""
        self._exits.close()

    @property
    def database_url(self) -> str:
        """PostgreSQL."""
        return self.postgres.url(DATABASE)

    def pools(self) -> list[JobPool]:
        """The pools as they stand."""
        return [pool for pool in self.cluster.pools() if isinstance(pool, JobPool)]

    def worker_sets(self) -> tuple[WorkerSet, ...]:
        """The sets of workers as they stand."""
        return worker_sets(self.pools(), [node for node in self.cluster.nodes() if isinstance(node, SendingNode)])

    @property
    def variables(self) -> dict[str, str]:
        """What the `postfleet` command needs to join."""
        return {
            "POSTFLEET_DATABASE_URL": self.database_url,
            "POSTFLEET_REDIS_URL": self.valkey.url(),
            "POSTFLEET_SECRET_KEY": self.home.secret_key(),
            **({"POSTFLEET_PUBLIC_URL": self.public_url} if self.public_url else {}),
            **self.options.settings,
        }

    @property
    def public_url(self) -> str:
        """Where links in mails lead; empty when nothing answers there."""
        return f"http://127.0.0.1:{self.ports[WEB]}" if WEB in self.ports else ""

    @property
    def server(self) -> Endpoint:
        """The SMTP server that takes the mail."""
        if self.options.smtp is not None:
            return self.options.smtp
        if self.sink is None:
            raise StackError("the sink has not been started yet")
        return Endpoint("127.0.0.1", self.sink.port)

    def _start(self) -> None:
        manifests = sources.read(self.sources) if self.sources else None
        self._warden = self._exits.enter_context(Warden())
        for server in (self.postgres, self.valkey):
            self.home.settle_port(server)
            self._serve(server)
        self._prepare_database()
        if self.options.smtp is None:
            self._start_sink(manifests)
        if manifests is None:
            self.sources = (self.home.default_manifests(self.server.port),)
            manifests = sources.read(self.sources)
        self.processes = Processes(self.home.directory, self._warden, self._depart)
        self._exits.callback(self._stop_processes)
        self.cluster = ProcessCluster(self.processes, self.home.directory, self._tell)
        self._exits.callback(self._stop_threads)
        self._start_services()
        self._start_operator(manifests)
        self._run("watcher", self._watch)

    def _serve(self, server: Server) -> None:
        number = signal.SIGINT if isinstance(server, Postgres) else signal.SIGTERM
        server.on_spawn = lambda pid: self._warden.watch(pid, stage=SERVER_STAGE, number=number)
        self._exits.callback(server.stop)  # whatever it is doing by then: a start may be interrupted
        server.start()

    def _prepare_database(self) -> None:
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if found is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")
        engine = engine_for(self.database_url, connections=1, application_name="postfleet-local")
        upgrade(engine)
        engine.dispose()

    def _start_sink(self, manifests: Manifests | None) -> None:
        login = routing.login_of(manifests) if manifests and self.options.sink_asks_login else None
        self.sink = Sink(
            self.home.directory / "sink",
            delay_seconds=self.options.sink_delay_seconds,
            username=login.data.get("username", "") if login else "",
            password=login.data.get("password", "") if login else "",
            require_auth=login is not None,
        )
        self.home.settle_port(self.sink, self.options.sink_port)
        self._serve(self.sink)

    def _start_services(self) -> None:
        for name in self.options.receivers:
            self.ports[name] = self.home.port(name, RECEIVER_PORTS[name])
        data = {name: value.encode() for name, value in self.variables.items()}
        self.processes.put_secret(CONNECTIONS, data)
        for name in (RELAY, *self.options.receivers):
            self.processes.put_deployment(name, services.pod(name, CONNECTIONS, self.ports.get(name)))
            self.processes.set_replicas(name, 1)

    def _start_operator(self, manifests: Manifests) -> None:
        connect = database(self.database_url)
        self._redis = redis_client(self.valkey.url())
        self._progress = Progress(connect)
        self._autoscaler = Autoscaler(
            self.cluster,
            Sampler(self._redis, connect),
            self._progress,
            time.time,
            RenderSettings("postfleet", CONNECTIONS),
            self._observer,
        )
        self._keeper = Keeper(self.cluster, connect, OWNER, time.time, self._autoscaler.facts)
        self._loops = [self._autoscaler, self._keeper]
        self._apply(manifests)
        self._keeper.tick(time.time())  # once the fleet is up, its nodes can be used
        self._run("autoscaler", self._autoscale)
        self._run("keeper", lambda: self._keeper.run(self._stop))

    def _apply(self, manifests: Manifests) -> None:
        routed = self._routed(manifests)
        self.cluster.update(routed)
        for line in self._turned(manifests, routed):
            self._tell(line)
        for loop in self._loops:
            loop.wake()

    def _routed(self, manifests: Manifests) -> Manifests:
        if self.options.smtp is not None:
            return routing.to_server(manifests, self.options.smtp)
        return self.options.route(manifests, self.server)

    def _turned(self, given: Manifests, routed: Manifests) -> list[str]:
        if self.options.smtp is not None or self.options.route is not routing.kept_here:
            return []
        pairs = zip(given.nodes, routed.nodes, strict=True)
        turned = [before for before, after in pairs if before.spec.smtp != after.spec.smtp]
        return [
            f"SendingNode {node.name}: its mail stays here, in the sink, instead of going to {node.spec.smtp.host} "
            "(--smtp HOST:PORT sends it to a server of yours)"
            for node in turned
        ]

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _relay_is_ready(self) -> bool:
        status = self.processes.status(RELAY)
        return self._stop.is_set() or (status is not None and status.ready > 0)

    def _depart(self, replica: str, ended_at: float) -> None:
        try:
            with database(self.database_url)() as connection:
                depart(connection, replica, time.monotonic() - ended_at)
        except (psycopg.OperationalError, StoreUnavailable) as error:
            log.warning("departure_not_written", replica=replica, error=str(error))  # its lease will lapse

    def _autoscale(self) -> None:
        self.processes.wait(self._relay_is_ready, RELAY_START_SECONDS)
        self._autoscaler.run(self._stop)
        self._progress.close()
        self._redis.close()

    def _watch(self) -> None:
        watch = sources.Watch(sources.fingerprint(self.sources))
        while not self._stop.wait(WATCH_SECONDS):
            self._revive()
            if watch.changed(sources.fingerprint(self.sources)):
                self._reload()

    def _reload(self) -> None:
        try:
            self._apply(sources.read(self.sources))
        except ManifestError as error:
            for line in str(error).splitlines():
                self._tell(f"not applied: {line}")
        else:
            self._tell("manifests applied")

    def _revive(self) -> None:
        servers: tuple[Server | None, ...] = (self.postgres, self.valkey, self.sink)
        for server in servers:
            if server is None or server.alive() or self._stop.is_set():
                continue
            if server.process is not None:
                self._warden.forget(server.process.pid)
            self._tell(f"{server.name} has ended, starting it again")
            try:
                server.start()
            except (StackError, OSError) as error:
                self._tell(str(error))

    def _stop_threads(self) -> None:
        self._stop.set()
        for loop in self._loops:
            loop.wake()
        for thread in self._threads:
            thread.join()

    def _stop_processes(self) -> None:
        try:
            self.processes.close()
        except KeyboardInterrupt:
            self._tell("stopping at once")
            self.processes.close(patience_seconds=0.0)
