"""What a reader without HTML gets to see."""

from __future__ import annotations

from typing import Any

import pytest
from liquid import Environment

from postfleet_workers.mail.message.plaintext import text_of, text_template


@pytest.mark.parametrize(
    ("html", "text"),
    [
        pytest.param("<p>Hello\n  <b>Ann</b>,</p><p>two</p>", "Hello Ann,\n\ntwo\n", id="paragraphs"),
        pytest.param("<div>a</div><div>b<br>c<br><br>d</div>", "a\nb\nc\n\nd\n", id="lines"),
        pytest.param("<ul><li>a</li><li>b</li></ul>c", "- a\n- b\n\nc\n", id="list"),
        pytest.param("<h1>T</h1>x<hr>y", "T\n\nx\n\n-----\n\ny\n", id="heading-and-rule"),
        pytest.param("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n", id="table"),
        pytest.param('<a href="https://x/?a=1&amp;b">Go</a> on', "Go <https://x/?a=1&b> on\n", id="link"),
        pytest.param('<a href="https://x.co">x.co</a> <a href="#top">Top</a>', "x.co Top\n", id="link-that-says-it"),
        pytest.param('<a href="mailto:a@b.co">a@b.co</a>', "a@b.co\n", id="address"),
        pytest.param(
            '<a href="https://x"><img src=l.png alt="Shop &amp; Co"></a>', "Shop & Co <https://x>\n", id="image"
        ),
        pytest.param('<a href="https://x"><img src=l.png></a>', "<https://x>\n", id="image-without-words"),
        pytest.param("<title>T</title><style>p{}</style><script>x</script><body>a", "a\n", id="nothing-of-the-head"),
        pytest.param('<div style="display: none">pre<div>x</div></div><p hidden>y</p>z', "z\n", id="hidden"),
        pytest.param("<!-- c --><!--[if mso]><p>m</p><![endif]-->a&nbsp;&amp;&copy;&zwnj;", "a &©\n", id="comments"),
        pytest.param("&lt;b&gt; 1 < 2", "<b> 1 < 2\n", id="references"),
        pytest.param('<img src="x"><img src=p.gif alt="">', "", id="no-words"),
        pytest.param("{{ not.liquid }}", "{{ not.liquid }}\n", id="braces-in-a-rendered-mail"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    assert text_of(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        pytest.param(
            "<p>Hi {{ n | default: '<b>' }}</p>{% if a < b %}<p>A</p>{% else %}<p>B</p>{% endif %}<p>C</p>",
            "Hi {{ n | default: '<b>' }}\n\n{% if a < b %}A\n\n{% else %}B\n\n{% endif %}C\n",
            id="paragraphs",
        ),
        pytest.param(
            "<ul>\n{% for r in rows %}\n<li>{{ r }}</li>\n{% endfor %}\n</ul>z",
            "{% for r in rows %}- {{ r }}\n{% endfor %}\nz\n",
            id="loop",
        ),
        pytest.param(
            "Acme\n {%- if c %} in {{ c -}} {% endif %}!", "Acme{% if c %} in {{ c }}{% endif %}!\n", id="trimmed"
        ),
        pytest.param(
            '<a {% if a %}class="b"{% endif %} href="{% if a %}u{% endif %}">Go</a>',
            "Go <{% if a %}u{% endif %}>\n",
            id="link",
        ),
        pytest.param(
            "<style>{% if a %}p{}{% endif %}</style><td {% if a %}x{% endif %}>y",
            "{% if a %}{% endif %}{% if a %}{% endif %}y\n",
            id="tags-that-are-not-shown",
        ),
    ],
)
def test_a_template_becomes_a_template(html: str, text: str) -> None:
    assert text_template(html) == text


@pytest.mark.parametrize(
    "html", ["{{ a | newline_to_br }}", "{{ a | escape }}", "{% tablerow r in rows %}{% endtablerow %}"]
)
def test_a_template_that_makes_html_of_values_is_for_each_mail(html: str) -> None:
    assert text_template(html) is None


@pytest.mark.parametrize("rows", [[], ["a"], ["a", "b & c"]])
@pytest.mark.parametrize("vip", [True, False])
def test_the_text_is_the_same_by_either_way(rows: list[str], vip: bool) -> None:
    source = """<html><head><title>T</title></head><body>
      <h1>Hello {{ name }}</h1>
      {% if vip %}<p>You are a <b>VIP</b>.</p>{% endif %}
      <p>News{%- if vip %} for you{% endif %}:</p>
      <ul>{% for row in rows %}<li>{{ row }}</li>{% endfor %}</ul>
      <table><tr><td>a</td><td><a href="https://x/{{ name }}">shop</a></td></tr></table></body></html>"""
    values: dict[str, Any] = {"name": "Ann", "vip": vip, "rows": rows}
    template = text_template(source)
    assert template is not None
    plain, escaping = Environment(), Environment(autoescape=True)
    ours = plain.from_string(template).render(**values)
    assert ours.split() == text_of(escaping.from_string(source).render(**values)).split()
    assert "\n\n\n\n" not in ours
