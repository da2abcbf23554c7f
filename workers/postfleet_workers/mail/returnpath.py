"""The return path of a mail (VERP): an address of our own that names the mail and that nobody else can make. Pure.

`b+<email id>.<tag>@<return-path domain>`: at most 43 octets before the @ (RFC 5321 allows 64), in letters and digits
that survive a server which folds case. Where complaints go, `fbl+<tag>@<domain>`, is one address for good: it is
registered with the providers by hand.
"""

from __future__ import annotations

from postfleet_workers.mail.tokens import Kind, email_id_of, is_tag, tag

BOUNCES = "b"
FEEDBACK = "fbl"


def return_path(email_id: int, domain: str, key: bytes) -> str:
    """The envelope sender of a mail."""
    return f"{BOUNCES}+{email_id}.{tag(key, Kind.RETURN_PATH, str(email_id))}@{domain}"


def read(address: str, key: bytes) -> int | None:
    """The email whose return path `address` is; None when it is none of ours. Every domain will do: nodes change."""
    name, _, rest = address.rpartition("@")[0].partition("+")
    if name.lower() != BOUNCES:
        return None
    number, _, given = rest.partition(".")
    return email_id_of(key, Kind.RETURN_PATH, number, given)


def feedback_address(domain: str, key: bytes) -> str:
    """Where providers are asked to report complaints to."""
    return f"{FEEDBACK}+{tag(key, Kind.FEEDBACK, '')}@{domain}"


def is_feedback(address: str, key: bytes) -> bool:
    """Whether complaints are expected there."""
    name, _, given = address.rpartition("@")[0].partition("+")
    return name.lower() == FEEDBACK and is_tag(key, Kind.FEEDBACK, "", given)
