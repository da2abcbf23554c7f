"""Tokens of links and return paths: ours are read, nothing else is."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.errors import InputError
from postfleet_workers.mail import returnpath, tokens
from postfleet_workers.mail.errors import TokenInvalid
from postfleet_workers.mail.tokens import Key, Kind, Token

KEY = Key(b"k" * 32)
OTHER = Key(b"o" * 32)
IDS = st.integers(0, 2**63 - 1)


@given(IDS, st.sampled_from(Kind), st.text())
def test_a_token_says_what_was_signed(email_id: int, kind: Kind, text: str) -> None:
    token = tokens.sign(KEY, kind, email_id, text)
    assert re.fullmatch(r"1[A-Za-z0-9_-]{28,}", token)
    assert tokens.read(KEY, kind, token) == Token(email_id, text)


def test_a_token_without_a_text_is_short() -> None:
    assert len(tokens.sign(KEY, Kind.UNSUBSCRIBE, 2**63 - 1)) == 29


@given(IDS, st.text(max_size=20), st.data())
def test_a_token_with_any_character_changed_is_refused(email_id: int, text: str, data: st.DataObject) -> None:
    token = tokens.sign(KEY, Kind.CLICK, email_id, text)
    spare = 1 if text else 0  # the last character may have bits that say nothing
    at = data.draw(st.integers(0, len(token) - 1 - spare))
    changed = data.draw(st.sampled_from("ABCxyz019-_=/+.é\n").filter(lambda c: c != token[at]))
    with pytest.raises(TokenInvalid):
        tokens.read(KEY, Kind.CLICK, token[:at] + changed + token[at + 1 :])


@pytest.mark.parametrize("token", ["", "1", "0abc", "1!!!", "1" + "A" * 27, "1" + "A" * 28, "é", "1AAAAA"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(TokenInvalid):
        tokens.read(KEY, Kind.OPEN, token)


def test_a_token_of_another_kind_or_key_is_refused() -> None:
    token = tokens.sign(KEY, Kind.OPEN, 7)
    with pytest.raises(TokenInvalid, match="something else"):
        tokens.read(KEY, Kind.UNSUBSCRIBE, token)
    with pytest.raises(TokenInvalid, match="not signed by us"):
        tokens.read(OTHER, Kind.OPEN, token)


def test_a_key_of_less_than_32_characters_is_refused_in_one_line() -> None:
    assert tokens.key_of(None) is None
    assert tokens.key_of("") is None
    assert tokens.key_of("s" * 32) == Key(b"s" * 32)
    with pytest.raises(InputError, match=r"POSTFLEET_SECRET_KEY has 31 characters; give 32 or more"):
        tokens.key_of("s" * 31)


@pytest.mark.parametrize(
    ("given", "line"),
    [
        pytest.param(
            f"{'n' * 32},", "POSTFLEET_SECRET_KEY: key 2 of 2 is empty; give one, or several as NEW,OLD", id="empty"
        ),
        pytest.param("," + "o" * 32, "key 1 of 2 is empty", id="empty first"),
        pytest.param(f"{'n' * 32},{'m' * 31},{'o' * 32}", "key 2 of 3 has 31 characters; give 32 or more", id="short"),
        pytest.param(f"{'n' * 32}, {'o' * 32}", "key 2 of 2 begins or ends with a space; write NEW,OLD", id="space"),
        pytest.param(f"{'n' * 32}\n,{'o' * 32}", "key 1 of 2 begins or ends with a space", id="line break"),
        pytest.param(" " * 40, "POSTFLEET_SECRET_KEY is empty", id="nothing but spaces"),
    ],
)
def test_several_keys_are_read_without_room_for_a_slip(given: str, line: str) -> None:
    with pytest.raises(InputError) as told:
        tokens.key_of(given)
    assert line in str(told.value)
    assert "nnn" not in str(told.value)


def test_the_first_key_signs_and_all_are_believed() -> None:
    old, new = Key(b"o" * 32), Key(b"n" * 32)
    both = tokens.key_of(f"{'n' * 32},{'o' * 32}")
    assert both == Key(b"n" * 32, (b"o" * 32,))
    assert b"nnn" not in repr(both).encode()
    for signs in (old, both):
        assert tokens.read(both, Kind.CLICK, tokens.sign(signs, Kind.CLICK, 7, "x")) == Token(7, "x")
        assert returnpath.read(returnpath.return_path(7, "a.example", signs), both) == 7
        assert returnpath.read_unsubscribe(returnpath.unsubscribe_address(7, "a.example", signs), both) == 7
        assert returnpath.is_feedback(returnpath.feedback_address("a.example", signs), both)
        assert tokens.read_stamp(both, tokens.stamp(signs, 7)) == 7
    assert tokens.sign(both, Kind.OPEN, 7) == tokens.sign(new, Kind.OPEN, 7)
    assert tokens.stamp(both, 7) == tokens.stamp(new, 7)
    with pytest.raises(TokenInvalid):
        tokens.read(old, Kind.OPEN, tokens.sign(both, Kind.OPEN, 7))
    ann = "ann@example.org"
    assert tokens.address_hashes(both, ann) == [tokens.address_hash(new, ann), tokens.address_hash(old, ann)]
    assert tokens.address_hash(both, ann) == tokens.address_hash(new, ann)


@given(IDS, st.sampled_from([str.upper, str.lower, str.title, str]))
def test_a_return_path_names_its_email_in_any_case(email_id: int, fold: type[str]) -> None:
    address = returnpath.return_path(email_id, "bounces.example.com", KEY)
    local, _, domain = address.partition("@")
    assert domain == "bounces.example.com"
    assert len(local) <= 43
    assert re.fullmatch(r"[a-z0-9+.]+", local)
    assert returnpath.read(fold(address), KEY) == email_id


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ann@example.org",
        "b+7@example.org",
        "b+7.@example.org",
        "b+.x@example.org",
        "b+٧.x@example.org",
        f"b+{'9' * 5000}.x@example.org",
        returnpath.return_path(7, "example.org", OTHER),
        returnpath.return_path(7, "example.org", KEY).replace("b+7", "b+8"),
        returnpath.return_path(7, "example.org", KEY).replace("b+7", "fbl+7"),
        returnpath.feedback_address("example.org", KEY),
        f"b+{tokens.stamp(KEY, 7)}@example.org",
    ],
)
def test_other_addresses_name_no_email(address: str) -> None:
    assert returnpath.read(address, KEY) is None


def test_the_address_of_complaints_is_told_from_guesses() -> None:
    address = returnpath.feedback_address("example.org", KEY)
    assert returnpath.is_feedback(address.upper(), KEY)
    assert not returnpath.is_feedback(returnpath.feedback_address("example.org", OTHER), KEY)
    assert not returnpath.is_feedback("fbl@example.org", KEY)
    assert not returnpath.is_feedback(returnpath.return_path(7, "example.org", KEY), KEY)


def test_a_stamp_names_its_email() -> None:
    assert tokens.read_stamp(KEY, f" {tokens.stamp(KEY, 42)} ") == 42
    assert tokens.read_stamp(KEY, "42") is None
    assert tokens.read_stamp(OTHER, tokens.stamp(KEY, 42)) is None


def test_the_hash_of_an_address_depends_on_the_key() -> None:
    assert tokens.address_hash(KEY, "ann@example.org") == tokens.address_hash(KEY, "ann@example.org")
    assert tokens.address_hash(KEY, "ann@example.org") != tokens.address_hash(OTHER, "ann@example.org")
    assert re.fullmatch("[0-9a-f]{32}", tokens.address_hash(KEY, "ann@example.org"))
