from __future__ import annotations

import pytest

from postfleet_workers.contacts.columns import understood
from postfleet_workers.contacts.intake import Contact, Reject, judge
from postfleet_workers.contacts.reading import Record

COLUMNS = understood(["email", "First Name"])


def test_a_good_row_becomes_a_contact() -> None:
    judged = judge(Record(7, ("Ada@Example.org", "Ada")), COLUMNS)

    assert judged == Contact(7, "ada@example.org", {"first_name": "Ada"})


@pytest.mark.parametrize(
    ("fields", "problem", "reason"),
    [
        (("ada@example.org",), None, "1 fields instead of 2"),
        (("ada@example.org", "Ada", "x"), None, "3 fields instead of 2"),
        (("ada.example.org", "Ada"), None, "bad address: An email address must have an @-sign."),
        (("", "Ada"), None, "bad address: the address is empty"),
        (("ada@example.org", "A\0da"), None, "holds a NUL character"),
        (("ada",), "malformed row: …", "malformed row: …"),
    ],
)
def test_a_bad_row_says_why(fields: tuple[str, ...], problem: str | None, reason: str) -> None:
    assert judge(Record(9, fields, problem), COLUMNS) == Reject(9, reason, fields)
