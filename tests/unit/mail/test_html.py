"""Style sheets end up where every mail program reads them, and the template stays the template."""

from __future__ import annotations

from typing import Any

import pytest
from liquid import Environment

from postfleet_workers.mail.message.html import Styled, inlined, styled

SHEET = "<style>p { color: red }</style>"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(SHEET + "<p>x", '<p style="color: red;">x', id="tag"),
        pytest.param(
            "<style>.a{padding:1px} b{margin:0}</style><b class=a>x</b>",
            '<b style="margin: 0;padding: 1px;" class=a>x</b>',
            id="class",
        ),
        pytest.param(
            SHEET + '<p style="color: blue">x',
            '<p style="color: red;color: blue">x',
            id="own-style-wins",
        ),
        pytest.param(
            "<style>p{font-family:\"A B\"}</style><p style='x: y'>x",
            "<p style='font-family: &#39;A B&#39;;x: y'>x",
            id="single-quotes",
        ),
        pytest.param(
            "<style>a{color:red} a:hover{color:blue} @media print{a{x:y}}</style><a>x</a>",
            '<style>a:hover { color: blue; }\n@media print{a{x:y}}</style><a style="color: red;">x</a>',
            id="what-cannot-be-inlined-stays",
        ),
        pytest.param(
            '<style data-css-inline="ignore">p{x:y}</style>' + SHEET + "<p>x",
            '<style data-css-inline="ignore">p{x:y}</style><p style="color: red;">x',
            id="ignored-sheets-stay",
        ),
        pytest.param(
            SHEET + "<!--[if mso]><p>x</p><![endif]--><P\n class='b' >&nbsp;&copy; é<br/>",
            "<!--[if mso]><p>x</p><![endif]--><P style=\"color: red;\"\n class='b' >&nbsp;&copy; é<br/>",
            id="the-rest-stays-as-it-was-written",
        ),
        pytest.param(
            SHEET + '<table>{% for r in rows %}<tr><td><p>{{ r | default: "<p>" }}</td></tr>{% endfor %}</table>',
            '<table>{% for r in rows %}<tr><td><p style="color: red;">{{ r | default: "<p>" }}</td></tr>{% endfor %}'
            "</table>",
            id="liquid-in-a-table",
        ),
        pytest.param(
            SHEET + '<p style="width: {{ w }}" title="{{ t | default: "a" }}">x',
            '<p style="color: red;width: {{ w }}" title="{{ t | default: "a" }}">x',
            id="liquid-in-attributes",
        ),
        pytest.param(
            SHEET + '<a href="{% if a < b %}x{% else %}y{% endif %}"><p>x</a>',
            '<a href="{% if a < b %}x{% else %}y{% endif %}"><p style="color: red;">x</a>',
            id="less-than-in-liquid",
        ),
    ],
)
def test_a_sheet_is_inlined_into_the_templates_own_text(source: str, expected: str) -> None:
    assert styled(source) == Styled(expected)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("<p>x", id="no-sheet"),
        pytest.param('<style data-css-inline="ignore">p{x:y}</style><p>x', id="ignored"),
        pytest.param("<style>p{color:{{ c }}}</style><p>x", id="liquid-in-the-sheet"),
        pytest.param('<style>.a{x:y}</style><p class="{{ c }}">x', id="liquid-in-a-class"),
        pytest.param("<style>.a{x:y}</style><p {% if c %}class=a{% endif %}>x", id="liquid-among-attributes"),
        pytest.param("{% if c %}<style>p{x:y}</style>{% endif %}<p>x", id="a-sheet-that-may-not-be-there"),
        pytest.param("<style>p+p{x:y}</style>{% if c %}<p>{% endif %}<p>x", id="a-neighbour-that-may-not-be-there"),
        pytest.param("<style>p{x:y", id="unfinished-sheet"),
    ],
)
def test_what_is_not_known_before_rendering_is_left_alone(source: str) -> None:
    assert styled(source) == Styled(source)


def test_a_sheet_that_asks_for_it_is_inlined_when_the_mail_is_rendered() -> None:
    source = '<style data-css-inline="rendered">.gold{color:gold}</style><p class="{{ plan }}">x'
    assert styled(source) == Styled(source, late=True)
    rendered = Environment().from_string(source).render(plan="gold")
    assert inlined(rendered) == '<p style="color: gold;" class="gold">x'


def test_a_sheet_that_asks_for_it_in_vain_is_inlined_at_once() -> None:
    assert not styled('<style data-css-inline="rendered">p{x:y}</style><p>{{ x }}').late


@pytest.mark.parametrize("values", [{"vip": True, "rows": ["a", "b"]}, {"vip": False, "rows": ["a"]}])
def test_inlining_before_rendering_gives_what_inlining_after_it_gives(values: dict[str, Any]) -> None:
    source = (
        "<html><head><style>.c p{color:red} td,h1{padding:2px} a:hover{x:y}</style></head><body class=c>"
        "<h1>{{ name }}</h1>{% if vip %}<p style='margin:0'>VIP</p>{% else %}<p>you</p>{% endif %}"
        "<table>{% for row in rows %}<tr><td>{{ row }}</td></tr>{% endfor %}</table></body></html>"
    )
    liquid = Environment()
    early = liquid.from_string(styled(source).source).render(**values)
    assert early == inlined(liquid.from_string(source).render(**values))


def test_no_sheet_is_fetched(tmp_path: Any) -> None:
    sheet = tmp_path / "s.css"
    sheet.write_text("p{color:red}")
    source = f'<link rel="stylesheet" href="{sheet.as_uri()}"><style>b{{x:y}}</style><p>x'
    assert "red" not in inlined(source)
