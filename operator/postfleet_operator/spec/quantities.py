"""Kubernetes quantities as numbers: `500m` is a half, `1Gi` is 2 to the 30th. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

SUFFIXES: Mapping[str, Decimal] = {
    **{
        suffix: Decimal(f"1e{power}") for suffix, power in zip("numkMGTPE", (-9, -6, -3, *range(3, 19, 3)), strict=True)
    },
    **{f"{letter}i": Decimal(2 ** (10 * power)) for power, letter in enumerate("KMGTPE", 1)},
    "": Decimal(1),
}


def amount(quantity: int | str) -> Decimal:
    """The number that a quantity stands for; it must be spelled as one."""
    found = re.fullmatch(r"(?P<number>[^A-Za-z]+(?:[eE][-+0-9.]+)?)(?P<suffix>[A-Za-z]*)", str(quantity))
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity")
    return Decimal(found["number"]) * SUFFIXES[found["suffix"]]
