"""Why a pool has its workers, in plain words: each thing that can hold the number, and what to do about it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts
from postfleet_operator.explain import ADVICE, explain
from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling.decide import decide, remember
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Decision, PodTimes, Sample, Signal
from postfleet_operator.spec import PoolSpec, SendingNode, parse_node
from postfleet_operator.status import compose
from unit.operator.building import (
    healthy,
    latency_spec,
    load,
    looks,
    lost,
    manifest,
    measured,
    node_manifest,
    pool,
    sample,
    spec,
)

NOW = 1_700_000_000.0


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def told(seen: Sample, policy: PoolSpec, state: State, *, later: float = 10.0) -> str:
    """What is explained of the status that a decision leaves."""
    decision = decide(seen, policy, state, NOW)
    workload = Workload(exists=True, replicas=seen.replicas, ready=seen.ready, present=seen.replicas)
    given = replace(pool(), spec=policy)
    status = compose(given, given.status, Facts(1, policy, workload, seen.signal, decision), NOW)
    lines = []
    for section in explain("default/email", policy, status, NOW + later):
        lines += [f"# {section.heading}", *section.lines]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("seen", "policy", "state", "words"),
    [
        pytest.param(
            sample(load(500, 100.0), 2),
            latency_spec(autoscaling={"maxReplicas": 5}),
            measured(),
            ["5 workers wanted, 2 ready", "MaxReplicas: ", "raise autoscaling.maxReplicas from 5 to "],
            id="maxReplicas",
        ),
        pytest.param(
            sample(healthy(0), 2),
            spec(autoscaling={"minReplicas": 2}),
            State(),
            ["lower autoscaling.minReplicas from 2 to "],
            id="minReplicas",
        ),
        pytest.param(
            sample(load(5000, 10.0, permitted_per_second=30.0, throttled=900), 2),
            latency_spec(),
            measured(),
            ["limits let 30 jobs a second through", "900 jobs wait for a limit", "another worker would not help"],
            id="limits",
        ),
        pytest.param(
            sample(healthy(0, running=1, throttled=1, scheduled=1), 1),
            spec(),
            State(),
            ["1 job runs; ", "1 job waits for a limit or a pause", "1 job waits for a later time"],
            id="one of each",
        ),
        pytest.param(
            sample(healthy(0, throttled=900, throttled_by={"tenant a paused": 1, "node acme-1 perMinute": 899}), 0),
            spec(),
            State(),
            [
                "(899 jobs for node acme-1 perMinute, 1 job for tenant a paused)",
                "the limit node acme-1 perMinute binds",
            ],
            id="the limit that binds",
        ),
        pytest.param(
            replace(
                sample(load(100, 10.0), 2),
                pods=(PodTimes("a", NOW - 90, NOW - 52), PodTimes("b", NOW - 90, NOW - 52)),
            ),
            latency_spec(),
            measured(),
            ["it takes 38 s to start", "jobs may wait for 5 s", "set minReplicas to 1 or more"],
            id="slow starts",
        ),
        pytest.param(
            replace(sample(load(500, 100.0), 2), pods=(PodTimes("a", NOW - 90, None, True),)),
            latency_spec(),
            measured(),
            ["Unschedulable: ", "the cluster has no place for them", "kubectl describe pod"],
            id="no place",
        ),
        pytest.param(
            sample(healthy(0), 3),
            spec(autoscaling={"scaleDown": {"stabilizationWindowSeconds": 60}}),
            State(recommendations=looks(((NOW - 5, 3),))),
            ["ScaleDownWindow: ", "in 45 s", "a shorter scaleDown.stabilizationWindowSeconds than 60"],
            id="window",
        ),
        pytest.param(
            sample(healthy(0), 1),
            spec(),
            State(idle_since=NOW - 20),
            ["a shorter cooldownSeconds than 60"],
            id="cooldown",
        ),
        pytest.param(
            sample(lost(), 4),
            spec(),
            State(),
            ["mend the signal first", "SignalHealthy is False (NoSignal)"],
            id="signal",
        ),
        pytest.param(sample(healthy(900), 1), spec(paused=True), State(), ["set spec.paused to false"], id="paused"),
        pytest.param(sample(load(50), 1), latency_spec(), State(), ["not measured yet"], id="unmeasured"),
        pytest.param(
            sample(load(50, 12.0), 1),
            latency_spec(),
            measured(),
            ["10 jobs a second, measured (1 thread)"],
            id="measured",
        ),
        pytest.param(
            sample(healthy(900), 1), spec(mode="Recommend"), State(), ["what is decided is not done"], id="recommend"
        ),
        pytest.param(sample(healthy(900), 1), spec(mode="External"), State(), ["something else sets"], id="external"),
        pytest.param(
            sample(healthy(900), 1),
            spec(mode="Manual", replicas=3),
            State(),
            ["spec.replicas, 3, is copied"],
            id="manual",
        ),
    ],
)
def test_what_holds_the_number_and_what_would_change_it(
    seen: Sample, policy: PoolSpec, state: State, words: list[str]
) -> None:
    text = told(seen, policy, state)
    for word in words:
        assert word in text, text


def test_a_pool_that_nobody_looked_at_says_so() -> None:
    [section] = explain("default/email", spec(), {}, NOW)
    assert "has not looked at this pool yet" in section.lines[0]


def test_the_last_changes_are_told_the_newest_first() -> None:
    policy, state, status = spec(), State(), dict[str, Any]()
    for number, backlog in enumerate((500, 1500, 4000)):
        now, replicas = NOW + 60 * number, status.get("desiredReplicas", 0)
        seen = sample(healthy(backlog), replicas)
        decision: Decision = decide(seen, policy, state, now)
        state = remember(state, seen, policy, decision)
        given = replace(pool(), spec=policy, status=status)
        status = compose(
            given, status, Facts(1, policy, Workload(True, replicas, replicas, replicas), seen.signal, decision), now
        )
    [lines] = [s.lines for s in explain("default/email", policy, status, NOW + 130) if s.heading == "Last changes"]
    assert lines == ("10 s ago: 3 -> 8 (Backlog)", "70 s ago: 1 -> 3 (Backlog)", "2 min ago: 0 -> 1 (Backlog)")


def node(name: str, status: dict[str, Any], **workers: Any) -> SendingNode:
    return replace(parse_node(node_manifest(name, workers=workers)), status=status)


def test_the_nodes_that_a_pool_sends_through_are_told_of_when_there_is_something_to_tell() -> None:
    own = {"poolRef": {"name": "email"}, "placement": "Dedicated"}
    clamp = {"name": "MaxReplicas", "from": 9, "to": 4, "why": "maxReplicas is 4"}
    decision = {"message": "3 -> 4: because", "clamps": [clamp], "blockedUntil": "2023-11-14T22:14:20Z"}
    missing = {"type": "CredentialsReady", "status": "False", "message": "there is no Secret acme-1"}
    nodes = [
        node("eu-1", {"workers": {"desiredReplicas": 4, "readyReplicas": 3, "lastDecision": decision}}, **own),
        node("acme-1", {"phase": "Blocked", "conditions": [missing]}, poolRef={"name": "email"}),
        node("full", {"phase": "Active", "acceptedToday": 50, "capToday": 50, "remainingToday": 0}),
        node("fine", {"phase": "Active", "remainingToday": 7}, poolRef={"name": "email"}),
        node("other", {"phase": "Paused"}, poolRef={"name": "warmup"}),
    ]
    status = {"conditions": [{"type": "Ready", "status": "True"}], "backlog": {"throttled": 8}}
    found = {s.heading: s.lines for s in explain("default/email", spec(), status, NOW, nodes)}
    assert found["Sending nodes"] == (
        "acme-1 is Blocked: there is no Secret acme-1",
        "eu-1 has workers of its own: 4 workers wanted, 3 ready (bottleneck None): 3 -> 4: because",
        "eu-1: MaxReplicas: 9 -> 4, maxReplicas is 4",
        "eu-1: until 2023-11-14T22:14:20Z (in 60 s)",
        "full has sent 50 of 50 mails in the last 24 hours",
    )
    # A node that any pool serves is nothing to a pool of which nothing waits for a limit.
    status["backlog"] = {"throttled": 0}
    quiet = {s.heading: s.lines for s in explain("default/email", spec(), status, NOW, nodes)}
    assert len(quiet["Sending nodes"]) == 4
    assert "Sending nodes" not in {s.heading for s in explain("other/email", spec(), status, NOW, nodes)}


def test_a_shadow_policy_is_told_with_its_cost() -> None:
    shadow = {
        "desiredReplicas": 1,
        "message": "2 -> 1: because",
        "since": "2023-11-14T20:13:20Z",
        "replicaHours": "2",
        "liveReplicaHours": "4",
    }
    status = {"conditions": [{"type": "Ready", "status": "True"}], "shadow": shadow}
    [lines] = [s.lines for s in explain("default/email", spec(), status, NOW) if s.heading == "The shadow policy"]
    assert lines == (
        "it asks for 1 worker: 2 -> 1: because",
        "it would have used 2 replica-hours instead of 4 (since 2 h ago)",
    )


@given(
    st.sampled_from([spec(), latency_spec(), spec(mode="Manual"), spec(paused=True)]),
    st.builds(Signal, ready=st.integers(0, 10_000), throttled=st.integers(0, 9)),
    st.integers(0, 30),
)
def test_whatever_was_decided_can_be_explained(policy: PoolSpec, signal: Signal, replicas: int) -> None:
    assert told(sample(signal, replicas), policy, State()).startswith("# default/email: ")


def test_every_rule_has_advice_or_ends_by_itself() -> None:
    by_themselves = {"Unmeasured", "Starting", "DueSoon", "Tolerance", "RunningJobs", "SignalBroken"}
    others = {"Idle", "Backlog", "Latency", "Manual", "External"}
    assert ADVICE.keys() == {reason.value for reason in DecisionReason} - by_themselves - others


def test_a_file_from_kubectl_is_explained(tmp_path: Path) -> None:
    policy = spec()
    seen = sample(healthy(900), 1)
    status = compose(
        pool(), {}, Facts(1, policy, Workload(True, 1, 1, 1), seen.signal, decide(seen, policy, State(), NOW)), NOW
    )
    file = tmp_path / "pool.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps({**manifest(), "status": status}))))
    done = run("postfleet-operator", "explain", "-f", str(file))
    assert done.returncode == 0, done.stderr
    assert "default/email: 2 workers wanted, 1 ready (mode Auto)" in done.stdout
    done = run("postfleet-operator", "explain", "-f", str(file), "-o", "json")
    assert json.loads(done.stdout)[0]["heading"].startswith("default/email")


def test_a_list_from_kubectl_is_explained_with_its_nodes(tmp_path: Path) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}], "desiredReplicas": 2, "backlog": {"throttled": 3}}
    items = [
        {**manifest(), "status": status},
        manifest("warmup"),
        {**node_manifest(), "status": {"phase": "Paused"}},
        {**node_manifest("broken"), "spec": {}},
    ]
    file = tmp_path / "list.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": json.loads(json.dumps(items))}))
    done = run("postfleet-operator", "explain", "email", "-f", str(file))
    assert (done.returncode, done.stderr) == (0, "")
    assert "acme-1 is Paused" in done.stdout
    done = run("postfleet-operator", "explain", "-f", str(file))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "holds default/email, default/warmup; name one of them as POOL" in done.stderr


def test_the_local_fleet_s_files_are_explained(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(manifest()))
    (tmp_path / "email.json").write_text(
        json.dumps({"conditions": [{"type": "Ready", "status": "True"}], "desiredReplicas": 4, "readyReplicas": 3})
    )
    files = ["-f", str(tmp_path / "pool.yaml"), "--status", str(tmp_path / "email.json")]
    done = run("kubectl-jobpool", "explain", *files)
    assert done.stdout.startswith("default/email: 4 workers wanted, 3 ready (mode Auto)"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain"], "name a POOL, or give a file with -f"),
        (["explain", "email", "--status", "x.json"], "--status goes with -f"),
        (["explain", "email", "-f", "x.yaml"], "x.yaml: cannot be read"),
        (["explain", "-f", "/dev/null"], "/dev/null: holds no resources"),
        (["explain", "-f", "missing.yaml"], "missing.yaml: cannot be read"),
        (["explain", "email", "--kubeconfig", "/nowhere"], "no cluster: "),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], words: str) -> None:
    done = run("postfleet-operator", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert words in done.stderr
