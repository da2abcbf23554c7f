"""What a link says is what it was made of, and nothing else is a link."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.errors import InputError
from postfleet_workers.mail.errors import TokenInvalid
from postfleet_workers.mail.message.links import Links, links_of
from postfleet_workers.mail.tokens import Key, Kind, read

KEY = Key(b"k" * 32)
LINKS = Links("https://mail.acme.example", KEY)


def token(link: str, kind: str) -> str:
    before, _, after = link.rpartition("/")
    assert before == f"https://mail.acme.example/{kind}"
    return after.removesuffix(".gif")


@given(st.integers(1, 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_click_leads_where_it_was_made_to_lead(email_id: int, url: str) -> None:
    told = read(KEY, Kind.CLICK, token(LINKS.click(email_id, url), "c"))
    assert (told.email_id, told.text) == (email_id, url)


def test_each_link_is_good_for_one_thing() -> None:
    links = {Kind.UNSUBSCRIBE: LINKS.unsubscribe(7), Kind.OPEN: LINKS.open(7), Kind.CLICK: LINKS.click(7, "https://x")}
    for kind, link in links.items():
        assert read(KEY, kind, token(link, kind)).email_id == 7
        for other in set(links) - {kind}:
            with pytest.raises(TokenInvalid):
                read(KEY, other, token(link, kind))


def test_there_are_links_only_with_an_address_and_a_key() -> None:
    assert links_of("", KEY) is None
    assert links_of("https://mail.acme.example", None) is None
    assert links_of("https://mail.acme.example/", KEY) == LINKS
    assert "k" * 32 not in repr(LINKS)


@pytest.mark.parametrize(
    "url", ["mail.acme.example", "ftp://x", "https://", "https://x/?a", "https://x/ y", "https://ü"]
)
def test_what_cannot_begin_a_link_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="POSTFLEET_PUBLIC_URL"):
        links_of(url, KEY)
