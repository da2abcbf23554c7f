r"""What became of the mails: counted at the SMTP server, held against the ledger. Pure, but for reading the log.

The sink's log is the witness: one line per accepted mail, `<epoch seconds>\t<Message-ID>\t<email id>\t<recipient>`.
The ledger says which mails there should be, and which of them it lists as `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

REFUSED, WAITING = "bounced", "deferred"


@dataclass(frozen=True, slots=True)
class Accepted:
    """One accepted mail. `at` is epoch seconds on the server's clock."""

    at: float
    message_id: str
    email: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The count that a demo is judged by; every email is in exactly one of `delivered`, `unknown` and `lost`.

    Attributes:
        emails: mails that the ledger has.
        delivered: accepted by the server, and the ledger does not call them unknown.
        unknown: listed as unknown by the ledger, whether or not they arrived.
        lost: neither of the two.
        duplicated: accepted more than once.
        refused: those of the lost that the server refused for good: bounced in the ledger.
        waiting: those of the lost that the server has put off, to be tried again: deferred in the ledger.
    """

    emails: int
    delivered: int
    unknown: int
    lost: int
    duplicated: int
    refused: int = 0
    waiting: int = 0

    @property
    def good(self) -> bool:
        """Nothing lost, nothing sent twice."""
        return self.lost == 0 and self.duplicated == 0


def bare(message_id: str) -> str:
    """A Message-ID without its angle brackets."""
    return message_id.strip().removeprefix("<").removesuffix(">")


def parse(line: str) -> Accepted | None:
    """One line of the log; None for a line that was cut short."""
    parts = line.removesuffix("\n").split("\t")
    if len(parts) != 4 or not line.endswith("\n"):
        return None
    try:
        return Accepted(float(parts[0]), bare(parts[1]), parts[2], parts[3])
    except ValueError:
        return None


def read(log: Path) -> list[Accepted]:
    """Every accepted mail of a sink's log, in order; none when there is no log yet."""
    if not log.exists():
        return []
    with log.open(encoding="utf-8", newline="\n") as lines:
        return [mail for mail in map(parse, lines) if mail is not None]


def copies(accepted: Iterable[Accepted]) -> dict[str, int]:
    """How often each Message-ID was accepted."""
    counts: dict[str, int] = {}
    for mail in accepted:
        counts[mail.message_id] = counts.get(mail.message_id, 0) + 1
    return counts


def judge(statuses: Mapping[str, str], accepted: Mapping[str, int]) -> Verdict:
    """Hold the server's count against the ledger.

    Args:
        statuses: status of every email of the ledger, by bare Message-ID.
        accepted: how often the server accepted each bare Message-ID.
    """
    unknown = sum(status == "unknown" for status in statuses.values())
    delivered = sum(status != "unknown" and accepted.get(mail, 0) > 0 for mail, status in statuses.items())
    duplicated = sum(accepted.get(mail, 0) > 1 for mail in statuses)
    absent = [status for mail, status in statuses.items() if accepted.get(mail, 0) == 0]
    return Verdict(
        emails=len(statuses),
        delivered=delivered,
        unknown=unknown,
        lost=len(statuses) - delivered - unknown,
        duplicated=duplicated,
        refused=absent.count(REFUSED),
        waiting=absent.count(WAITING),
    )
