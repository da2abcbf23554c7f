"""`postfleet-local demo`: a whole campaign through a fleet of its own, counted at the SMTP server.

Start the fleet, import contacts, start the campaign, send an urgent mail a second beside it, watch until every mail is
final and the workers have gone, then judge and report.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import psycopg
import yaml
from rich.console import Console

from postfleet_local import audience, routing, sources
from postfleet_local.diary import keep_diary
from postfleet_local.errors import LocalError, ManifestError, StackError
from postfleet_local.fleet import Fleet, Options
from postfleet_local.gauge import Gauge
from postfleet_local.home import QUICKSTART_MANIFESTS, Home, quickstart
from postfleet_local.judging import judged
from postfleet_local.live import Display, Panelled, Plain, View, summary_table
from postfleet_local.observing import Observations
from postfleet_local.replica import child_environment
from postfleet_local.report import page
from postfleet_local.routing import Endpoint
from postfleet_local.services import WEB
from postfleet_local.timeline import Run
from postfleet_local.urgent import Sender, Urgent
from postfleet_operator.spec import JobPool, Mode
from postfleet_operator.stores import database
from postfleet_workers.store.session import engine_for

SINK_DELAY_SECONDS = (0.15, 0.4)
NEEDED_QUEUES = ("priority-high", "campaign-standard")
# A demo is impatient: deferred mail comes back in seconds, what a silent worker held in a quarter of a minute.
SETTINGS = {
    "POSTFLEET_DEFERRAL_BASE_SECONDS": "5",
    "POSTFLEET_LEASE_SECONDS": "15",
    "POSTFLEET_SESSION_LEASE_SECONDS": "10",
}
STUCK_SECONDS = 180.0
SHRINK_SECONDS = 150.0


@dataclass(frozen=True, slots=True)
class Wishes:
    """The command's options."""

    emails: int
    pool: Path | None = None
    smtp: str | None = None
    directory: Path | None = None
    as_json: bool = False
    live: bool = True
    tracking: bool = False


def run(wishes: Wishes) -> int:
    """Run a demo; the exit code: 1 when a mail was lost or sent twice."""
    options = options_of(wishes)
    console = Console(stderr=wishes.as_json)
    display: Display = Panelled(console) if wishes.live and console.is_terminal else Plain(console)
    directory = wishes.directory or Path(tempfile.mkdtemp(prefix="postfleet-demo-"))
    with Home(directory) as home, folder_told(home, wishes, display):
        prepare(home)
        with keep_diary(home.directory / "logs" / "fleet.log"):
            result = conduct(wishes, options, home, display)
        report = home.directory / "report.html"
        report.write_text(page(result), encoding="utf-8")
        if wishes.directory is None:
            home.clean()
    console.print(summary_table(result))
    for line in result.bad:
        display.say(line)
    display.say(f"report: {report}")
    if wishes.as_json:
        click.echo(json.dumps(result.summary.as_json()))
    return 0 if result.summary.good else 1


@contextmanager
def folder_told(home: Home, wishes: Wishes, display: Display) -> Iterator[None]:
    """Leave nothing behind unsaid: an interrupted demo's own folder goes, any other is named."""
    try:
        yield
    except KeyboardInterrupt:
        if wishes.directory is None:
            shutil.rmtree(home.directory, ignore_errors=True)
            display.say(f"interrupted, {home.directory} is removed")
        else:
            display.say(f"interrupted, data and logs are in {home.directory}")
        raise
    except (StackError, psycopg.Error):
        display.say(f"data and logs are in {home.directory}")
        raise


def options_of(wishes: Wishes) -> Options:
    """What kind of fleet the demo needs.

    Raises:
        ManifestError: an option or a manifest cannot be used.
        StackError: the given SMTP server does not answer.
    """
    smtp = routing.parse_endpoint(wishes.smtp) if wishes.smtp else None
    pool, *others = (quickstart() / name for name in QUICKSTART_MANIFESTS)
    files = (wishes.pool or pool, *others)
    if wishes.pool:
        sources.read((wishes.pool,))  # by itself: a manifest of another kind is no pool
    pools = sources.read(files).pools
    for queue in NEEDED_QUEUES:
        if remedy := unserved(queue, pools):
            raise ManifestError(f"--pool: {wishes.pool}: the demo sends on queue {queue}, {remedy}")
    if smtp is not None:
        greet(smtp)
    return Options(
        sources=files,
        smtp=smtp,
        route=routing.to_sink,
        sink_delay_seconds=SINK_DELAY_SECONDS,
        sink_port=None,
        sink_asks_login=True,
        receivers=(WEB,) if wishes.tracking else (),
        settings=SETTINGS,
    )


def unserved(queue: str, pools: Sequence[JobPool]) -> str:
    """What to do so that a pool works on the queue; empty if one does. Pure."""
    serving = [pool for pool in pools if queue in pool.spec.queues]
    if not serving:
        return "add it to spec.queues"
    remedies = [idle for pool in serving if (idle := idle_for_good(pool))]
    return remedies[0] if len(remedies) == len(serving) else ""


def idle_for_good(pool: JobPool) -> str:
    """Why a pool will never have a worker of its own accord, and the remedy; empty if it can. Pure."""
    if pool.spec.paused:
        return f"but JobPool {pool.name} is paused: set spec.paused to false"
    if pool.spec.mode is Mode.MANUAL and pool.spec.replicas == 0:
        return f"but JobPool {pool.name} has mode Manual and no replicas: set spec.replicas to 1 or more"
    return ""


def greet(smtp: Endpoint) -> None:
    """Look whether the server is there.

    Raises:
        StackError: it is not.
    """
    try:
        with socket.create_connection((smtp.host, smtp.port), timeout=5) as client:
            greeting = client.recv(512)
    except OSError as error:
        raise StackError(f"--smtp: {smtp} does not answer ({error.strerror or error}), start it first") from None
    if not greeting.startswith(b"220"):
        raise StackError(f"--smtp: {smtp} does not greet like an SMTP server")


def prepare(home: Home) -> None:
    """Make the folder a demo's: nothing of an earlier demo may count.

    Raises:
        ManifestError: it is the folder of a fleet that is no demo.
    """
    mark = home.directory / "demo"
    if (home.directory / "postgresql").exists() and not mark.exists():
        raise ManifestError(f"--dir: {home.directory} holds the data of another fleet, give a folder of its own")
    mark.touch()
    home.clean()
    for name in ("sink.log", "events.log", "report.html"):
        (home.directory / name).unlink(missing_ok=True)
    shutil.rmtree(home.directory / "logs", ignore_errors=True)
    (home.directory / "logs").mkdir()


def conduct(wishes: Wishes, options: Options, home: Home, display: Display) -> Run:
    """Run the fleet and the campaign; everything is stopped when it returns."""
    display.say(f"starting a fleet in {home.directory}")
    observations = Observations(display)
    with Fleet(home, options, observations.tell, observations.observe) as fleet:
        gauge = Gauge(database(fleet.database_url))
        joined = import_contacts(fleet, wishes.emails, display)
        sender = start_campaign(fleet, display)
        engine = engine_for(fleet.database_url, connections=1, application_name="postfleet-demo")
        urgent = Urgent(engine, sender)
        observations.begin()
        urgent.start()
        try:
            watch(fleet, gauge, observations, urgent, joined, display)
        finally:
            urgent.stop()
            display.close()
        engine.dispose()
        result = judged(fleet, gauge, observations, joined + urgent.sent)
        gauge.close()
        display.say("stopping the fleet")
    return result


def import_contacts(fleet: Fleet, emails: int, display: Display) -> int:
    """Import as many contacts as asked for; how many are on the list."""
    campaign = campaign_file()
    file = fleet.home.directory / "contacts.csv"
    audience.write(quickstart() / "contacts.csv", file, emails)
    tenant, name = campaign["tenant"], campaign["list"]
    answer = postfleet(
        fleet, display, "contacts", "import", str(file), "--tenant", tenant, "--list", name, "--output", "json"
    )
    return int(json.loads(answer)["joined"])


def start_campaign(fleet: Fleet, display: Display) -> Sender:
    """Create the quickstart's campaign and start it; who it is from."""
    campaign = campaign_file()
    postfleet(fleet, display, "campaigns", "create", str(quickstart() / "campaign.yaml"))
    postfleet(fleet, display, "campaigns", "start", campaign["name"])
    return Sender(campaign["tenant"], campaign["nodes"][0], campaign["from"])


def campaign_file() -> Mapping[str, Any]:
    """The quickstart's campaign."""
    content: Mapping[str, Any] = yaml.safe_load((quickstart() / "campaign.yaml").read_text(encoding="utf-8"))
    return content


def postfleet(fleet: Fleet, display: Display, *arguments: str) -> str:
    """Run the `postfleet` command against the fleet; its output.

    Raises:
        LocalError: it failed.
    """
    display.say(f"$ postfleet {' '.join(arguments)}")
    environment = child_environment(fleet.variables)
    program = shutil.which("postfleet", path=environment["PATH"]) or "postfleet"
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LocalError(f"postfleet {arguments[0]} {arguments[1]} failed: {last}")
    return done.stdout


def watch(
    fleet: Fleet, gauge: Gauge, observations: Observations, urgent: Urgent, joined: int, display: Display
) -> None:
    """Look once a second until every mail is final and the pools have shrunk, or nothing moves any more."""
    moved_at, final, all_final_at = time.monotonic(), -1, 0.0
    while True:
        begun = time.monotonic()
        try:
            counts = gauge.counts()
        except psycopg.OperationalError:
            time.sleep(1.0)
            continue
        if counts.campaign_final >= joined:
            urgent.stop()
        observations.take(fleet, counts)
        display.show(View(observations.samples, joined + urgent.sent, observations.news))
        if counts.final != final:
            final, moved_at = counts.final, begun
        if counts.campaign_final >= joined and counts.final >= joined + urgent.sent:
            all_final_at = all_final_at or begun
            if observations.shrunk(fleet):
                return
        if begun - (all_final_at or moved_at) > (SHRINK_SECONDS if all_final_at else STUCK_SECONDS):
            what = "the workers have not gone" if all_final_at else f"no mail has moved for {STUCK_SECONDS:.0f} s"
            display.say(f"gave up waiting: {what}")
            return
        # A look at a large ledger takes a while: never spend more than a tenth of the time on it.
        time.sleep(max(1.0 - (time.monotonic() - begun), 9 * (time.monotonic() - begun), 0.1))
