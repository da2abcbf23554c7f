"""Whether what the images hold may be held: each package's own words about its license, against a list.

Pure but for reading metadata. A package that says nothing, or says something that is not on the list, is told by name;
read its license before you add anything here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path

# LGPL: used as libraries that a user may replace, unchanged, with their source on PyPI. MPL: certifi's list alone.
ALLOWED = frozenset(
    {
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "PSF-2.0", "Unlicense"),
        *("LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0"),
    }
)
# Older metadata has no SPDX expression but a trove classifier or a word of its own.
SPOKEN = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


@dataclass(frozen=True, slots=True)
class Package:
    """A package and its license as an SPDX expression; empty where it says none that can be read."""

    name: str
    version: str
    license: str

    @property
    def allowed(self) -> bool:
        """Of alternatives one is enough, of several together all must be on the list. Never a mixture of both."""
        if re.search(r"\sOR\s", self.license) and re.search(r"\sAND\s", self.license):
            return False  # a person has to read where its parentheses are
        alternatives = re.split(r"\s+OR\s+", self.license.replace("(", " ").replace(")", " ").strip())
        return any(set(re.split(r"\s+AND\s+", each.strip())) <= ALLOWED for each in alternatives)


def license_of(expression: str | None, field: str | None, classifiers: Iterable[str]) -> str:
    """The SPDX expression of a package's metadata: its own, else its license field, else its classifiers."""
    if expression:
        return expression
    first = (field or "").strip().splitlines()[0].strip() if (field or "").strip() else ""
    if first in ALLOWED or first in SPOKEN:
        return SPOKEN.get(first, first)
    spoken = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    return " AND ".join(SPOKEN.get(each, each) for each in spoken) or first


def package_of(distribution: Distribution) -> Package:
    """What an installed package says of itself."""
    said = distribution.metadata
    expression, field = (next(iter(said.get_all(name) or []), None) for name in ("License-Expression", "License"))
    found = license_of(expression, field, said.get_all("Classifier") or [])
    return Package(distribution.name, distribution.version, found)


def packages(environment: Path) -> list[Package]:
    """Everything that is installed in an environment, by name."""
    places = [str(place) for place in environment.glob("lib/python3*/site-packages")]
    return sorted((package_of(each) for each in distributions(path=places)), key=lambda each: each.name.lower())


def table(found: Iterable[Package]) -> str:
    """How many packages have which license."""
    counts: dict[str, list[str]] = {}
    for package in found:
        counts.setdefault(package.license or "none", []).append(package.name)
    return "\n".join(f"{license_:<28}{len(names):>3}  {', '.join(names)}" for license_, names in sorted(counts.items()))


def complaints(found: Mapping[str, list[Package]]) -> list[str]:
    """A line for each package of an image whose license is not on the list."""
    return [
        f"{image}: {package.name} {package.version}: license {package.license or 'unknown'!r} is not on the list"
        for image, members in found.items()
        for package in members
        if not package.allowed
    ]
