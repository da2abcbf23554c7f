"""Which links are led through us, and that they lead where they led before."""

from __future__ import annotations

import re

import pytest

from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.message.template import Template
from postfleet_workers.mail.message.tracking import marked, tracked
from postfleet_workers.mail.tokens import Key, Kind, read

KEY = Key(b"k" * 32)
LINKS = Links("https://m.example", KEY)
LEAVE = "https://m.example/u/1x"


def shown(html: str, *, opens: bool = False, clicks: bool = True) -> str:
    """The HTML with `<target>` for each click's link and `<open>` for the picture's."""
    result = tracked(marked(html, opens=opens, clicks=clicks), LINKS, 7, LEAVE)
    assert "\0" not in result

    def target(found: re.Match[str]) -> str:
        token = read(KEY, Kind.CLICK, found[1])
        assert token.email_id == 7
        return f"<{token.text}>"

    return re.sub(r"https://m.example/c/([\w-]+)", target, result).replace(LINKS.open(7), "<open>")


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param('<a href="https://x/">a</a>', '<a href="<https://x/>">a</a>', id="link"),
        pytest.param("<A HREF=http://x/?a>a</A>", "<A HREF=<http://x/?a>>a</A>", id="without-quotes"),
        pytest.param('<area href="https://x">', '<area href="<https://x>">', id="area"),
        pytest.param('<a href=" HTTPS://x/?a=1&amp;b=2 ">', '<a href="<HTTPS://x/?a=1&b=2>">', id="references"),
        pytest.param('<a href="https://x/?a=1&copy=2">', '<a href="<https://x/?a=1&copy=2>">', id="no-reference"),
    ],
)
def test_a_link_leads_through_us_to_where_it_led(html: str, expected: str) -> None:
    assert shown(html) == expected


@pytest.mark.parametrize(
    "html",
    [
        '<a href="mailto:a@b.example">a</a>',
        '<a href="tel:+49">a</a>',
        '<a href="#top">a</a>',
        '<a href="/relative">a</a>',
        '<a href="javascript:alert(1)">a</a>',
        '<a href="">a</a>',
        "<a name=x>a</a>",
        '<a href="https://">a</a>',
        f'<a href="{LEAVE}">Unsubscribe</a>',
        f'<a href="https://x/{"y" * 2000}">a</a>',
        '<img src="https://x/logo.png"><link href="https://x/s.css">',
        '<!-- <a href="https://x">a</a> -->',
        "https://x in words",
    ],
)
def test_other_links_stay_as_they_are(html: str) -> None:
    assert shown(html) == html


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        pytest.param("<body><p>a</p></body></html>", "<body><p>a</p>{}</body></html>", id="body"),
        pytest.param("<p>a</p>", "<p>a</p>{}", id="fragment"),
        pytest.param("<body>a</body></body>", "<body>a</body>{}</body>", id="last-end"),
    ],
)
def test_the_picture_is_the_last_thing_in_the_body(html: str, expected: str) -> None:
    picture = '<img src="<open>" width="1" height="1" alt="">'
    assert shown(html, opens=True, clicks=False) == expected.format(picture)


def test_links_and_picture_are_marked_in_the_template_and_made_for_each_mail() -> None:
    source = (
        '<a href="{{ contact.shop | default: "https://x" }}">{{ contact.name }}</a>'
        '{% for n in contact.numbers %}<a href="https://x/{{ n }}?a&amp;b">{{ n }}</a>{% endfor %}'
        '<a href="mailto:{{ contact.name }}">m</a><a href="{{ unsubscribe_url }}">u</a>'
    )
    template = Template("html", marked(source, opens=True, clicks=True), html=True)
    html = template.render(
        {"contact": {"name": "<Ann>", "numbers": [1, 2], "shop": "https://s/?q=1&r=2"}, "unsubscribe_url": LEAVE}
    )
    result = tracked(html, LINKS, 7, LEAVE)
    targets = [read(KEY, Kind.CLICK, token).text for token in re.findall(r"https://m.example/c/([\w-]+)", result)]
    assert targets == ["https://s/?q=1&r=2", "https://x/1?a&b", "https://x/2?a&b"]
    assert 'href="mailto:&lt;Ann&gt;"' in result
    assert f'href="{LEAVE}"' in result
    assert LINKS.open(7) in result


def test_nothing_is_marked_when_nothing_is_tracked() -> None:
    html = '<body><a href="https://x">a</a></body>'
    assert marked(html, opens=False, clicks=False) == html
