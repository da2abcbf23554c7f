"""examples/02-kind: what the commands call, in which order, and the demo's report about a fleet that is real.

No cluster is here, so a `kubectl` of the test's own takes kubectl's place: it runs `exec` on this machine, and answers
`get` with what a local fleet of the example's manifests says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from postfleet_local import routing
from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import Home

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/02-kind"
KUBECTL = """
import os, subprocess, sys
words = sys.argv[1:]
assert words[:4] == ["--context", "kind-postfleet", "--namespace", "postfleet"], words
match words[4:]:
    case ["get", "pods", *rest]:
        print("pod/sink" if "sink" in " ".join(rest) else "pod/postfleet-relay-1")
    case ["get", "jobpool", "email", "--output=json"]:
        print('{{"status": ' + (open({status!r}).read() if os.path.exists({status!r}) else "{{}}") + "}}")
    case ["exec", *rest]:
        def here(word):
            return {log!r} if word == "/tmp/mail.log" else word.replace("/tmp/", {tmp!r})
        command = [here(word) for word in rest[rest.index("--") + 1 :]]
        sys.exit(subprocess.run(command, check=False).returncode)
    case other:
        sys.exit(f"unexpected: {{other}}")
"""
RECORDER = """
import json, os, sys
name = os.path.basename(sys.argv[0])
with open({calls!r}, "a") as calls:
    calls.write(json.dumps([name, *sys.argv[1:]]) + "\\n")
if name == "docker" and sys.argv[1:3] == ["image", "inspect"]:
    print("sha256:1\\nsha256:2")
if name == "make":
    assert "TAG=kind" in sys.argv, sys.argv
"""


@pytest.fixture(scope="module")
def kind() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kind_example", EXAMPLE / "kind.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kind_example"] = module
    spec.loader.exec_module(module)
    return module


def program(folder: Path, name: str, source: str) -> None:
    file = folder / name
    file.write_text(f"#!{sys.executable}\n{source}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def call(*words: str, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTFLEET_")}
    return subprocess.run(
        [sys.executable, EXAMPLE / "kind.py", *words],
        env={**clean, **env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("what", ["up", "demo", "down"])
def test_a_missing_program_is_named_in_one_line(tmp_path: Path, what: str) -> None:
    done = call(what, path=str(tmp_path))
    assert done.returncode == 2
    assert re.fullmatch(r"kind: needs \w+ \(https://\S+\)\n", done.stderr)


def test_an_engine_that_does_not_answer_is_no_engine(tmp_path: Path) -> None:
    for name in ("kind", "kubectl", "helm"):
        program(tmp_path, name, "")
    program(tmp_path, "docker", "raise SystemExit(1)")
    done = call("up", path=str(tmp_path))
    assert (done.returncode, done.stderr.partition(" (")[0]) == (2, "kind: needs Docker or podman, running")


def test_no_cluster_is_said_in_one_line(tmp_path: Path) -> None:
    program(tmp_path, "kubectl", "raise SystemExit('error: context \"kind-postfleet\" does not exist')")
    done = call("demo", path=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("`make kind-up` makes it\n")


def test_up_makes_builds_loads_and_installs_in_its_own_context_only(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    for name in ("kind", "kubectl", "helm", "docker", "make"):
        program(tmp_path, name, RECORDER.format(calls=str(calls)))
    done = call("up", path=str(tmp_path))
    assert done.returncode == 0, done.stderr
    made = [json.loads(line) for line in calls.read_text().splitlines()]
    assert [" ".join(words[:3]) for words in made if words[0] in {"kind", "make"}] == [
        "kind get clusters",
        "kind create cluster",
        "make --no-print-directory images",
        "kind load image-archive",
        "kind load image-archive",
    ]
    for words in made:
        if words[0] in {"kubectl", "helm"}:
            assert words[1:3] == ["--context" if words[0] == "kubectl" else "--kube-context", "kind-postfleet"]
    charts = [words for words in made if words[0] == "helm"]
    assert [words[words.index("--install") + 2] for words in charts] == ["helm/postfleet-crds", "helm/postfleet"]
    [tag] = {word.partition("=")[2] for word in charts[1] if word.startswith("image.tag=")}
    assert re.fullmatch(r"kind-[0-9a-f]{12}", tag)
    assert [
        "docker",
        "tag",
        "docker.io/library/postfleet-worker:kind",
        f"docker.io/library/postfleet-worker:{tag}",
    ] in made


def test_the_demo_sends_a_campaign_and_tells_how_the_pool_followed(tmp_path: Path) -> None:
    with Home(tmp_path / "fleet") as home:
        options = Options(sources=(EXAMPLE,), route=routing.to_sink, sink_port=None, sink_asks_login=True)
        with Fleet(home, options, lambda _: None) as fleet:
            assert fleet.sink is not None
            status = home.directory / "status/email.json"
            places = {"status": str(status), "log": str(fleet.sink.mails), "tmp": f"{tmp_path}/"}
            program(tmp_path, "kubectl", KUBECTL.format(**places))
            path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
            urls = {"POSTFLEET_DATABASE_URL": fleet.database_url, "POSTFLEET_REDIS_URL": fleet.valkey.url()}
            done = call("demo", "--emails=300", "--timeout=90", path=path, **urls)
    assert done.returncode == 0, done.stdout + done.stderr
    report = dict(re.findall(r"^  (\S.*?) {2,}(\S.*)$", done.stdout, re.MULTILINE))
    assert report | {"mails": "300", "accepted by the server": "300", "lost": "0", "sent twice": "0"} == report
    assert re.fullmatch(r"0 → [1-5] → 0", report["workers"])
    assert "The last decisions:\n  20" in done.stdout


STATUS = {"total": 3, "counts": {"suppressed": 0, "unknown": 0, "sent": 3}}


def log(*numbers: int) -> list[str]:
    return [f"1.0\t<{number}@acme.example>\t{number}\tp{number}@example.org" for number in numbers]


@pytest.mark.parametrize(
    ("accepted", "lost", "doubled", "good"),
    [
        pytest.param(log(1, 2, 3), 0, 0, True, id="every mail once"),
        pytest.param(log(1, 2), 1, 0, False, id="one is missing"),
        pytest.param(log(1, 2, 3, 3), 0, 1, False, id="one came twice"),
        pytest.param([*log(1, 2, 3), *log(9)], 0, 0, True, id="somebody else's mail"),
        pytest.param([*log(1, 2), "1.0\t<3"], 1, 0, False, id="a line cut short"),
    ],
)
def test_the_verdict(kind: ModuleType, accepted: list[str], lost: int, doubled: int, good: bool) -> None:
    people = frozenset(f"p{number}@example.org" for number in (1, 2, 3))
    samples = [kind.Sample(float(at), ready, ready, 0, 3, "") for at, ready in enumerate((0, 2, 0))]
    found = kind.verdict(STATUS, accepted, people, samples)
    assert (found.lost, found.doubled, found.good) == (lost, doubled, good)
    assert not kind.verdict(STATUS, accepted, people, samples[:-1]).good, "the pool did not come to rest"


def test_what_is_given_to_the_cluster_agrees() -> None:
    [node] = yaml.safe_load_all((EXAMPLE / "node.yaml").read_text())
    sink, service = yaml.safe_load_all((EXAMPLE / "cluster/sink.yaml").read_text())
    namespace = yaml.safe_load((EXAMPLE / "cluster/namespace.yaml").read_text())["metadata"]["name"]
    assert node["spec"]["smtp"]["host"] == f"{service['metadata']['name']}.{namespace}.svc"
    assert node["spec"]["smtp"]["port"] == service["spec"]["ports"][0]["port"]
    assert service["spec"]["selector"] == sink["spec"]["template"]["metadata"]["labels"]
    secret = yaml.safe_load((EXAMPLE / "secrets.yaml").read_text())
    [container] = sink["spec"]["template"]["spec"]["containers"]
    assert f"--username={secret['stringData']['username']}" in container["args"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"]["name"] == secret["metadata"]["name"]
    assert yaml.safe_load((ROOT / "kind-config.yaml").read_text())["name"] == "postfleet"
