"""Whether a node's SMTP server can be reached: what its workers met, and what a look at its banner says. Pure.

The workers know best: mail that was taken, sessions that failed. Where they have met nothing lately, the operator's own
probe speaks. A node may be reachable from its workers' own place only, because it is Dedicated or its server is on
loopback: there a probe that fails says nothing. A node that delivers to the recipients' own servers has none of its own
to look at, and one of theirs that is away says nothing about the node.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from postfleet_operator.deliveries import Experience
from postfleet_operator.reasons import Reason

# What workers met is news for so long.
FRESH_SECONDS = 600.0
# How far a session gets that a banner alone would have disproved.
BEFORE_GREETING = frozenset({"connect", "banner"})


@dataclass(frozen=True, slots=True)
class Probe:
    """The last look at the server's banner: when (epoch seconds), of whom, and what was wrong, or empty."""

    at: float
    endpoint: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """The verdict; `status` None: it is not known."""

    status: bool | None
    reason: Reason
    message: str


def on_loopback(host: str) -> bool:
    """Whether a host name or address is that of whoever asks."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def judge(experience: Experience, probe: Probe | None, *, own_place: bool, now: float) -> Reach:
    """Whether the node can be reached, at `now` in epoch seconds; `own_place`: perhaps from its workers' place only."""
    failed_at, sent_at = _fresh(experience.failed_at, now), _fresh(experience.sent_at, now)
    if failed_at is not None and (sent_at is None or failed_at > sent_at):
        refuted = experience.phase in BEFORE_GREETING and not own_place
        if not (refuted and probe is not None and not probe.problem and probe.at > failed_at):
            words = f"sessions of the workers fail at {experience.phase}: {experience.failure}"
            return Reach(False, Reason.SESSIONS_FAIL, words)
    elif sent_at is not None:
        return Reach(True, Reason.MAIL_TAKEN, "it took mail from the workers within the last ten minutes")
    if probe is None:
        return Reach(None, Reason.NOT_KNOWN, "no worker has sent mail lately, and its banner has not been read yet")
    if not probe.problem:
        return Reach(True, Reason.SERVER_ANSWERS, f"{probe.endpoint} greets as an SMTP server")
    words = f"{probe.endpoint}: {probe.problem}"
    if own_place:
        words += "; that is how it looks from the operator, its workers may reach it from their place"
        return Reach(None, Reason.NOT_KNOWN, words)
    return Reach(False, Reason.NO_ANSWER, f"{words}; see spec.smtp.host and port, and whether a firewall is between")


def judge_direct(experience: Experience, *, now: float) -> Reach:
    """The same of a node whose mail goes to the recipients' own servers: known only while one of them takes mail."""
    if _fresh(experience.sent_at, now) is not None:
        return Reach(True, Reason.MAIL_TAKEN, "recipients' servers took mail from the workers in the last ten minutes")
    if _fresh(experience.failed_at, now) is not None:
        words = (
            f"no recipient's server took mail in the last ten minutes, and a session failed at {experience.phase}: "
            f"{experience.failure}; if all do, see whether port 25 is open outwards"
        )
        return Reach(None, Reason.SESSIONS_FAIL, words)
    words = "its mail goes to the recipients' own servers, of which none was asked lately"
    return Reach(None, Reason.MANY_SERVERS, words)


def _fresh(at: float | None, now: float) -> float | None:
    return at if at is not None and now - at < FRESH_SECONDS else None
