"""Scheduler and kubelet of the suite: Nodes whose pods are processes of this machine, or pretended.

It does with the pods of one namespace what a cluster would: binds them to a Node that takes them, starts, probes,
restarts and ends them, mounts Secrets and tokens, and reports. `Agent.machines` are the Nodes; one that takes no more
pods, or has a taint, leaves pods Unschedulable. Only the first container of a pod runs, and without its image: its
command is looked up on PATH, this environment's programs first.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubeapi import STRATEGIC, Api, ApiError, Manifest, Watch
from podbody import Body, Pretence, Running
from podfiles import Pod, Sources
from podstatus import Exit, Machine, Report, stamp, status, unschedulable
from servers import ControlPlane

from postfleet_local.pods import PodError
from postfleet_local.warden import Warden

TICK_SECONDS = 0.05
RETRY_SECONDS = 0.5
AT_ONCE = 4


@dataclass(slots=True)
class Held:
    """A pod of the namespace: as last heard of, what runs of it, what was said of it."""

    pod: Manifest
    machine: str = ""
    body: Body | None = None
    report: Report | None = None
    said: Mapping[str, Any] | None = None
    unready_at: float | None = None
    told: bool = False
    """Told to end."""
    over: bool = False
    """Ended after that."""

    @property
    def doomed(self) -> bool:
        """Whether it is being deleted."""
        return "deletionTimestamp" in self.pod["metadata"]


class Agent:
    """The Nodes of a namespace.

    Attributes:
        machines: the Nodes; what they take may be changed at any time.
        start_delay_seconds: from a pod's binding to its process, as if an image were pulled.
        pretend_ready_seconds: None: pods run. Else they do not, and are ready after this time.
        exits: how containers ended, by pod name; also of pods that have gone.
    """

    def __init__(
        self,
        plane: ControlPlane,
        namespace: str,
        directory: Path,
        *,
        machines: tuple[Machine, ...] = (),
        start_delay_seconds: float = 0.0,
        pretend_ready_seconds: float | None = None,
    ) -> None:
        self.machines = {machine.name: machine for machine in machines or (Machine(f"{namespace}-node"),)}
        self.start_delay_seconds = start_delay_seconds
        self.pretend_ready_seconds = pretend_ready_seconds
        self.exits: dict[str, list[Exit]] = {}
        self._directory = directory
        self._api = Api(plane)
        self._path = f"/api/v1/namespaces/{namespace}"
        self._lock = threading.RLock()
        self._held: dict[str, Held] = {}
        self._active: set[str] = set()
        self._dirty: set[str] = set()
        self._again: dict[str, float] = {}
        host, _, port = plane.url.removeprefix("https://").partition(":")
        env = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        self._sources = Sources(token=self._token, env=env)
        self._closing = threading.Event()
        self._warden = Warden()
        self._probes = ThreadPoolExecutor(8, thread_name_prefix="probe")
        self._calls = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="call")
        self._watches = [
            Watch(self._api, f"{self._path}/secrets", self._secret),
            Watch(self._api, f"{self._path}/configmaps", self._map),
            Watch(self._api, f"{self._path}/pods", self._pod),
        ]
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in (self._live, self._tell)]

    def start(self) -> None:
        """Register the Nodes and take pods."""
        for machine in self.machines.values():
            self._register(machine)
        for watch in self._watches:
            watch.start()
            watch.listed.wait(10)
        for thread in self._threads:
            thread.start()

    def add(self, machine: Machine) -> None:
        """One more Node."""
        self._register(machine)
        with self._lock:
            self.machines[machine.name] = machine

    def pids(self) -> dict[str, int]:
        """The live processes by pod name."""
        with self._lock:
            bodies = [held.body for held in self._held.values() if isinstance(held.body, Running)]
            return {body.replica.name: body.replica.pid for body in bodies if body.replica.pid is not None}

    def ports(self) -> dict[str, int]:
        """Where the health endpoints of the live processes are, by pod name."""
        with self._lock:
            bodies = [held.body for held in self._held.values() if isinstance(held.body, Running)]
            return {body.replica.name: body.replica.port for body in bodies if body.replica.pid is not None}

    def log(self, pod: str) -> str:
        """What a pod's processes wrote."""
        path = self._directory / f"{pod}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def close(self) -> None:
        """End everything that runs, and take the Nodes and their pods away."""
        self._closing.set()
        for watch in self._watches:
            watch.close()
        for thread in self._threads:
            thread.join()
        with self._lock:
            for held in self._held.values():
                if held.body is not None:
                    held.body.kill()
        self._probes.shutdown()
        self._calls.shutdown()
        self._warden.close()
        self._try("DELETE", f"{self._path}/pods", {"gracePeriodSeconds": 0})
        for name in self.machines:
            self._try("DELETE", f"/api/v1/nodes/{name}")
        self._api.close()

    # What is heard.

    def _secret(self, kind: str, secret: Manifest) -> None:
        data = {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}
        with self._lock:
            if kind == "DELETED":
                self._sources.secrets.pop(secret["metadata"]["name"], None)
            else:
                self._sources.secrets[secret["metadata"]["name"]] = data
            for held in self._held.values():
                if held.body is not None:
                    held.body.refresh()

    def _map(self, kind: str, found: Manifest) -> None:
        with self._lock:
            if kind == "DELETED":
                self._sources.maps.pop(found["metadata"]["name"], None)
            else:
                self._sources.maps[found["metadata"]["name"]] = dict(found.get("data") or {})

    def _pod(self, kind: str, pod: Manifest) -> None:
        uid = pod["metadata"]["uid"]
        with self._lock:
            if kind == "DELETED":
                self._forget(uid)
                return
            held = self._held.setdefault(uid, Held(pod))
            held.pod = pod
            now = time.monotonic()
            if held.body is None and not held.doomed and pod["spec"].get("nodeName") in self.machines:
                held.machine = pod["spec"]["nodeName"]
                held.body = self._embody(pod, now)
                self._active.add(uid)
            if held.doomed and held.body is not None and not held.told:
                held.told = True
                held.body.stop(now, float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))
                self._active.add(uid)
            self._dirty.add(uid)

    def _embody(self, pod: Manifest, now: float) -> Body:
        start_at = now + self.start_delay_seconds
        if self.pretend_ready_seconds is not None:
            return Pretence(start_at, self.pretend_ready_seconds)
        body = Running(pod, self._directory, self._sources, self._warden, self._probes, self._lock, start_at)
        self.exits[pod["metadata"]["name"]] = body.exits
        return body

    def _token(self, pod: Pod, wanted: Mapping[str, Any]) -> str:
        """Of the pod's account, and good for as long as the pod is there."""
        metadata, account = pod["metadata"], pod["spec"]["serviceAccountName"]
        bound = {"kind": "Pod", "apiVersion": "v1", "name": metadata["name"], "uid": metadata["uid"]}
        audiences = [wanted["audience"]] if "audience" in wanted else []
        spec = {"audiences": audiences, "expirationSeconds": wanted["expirationSeconds"], "boundObjectRef": bound}
        try:
            found = self._api.call("POST", f"{self._path}/serviceaccounts/{account}/token", {"spec": spec})
        except (ApiError, urllib3.exceptions.HTTPError) as error:
            raise PodError(f"no token for {account}: {error}") from error
        return str(found["status"]["token"])

    def _forget(self, uid: str) -> None:
        """It is gone from the API: by our word, or by force."""
        held = self._held.pop(uid, None)
        self._active.discard(uid)
        if held is not None and held.body is not None:
            held.body.kill()

    # What is done.

    def _live(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            with self._lock:
                now = time.monotonic()
                for uid in list(self._active):
                    held = self._held[uid]
                    if held.body is None:
                        continue
                    if not held.body.step(now):
                        self._active.discard(uid)
                    self._notice(uid, held, held.body)

    def _notice(self, uid: str, held: Held, body: Body) -> None:
        report, before = body.report(), held.report
        if report != before:
            if before is not None and before.ready_at is not None and report.ready_at is None:
                held.unready_at = time.time()
            held.report = report
            self._dirty.add(uid)
        if held.told and body.ended():
            held.over = True
            self._active.discard(uid)
            self._dirty.add(uid)

    # What is told.

    def _tell(self) -> None:
        while not self._closing.wait(TICK_SECONDS):
            now = time.monotonic()
            with self._lock:
                due = {uid for uid, at in self._again.items() if at <= now}
                batch, self._dirty = self._dirty | due, set()
            for uid in due:
                del self._again[uid]
            failed = {uid for uid in self._calls.map(self._settle, batch) if uid}
            self._again |= dict.fromkeys(failed, now + RETRY_SECONDS)

    def _settle(self, uid: str) -> str:
        """Make the API say what is so of a pod; its uid when that is to be tried again."""
        try:
            return uid if self._said(uid) is False else ""
        except ApiError as error:
            return "" if error.status in (404, 409, 422) else uid
        except urllib3.exceptions.HTTPError:
            return uid

    def _said(self, uid: str) -> bool:
        """False: not yet."""
        with self._lock:
            held = self._held.get(uid)
            if held is None:
                return True
            pod, report, unready_at = held.pod, held.report, held.unready_at
            bare = held.body is None
        name, place = pod["metadata"]["name"], pod["spec"].get("nodeName")
        if not place:
            return held.doomed or self._place(held, name)
        if place not in self.machines:
            return True
        if held.over and report is not None:  # how it ended is said before it is gone
            self._report(held, name, status(pod, report, unready_at))
        if held.over or (held.doomed and bare):
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
            self._api.call("DELETE", f"{self._path}/pods/{name}", options)
        elif report is not None:
            self._report(held, name, status(pod, report, unready_at))
        return True

    def _place(self, held: Held, name: str) -> bool:
        with self._lock:
            if held.machine:
                return True  # bound already, as the watch will say
            why = {}
            for machine in self.machines.values():
                beside = sum(other.machine == machine.name for other in self._held.values())
                why[machine.name] = machine.refuses(held.pod, beside)
            held.machine = next((machine for machine, reason in why.items() if not reason), "")
        if not held.machine:
            reasons = ", ".join(sorted(set(why.values())))
            message = f"0/{len(why)} nodes are available: {reasons}."
            if held.said is None or held.said["conditions"][0]["message"] != message:
                self._report(held, name, unschedulable(message, time.time()))
            return False
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": held.machine},
        }
        try:
            self._api.call("POST", f"{self._path}/pods/{name}/binding", binding)
        except BaseException:
            held.machine = ""
            raise
        return True

    def _report(self, held: Held, name: str, wanted: Mapping[str, Any]) -> None:
        if held.said != wanted:
            self._api.call("PATCH", f"{self._path}/pods/{name}/status", {"status": wanted}, STRATEGIC)
            held.said = wanted

    def _register(self, machine: Machine) -> None:
        self._api.call("POST", "/api/v1/nodes", machine.manifest())
        at = stamp(time.time())
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": at}
        body = {
            "status": {
                "conditions": [{**ready, "lastHeartbeatTime": at}],
                "capacity": {"cpu": "64", "memory": "256Gi", "pods": str(machine.capacity)},
            }
        }
        self._api.call("PATCH", f"/api/v1/nodes/{machine.name}/status", body, STRATEGIC)

    def _try(self, method: str, path: str, body: Manifest | None = None) -> None:
        """At the end, where a server that is down is no reason to fail."""
        try:
            self._api.call(method, path, body)
        except (ApiError, urllib3.exceptions.HTTPError):
            return
