"""Pages that are read, not only seen."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from postfleet_workers.web import pages

PAGES = {name: page for name, page in vars(pages).items() if isinstance(page, bytes) and name != "PIXEL"}


class Outline(HTMLParser):
    """Tags in order, with their attributes."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_a_language_a_title_and_one_heading(name: str) -> None:
    outline = Outline(PAGES[name])
    assert outline.open == []
    tags = [tag for tag, _ in outline.tags]
    assert dict(outline.tags)["html"] == {"lang": "en"}
    assert tags.count("title") == tags.count("h1") == tags.count("main") == 1


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_runs_nothing(name: str) -> None:
    assert not re.search(rb"<script|<img|<link|src=|href=|style=|\son\w+=", PAGES[name])
    [style] = re.findall(r"<style>(.*)</style>", PAGES[name].decode())
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in pages.POLICY


def test_the_button_sends_what_mail_programs_send() -> None:
    outline = Outline(pages.CONFIRM)
    assert [attributes for tag, attributes in outline.tags if tag == "form"] == [{"method": "post"}]
    [button] = [attributes for tag, attributes in outline.tags if tag == "button"]
    assert button == {"type": "submit", "name": "List-Unsubscribe", "value": "One-Click"}


def test_the_picture_is_one_pixel() -> None:
    assert pages.PIXEL[:6] == b"GIF89a"
    assert (int.from_bytes(pages.PIXEL[6:8], "little"), int.from_bytes(pages.PIXEL[8:10], "little")) == (1, 1)
