"""Which licenses may go into an image."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[3] / "release"))

from licenses import Package, complaints, license_of, packages


@pytest.mark.parametrize(
    ("expression", "field", "classifiers", "expected"),
    [
        pytest.param("MIT", "something else", ["License :: OSI Approved :: BSD License"], "MIT", id="an expression"),
        pytest.param(None, "Apache 2.0", [], "Apache-2.0", id="a known word"),
        pytest.param(None, "ISC", ["License :: OSI Approved :: BSD License"], "ISC", id="the field before classifiers"),
        pytest.param(None, "see LICENSE", ["License :: OSI Approved :: MIT License"], "MIT", id="a classifier"),
        pytest.param(None, "MIT\n\nPermission is granted …", [], "MIT", id="the whole text"),
        pytest.param(None, "Proprietary", [], "Proprietary", id="what nobody knows, as it is"),
        pytest.param(None, None, [], "", id="nothing"),
        pytest.param(None, "", ["License :: OSI Approved :: Odd License"], "Odd License", id="an odd classifier"),
    ],
)
def test_the_license_of_metadata(
    expression: str | None, field: str | None, classifiers: list[str], expected: str
) -> None:
    assert license_of(expression, field, classifiers) == expected


@pytest.mark.parametrize(
    ("license_", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("(MIT OR Apache-2.0)", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND (MIT OR Apache-2.0)", False),
        ("GPL-3.0-only", False),
        ("AGPL-3.0-or-later", False),
        ("Proprietary", False),
        ("", False),
    ],
)
def test_what_is_allowed(license_: str, allowed: bool) -> None:
    assert Package("x", "1", license_).allowed is allowed


def test_a_complaint_names_image_package_and_license() -> None:
    held = {
        "operator": [Package("good", "1", "MIT")],
        "worker": [Package("odd", "2", ""), Package("viral", "3", "GPL")],
    }
    assert complaints(held) == [
        "worker: odd 2: license 'unknown' is not on the list",
        "worker: viral 3: license 'GPL' is not on the list",
    ]


def test_everything_installed_here_is_read() -> None:
    names = {package.name: package for package in packages(Path(sys.prefix))}
    assert {"postfleet", "psycopg", "dramatiq"} <= set(names)
    assert names["postfleet"].license == "Apache-2.0"
