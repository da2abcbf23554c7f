"""What a kubelet reports of a pod, and where a scheduler puts it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended; `code` is 128 + n after signal n."""

    code: int
    at: float


@dataclass(frozen=True, slots=True)
class Report:
    """A container; times are epoch seconds.

    Attributes:
        started_at: None while it does not run.
        ready_at: None while it is not ready.
        restarts: how often it was started again.
        waiting: reason and message why it does not run.
        last_exit: how it ended the last time.
        ended: for good: its pod goes.
    """

    started_at: float | None = None
    ready_at: float | None = None
    restarts: int = 0
    waiting: tuple[str, str] = ("ContainerCreating", "")
    last_exit: Exit | None = None
    ended: bool = False


@dataclass(slots=True)
class Machine:
    """A Node: what is asked of the pods that it takes, and how many it takes."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    capacity: int = 110

    def manifest(self) -> dict[str, Any]:
        """The Node."""
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name, **self.labels}},
            "spec": {"taints": list(self.taints)},
        }

    def refuses(self, pod: Mapping[str, Any], held: int) -> str:
        """Why it does not take the pod beside the `held` it has; empty when it does."""
        spec = pod["spec"]
        selector = spec.get("nodeSelector") or {}
        if any(self.labels.get(key) != value for key, value in selector.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        if any(not any(_tolerates(t, taint) for t in spec.get("tolerations", ())) for taint in self.taints):
            return "node(s) had untolerated taint(s)"
        return "Too many pods" if held >= self.capacity else ""


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in (None, "", taint["key"])
    return toleration.get("key") == taint["key"] and toleration.get("value", "") == taint.get("value", "")


def unschedulable(message: str, now: float) -> dict[str, Any]:
    """The status of a pod that no node takes."""
    return {"conditions": [_condition("PodScheduled", False, now, "Unschedulable", message)]}


def status(pod: Mapping[str, Any], report: Report, unready_at: float | None) -> dict[str, Any]:
    """The status of a pod with one container, that was ready until `unready_at`."""
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
    ready = report.ready_at is not None
    since = report.ready_at or unready_at or created
    why = "" if ready else "ContainersNotReady"
    container = pod["spec"]["containers"][0]
    return {
        "phase": _phase(report),
        "hostIP": "127.0.0.1",
        "podIP": "127.0.0.1",
        "podIPs": [{"ip": "127.0.0.1"}],
        "startTime": stamp(created),
        "conditions": [
            _condition("Initialized", True, created),
            _condition("ContainersReady", ready, since, why),
            _condition("Ready", ready, since, why),
        ],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container.get("image", ""),
                "imageID": "",
                "ready": ready,
                "started": report.started_at is not None,
                "restartCount": report.restarts,
                "state": _state(report),
                "lastState": _ended(report.last_exit) if report.last_exit and not report.ended else {},
            }
        ],
    }


def _phase(report: Report) -> str:
    if report.ended and report.last_exit:
        return "Failed" if report.last_exit.code else "Succeeded"
    return "Running" if report.started_at or report.restarts else "Pending"


def _state(report: Report) -> dict[str, Any]:
    if report.ended and report.last_exit:
        return _ended(report.last_exit)
    if report.started_at is not None:
        return {"running": {"startedAt": stamp(report.started_at)}}
    reason, message = report.waiting
    return {"waiting": {"reason": reason, "message": message}}


def _ended(last: Exit) -> dict[str, Any]:
    reason = "Completed" if last.code == 0 else "Error"
    return {"terminated": {"exitCode": last.code, "reason": reason, "finishedAt": stamp(last.at)}}


def _condition(kind: str, holds: bool, since: float, reason: str = "", message: str = "") -> dict[str, Any]:
    return {
        "type": kind,
        "status": str(holds),
        "lastTransitionTime": stamp(since),
        "reason": reason,
        "message": message,
    }


def stamp(seconds: float) -> str:
    """Epoch seconds as the API writes times: whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
