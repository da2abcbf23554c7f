"""The workers' settings as a manifest sees them: which POSTFLEET_ variables there are, and what they may hold. Pure.

The operator never imports the workers; a contract test holds that this is what their `Settings` say.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "POSTFLEET_"
SHUTDOWN = "POSTFLEET_SHUTDOWN_TIMEOUT_SECONDS"


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number's: `above` leaves `least` itself out."""

    least: float = 0.0
    most: float = math.inf
    above: bool = True
    whole: bool = False


NUMBERS: Mapping[str, Bounds] = {
    **dict.fromkeys(
        (
            "POSTFLEET_LEASE_SECONDS",
            "POSTFLEET_PUBLICATION_SECONDS",
            "POSTFLEET_RELAY_POLL_SECONDS",
            "POSTFLEET_PIPE_BUNDLES_PER_THREAD",
            "POSTFLEET_BUNDLE_TARGET_SECONDS",
            SHUTDOWN,
            "POSTFLEET_DEFERRAL_BASE_SECONDS",
            "POSTFLEET_DEFERRAL_MAX_AGE_SECONDS",
            "POSTFLEET_BACKOFF_BASE_SECONDS",
            "POSTFLEET_SESSION_LEASE_SECONDS",
            "POSTFLEET_SMTP_TIMEOUT_SECONDS",
            "POSTFLEET_DOT_TIMEOUT_SECONDS",
            "POSTFLEET_ATTACHMENT_DAYS",
        ),
        Bounds(),
    ),
    "POSTFLEET_SMTP_SESSIONS_PER_THREAD": Bounds(least=1, most=50, above=False, whole=True),
    "POSTFLEET_RESERVED_FRACTION": Bounds(most=0.5, above=False),
    "POSTFLEET_START_WAIT_SECONDS": Bounds(above=False),
    **dict.fromkeys(
        ("POSTFLEET_HEALTH_PORT", "POSTFLEET_WEB_PORT", "POSTFLEET_INBOUND_PORT"),
        Bounds(most=65_535, above=False, whole=True),
    ),
}
CHOICES: Mapping[str, tuple[str, ...]] = {
    "POSTFLEET_LOG_FORMAT": ("auto", "json", "console"),
    "POSTFLEET_LOG_LEVEL": ("DEBUG", "INFO", "WARNING", "ERROR"),
}
TEXTS = frozenset(
    {
        "POSTFLEET_DATABASE_URL",
        "POSTFLEET_REDIS_URL",
        "POSTFLEET_REPLICA",
        "POSTFLEET_POOL",
        "POSTFLEET_NODE",
        "POSTFLEET_CREDENTIALS_DIR",
        "POSTFLEET_JOB_MODULES",
        "POSTFLEET_QUEUE_WEIGHTS",
        "POSTFLEET_HEALTH_HOST",
        "POSTFLEET_SECRET_KEY",
        "POSTFLEET_PUBLIC_URL",
        "POSTFLEET_WEB_HOST",
        "POSTFLEET_INBOUND_HOST",
        "POSTFLEET_INBOUND_TLS_CERT",
        "POSTFLEET_INBOUND_TLS_KEY",
        "POSTFLEET_DNS_SERVERS",
        "POSTFLEET_MX_LOCAL_ADDRESSES",
    }
)
KNOWN = NUMBERS.keys() | CHOICES.keys() | TEXTS


def mistake(name: str, value: str) -> str | None:
    """Why a worker with that variable would not start; None if it would."""
    if name in CHOICES:
        return None if value in CHOICES[name] else f"{value!r} is not one of {', '.join(CHOICES[name])}"
    if (bounds := NUMBERS.get(name)) is None:
        return None
    try:
        number = float(int(value) if bounds.whole else float(value))
    except ValueError:
        return f"{value!r} is not a {'whole ' if bounds.whole else ''}number"
    if bounds.least <= number <= bounds.most and not (bounds.above and number == bounds.least):
        return None
    least = f"{'more than' if bounds.above else 'at least'} {bounds.least:g}"
    return f"{value} is out of range, give {least}{'' if bounds.most == math.inf else f' and at most {bounds.most:g}'}"


def misspelt(name: str) -> str | None:
    """What is said of a variable with our prefix that no worker reads; None for all others."""
    if not name.startswith(PREFIX) or name in KNOWN:
        return None
    close = difflib.get_close_matches(name, sorted(KNOWN), n=1, cutoff=0.8)
    return f"{name} is no setting of a worker" + (f", did you mean {close[0]}?" if close else "")
