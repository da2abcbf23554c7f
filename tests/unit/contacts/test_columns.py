from __future__ import annotations

import pytest

from postfleet_workers.contacts.columns import attribute_name, understood
from postfleet_workers.errors import InputError


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("first_name", "first_name"),
        ("First Name", "first_name"),
        ("firstName", "first_name"),
        ("first-name ", "first_name"),
        ("Prénom", "prenom"),
        ("URL", "url"),
        ("2nd choice", "_2nd_choice"),
        ("Email", "email"),
        ("★", ""),
    ],
)
def test_a_column_becomes_an_attribute_in_snake_case(column: str, name: str) -> None:
    assert attribute_name(column) == name


def test_every_column_but_the_address_is_an_attribute() -> None:
    columns = understood(["First Name", "EMAIL ", "City"])

    assert columns.email == 1
    assert columns.attributes_of(["Ada ", "ada@example.org", " London"]) == {"first_name": "Ada", "city": "London"}


def test_a_mapping_renames_names_the_address_and_leaves_out() -> None:
    columns = understood(
        ["E-Mail Adresse", "Vorname", "Notiz"], {"e-mail adresse": "email", "Vorname": "first_name", "Notiz": ""}
    )

    assert columns.email == 0
    assert columns.attributes == ((1, "first_name"),)


def test_another_column_can_be_the_address_beside_one_called_email() -> None:
    columns = understood(["email", "work email"], {"work email": "email"})

    assert columns.email == 1
    assert columns.attributes == ()


@pytest.mark.parametrize(
    ("header", "mapping", "message"),
    [
        pytest.param(
            ["name", "mail"], {}, r"no column 'email'; found 'name', 'mail'; name it with --mapping", id="none"
        ),
        pytest.param(["email", "Email"], {}, "'email' and 'Email' both become 'email'", id="two addresses"),
        pytest.param(["email", "First Name", "firstName"], {}, "both become 'first_name'", id="two of one name"),
        pytest.param(["email"], {"city": "town"}, "'city', which is not there; found 'email'", id="unknown column"),
    ],
)
def test_a_header_that_cannot_work_is_one_line(header: list[str], mapping: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        understood(header, mapping)
    assert "\n" not in str(caught.value)
