"""A real Prometheus scrapes a running fleet and answers every panel of the dashboard and every alert."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from kubernetes.client import Configuration
from sqlalchemy import text

from integration.mail_steps import mail
from postfleet_local.fleet import Options
from postfleet_local.home import Home
from postfleet_local.stack import free_port
from postfleet_operator.errors import OperatorError
from postfleet_operator.kube.client import Api
from postfleet_workers.enqueue import enqueue_many
from postfleet_workers.jobs import NewJob
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.tokens import Key
from postfleet_workers.store.session import engine_for
from prometheus_tools import HOW, find
from promql import named
from smtp_lab import FaultyLab, Phase
from watched_fleet import ALERTS, Prometheus, WatchedFleet, filled_in

DASHBOARD = ALERTS.parent / "dashboards/postfleet.json"
SECONDS = 90.0
# What the scene is made to do, so these must have been pending or firing.
EXPECTED = {
    "PostfleetDeadLetters",
    "PostfleetMailUnknown",
    "PostfleetNodeBlocked",
    "PostfleetOperatorForbidden",
    "PostfleetPoolAtMaximum",
    "PostfleetQueueUnserved",
    "PostfleetRedisLostData",
}
CALM = {"PostfleetRelayMissing", "PostfleetRelayLag", "PostfleetOperatorMissing", "PostfleetSignalUnhealthy"}

HOLDERS = text("""
SELECT w.replica FROM jobs j JOIN workers w ON w.id = j.claimed_by
WHERE j.state = 'executing' AND j.args->>'seconds' = '30'
""")

POOL = {
    "apiVersion": "postfleet.io/v1alpha1",
    "kind": "JobPool",
    "metadata": {"name": "email"},
    "spec": {
        "queues": ["priority-high", "campaign-standard", "retry", "probe"],
        "worker": {"threads": 4, "shutdownTimeoutSeconds": 5},
        "autoscaling": {
            "minReplicas": 1,
            "maxReplicas": 2,
            "pollingIntervalSeconds": 1,
            "target": {"latencySeconds": 1},
            "scaleDown": {"stabilizationWindowSeconds": 10},
            "shadow": {"maxReplicas": 10},
        },
    },
}


def node(name: str, port: int, **smtp: Any) -> dict[str, Any]:
    return {
        "apiVersion": "postfleet.io/v1alpha1",
        "kind": "SendingNode",
        "metadata": {"name": name},
        "spec": {
            "smtp": {"host": "127.0.0.1", "port": port, "tls": "None", **smtp},
            "identity": {"domain": f"{name}.example"},
            "limits": {"perMinute": 1200, "maxConnections": 20},
        },
    }


class Scene:
    """The fleet, its Prometheus, and what happens."""

    def __init__(self, fleet: WatchedFleet, prometheus: Prometheus, lab: FaultyLab) -> None:
        self.fleet = fleet
        self.prometheus = prometheus
        self.lab = lab
        self.began = time.time()
        self.engine = engine_for(fleet.database_url, connections=2)

    def until(self, condition: Callable[[], Any], what: Callable[[], str] | str) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {SECONDS:.0f} s: {what if isinstance(what, str) else what()}")
            time.sleep(0.2)  # Prometheus tells nobody that it has scraped

    def add(self, count: int, queue: str = "probe", kind: str = "probe", **args: object) -> None:
        with self.engine.begin() as connection:
            enqueue_many(connection, [NewJob(kind, queue, args) for _ in range(count)])

    def execute(self, sql: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql))

    def told(self, expression: str, above: float = 0) -> bool:
        return any(float(series["value"][1]) > above for series in self.prometheus.now(expression))

    def play(self) -> None:
        """Everything that a panel shows happens."""
        self.execute("INSERT INTO tenants (name, paused) VALUES ('acme', false), ('idle', true)")
        self.add(1)
        self.until(lambda: self.told('jobs_completed_total{type="probe"}'), "a worker works and is scraped")
        self.execute(
            "INSERT INTO jobs (type, queue, tenant) SELECT 'probe', 'probe', 'idle' FROM generate_series(1, 7)"
        )
        self.execute(
            "INSERT INTO jobs (type, queue, state, run_at) VALUES ('probe', 'probe', 'scheduled', now() + '1 h')"
        )
        self.add(3, "old")
        self.until(lambda: self.told("jobs_throttled") and self.told("jobs_scheduled"), "what waits is told")
        self.api_calls()
        self.lab.fail(Phase.RCPT, reply="550 5.1.1 no such user")
        self.lab.fail(Phase.RCPT, reply="450 4.2.0 try again later")
        self.lab.fail(Phase.RCPT, reply="450 the moon is not right")  # no rule knows that
        self.lab.fail(Phase.DOT, drop=True)
        mail(self.engine, 400, node="acme-1")
        self.add(100)
        self.add(1, do="transient")
        self.add(1, do="snooze", seconds=1)
        self.add(1, do="permanent")
        self.until(lambda: self.told('jobs_failed_total{outcome="discarded"}'), "a dead letter is counted")
        self.add(20, do="permanent")
        self.add(400, kind="probe.single", do="sleep", seconds=0.2)
        self.until(lambda: self.told('jobpool_replicas{kind="ready"}', 1), "the pool grows")
        self.until(lambda: self.told("emails_sent_total", 50), "mail is sent")
        self.read_a_mail()
        self.until(lambda: self.told("emails_bounced_total") and self.told("emails_deferred_total"), "some is refused")
        self.lose_a_worker()
        redis.Redis.from_url(self.fleet.valkey.url()).flushall()
        for name in ("relay_redis_epochs_total", "emails_unknown", "jobs_rescued_total", "jobpool_startup_seconds"):
            self.until(lambda name=name: self.told(name), name)  # type: ignore[misc]
        self.until(lambda: self.told("jobpool_throughput_per_replica"), "a worker's pace is measured")

    def read_a_mail(self) -> None:
        """Somebody opens one, follows a link and wants no more."""
        links = Links(self.fleet.public_url, Key(self.fleet.home.secret_key().encode()))
        with self.engine.connect() as connection:
            email_id = connection.scalar(text("SELECT min(id) FROM emails WHERE status = 'sent'"))
        for link, body in ((links.open(email_id), None), (links.unsubscribe(email_id), b"List-Unsubscribe=One-Click")):
            with urllib.request.urlopen(link, body) as answer:
                assert answer.status == 200
        self.until(lambda: self.told("email_events_total"), "what became of it is told")

    def api_calls(self) -> None:
        """The operator asks an API server that forbids it something, and one that is not there."""
        server = HTTPServer(("127.0.0.1", 0), Forbids)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        path = "/apis/apps/v1/namespaces/default/deployments/email"
        for port, times in ((server.server_port, 3), (free_port(), 1)):
            configuration = Configuration(host=f"http://127.0.0.1:{port}")
            configuration.retries = False
            for _ in range(times):
                with suppress(OperatorError):
                    Api(configuration, told=self.fleet.metrics.api_call).get(path)
                self.until(lambda: self.told("sum(postfleet_operator_api_calls_total)"), "calls are scraped")
        server.shutdown()
        server.server_close()

    def lose_a_worker(self) -> None:
        """Kill one that has jobs in hand."""
        self.add(4, kind="probe.single", do="sleep", seconds=30)
        holders: list[str] = []
        self.until(lambda: holders.extend(self.holders()) or holders, "a worker sleeps over a job")
        status = self.fleet.processes.status("email")
        assert status is not None
        os.killpg(status.pids[holders[0]], signal.SIGKILL)

    def holders(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(connection.scalars(HOLDERS))


class Forbids(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    program = find("prometheus")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"Prometheus is missing: {HOW}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    lab = FaultyLab()
    manifests = tmp_path / "manifests.yaml"
    nodes = node("acme-1", lab.port), node("blocked-1", lab.port, credentialsSecretRef={"name": "missing"})
    manifests.write_text(yaml.safe_dump_all([POOL, *nodes]))
    settings = {
        "POSTFLEET_JOB_MODULES": "probe_jobs", "POSTFLEET_LEASE_SECONDS": "5", "POSTFLEET_PUBLICATION_SECONDS": "10",
        "POSTFLEET_BACKOFF_BASE_SECONDS": "0.2",
    }  # fmt: skip
    options = Options(sources=(manifests,), sink_port=None, receivers=("web", "inbound"), settings=settings)
    with Home(tmp_path / "fleet") as home, WatchedFleet(home, options) as fleet:
        prometheus = Prometheus(tmp_path / "prometheus", program, fleet.endpoints)
        scene = Scene(fleet, prometheus, lab)
        try:
            prometheus.start()
            scene.play()
            yield scene
        finally:
            scene.engine.dispose()
            prometheus.stop()
            lab.stop()


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_every_panel_and_alert_is_answered_by_prometheus(scene: Scene) -> None:
    prometheus = scene.prometheus
    targets = prometheus.asks("targets")["activeTargets"]
    assert {target["labels"]["instance"].split("-")[0] for target in targets} >= {
        "operator", "relay", "web", "inbound", "email",
    }  # fmt: skip
    assert [target["lastError"] for target in targets if target["health"] == "down" and "refused" not in
            target["lastError"]] == []  # fmt: skip

    scene.until(lambda: not blank_panels(scene), lambda: f"these have data: {blank_panels(scene)}")

    rules = {rule["name"]: rule for group in prometheus.asks("rules")["groups"] for rule in group["rules"]}
    for name, rule in rules.items():
        assert rule["health"] == "ok", (name, rule.get("lastError"))
        prometheus.now(rule["query"])
        for selector in named(rule["query"]).selectors:
            assert prometheus.now(f"last_over_time({selector}[10m])"), f"{name} sees no {selector}"
    seen = "count by (alertname) (count_over_time(ALERTS[10m]))"
    scene.until(lambda: alerts(prometheus.now(seen)) >= EXPECTED, lambda: f"too few: {prometheus.now(seen)}")
    told = prometheus.asks("alerts")["alerts"]
    assert not [alert for alert in told if "error" in str(alert["annotations"]) or "<no value>" in str(alert)]
    # A busy machine may make one pending for a moment, and is not what they wait for.
    scene.until(lambda: not loud(prometheus), lambda: f"nothing is wrong: {loud(prometheus)}")


def loud(prometheus: Prometheus) -> set[str]:
    """Alerts of what works, pending or firing now."""
    return {alert["labels"]["alertname"] for alert in prometheus.asks("alerts")["alerts"]} & CALM


def blank_panels(scene: Scene) -> list[str]:
    """Panels without any value since the beginning."""
    return [
        f"{panel['title']}: {target['expr']}"
        for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", [])
        if not any(
            math.isfinite(float(value))
            for series in scene.prometheus.range(filled_in(target["expr"]), scene.began)
            for _, value in series["values"]
        )
    ]


def alerts(series: list[dict[str, Any]]) -> set[str]:
    return {one["metric"]["alertname"] for one in series}
