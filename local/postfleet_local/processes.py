"""A cluster of processes: the Cluster of the operator's loop, on this machine.

One thread (the kubelet of this fleet) starts, probes, restarts and stops replicas; everything else hands it wishes
under a lock. A replica is a child process group, set up as `pods.launch` says. Ended the way a pod is: SIGTERM, the
grace period, SIGKILL.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from postfleet_local import pods, rollout, volumes
from postfleet_local.replica import Phase, Replica
from postfleet_local.stack import free_port
from postfleet_local.warden import Warden

log = structlog.get_logger(__name__)

TICK_SECONDS = 0.1
PROBES_AT_ONCE = 8
LOOP_PATIENCE_SECONDS = 5.0


@dataclass(slots=True)
class Deployment:
    """What is wanted, and the replicas there are.

    `desired` below 0: it is being deleted. `trouble` is why the last step failed, or empty. `named` should go first.
    """

    name: str
    template: Mapping[str, Any]
    desired: int = 0
    numbers: int = 0
    replicas: list[Replica] = field(default_factory=list)
    hash: str = ""
    trouble: str = ""
    named: frozenset[str] = frozenset()

    def use(self, template: Mapping[str, Any]) -> None:
        """Want this template from now on."""
        self.template, self.hash = template, pods.template_hash(template)
        self.desired = max(self.desired, 0)


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One replica; times are epoch seconds, `ready_at` None when it is not ready."""

    name: str
    created_at: float
    ready_at: float | None
    stopping: bool


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A Deployment's counts, as in its `status`. `pids` are the live processes by replica name."""

    desired: int
    replicas: int
    ready: int
    updated: int
    messages: tuple[str, ...]
    pids: Mapping[str, int]
    pods: tuple[ReplicaStatus, ...] = ()


# Told the name of a replica of which no process is left, and when it ended (monotonic seconds); off the loop's thread.
Ended = Callable[[str, float], None]


class Processes:
    """Deployments and Secrets of the fleet, and the thread that makes them so."""

    def __init__(self, directory: Path, warden: Warden, on_end: Ended | None = None) -> None:
        self.directory = directory
        self._on_end = on_end
        self._warden = warden
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._deployments: dict[str, Deployment] = {}
        self._secrets: dict[str, dict[str, bytes]] = {}
        self._closing = threading.Event()
        self._probes = ThreadPoolExecutor(PROBES_AT_ONCE, thread_name_prefix="probe")
        self._errands = ThreadPoolExecutor(1, thread_name_prefix="errand")
        self._thread = threading.Thread(target=self._loop, name="processes", daemon=True)
        self._thread.start()

    def put_secret(self, name: str, data: Mapping[str, bytes]) -> None:
        """Set a Secret; volumes of it are rewritten at once."""
        with self._lock:
            self._secrets[name] = dict(data)
            if self._folder(name).exists():
                volumes.write(self._folder(name), data)

    def delete_secret(self, name: str) -> None:
        """Forget a Secret; replicas that run keep their files, as in a cluster."""
        with self._lock:
            self._secrets.pop(name, None)

    def secret(self, name: str) -> Mapping[str, bytes] | None:
        """A Secret's data."""
        with self._lock:
            return self._secrets.get(name)

    def put_deployment(self, name: str, template: Mapping[str, Any]) -> None:
        """Set a Deployment's pod template; a changed one is rolled out."""
        with self._lock:
            self._deployments.setdefault(name, Deployment(name, template)).use(template)

    def set_replicas(self, name: str, desired: int, first_to_go: Collection[str] = ()) -> None:
        """Scale a Deployment; of its ready replicas those `first_to_go` are stopped before the others."""
        with self._lock:
            self._deployments[name].desired = desired
            self._deployments[name].named = frozenset(first_to_go)

    def delete_deployment(self, name: str) -> None:
        """Stop a Deployment's replicas and forget it once they have gone."""
        with self._lock:
            if name in self._deployments:
                self._deployments[name].desired = -1

    def status(self, name: str) -> DeploymentStatus | None:
        """Counts of a Deployment; None when there is none of that name."""
        with self._lock:
            deployment = self._deployments.get(name)
            if deployment is None or deployment.desired < 0:
                return None
            living = [r for r in deployment.replicas if r.phase is not Phase.STOPPING]
            return DeploymentStatus(
                desired=deployment.desired,
                replicas=len(living),
                ready=sum(r.phase is Phase.READY for r in living),
                updated=sum(r.template == deployment.hash for r in living),
                messages=(
                    *([f"{name}: {deployment.trouble}"] if deployment.trouble else []),
                    *(f"{r.name}: {r.message}" for r in living if r.message),
                ),
                pids={r.name: r.pid for r in deployment.replicas if r.pid is not None},
                pods=tuple(
                    ReplicaStatus(r.name, r.created_at, r.ready_at, stopping=r.phase is Phase.STOPPING)
                    for r in deployment.replicas
                ),
            )

    def wait(self, predicate: Callable[[], bool], seconds: float) -> bool:
        """Wait until `predicate()` holds; it is asked after every step of the loop."""
        with self._changed:
            return self._changed.wait_for(predicate, seconds)

    def close(self, *, patience_seconds: float | None = None) -> None:
        """Stop every replica and wait for its end; `patience_seconds` shortens their grace."""
        with self._lock:
            now = time.monotonic()
            for deployment in self._deployments.values():
                deployment.desired = -1
                for replica in deployment.replicas:
                    if patience_seconds is not None:
                        replica.grace_seconds = min(replica.grace_seconds, patience_seconds)
                    replica.kill_at = min(replica.kill_at, now + replica.grace_seconds)
            patience = max((r.grace_seconds for d in self._deployments.values() for r in d.replicas), default=0.0)
        self._closing.set()
        self._thread.join(patience + LOOP_PATIENCE_SECONDS)
        self._end_what_is_left()
        self._probes.shutdown()
        self._errands.shutdown()

    def _folder(self, secret: str) -> Path:
        return self.directory / "volumes" / secret

    def _loop(self) -> None:
        while not (self._closing.is_set() and not self._deployments):
            with self._changed:
                now = time.monotonic()
                for deployment in list(self._deployments.values()):
                    self._try_step(deployment, now)
                    if deployment.desired < 0 and not deployment.replicas:
                        del self._deployments[deployment.name]
                self._changed.notify_all()
            self._closing.wait(TICK_SECONDS) if not self._closing.is_set() else time.sleep(TICK_SECONDS / 2)

    def _try_step(self, deployment: Deployment, now: float) -> None:
        """One step; what goes wrong with one Deployment is said, and tried again at the next tick."""
        try:
            self._step(deployment, now)
        except Exception as error:
            if deployment.trouble != str(error):
                log.exception("deployment_step_failed", deployment=deployment.name)
            deployment.trouble = str(error)
        else:
            deployment.trouble = ""

    def _end_what_is_left(self) -> None:
        """End the replicas that the loop has left behind, because it ended too soon or could not."""
        with self._lock:
            now = time.monotonic()
            left = [r for d in self._deployments.values() for r in d.replicas if r.process is not None]
            for replica in left:
                if replica.phase is not Phase.STOPPING:
                    replica.stop(now)
            for replica in left:
                replica.wait_for_end(replica.kill_at - now)
                self._reap(replica, time.monotonic())
            self._deployments.clear()

    def _step(self, deployment: Deployment, now: float) -> None:
        for replica in list(deployment.replicas):
            self._look_after(deployment, replica, now)
        views = [
            rollout.View(r.name, r.number, r.template, ready=r.phase is Phase.READY, named=r.name in deployment.named)
            for r in deployment.replicas
            if r.phase is not Phase.STOPPING
        ]
        step = rollout.plan(views, max(0, deployment.desired), deployment.hash)
        for replica in list(deployment.replicas):
            if replica.name in step.stop:
                self._stop(deployment, replica, now)
        for _ in range(step.start):
            deployment.numbers += 1
            name = f"{deployment.name}-{deployment.hash}-{deployment.numbers}"
            replica = Replica(name, deployment.numbers, deployment.hash, deployment.template)
            replica.grace_seconds = pods.grace_seconds(deployment.template)
            deployment.replicas.append(replica)
            self._start(replica, now)

    def _look_after(self, deployment: Deployment, replica: Replica, now: float) -> None:
        code = self._reap(replica, now)
        if code is not None and replica.phase is not Phase.STOPPING:
            replica.crashes = rollout.crashes_in_row(replica.crashes, now - replica.started_at)
            replica.restarts += 1
            wait = rollout.backoff_seconds(replica.crashes)
            replica.turn(Phase.WAITING)
            replica.start_at = now + wait
            replica.message = f"ended with {_named(code)}, restarts in {wait:.0f} s"
            log.warning("replica_ended", replica=replica.name, exit=_named(code), restart_in_seconds=wait)
        match replica.phase:
            case Phase.STOPPING if replica.process is None:
                deployment.replicas.remove(replica)
            case Phase.STOPPING | Phase.HUNG if now >= replica.kill_at:
                replica.kill()
            case Phase.WAITING if now >= replica.start_at and replica.process is None:
                self._start(replica, now)
            case Phase.RUNNING | Phase.READY:
                self._ask(replica, now)
            case _:
                pass

    def _reap(self, replica: Replica, now: float) -> int | None:
        code = replica.reap(self._warden)
        if code is not None and self._on_end:
            self._errands.submit(self._on_end, replica.name, now)
        return code

    def _ask(self, replica: Replica, now: float) -> None:
        launch = replica.launch
        if launch and launch.readiness and now >= replica.probe_at:
            replica.probe_at = now + 3600.0
            self._probes.submit(self._probe, replica, replica.process, launch.readiness)
        if launch and launch.liveness and now >= replica.liveness_at:
            replica.liveness_at = now + 3600.0
            self._probes.submit(self._probe, replica, replica.process, launch.liveness)

    def _start(self, replica: Replica, now: float) -> None:
        try:
            replica.port = replica.port or free_port()
            mounted = pods.secret_volumes(replica.pod).values()
            for volume in mounted:
                volumes.write(self._folder(volume.secret), self._content(volume))
            folders = {volume.secret: self._folder(volume.secret) for volume in mounted}
            replica.port = free_port()  # a new one each time: whoever took the last one meanwhile keeps it
            launch = pods.launch(
                replica.pod, replica=replica.name, secrets=self._secrets, folders=folders, port=replica.port
            )
            replica.run(launch, self.directory / "logs" / f"{replica.name}.log", now, self._warden)
        except (pods.PodError, OSError) as error:
            if replica.message != str(error):
                log.warning("replica_not_started", replica=replica.name, error=str(error))
            replica.message, replica.start_at = str(error), now + 1.0
            replica.kill()  # started, but not watched over

    def _content(self, volume: pods.SecretVolume) -> Mapping[str, bytes]:
        content = self._secrets.get(volume.secret)
        if content is None and not volume.optional:
            raise pods.PodError(f"secret {volume.secret!r} not found")
        return content or {}

    def _stop(self, deployment: Deployment, replica: Replica, now: float) -> None:
        if replica.process is None:
            deployment.replicas.remove(replica)
        else:
            replica.stop(now)

    def _probe(self, replica: Replica, process: object, probe: pods.Probe) -> None:
        success = replica.answers(probe)
        with self._changed:
            if replica.process is not process or replica.phase not in (Phase.RUNNING, Phase.READY):
                return
            now = time.monotonic()
            if replica.launch and probe is replica.launch.liveness:
                if replica.found(alive=success, now=now):
                    log.warning("replica_hung", replica=replica.name, failures=probe.failures)
            else:
                replica.probed(ready=success, now=now)
            self._changed.notify_all()


def _named(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
