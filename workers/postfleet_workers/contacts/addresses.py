"""Which addresses are accepted, and in which form they are kept. Pure; syntax only, never DNS.

Every domain goes through email-validator once and is remembered; a local part that is a plain RFC 5321 dot-atom needs
nothing more. The rest (quoted, international, wrong) goes through email-validator as a whole.
"""

from __future__ import annotations

import re
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from postfleet_workers.errors import InputError

MAX_ADDRESS_BYTES = 254  # RFC 5321 4.5.3.1.3: a path of 256 octets with its angle brackets
MAX_LOCAL_BYTES = 64  # RFC 5321 4.5.3.1.1
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_PLAIN_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")


class BadAddress(InputError):  # noqa: N818 - what it is, not what happened
    """Text that is no deliverable email address; the message is the reason."""


def normalized(text: str) -> str:
    """The address in the one form in which it is stored and compared: lower case, domain in ASCII.

    Raises:
        BadAddress: it is none, or needs SMTPUTF8 (a non-ASCII local part), or its domain can never receive mail.
    """
    address = text.strip()
    local, at, domain = address.rpartition("@")
    if at and len(local) <= MAX_LOCAL_BYTES and _PLAIN_LOCAL.fullmatch(local):
        ascii_domain = _ascii_domain(domain)
        if ascii_domain is not None and len(local) + 1 + len(ascii_domain) <= MAX_ADDRESS_BYTES:
            return f"{local.lower()}@{ascii_domain}"
    return _validated(address)


def is_address(text: str) -> bool:
    """Whether `normalized` accepts it."""
    try:
        normalized(text)
    except BadAddress:
        return False
    return True


@lru_cache(maxsize=65_536)
def _ascii_domain(domain: str) -> str | None:
    try:
        return _validated(f"x@{domain}").removeprefix("x@")
    except BadAddress:
        return None


def _validated(address: str) -> str:
    if not address:
        raise BadAddress("the address is empty")
    try:
        # `test_environment` admits .test, which RFC 6761 keeps for exactly this; localhost and .invalid stay out.
        parts = validate_email(
            address, check_deliverability=False, allow_smtputf8=False, strict=True, test_environment=True
        )
    except EmailNotValidError as error:
        raise BadAddress(str(error)) from None
    return (parts.ascii_email or parts.normalized).lower()
