"""The operator's commands against what refuses them: one line that says what to do, and no flood of it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

PROGRAMS = Path(sys.executable).parent
URLS = {"POSTFLEET_DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "POSTFLEET_REDIS_URL": "redis://127.0.0.1:1"}


class Refusing:
    """An API server that refuses every call, and its kubeconfig."""

    def __init__(self, folder: Path) -> None:
        self.status, self.body = 401, json.dumps({"kind": "Status", "message": "Unauthorized"}).encode()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {
                    "current-context": "here",
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.http.server_port}"}},
                    ],
                    "users": [],
                    "contexts": [{"name": "here", "context": {"cluster": "c"}}],
                }
            )
        )


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[Refusing]:
    server = Refusing(tmp_path)
    yield server
    server.http.shutdown()
    server.http.server_close()


def run(program: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAMS / program, *arguments],
        env={**os.environ, **URLS, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("postfleet-operator", ("explain", "email")),
        ("kubectl-jobpool", ("list",)),
        ("kubectl-jobpool", ("history", "email")),
    ],
)
def test_without_the_crds_the_commands_say_how_to_install_them(
    refusing: Refusing, program: str, arguments: tuple[str, ...]
) -> None:
    refusing.status, refusing.body = 404, b"404 page not found\n"
    result = run(program, *arguments, f"--kubeconfig={refusing.kubeconfig}")
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert "the CRDs are not installed: `postfleet-operator crds | kubectl apply --server-side -f -`" in result.stderr


def test_a_port_that_is_taken_is_bad_input(refusing: Refusing) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("postfleet-operator", "run", f"--kubeconfig={refusing.kubeconfig}", f"--health-port={port}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"POSTFLEET_HEALTH_PORT: 127.0.0.1:{port} is in use, give another or 0\n"


def test_an_address_of_somebody_else_is_bad_input(refusing: Refusing) -> None:
    given = (f"--kubeconfig={refusing.kubeconfig}", "--health-port=0")
    result = run("postfleet-operator", "run", *given, POSTFLEET_HEALTH_HOST="192.0.2.1")
    assert (result.returncode, result.stdout, len(result.stderr.splitlines())) == (2, "", 1)
    assert result.stderr.startswith("POSTFLEET_HEALTH_HOST: cannot listen on 192.0.2.1:0: ")


def test_refused_credentials_are_told_with_their_file_ever_more_seldom(refusing: Refusing) -> None:
    process = subprocess.Popen(
        [PROGRAMS / "postfleet-operator", "run", f"--kubeconfig={refusing.kubeconfig}", "--health-port=0"],
        env={**os.environ, **URLS, "POSTFLEET_LOG_FORMAT": "json"},
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[dict[str, Any]] = []
    with process:
        assert process.stderr is not None
        for text in process.stderr:
            lines.append(json.loads(text))
            if [line["event"] for line in lines].count("not_listed") == 3:
                process.terminate()
    assert process.returncode == 0
    lists = [line for line in lines if line["event"] == "not_listed"]
    assert [line["retry_seconds"] for line in lists[:3]] == [2.0, 4.0, 8.0]
    refused = [line for line in lines if line["event"] in ("not_listed", "lease_not_renewed")]
    words = f"the API server: 401 Unauthorized; look at the credentials in {refusing.kubeconfig}"
    assert {line["error"] for line in refused} == {words}
    assert [line["event"] for line in refused].count("lease_not_renewed") == 1
    assert not any("CRDs" in str(line) for line in lines)
