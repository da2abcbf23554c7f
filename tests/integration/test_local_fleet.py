"""A whole fleet: manifests take effect while it runs, it heals, and it leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from postfleet_local import cli
from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import QUICKSTART_MANIFESTS, Home, quickstart
from postfleet_local.stack import Postgres
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.tokens import Key

LOCAL = str(Path(sys.executable).with_name("postfleet-local"))
SECONDS = 60.0


class Lines:
    """What the fleet tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._changed = threading.Condition()

    def tell(self, line: str) -> None:
        with self._changed:
            self.lines.append(line)
            self._changed.notify_all()

    def wait_for(self, words: str) -> str:
        def found() -> str | None:
            return next((line for line in self.lines if words in line), None)

        with self._changed:
            line = self._changed.wait_for(found, SECONDS)
        assert line is not None, f"nothing said {words!r}: {self.lines}"
        return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Manifests whose pool keeps one small worker."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for name in QUICKSTART_MANIFESTS:
        (folder / name).write_text((quickstart() / name).read_text())
    edit(folder / "pool.yaml", ("minReplicas: 0", "minReplicas: 1"), ("threads: 32", "threads: 2"))
    return folder


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def fleet(tmp_path: Path, folder: Path, lines: Lines) -> Iterator[Fleet]:
    with Home(tmp_path / "fleet") as home, Fleet(home, Options(sources=(folder,), sink_port=None), lines.tell) as fleet:
        yield fleet


def edit(file: Path, *changes: tuple[str, str]) -> None:
    text = file.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)


def wait_until(predicate: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not predicate():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def workers(fleet: Fleet) -> dict[str, int]:
    status = fleet.processes.status("email")
    return dict(status.pids) if status is not None and status.ready == status.replicas == len(status.pids) else {}


def rows(fleet: Fleet, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(fleet.database_url) as connection:
        return connection.execute(sql).fetchall()  # type: ignore[call-overload]


def test_edits_of_manifests_take_effect(fleet: Fleet, folder: Path, lines: Lines) -> None:
    assert rows(fleet, "SELECT name FROM sending_nodes") == [("acme-1",)]
    wait_until(lambda: workers(fleet), "a worker comes up")
    ((first, pid),) = workers(fleet).items()
    assert {"postfleet", "worker"} <= {Path(word).name for word in psutil.Process(pid).cmdline()}
    credentials = Path(psutil.Process(pid).environ()["POSTFLEET_CREDENTIALS_DIR"])
    assert (credentials / "acme-1.username").read_text() == "acme"

    edit(folder / "pool.yaml", ("threads: 2", "threads: nine"))
    assert "pool.yaml:13: JobPool email: spec.worker.threads" in lines.wait_for("not applied: ")
    assert list(workers(fleet)) == [first]

    edit(folder / "pool.yaml", ("threads: nine", "threads: 3"))
    wait_until(lambda: workers(fleet) and first not in workers(fleet), "the pool is rolled out anew")
    (pid,) = workers(fleet).values()
    assert "--threads=3" in psutil.Process(pid).cmdline()

    edit(folder / "secrets.yaml", ("username: acme", "username: other"))
    wait_until(lambda: (credentials / "acme-1.username").read_text() == "other", "the login is rewritten")

    edit(folder / "node.yaml", ("perMinute: 60000", "perMinute: 7"))
    per_minute = "SELECT (spec #>> '{limits,perMinute}')::int FROM sending_nodes"
    wait_until(lambda: rows(fleet, per_minute) == [(7,)], "the node is mirrored")

    edit(folder / "pool.yaml", ("name: email", "name: other"))
    wait_until(lambda: fleet.processes.status("email") is None, "a pool that is gone stops")
    status = fleet.home.directory / "status" / "other.json"
    wait_until(
        lambda: status.exists() and json.loads(status.read_text()).get("readyReplicas") == 1, "and the new one runs"
    )


def test_servers_that_die_are_started_again(fleet: Fleet, lines: Lines) -> None:
    assert fleet.valkey.process is not None
    assert fleet.postgres.process is not None
    with redis.Redis.from_url(fleet.valkey.url()) as client:
        os.kill(fleet.valkey.process.pid, signal.SIGKILL)
        lines.wait_for("Valkey has ended")
        wait_until(lambda: answers(client), "Valkey is back")
    os.kill(fleet.postgres.process.pid, signal.SIGKILL)
    lines.wait_for("PostgreSQL has ended")
    wait_until(fleet.postgres.answers, "PostgreSQL is back")
    assert rows(fleet, "SELECT name FROM sending_nodes") == [("acme-1",)]


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_nothing_outlives_the_fleet(tmp_path: Path, folder: Path, end: signal.Signals) -> None:
    home = tmp_path / "fleet"
    fleet = subprocess.Popen(
        [LOCAL, "up", "--dir", str(home), "-f", str(folder)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert fleet.stdout is not None
    try:
        wait_until((home / "env").exists, "the fleet is up")
        wait_until(lambda: list((home / "logs").glob("email-*.log")), "a worker starts")
        started = psutil.Process(fleet.pid).children(recursive=True)
        assert len(started) >= 5
        fleet.send_signal(end)
        output, _ = fleet.communicate(timeout=SECONDS)
    finally:
        fleet.kill()
    if end is signal.SIGINT:
        assert fleet.returncode == 130
        assert f"set -a; . {home}/env; set +a" in output
        assert not (home / "env").exists()
    _, alive = psutil.wait_procs(started, timeout=SECONDS)
    assert alive == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
@pytest.mark.parametrize("program", ["initdb", "postgres"])
def test_a_fleet_that_is_ended_while_it_starts_leaves_nothing_running_and_starts_again(
    tmp_path: Path, folder: Path, program: str, end: signal.Signals
) -> None:
    home = tmp_path / "fleet"
    command = [LOCAL, "up", "--dir", str(home), "-f", str(folder)]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: programs_in(home, program), f"{program} runs")
    first.send_signal(end)
    first.wait(SECONDS)
    wait_until(lambda: not programs_in(home, "initdb", "postgres", "valkey-server", "python"), "nothing is left")
    second = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_until(lambda: (home / "env").exists() or second.poll() is not None, "the fleet is up")
        assert second.poll() is None
        assert not list(home.glob("postgresql.new-*"))
    finally:
        second.send_signal(signal.SIGINT)
        second.wait(SECONDS)


class HomeInterrupted(Home):
    """Ctrl-C at the last moment of a start."""

    def write_env(self, variables: Mapping[str, str]) -> Path:
        super().write_env(variables)
        raise KeyboardInterrupt


def test_a_fleet_that_is_interrupted_when_it_has_just_started_is_stopped(
    tmp_path: Path, folder: Path, lines: Lines
) -> None:
    with HomeInterrupted(tmp_path / "fleet") as home:
        fleet = Fleet(home, Options(sources=(folder,), sink_port=None), lines.tell)
        with pytest.raises(KeyboardInterrupt), fleet:
            pytest.fail("it was not to be entered")
    assert not any(server is None or server.alive() for server in (fleet.postgres, fleet.valkey, fleet.sink))


def programs_in(home: Path, *names: str) -> list[psutil.Process]:
    """Children of a fleet that have its folder in their command line; not the fleet itself."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words = process.cmdline()
            if words and Path(words[0]).name in names and LOCAL not in words and str(home) in " ".join(words):
                found.append(process)
    return found


@pytest.mark.parametrize("file_of", ["a dead process", "another process"])
def test_postgresql_starts_on_what_a_killed_one_left(tmp_path: Path, file_of: str) -> None:
    server = Postgres(tmp_path / "pg")
    server.start()
    server.kill()
    file = tmp_path / "pg" / "postmaster.pid"
    if file_of == "another process":
        file.write_text(re.sub(r"\A\d+", str(psutil.Process().pid), file.read_text()))
        own = subprocess.Popen([sys.executable, "-c", START, str(tmp_path / "pg")])
        assert own.wait(SECONDS) == 0
    else:
        server.start()
        server.stop()


START = """
import sys; from pathlib import Path; from postfleet_local.stack import Postgres
from postfleet_workers.mail.message.links import Links
server = Postgres(Path(sys.argv[1])); server.start(); server.stop()
"""


@pytest.fixture
def handlers_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        pytest.param(["up", "-f", "{bad}"], "pool.yaml:10: JobPool email: spec.qeues: unknown field", 2, id="field"),
        pytest.param(["up", "--dir", "{kept}"], "pool.yaml:10: JobPool email: spec.qeues", 2, id="field of a kept one"),
        pytest.param(["up", "-f", "{none}"], "does not exist", 2, id="no such file"),
        pytest.param(["up", "--smtp", "nonsense"], "--smtp: 'nonsense' is no HOST:PORT", 2, id="smtp"),
        pytest.param(["demo", "--emails", "0"], "--emails", 2, id="emails"),
        pytest.param(["demo", "--smtp", "127.0.0.1:1"], "127.0.0.1:1 does not answer", 1, id="smtp refused"),
        pytest.param(["demo", "--pool", "{narrow}"], "the demo sends on queue priority-high", 2, id="queues"),
        pytest.param(["demo", "--pool", "{node}"], "node.yaml: holds no JobPool", 2, id="no pool"),
        pytest.param(["demo", "--pool", "{paused}"], "JobPool email is paused", 2, id="paused"),
        pytest.param(["demo", "--pool", "{manual}"], "has mode Manual and no replicas", 2, id="no replicas"),
        pytest.param(["demo", "--nonsense"], "(see `postfleet-local demo --help`)", 2, id="usage"),
        pytest.param(["demo", "--dir", "{taken}"], "holds the data of another fleet", 2, id="folder of another"),
    ],
)
@pytest.mark.usefixtures("handlers_kept")
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    pool = (quickstart() / "pool.yaml").read_text()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "pool.yaml").write_text(pool.replace("  queues:", "  qeues: []\n  queues:"))
    shutil.copytree(tmp_path / "bad", tmp_path / "kept" / "manifests")
    (tmp_path / "narrow.yaml").write_text(pool.replace("priority-high, ", ""))
    (tmp_path / "paused.yaml").write_text(pool.replace("spec:", "spec:\n  paused: true", 1))
    (tmp_path / "manual.yaml").write_text(pool.replace("spec:", "spec:\n  mode: Manual\n  replicas: 0", 1))
    (tmp_path / "taken" / "postgresql").mkdir(parents=True)
    places = {name: tmp_path / name for name in ("bad", "none", "taken", "kept")}
    places |= {name: tmp_path / f"{name}.yaml" for name in ("narrow", "paused", "manual")}
    places["node"] = quickstart() / "node.yaml"
    monkeypatch.chdir(tmp_path)
    assert cli.run([argument.format(**places) for argument in arguments]) == code
    out, err = capfd.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("postfleet-local: ")
    assert message in line
    assert out == ""
    assert not (tmp_path / ".postfleet").exists()


def test_the_command_ends_with_the_code_of_its_error(tmp_path: Path) -> None:
    done = subprocess.run([LOCAL, "up", "-f", "none"], capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("postfleet-local: ")


def test_without_a_command_there_is_help() -> None:
    done = subprocess.run([LOCAL], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2
    assert done.stderr.startswith("Usage: postfleet-local") or done.stdout.startswith("Usage: postfleet-local")


@pytest.mark.parametrize("own", [True, False], ids=["folder of its own", "--dir"])
def test_an_interrupted_demo_says_what_became_of_its_folder(tmp_path: Path, own: bool) -> None:
    given = [] if own else ["--dir", str(tmp_path / "demo")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    demo = subprocess.Popen([LOCAL, "demo", *given], stdout=subprocess.PIPE, text=True, env=environment)
    assert demo.stdout is not None
    assert "starting a fleet in" in demo.stdout.readline()
    demo.send_signal(signal.SIGINT)
    output, _ = demo.communicate(timeout=SECONDS)
    assert demo.returncode == 130
    if own:
        assert "is removed" in output
        assert list(tmp_path.iterdir()) == []
    else:
        assert f"interrupted, data and logs are in {tmp_path / 'demo'}" in output


def test_links_in_mails_lead_to_the_fleet_itself(tmp_path: Path, folder: Path, lines: Lines) -> None:
    options = Options(sources=(folder,), sink_port=None, receivers=("web",))
    with Home(tmp_path / "fleet") as home, Fleet(home, options, lines.tell) as fleet:
        wait_until(lambda: (status := fleet.processes.status("web")) and status.ready, "web answers")
        key = Key(fleet.variables["POSTFLEET_SECRET_KEY"].encode())
        links = Links(fleet.variables["POSTFLEET_PUBLIC_URL"], key)
        with urllib.request.urlopen(links.unsubscribe(1)) as page:
            assert b"<h1>Unsubscribe?</h1>" in page.read()
