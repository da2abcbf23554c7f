"""The operator as a whole: who watches, who acts, who tells, and how it starts and ends.

    kopf's thread     watches -> cache
    two loops         cache, Redis, PostgreSQL -> decisions -> API      (autoscaler, keeper; only while leading)
    small threads     leadership, events, departures, relisting, health

A defect in one thread shows in /healthz, and Kubernetes starts the process again.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import structlog
from prometheus_client import CollectorRegistry

from postfleet_operator import clock, handlers
from postfleet_operator.autoscaler import Autoscaler
from postfleet_operator.errors import InputError, OperatorError
from postfleet_operator.health import Health
from postfleet_operator.keeper import Keeper
from postfleet_operator.kube import election
from postfleet_operator.kube.cache import Cache
from postfleet_operator.kube.client import Api
from postfleet_operator.kube.cluster import KubeCluster
from postfleet_operator.kube.events import Recorder, Reference
from postfleet_operator.kube.gone import Gone
from postfleet_operator.kube.kubeconfig import Access
from postfleet_operator.kube.leadership import Alone, Leadership
from postfleet_operator.kube.objects import PodView
from postfleet_operator.kube.secrets import Secrets
from postfleet_operator.metrics import Metrics
from postfleet_operator.progress import Progress
from postfleet_operator.sampling import Sampler
from postfleet_operator.settings import Settings
from postfleet_operator.stores import database, redis_client
from postfleet_operator.watches import Watches

log = structlog.get_logger(__name__)

OWN_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
RETRY_SECONDS = 2.0
RETRY_MOST_SECONDS = 10.0
STUCK_SECONDS = 60.0
END_SECONDS = 10.0
LOOK_SECONDS = 0.5
# Pools that may wait for the API server at the same time.
AT_ONCE = 8


class App:
    """The operator's threads.

    Args:
        settings: as given.
        access: how to reach the API server.
    """

    def __init__(self, settings: Settings, access: Access) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self.metrics = Metrics(self._registry)
        self._stop = threading.Event()
        namespace = settings.lease_namespace or _own_namespace()
        self._elector = Api(
            access.configuration,
            told=self.metrics.api_call,
            read_seconds=election.CALL_SECONDS,
            source=access.source,
        )
        self._leads: Leadership | Alone
        if settings.leader_election:
            identity = f"{socket.gethostname()}_{uuid4().hex[:8]}"
            self._leads = Leadership(
                self._elector, namespace, settings.lease_name, identity, changed=self.metrics.leading
            )
        else:
            self._leads = Alone()
            self.metrics.leading(True)
        self._api = Api(access.configuration, self._leads.check, self.metrics.api_call, source=access.source)
        connect = database(settings.database_url)
        self._redis = redis_client(settings.redis_url)
        self._cache = Cache()
        self._secrets = Secrets(self._api)
        self._recorder = Recorder(self._api, clock.now)
        self._gone = Gone(connect)
        lease = Reference("coordination.k8s.io/v1", "Lease", namespace, settings.lease_name)
        self._cluster = KubeCluster(self._api, self._cache, self._secrets, self._recorder, lease)
        self._progress = Progress(connect)
        self.autoscaler = Autoscaler(
            self._cluster,
            Sampler(self._redis, connect),
            self._progress,
            clock.now,
            settings.render,
            self.metrics.observe,
            self.metrics.forget,
            at_once=AT_ONCE,
        )
        self.keeper = Keeper(
            self._cluster,
            connect,
            f"operator {namespace}/{settings.lease_name} of cluster {access.cluster}",
            clock.now,
            self.autoscaler.facts,
            on_unserved=self.metrics.unserved,
            on_phase=self.metrics.node,
            forget=self.metrics.forget_node,
        )
        self._watcher = handlers.Watcher(
            self._api, self._cache, self._secrets, settings.watched, self._wake, self._note_gone
        )
        self._watches = Watches(self._watcher, access.configuration, settings.watched)
        self._threads: dict[str, threading.Thread] = {}

    def run(self, stop: threading.Event) -> None:
        """Operate until `stop` is set."""
        with ExitStack() as exits:
            exits.callback(self._close)
            health = self._health()
            health.start()
            exits.callback(health.stop)
            log.info("health_served", host=self._settings.health_host, port=health.port)
            if isinstance(self._leads, Leadership):
                self._leads.start()
                exits.callback(self._leads.stop)
            if not self._first_lists(stop):
                return
            self._recorder.start()
            exits.callback(self._recorder.stop)
            self._gone.start()
            exits.callback(self._gone.stop)
            exits.callback(self._end)
            self._run("watches", self._watches.run)
            self._run("lists", self._relist)
            self._run("autoscaler", self._rounds(self.autoscaler, "autoscaler"))
            self._run("keeper", self._rounds(self.keeper, "keeper"))
            log.info("operating", namespaces=self._settings.watched or "all")
            while not stop.wait(LOOK_SECONDS):  # nobody sees a signal that comes right before a wait without an end
                pass
        log.info("stopped")

    def _health(self) -> Health:
        host, port = self._settings.health_host, self._settings.health_port
        try:
            return Health(host, port, live=self.live, ready=self.ready, registry=self._registry)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"POSTFLEET_HEALTH_PORT: {host}:{port} is in use, give another or 0") from None
            name = "PORT" if error.errno == errno.EACCES else "HOST"
            raise InputError(f"POSTFLEET_HEALTH_{name}: cannot listen on {host}:{port}: {error.strerror}") from None

    def live(self) -> str | None:
        """What is wrong so that only a new start helps; None when nothing is."""
        dead = [name for name, thread in self._threads.items() if not thread.is_alive()]
        if dead:
            return f"threads ended: {', '.join(dead)}"
        if isinstance(self._leads, Leadership) and self._cache.synced() and not self._leads.alive():
            return "the thread that seeks the lead ended"
        if deaf := self._watcher.deaf():
            return f"watches are dead: {', '.join(deaf)}"
        if self._threads and self._leads.holds():
            loops = {"autoscaler": self.autoscaler.ticked_at, "keeper": self.keeper.ticked_at}
            stuck = [name for name, at in loops.items() if clock.now() - at > STUCK_SECONDS]
            if stuck and clock.monotonic() - self._led_since() > STUCK_SECONDS:
                return f"loops are stuck: {', '.join(stuck)}"
        return None

    def ready(self) -> str | None:
        """What is missing; None when it does its work or stands by to."""
        return None if self._cache.synced() and self._threads else "the API server was not listed yet"

    def _led_since(self) -> float:
        return self._leads.since if isinstance(self._leads, Leadership) else float("-inf")

    def _rounds(self, loop: Autoscaler | Keeper, name: str) -> Callable[[], None]:
        return lambda: loop.run(self._stop, lambda: self.metrics.tick(name), self._leads.holds)

    def _first_lists(self, stop: threading.Event) -> bool:
        """Fill the cache; while that fails, say why and try again. Whether it was done before `stop`."""
        pause = RETRY_SECONDS
        while not stop.is_set():
            try:
                self._watcher.relist()
            except OperatorError as error:
                log.warning("not_listed", error=str(error), retry_seconds=pause)
                stop.wait(pause)
                pause = min(2 * pause, RETRY_MOST_SECONDS)
            else:
                return True
        return False

    def _relist(self) -> None:
        while not self._stop.wait(self._settings.relist_seconds):
            try:
                self._watcher.relist()
            except OperatorError as error:
                log.warning("not_listed", error=str(error))
            except Exception:
                log.exception("not_listed")

    def _wake(self) -> None:
        self.autoscaler.wake()
        self.keeper.wake()

    def _note_gone(self, view: PodView) -> None:
        if self._leads.holds():
            self._gone.note(view)

    def _run(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads[name] = thread
        thread.start()

    def _end(self) -> None:
        self._stop.set()
        self._watches.end()
        self._wake()
        deadline = clock.monotonic() + END_SECONDS
        for thread in self._threads.values():
            thread.join(max(deadline - clock.monotonic(), 0.0))

    def _close(self) -> None:
        self._progress.close()
        with contextlib.suppress(Exception):
            self._redis.close()
        self._api.close()
        self._elector.close()


def _own_namespace() -> str:
    try:
        return OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return "default"
