"""What runs of a pod: a process of this machine, or, where a test has too many pods for that, a pretence."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from podfiles import Sources, account_volume, plain, projected, with_account
from podstatus import Exit, Report

from postfleet_local import pods, rollout, volumes
from postfleet_local.replica import Phase, Replica
from postfleet_local.stack import free_port
from postfleet_local.warden import Warden

LATER = 3600.0
REAL_FIELDS = {"metadata.namespace", "metadata.uid", "spec.nodeName"}
"""Which `pods.launch` would make up."""


class Body(Protocol):
    """Lives in the agent's loop and under its lock; `now` is monotonic seconds."""

    def step(self, now: float) -> bool:
        """Go on; False: nothing will change until something is asked of it."""
        ...

    def stop(self, now: float, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL after the grace."""
        ...

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        ...

    def refresh(self) -> None:
        """Secrets have changed."""
        ...

    def ended(self) -> bool:
        """Whether nothing runs any more after `stop` or `kill`."""
        ...

    def report(self) -> Report:
        """How it is."""
        ...


@dataclass(slots=True)
class Pretence:
    """Ready after a while, gone as soon as it is told to."""

    start_at: float
    ready_seconds: float
    told: bool = False
    _report: Report = field(default_factory=Report)

    def step(self, now: float) -> bool:
        """See `Body`."""
        wall = time.time()
        if self.told:
            return False
        if self._report.started_at is None and now >= self.start_at:
            self._report = Report(started_at=wall)
        if self._report.started_at is not None and now >= self.start_at + self.ready_seconds:
            self._report = Report(started_at=self._report.started_at, ready_at=wall)
            return False
        return True

    def stop(self, now: float, grace_seconds: float) -> None:
        """See `Body`."""
        self.kill()

    def kill(self) -> None:
        """See `Body`."""
        self.told = True
        self._report = Report(last_exit=Exit(0, time.time()), ended=True)

    def refresh(self) -> None:
        """See `Body`."""

    def ended(self) -> bool:
        """See `Body`."""
        return self.told

    def report(self) -> Report:
        """See `Body`."""
        return self._report


@dataclass(slots=True)
class Running:
    """The first container's command as a process, set up as `postfleet_local.pods` says.

    It is started again when it ends, unless the pod's restartPolicy says that this was its end.

    Attributes:
        exits: how it ended, each time.
    """

    pod: Mapping[str, Any]
    directory: Path
    sources: Sources
    warden: Warden
    probes: Executor
    lock: threading.RLock
    start_at: float
    exits: list[Exit] = field(default_factory=list)
    replica: Replica = field(init=False)
    _started_at: float | None = None
    _stopped: bool = False
    _done: bool = False
    _projected: dict[str, dict[str, bytes]] | None = None

    def __post_init__(self) -> None:
        template = {"metadata": self.pod["metadata"], "spec": plain(self.pod["spec"])}
        self.replica = Replica(self.pod["metadata"]["name"], 1, "", template)
        self.replica.grace_seconds = pods.grace_seconds(template)
        self.replica.start_at = self.start_at

    def step(self, now: float) -> bool:
        """See `Body`."""
        replica = self.replica
        code = replica.reap(self.warden)
        if code is not None:
            self._over(code, now)
        match replica.phase:
            case Phase.STOPPING | Phase.HUNG if now >= replica.kill_at:
                replica.kill()
            case Phase.WAITING if now >= replica.start_at and replica.process is None:
                self._start(now)
            case Phase.RUNNING | Phase.READY:
                self._ask(now)
            case _:
                pass
        return not self._done

    def stop(self, now: float, grace_seconds: float) -> None:
        """See `Body`."""
        self._stopped = True
        self.replica.grace_seconds = grace_seconds
        self.replica.stop(now)

    def kill(self) -> None:
        """See `Body`."""
        self._stopped = True
        self.replica.turn(Phase.STOPPING)
        self.replica.kill()
        self.replica.wait_for_end(0)
        self.replica.reap(self.warden)

    def refresh(self) -> None:
        """See `Body`. Files change, variables do not: as in a cluster."""
        for name, volume in pods.secret_volumes(self.replica.pod).items():
            content = self.sources.secrets.get(volume.secret, {} if volume.optional else None)
            if content is not None and self._folder(name).exists():
                volumes.write(self._folder(name), content)

    def ended(self) -> bool:
        """See `Body`."""
        return (self._stopped or self._done) and self.replica.process is None

    def report(self) -> Report:
        """See `Body`."""
        replica = self.replica
        reason = "ContainerCreating"
        if replica.message:
            reason = "CrashLoopBackOff" if self.exits else "CreateContainerConfigError"
        return Report(
            started_at=self._started_at,
            ready_at=replica.ready_at,
            restarts=replica.restarts,
            waiting=(reason, replica.message),
            last_exit=self.exits[-1] if self.exits else None,
            ended=self.ended(),
        )

    def _over(self, code: int, now: float) -> None:
        replica = self.replica
        self._started_at = None
        self.exits.append(Exit(code if code >= 0 else 128 - code, time.time()))
        policy = self.pod["spec"].get("restartPolicy", "Always")
        self._done = policy == "Never" or (policy == "OnFailure" and code == 0)
        if self._stopped or self._done:
            replica.turn(Phase.STOPPING)
            return
        replica.crashes = rollout.crashes_in_row(replica.crashes, now - replica.started_at)
        replica.restarts += 1
        replica.start_at = now + rollout.backoff_seconds(replica.crashes)
        replica.message = f"back-off {rollout.backoff_seconds(replica.crashes):.0f}s restarting failed container"
        replica.turn(Phase.WAITING)

    def _start(self, now: float) -> None:
        replica = self.replica
        try:
            mounted = pods.secret_volumes(replica.pod)
            for name, volume in mounted.items():
                volumes.write(self._folder(name), self._content(volume))
            if self._projected is None:  # once: a pod starts again without an API server, too
                self._projected = projected(self.pod, self.sources)
            for name, files in self._projected.items():
                volumes.write(self._folder(name), files)
            replica.port = free_port()
            launch = pods.launch(
                resolved(replica.pod, self.sources.maps),
                replica=replica.name,
                secrets=self.sources.secrets,
                folders={volume.secret: self._folder(name) for name, volume in mounted.items()},
                port=replica.port,
            )
            launch = replace(launch, env={**self.sources.env, **launch.env})
            if account := account_volume(self.pod):
                launch = replace(launch, argv=with_account(launch.argv, str(self._folder(account).resolve())))
            replica.run(launch, self.directory / f"{replica.name}.log", now, self.warden)
            self._started_at = time.time()
        except (pods.PodError, OSError) as error:
            replica.message, replica.start_at = str(error), now + 1.0
            replica.kill()

    def _ask(self, now: float) -> None:
        launch = self.replica.launch
        if launch and launch.readiness and now >= self.replica.probe_at:
            self.replica.probe_at = now + LATER
            self.probes.submit(self._probe, self.replica.process, launch.readiness, self._readiness)
        if launch and launch.liveness and now >= self.replica.liveness_at:
            self.replica.liveness_at = now + LATER
            self.probes.submit(self._probe, self.replica.process, launch.liveness, self._liveness)

    def _probe(self, process: object, probe: pods.Probe, take: Callable[[bool, float], object]) -> None:
        answer = self.replica.answers(probe)
        with self.lock:
            if self.replica.process is process and self.replica.phase in (Phase.RUNNING, Phase.READY):
                take(answer, time.monotonic())

    def _readiness(self, answer: bool, now: float) -> None:
        self.replica.probed(ready=answer, now=now)

    def _liveness(self, answer: bool, now: float) -> None:
        self.replica.found(alive=answer, now=now)

    def _content(self, volume: pods.SecretVolume) -> Mapping[str, bytes]:
        content = self.sources.secrets.get(volume.secret)
        if content is None and not volume.optional:
            raise pods.PodError(f"secret {volume.secret!r} not found")
        return content or {}

    def _folder(self, volume: str) -> Path:
        return self.directory / self.replica.name / volume


def resolved(pod: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The pod with what `pods.launch` does not know as plain values: ConfigMaps, and fields of a real pod.

    Raises:
        PodError: a ConfigMap or a key is missing.
    """
    first, *others = pod["spec"]["containers"]
    env = [variable for source in first.get("envFrom", ()) for variable in _all_of(source, maps)]
    env += [_plain(variable, pod, maps) for variable in first.get("env", ())]
    sources = [source for source in first.get("envFrom", ()) if "configMapRef" not in source]
    spec = {**pod["spec"], "containers": [{**first, "env": env, "envFrom": sources}, *others]}
    return {"metadata": pod["metadata"], "spec": spec}


def _all_of(source: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    if "configMapRef" not in source:
        return []
    reference = source["configMapRef"]
    if reference["name"] not in maps and not reference.get("optional"):
        raise pods.PodError(f"configmap {reference['name']!r} not found")
    prefix = source.get("prefix", "")
    return [{"name": prefix + key, "value": _literal(value)} for key, value in maps.get(reference["name"], {}).items()]


def _plain(
    variable: Mapping[str, Any], pod: Mapping[str, Any], maps: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Any]:
    match variable:
        case {"valueFrom": {"configMapKeyRef": {"name": name, "key": key, **rest}}}:
            value = maps.get(name, {}).get(key)
            if value is None and not rest.get("optional"):
                raise pods.PodError(f"configmap {name!r} has no key {key!r}, which {variable['name']} needs")
            return {"name": variable["name"], "value": _literal(value or "")}
        case {
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace" | "metadata.uid" | "spec.nodeName" as path}}
        }:
            part, name = path.split(".")
            return {"name": variable["name"], "value": pod[part][name]}
        case _:
            return variable


def _literal(value: str) -> str:
    return value.replace("$(", "$$(")
