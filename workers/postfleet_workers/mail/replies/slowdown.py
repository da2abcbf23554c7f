"""When a site's replies should make a node slow down there, and how. Pure tables.

What a reply means is the classifier's knowledge (`rules.toml`); its rule's id is written to the attempt
(`email_attempts.rule`). A brake names such a rule: met `threshold` times within `window_seconds` by the mails of one
node to one site, it is due, and its actions begin and hold for their duration. What counts them and writes them down
is `braking`.

Sources: the receivers' pages that `rules.toml` names; thresholds and times are those that KumoMTA and its users have
settled on (`shaping.toml` and the community's, read in March 2026). Raise `VERSION` with every change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

VERSION = 2
MINUTE, HOUR = 60, 3600


class Kind(StrEnum):
    """`slowdowns.action`."""

    SUSPEND = "suspend"
    """No mail at all."""
    PER_MINUTE = "per_minute"
    """At most so many mails a minute."""
    CONNECTIONS = "connections"
    """At most so many sessions at a time."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a node does at a site, for how long. `value` is None for `suspend`."""

    kind: Kind
    duration_seconds: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Brake:
    """A rule whose replies ask for less.

    Attributes:
        rule: the classifier's id.
        threshold: so many replies within the window; 1 acts at once.
        window_seconds: how far back replies count.
        actions: what then begins, all at a time.
    """

    rule: str
    threshold: int
    window_seconds: int
    actions: tuple[Action, ...]


def _brake(rule: str, threshold: int, *actions: Action) -> Brake:
    return Brake(rule, threshold, HOUR, actions)


def _suspend(seconds: int) -> Action:
    return Action(Kind.SUSPEND, seconds)


def _per_minute(mails: int, seconds: int) -> Action:
    return Action(Kind.PER_MINUTE, seconds, mails)


def _connections(sessions: int, seconds: int) -> Action:
    return Action(Kind.CONNECTIONS, seconds, sessions)


# Some of these replies are for good (listed, banned): without a pause every mail would run into them.
BRAKES: tuple[Brake, ...] = (
    _brake("apple.deferred", 3, _suspend(15 * MINUTE)),
    _brake("barracuda.reputation", 5, _suspend(HOUR)),
    _brake("cisco.rejected", 5, _suspend(HOUR)),
    _brake("comcast.listed", 5, _suspend(2 * HOUR)),
    _brake("comcast.rate", 2, _per_minute(166, 2 * HOUR)),
    _brake("gmail.rate", 2, _per_minute(10, 30 * MINUTE)),
    _brake("gmail.reputation", 5, _suspend(HOUR)),
    _brake("gmx.listed", 5, _suspend(2 * HOUR)),
    _brake("gmx.policy", 5, _suspend(HOUR)),
    _brake("listed.spamhaus", 5, _suspend(2 * HOUR)),
    _brake("mimecast.reputation", 5, _suspend(HOUR)),
    _brake("mimecast.wait", 3, _suspend(30 * MINUTE)),
    _brake("netease.source", 2, _suspend(HOUR)),
    _brake("orange.connections", 2, _connections(1, HOUR)),
    _brake("orange.refused", 2, _suspend(HOUR)),
    _brake("outlook.banned", 5, _suspend(2 * HOUR)),
    _brake("outlook.blocked", 5, _suspend(2 * HOUR)),
    _brake("outlook.busy", 3, _per_minute(1, 15 * MINUTE)),
    _brake("outlook.connections", 2, _connections(1, HOUR)),
    # 'rate limited due to IP reputation', by whomever: the address is mistrusted, every further mail makes it worse.
    _brake("outlook.rate", 1, _per_minute(1, 90 * MINUTE), _connections(1, 90 * MINUTE)),
    _brake("proofpoint.blocked", 5, _suspend(HOUR)),
    _brake("qq.rate", 5, _suspend(HOUR)),
    _brake("rate.connections", 3, _connections(1, 30 * MINUTE)),
    _brake("rate.messages", 3, _per_minute(10, 30 * MINUTE)),
    _brake("t-online.blocked", 5, _suspend(2 * HOUR)),
    _brake("yahoo.complaints", 2, _suspend(2 * HOUR)),
    _brake("yahoo.listed", 5, _suspend(2 * HOUR)),
    _brake("yahoo.never", 2, _suspend(4 * HOUR)),
    _brake("yahoo.ts03", 2, _suspend(4 * HOUR)),
)
_BY_RULE = {brake.rule: brake for brake in BRAKES}


def find(rule: str) -> Brake | None:
    """The brake of a rule; None for the many that slow nothing down."""
    return _BY_RULE.get(rule)


def due(rule: str, count: int) -> tuple[Action, ...]:
    """What begins when a rule has been met `count` times within its window."""
    brake = find(rule)
    return brake.actions if brake is not None and count >= brake.threshold else ()
