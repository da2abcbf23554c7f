"""The process around the listener: a socket, an event loop, an end in which nothing begun is lost.

It needs no PostgreSQL to start, nor to be ready: senders are put off meanwhile, which they understand better than a
closed port.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket

import structlog
from prometheus_client import CollectorRegistry

from postfleet_workers import clock
from postfleet_workers.errors import InputError
from postfleet_workers.health import Health
from postfleet_workers.inbound.listener import CONNECTIONS, Certificate, Listener
from postfleet_workers.mail.tokens import Key
from postfleet_workers.metrics.inbound import InboundMetrics
from postfleet_workers.settings import Settings
from postfleet_workers.store.session import engine_for

log = structlog.get_logger(__name__)

PULSE_SECONDS = 1.0
HANGS_AFTER_SECONDS = 30.0
END_SECONDS = 10.0


def serve(settings: Settings, key: Key) -> None:
    """Take what comes back until SIGTERM or SIGINT.

    Raises:
        InputError: the address cannot be listened on, or the certificate cannot be read.
    """
    for chatty in ("mail.log", "flufl.bounce"):  # of every command, and of mails that no detector can read
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    asyncio.run(_serve(settings, key))


async def _serve(settings: Settings, key: Key) -> None:
    loop = asyncio.get_running_loop()
    registry = CollectorRegistry()
    certificate = (
        Certificate(settings.inbound_tls_cert, settings.inbound_tls_key) if settings.inbound_tls_cert else None
    )
    engine = engine_for(settings.database_url, connections=CONNECTIONS, application_name="postfleet-inbound")
    listener = Listener(engine, key, InboundMetrics(registry), certificate)
    listening = _listen(settings.inbound_host, settings.inbound_port)
    pulse = clock.monotonic()

    def beat() -> None:
        nonlocal pulse
        pulse = clock.monotonic()
        loop.call_later(PULSE_SECONDS, beat)

    def hangs() -> str | None:
        return None if clock.monotonic() - pulse < HANGS_AFTER_SECONDS else "the event loop hangs"

    health = Health(settings.health_host, settings.health_port, live=hangs, ready=hangs, registry=registry)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await listener.start(listening)
    beat()
    health.start()
    log.info("health", port=health.port)
    log.info("inbound", port=listening.getsockname()[1], starttls=certificate is not None)
    await stop.wait()
    await listener.stop(END_SECONDS)
    health.stop()
    engine.dispose()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise InputError(
            f"POSTFLEET_INBOUND_HOST={host} POSTFLEET_INBOUND_PORT={port}: cannot be listened on: "
            f"{error.strerror or error}"
        ) from None
