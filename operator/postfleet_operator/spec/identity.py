"""`spec.identity` of a SendingNode: the domain, the addresses and the signature that its mail has. Pure."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.model import Model

ADDRESSES_UNIQUE = "addresses must differ from each other"
DKIM_KEY = "private.key"


def _is_address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(f"{text!r} is {names.WORDING[names.ADDRESS]}") from None
    return text


Address = Annotated[
    str, StringConstraints(min_length=2, max_length=45, pattern=names.ADDRESS), AfterValidator(_is_address)
]
Domain = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.DOMAIN)]


class SecretKeyRef(Model):
    """A key of a Secret in the node's namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]
    key: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.DATA_KEY)] = DKIM_KEY


class Dkim(Model):
    """How the mail is signed; `domain` is identity.domain unless given."""

    selector: Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=names.SELECTOR)]
    domain: Domain | None = None
    private_key_secret_ref: SecretKeyRef


class Identity(Model):
    """Who the node's mail comes from."""

    domain: Domain
    ip_addresses: tuple[Address, ...] = Field(default=(), max_length=16)
    return_path_domain: (
        Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.QUALIFIED)] | None
    ) = None
    dkim: Dkim | None = None

    @field_validator("ip_addresses")
    @classmethod
    def _addresses(cls, addresses: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({address for address in addresses if addresses.count(address) > 1}):
            raise ValueError(f"{ADDRESSES_UNIQUE}: {', '.join(twice)} is listed more than once")
        return addresses
