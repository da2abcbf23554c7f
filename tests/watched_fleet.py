"""A local fleet whose operator is scraped too, and a real Prometheus that watches it, all on 127.0.0.1."""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry

from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import Home
from postfleet_local.stack import Server
from postfleet_operator.health import Health
from postfleet_operator.metrics import Metrics

OPERATOR = "operator-0"
SCRAPE_SECONDS = 1
ALERTS = Path(__file__).parents[1] / "helm/postfleet/files/alerts.yaml"


class WatchedFleet(Fleet):
    """A local fleet whose loops tell the operator's real metrics, as `postfleet-operator run` has them told."""

    def __init__(self, home: Home, options: Options) -> None:
        registry = CollectorRegistry()
        self.metrics = Metrics(registry)
        self.health = Health("127.0.0.1", 0, live=lambda: None, ready=lambda: None, registry=registry)
        super().__init__(home, options, lambda line: None, self.metrics.observe)

    def __enter__(self) -> Self:
        self.health.start()
        self.metrics.leading(True)
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        super().__exit__(kind, error, tb)
        self.health.stop()

    def _run(self, name: str, target: Callable[[], None]) -> None:
        if name == "autoscaler":
            loop = self._autoscaler.run
            self._autoscaler._forget = self.metrics.forget
            self._autoscaler.run = lambda stop: loop(stop, lambda: self.metrics.tick(name))  # type: ignore[method-assign, assignment, misc]
        elif name == "keeper":
            self._keeper._on_unserved = self.metrics.unserved
            self._keeper._on_phase = self.metrics.node
            self._keeper._forget = self.metrics.forget_node
            target = lambda: self._keeper.run(self._stop, lambda: self.metrics.tick(name))  # noqa: E731
        super()._run(name, target)

    def endpoints(self) -> dict[str, int]:
        """Ports to scrape, by the name of the pod."""
        with self.processes._lock:
            replicas = [r for d in self.processes._deployments.values() for r in d.replicas if r.process is not None]
            return {OPERATOR: self.health.port, **{replica.name: replica.port for replica in replicas}}


class Prometheus(Server):
    """A real Prometheus with our alerts. It asks `endpoints` every second whom to scrape."""

    name = "Prometheus"

    def __init__(self, directory: Path, program: Path, endpoints: Callable[[], Mapping[str, int]]) -> None:
        super().__init__(directory)
        self.port = 0
        self._program = program
        self._discovery = _discovery(endpoints)

    def start(self) -> None:
        self.directory.mkdir()
        threading.Thread(target=self._discovery.serve_forever, args=(0.05,), daemon=True).start()
        job = {
            "job_name": "postfleet",
            "honor_labels": True,
            "http_sd_configs": [
                {"url": f"http://127.0.0.1:{self._discovery.server_port}/", "refresh_interval": f"{SCRAPE_SECONDS}s"}
            ],
        }
        every = f"{SCRAPE_SECONDS}s"
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [job],
        }
        file = self.directory / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML
        self.spawn(
            [
                str(self._program), f"--config.file={file}", f"--storage.tsdb.path={self.directory / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ]
        )  # fmt: skip
        self.wait_until_up()

    def answers(self) -> bool:
        found = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', self.log.read_text(errors="replace"))
        if found is None:
            return False
        self.port = int(found.group(1))
        try:
            return bool(urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).status == 200)
        except urllib.error.HTTPError:
            return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
        self._discovery.shutdown()
        self._discovery.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asks(self, path: str, **parameters: str | float) -> Any:
        """The data of an answer of the HTTP API; an error fails with Prometheus' own words."""
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as answer:
                found = json.load(answer)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None
        assert found["status"] == "success", found
        assert not found.get("warnings"), found
        return found["data"]

    def now(self, expression: str) -> list[dict[str, Any]]:
        """Series with the value that they have."""
        return list(self.asks("query", query=expression)["result"])

    def range(self, expression: str, since: float, step: float = SCRAPE_SECONDS) -> list[dict[str, Any]]:
        """Series with the values that they had since then, as a panel shows them."""
        answer = self.asks("query_range", query=expression, start=since, end=time.time(), step=step)
        return list(answer["result"])


def filled_in(expression: str, rate_interval: str = "15s") -> str:
    """A panel's expression with everything chosen, as Grafana sends it."""
    expression = expression.replace("$__rate_interval", rate_interval)
    return re.sub(r"\$(namespace|pool|queue|node)\b", ".*", expression)


def _discovery(endpoints: Callable[[], Mapping[str, int]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            groups = [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}} for name, port in endpoints().items()
            ]
            body = json.dumps(groups).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
