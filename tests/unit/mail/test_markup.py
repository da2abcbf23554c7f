"""Tags are found where a browser finds them, whatever Liquid stands in them."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.message.markup import masked, tags, unescaped


def found(source: str) -> list[tuple[str, dict[str, str]]]:
    """Start tags with their attributes."""
    return [
        (tag.name, {a.name: source[a.start : a.end] for a in tag.attributes})
        for tag in tags(masked(source))
        if not tag.closing and tag.name != "!--"
    ]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param('<a href="x">', [("a", {"href": "x"})], id="double"),
        pytest.param("<A HREF='x y' id = z checked>", [("a", {"href": "x y", "id": "z", "checked": ""})], id="others"),
        pytest.param('<br/><img src=a.png alt="">', [("br", {}), ("img", {"src": "a.png", "alt": ""})], id="void"),
        pytest.param('<a href="{{ u | default: "x>y" }}">', [("a", {"href": '{{ u | default: "x>y" }}'})], id="liquid"),
        pytest.param("{% if a < b %}<b>{% endif %}", [("b", {})], id="less-than-in-liquid"),
        pytest.param("<!-- <a> --><b>", [("b", {})], id="comment"),
        pytest.param("<style>a<b></style><b>", [("style", {}), ("b", {})], id="style"),
        pytest.param("<title>a<b></TITLE><b>", [("title", {}), ("b", {})], id="title"),
        pytest.param("a < b > c <3 <- <é>", [], id="no-tags"),
        pytest.param('<a href="x', [], id="cut-off"),
        pytest.param("<a = ==x>", [("a", {"x": ""})], id="lone-equals"),
    ],
)
def test_tags_and_attributes_are_found(source: str, expected: object) -> None:
    assert found(source) == expected


class Reference(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)


word = st.text("abc", min_size=1, max_size=3)
attribute = st.one_of(
    word, st.builds("{}={}".format, word, word), st.builds('{}="{}"'.format, word, st.text("ab <>='", max_size=5)),
    st.builds("{} = '{}'".format, word, st.text('ab <>="', max_size=5)),
)  # fmt: skip
tag = st.builds("<{} {}>".format, word, st.lists(attribute, max_size=3).map(" ".join))
pieces = st.one_of(tag, word, st.builds("</{}>".format, word), st.sampled_from(["<!-- <a b=c> -->", "\n", "a > b"]))


@given(st.lists(pieces, max_size=8).map("".join))
def test_the_standard_librarys_parser_finds_the_same(source: str) -> None:
    reference = Reference()
    reference.feed(source)
    assert [name for name, _ in found(source)] == reference.found


@given(st.text("<>ab=\"'/! -{}%", max_size=200))
def test_places_are_in_order_and_inside_the_text(source: str) -> None:
    at = 0
    for tag in tags(masked(source)):
        assert at <= tag.start < tag.name_end <= tag.end <= len(source)
        assert all(tag.name_end <= a.start <= a.end <= tag.end for a in tag.attributes)
        at = tag.end


@pytest.mark.parametrize(
    "piece", ["<", "<a", '<a b="', "<!--", "<style>", "<a b ", "<a b=' ", "{{", "{%", "<a " + "b " * 50, "<title>", " "]
)
def test_no_text_takes_long(piece: str) -> None:
    source = piece * (200_000 // len(piece))
    begun = time.process_time()
    for _ in tags(masked(source)):
        pass
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("https://x/?a=1&amp;b=2", "https://x/?a=1&b=2"),
        ("https://x/?a=1&copy=2&amp=3", "https://x/?a=1&copy=2&amp=3"),
        ("&#104;&#x74;&lt;&bogus;&#0;", "ht<&bogus;\ufffd"),
    ],
)
def test_references_are_read_as_in_attributes(value: str, text: str) -> None:
    assert unescaped(value) == text
