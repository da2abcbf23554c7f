"""From a CSV header to what each column means: the address, an attribute, or nothing. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postfleet_workers.errors import InputError

EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Columns:
    """A header understood: where the address is and which attribute every other kept column becomes."""

    header: tuple[str, ...]
    email: int
    attributes: tuple[tuple[int, str], ...]

    def attributes_of(self, fields: Sequence[str]) -> dict[str, str]:
        """One row's attributes, surrounding white space removed."""
        return {name: fields[index].strip() for index, name in self.attributes}


def attribute_name(column: str) -> str:
    """A column's name as templates use it: `First Name`, `firstName` and `first-name` all become `first_name`."""
    text = "".join(c for c in unicodedata.normalize("NFKD", column.strip()) if not unicodedata.combining(c))
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    text = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
    return f"_{text}" if text[:1].isdigit() else text


def understood(header: Sequence[str], mapping: Mapping[str, str] | None = None) -> Columns:
    """What each column of `header` means.

    Args:
        header: the first row.
        mapping: column (any case) -> attribute, or `email`, or '' to leave the column out.

    Raises:
        InputError: no or two address columns, two columns of one name, a mapping of an unknown column.
    """
    titles = tuple(title.strip() for title in header)
    targets = _targets(titles, mapping or {})
    seen: dict[str, str] = {}
    for title, target in zip(titles, targets, strict=True):
        if target and target in seen:
            raise InputError(
                f"columns {seen[target]!r} and {title!r} both become {target!r}; rename one or give --mapping"
            )
        seen[target] = title
    if EMAIL not in targets:
        found = ", ".join(repr(title) for title in titles)
        raise InputError(f"no column 'email'; found {found}; name it with --mapping COLUMN=email")
    attributes = tuple((i, target) for i, target in enumerate(targets) if target and target != EMAIL)
    return Columns(header=titles, email=targets.index(EMAIL), attributes=attributes)


def _targets(titles: Sequence[str], mapping: Mapping[str, str]) -> list[str]:
    by_title = {title.casefold(): target for title, target in mapping.items()}
    unknown = [title for title in mapping if title.casefold() not in {t.casefold() for t in titles}]
    if unknown:
        found = ", ".join(repr(title) for title in titles)
        raise InputError(f"--mapping names column {unknown[0]!r}, which is not there; found {found}")
    remapped_email = EMAIL in by_title.values()
    targets = []
    for title in titles:
        target = by_title.get(title.casefold())
        if target is not None:
            name = attribute_name(target)
        elif remapped_email and title.casefold() == EMAIL:
            name = ""  # another column was named as the address; this one cannot be an attribute called email
        else:
            name = attribute_name(title)
        targets.append(name)
    return targets
