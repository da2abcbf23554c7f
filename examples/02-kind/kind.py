"""A cluster on this machine: `make kind-up`, `make kind-demo`, `make kind-down`.

It needs no library, only the programs that it names, and touches no cluster but its own: every call says which context
it means. Exit codes: 0 done, 1 failed, 2 something is missing; every error is one line.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLUSTER = "postfleet"
NAMESPACE = "postfleet"
CONTACTS = ROOT / "examples/01-quickstart/contacts.csv"
SINK_LOG = "/tmp/mail.log"
WHERE_FROM = {
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
}
FINAL = frozenset({"completed", "cancelled"})


class KindError(Exception):
    """What is wrong and what to do, in one line. `code` is the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def need(*programs: str) -> None:
    """See that programs are installed.

    Raises:
        KindError: one is not.
    """
    for program in programs:
        if shutil.which(program) is None:
            raise KindError(f"needs {program} ({WHERE_FROM[program]})", 2)


def engine() -> str:
    """The container engine that answers.

    Raises:
        KindError: none does.
    """
    for name in ("docker", "podman"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, check=False).returncode == 0:
            return name
    raise KindError("needs Docker or podman, running (https://docs.docker.com/get-started/get-docker)", 2)


def run(*command: str | Path) -> None:
    """Run a program in front of the person.

    Raises:
        KindError: it failed; its own words are above.
    """
    done = subprocess.run([str(word) for word in command], cwd=ROOT, check=False)
    if done.returncode:
        raise KindError(f"{' '.join(map(str, command[:4]))} … failed with exit code {done.returncode}")


def ask(*command: str, given: str | None = None) -> str:
    """What a program prints.

    Raises:
        KindError: it failed; with the last line of what it said.
    """
    done = subprocess.run(command, cwd=ROOT, input=given or "", capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or "nothing said").splitlines()[-1]
        raise KindError(f"{' '.join(command[:1])} failed: {said}")
    return done.stdout


def kubectl(*words: str) -> tuple[str, ...]:
    """A call of kubectl, in the example's namespace."""
    return ("kubectl", "--context", f"kind-{CLUSTER}", "--namespace", NAMESPACE, *words)


def helm(*words: str | Path) -> tuple[str | Path, ...]:
    """A call of Helm, likewise."""
    return ("helm", "--kube-context", f"kind-{CLUSTER}", "--namespace", NAMESPACE, *words)


def up() -> None:
    """Make the cluster, or bring it to what the tree says now."""
    need("kind", "kubectl", "helm")
    provider = engine()
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = provider
    if CLUSTER not in ask("kind", "get", "clusters").split():
        run("kind", "create", "cluster", "--name", CLUSTER, "--config", "kind-config.yaml", "--wait", "3m")
    tag = build(provider)
    load(provider, tag)
    run("kubectl", "--context", f"kind-{CLUSTER}", "apply", "-f", HERE / "cluster/namespace.yaml")
    run(*helm("upgrade", "--install", "postfleet-crds", "helm/postfleet-crds", "--wait"))
    values = ("--values", HERE / "cluster/values.yaml", "--set", f"image.tag={tag}")
    run(*helm("upgrade", "--install", "postfleet", "helm/postfleet", *values, "--wait", "--timeout", "10m"))
    run(*kubectl("apply", "-f", str(HERE)))
    sink = (HERE / "cluster/sink.yaml").read_text(encoding="utf-8")
    print(ask(*kubectl("apply", "-f", "-"), given=sink.replace("postfleet-worker:latest", f"postfleet-worker:{tag}")))
    run(*kubectl("rollout", "status", "deployment/sink", "--timeout", "3m"))
    run(*kubectl("wait", "--for=condition=Ready", "sendingnode/kind-1", "--timeout", "3m"))
    print("The cluster is up; `make kind-demo` sends a campaign through it.")


def build(provider: str) -> str:
    """Build both images and give them a tag that changes with their content, so that an upgrade replaces the pods."""
    run("make", "--no-print-directory", "images", f"ENGINE={provider}", "REGISTRY=docker.io/library", "TAG=kind")
    names = [f"docker.io/library/postfleet-{name}" for name in ("operator", "worker")]
    ids = ask(provider, "image", "inspect", "--format", "{{.Id}}", *(f"{name}:kind" for name in names))
    tag = f"kind-{hashlib.sha256(ids.encode()).hexdigest()[:12]}"
    for name in names:
        run(provider, "tag", f"{name}:kind", f"{name}:{tag}")
    return tag


def load(provider: str, tag: str) -> None:
    """Give the cluster's machines the images; as an archive, which works with both engines."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("operator", "worker"):
            archive = Path(folder) / f"{name}.tar"
            run(provider, "save", "--output", archive, f"docker.io/library/postfleet-{name}:{tag}")
            run("kind", "load", "image-archive", archive, "--name", CLUSTER)


def down() -> None:
    """Delete the cluster and what is in it."""
    need("kind")
    os.environ["KIND_EXPERIMENTAL_PROVIDER"] = engine()
    run("kind", "delete", "cluster", "--name", CLUSTER)


@dataclass(frozen=True, slots=True)
class Sample:
    """What the cluster said at one moment, `seconds` after the campaign began."""

    seconds: float
    desired: int
    ready: int
    backlog: int
    sent: int
    decision: str

    def line(self) -> str:
        """One line of the live view."""
        numbers = f"{self.seconds:5.0f} s  {self.ready} of {self.desired} workers"
        return f"{numbers}  backlog {self.backlog:>6,}  sent {self.sent:>6,}  {self.decision}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The report of a run. Every mail of the campaign is either accepted, unknown or lost."""

    mails: int
    accepted: int
    unknown: int
    doubled: int
    samples: tuple[Sample, ...]

    @property
    def lost(self) -> int:
        """Mails of which nobody knows anything."""
        return max(0, self.mails - self.accepted - self.unknown)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing sent twice, and workers came and went."""
        return bool(self.mails) and not self.lost and not self.doubled and self.peak > 0 and self.at_rest

    @property
    def peak(self) -> int:
        """Most workers at once."""
        return max((sample.ready for sample in self.samples), default=0)

    @property
    def at_rest(self) -> bool:
        """Whether the pool had no worker left at the end."""
        return bool(self.samples) and self.samples[-1].ready == self.samples[-1].desired == 0

    def text(self) -> str:
        """For people."""
        first = next((sample.seconds for sample in self.samples if sample.ready), None)
        done = next((sample.seconds for sample in self.samples if sample.sent >= self.mails), None)
        rows = {
            "mails": f"{self.mails:,}",
            "accepted by the server": f"{self.accepted:,}",
            "unknown": f"{self.unknown:,}",
            "lost": f"{self.lost:,}",
            "sent twice": f"{self.doubled:,}",
            "first worker ready after": "never" if first is None else f"{first:.0f} s",
            "all sent after": "never" if done is None else f"{done:.0f} s",
            "workers": f"0 → {self.peak} → {self.samples[-1].ready if self.samples else 0}",
        }
        return "\n".join(f"  {name:<26}{value:>8}" for name, value in rows.items())


def verdict(status: dict[str, Any], log: Iterable[str], recipients: frozenset[str], samples: list[Sample]) -> Verdict:
    """Hold what the server wrote down against what the campaign says. Pure.

    Args:
        status: `postfleet campaigns status --output json`.
        log: the mail sink's lines of this run: time, Message-ID, email, recipient.
        recipients: addresses that the campaign went to.
        samples: what was seen.
    """
    lines = [line.split("\t") for line in log]
    copies = Counter(parts[1] for parts in lines if len(parts) == 4 and parts[3].strip().lower() in recipients)
    counts = status["counts"]
    return Verdict(
        mails=status["total"] - counts["suppressed"],
        accepted=len(copies),
        unknown=counts["unknown"],
        doubled=sum(number > 1 for number in copies.values()),
        samples=tuple(samples),
    )


def demo(emails: int, timeout_seconds: float) -> int:
    """Send a campaign, show how the pool follows it, and report."""
    need("kubectl")
    relay = pod("app.kubernetes.io/component=relay")
    sink = pod("app.kubernetes.io/name=sink")
    stamp = f"kind-{time.strftime('%Y%m%d-%H%M%S')}"
    contacts = "".join(CONTACTS.read_text(encoding="utf-8").splitlines(keepends=True)[: emails + 1])
    campaign = (HERE / "cluster/campaign.yaml").read_text(encoding="utf-8").replace("NAME", stamp)
    put(relay, "/tmp/contacts.csv", contacts)
    put(relay, "/tmp/campaign.yaml", campaign)
    inside(relay, "postfleet", "contacts", "import", "/tmp/contacts.csv", "--tenant=acme", f"--list={stamp}", "--quiet")
    before = len(inside(sink, "cat", SINK_LOG).splitlines())
    inside(relay, "postfleet", "campaigns", "create", "/tmp/campaign.yaml")
    inside(relay, "postfleet", "campaigns", "start", stamp)
    samples, status = watch(relay, stamp, timeout_seconds)
    log = inside(sink, "cat", SINK_LOG).splitlines()[before:]
    addresses = frozenset(line.partition(",")[0].strip().lower() for line in contacts.splitlines()[1:])
    result = verdict(status, log, addresses, samples)
    print(f"\nCampaign {stamp}:\n{result.text()}\n\nThe last decisions:")
    for decision in pool().get("recentDecisions", [])[:8]:
        print(f"  {decision['time']}  {decision['from']} → {decision['to']}  {decision['message']}")
    return 0 if result.good else 1


def watch(relay: str, campaign: str, timeout_seconds: float) -> tuple[list[Sample], dict[str, Any]]:
    """Look until the campaign is through and the pool is back at no worker, or time is up."""
    began = time.monotonic()
    samples: list[Sample] = []
    while True:
        status = json.loads(inside(relay, "postfleet", "campaigns", "status", campaign, "--output=json"))
        sample = sample_of(pool(), status, time.monotonic() - began)
        if not samples or (sample.desired, sample.ready, sample.sent) != shown(samples[-1]):
            print(sample.line(), flush=True)
        samples.append(sample)
        through = status["state"] in FINAL and sample.desired == sample.ready == 0
        if through or sample.seconds > timeout_seconds:
            return samples, status
        time.sleep(1)


def shown(sample: Sample) -> tuple[int, int, int]:
    """What makes a new line worth printing."""
    return sample.desired, sample.ready, sample.sent


def sample_of(status: dict[str, Any], campaign: dict[str, Any], seconds: float) -> Sample:
    """One look. Pure."""
    return Sample(
        seconds=seconds,
        desired=status.get("desiredReplicas", 0),
        ready=status.get("readyReplicas", 0),
        backlog=status.get("backlog", {}).get("total", 0),
        sent=campaign["counts"]["sent"],
        decision=status.get("lastDecision", {}).get("message", ""),
    )


def pool() -> dict[str, Any]:
    """The pool's status."""
    found: dict[str, Any] = json.loads(ask(*kubectl("get", "jobpool", "email", "--output=json"))).get("status", {})
    return found


def pod(selector: str) -> str:
    """A running pod of that label.

    Raises:
        KindError: there is none, or no cluster.
    """
    try:
        fields = "--field-selector=status.phase=Running"
        names = ask(*kubectl("get", "pods", f"--selector={selector}", fields, "--output=name")).split()
    except KindError as error:
        raise KindError(f"{error}; is the cluster up? `make kind-up` makes it", 2) from None
    if not names:
        raise KindError(f"no pod with {selector} runs; `make kind-up` brings the cluster up", 2)
    return names[0]


def inside(where: str, *command: str) -> str:
    """What a command in a pod prints."""
    return ask(*kubectl("exec", where, "--", *command))


def put(where: str, path: str, text: str) -> None:
    """Write a file in a pod."""
    ask(*kubectl("exec", "--stdin", where, "--", "sh", "-c", f"cat > {path}"), given=text)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="kind.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("up", "demo", "down"))
    parser.add_argument("--emails", type=int, default=10_000, help="how many mails the demo sends, at most 10000")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="when the demo gives up")
    options = parser.parse_args()
    try:
        if options.what == "demo":
            return demo(options.emails, options.timeout)
        {"up": up, "down": down}[options.what]()
    except KindError as error:
        print(f"kind: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
