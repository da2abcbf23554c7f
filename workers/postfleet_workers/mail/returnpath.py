"""The return path of a mail (VERP): an address of our own that names the mail and that nobody else can make. Pure.

`b+<email id>.<tag>@<return-path domain>`: at most 43 octets before the @ (RFC 5321 allows 64), in letters and digits
that survive a server which folds case. Where complaints go, `fbl+<tag>@<domain>`, is one address for good: it is
registered with the providers by hand.
"""

from __future__ import annotations

from postfleet_workers.mail.tokens import Key, Kind, email_id_of, is_tag, tag

BOUNCES = "b"
FEEDBACK = "fbl"
UNSUBSCRIBE = "u"


def return_path(email_id: int, domain: str, key: Key) -> str:
    """The envelope sender of a mail."""
    return _address(BOUNCES, Kind.RETURN_PATH, email_id, domain, key)


def read(address: str, key: Key) -> int | None:
    """The email whose return path `address` is; None when it is none of ours. Every domain will do: nodes change."""
    return _email_of(BOUNCES, Kind.RETURN_PATH, address, key)


def unsubscribe_address(email_id: int, domain: str, key: Key) -> str:
    """Where a mail to is word enough that its recipient wants no more, for those who follow no link (RFC 2369)."""
    return _address(UNSUBSCRIBE, Kind.UNSUBSCRIBE, email_id, domain, key)


def read_unsubscribe(address: str, key: Key) -> int | None:
    """The email whose recipient wants no more; None when `address` does not say so."""
    return _email_of(UNSUBSCRIBE, Kind.UNSUBSCRIBE, address, key)


def feedback_address(domain: str, key: Key) -> str:
    """Where providers are asked to report complaints to."""
    return f"{FEEDBACK}+{tag(key, Kind.FEEDBACK, '')}@{domain}"


def is_feedback(address: str, key: Key) -> bool:
    """Whether complaints are expected there."""
    name, _, given = address.rpartition("@")[0].partition("+")
    return name.lower() == FEEDBACK and is_tag(key, Kind.FEEDBACK, "", given)


def _address(name: str, kind: Kind, email_id: int, domain: str, key: Key) -> str:
    return f"{name}+{email_id}.{tag(key, kind, str(email_id))}@{domain}"


def _email_of(wanted: str, kind: Kind, address: str, key: Key) -> int | None:
    name, _, rest = address.rpartition("@")[0].partition("+")
    if name.lower() != wanted:
        return None
    number, _, given = rest.partition(".")
    return email_id_of(key, kind, number, given)
