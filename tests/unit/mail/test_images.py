"""Which files a template shows for certain, held against those that its mails will carry."""

from __future__ import annotations

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.mail.message.images import check, put_ids


@pytest.mark.parametrize(
    ("html", "complaint"),
    [
        pytest.param('<img src="cid:logo.png">', "html, line 1: shows cid:logo.png, but no attach", id="image"),
        pytest.param("\n\n<p>\n<img alt='' src=cid:logo.png>", "html, line 4: shows cid:logo.png", id="line"),
        pytest.param('<a href=" cid:my%20terms.pdf">', "shows cid:my terms.pdf", id="link"),
        pytest.param('<td background="cid:a&amp;b.png">', "shows cid:a&b.png", id="character reference"),
        pytest.param("<p style=\"background: url('cid:bg.png')\">", "shows cid:bg.png", id="style"),
        pytest.param("<style>p { background: url(cid:bg.png) }</style>", "shows cid:bg.png", id="sheet"),
        pytest.param('<img srcset="https://a.example/1.png, cid:2.png 2x">', "shows cid:2.png", id="srcset"),
        pytest.param('{% if contact.vip %}<img src="cid:vip.png">{% endif %}', "shows cid:vip.png", id="in a branch"),
        pytest.param('<img src="cid:terms.pdf"><img src="cid:terms.PDF">', "cid:terms.PDF", id="another case"),
    ],
)
def test_a_file_that_no_mail_will_carry_is_told_with_its_line(html: str, complaint: str) -> None:
    with pytest.raises(InputError) as told:
        check(html, ["terms.pdf", "x.png"])
    assert complaint in str(told.value)
    assert str(told.value).endswith("no attachment has that name; attached are terms.pdf, x.png")
    with pytest.raises(InputError, match=r"nothing is attached$"):
        check(html, [])


@pytest.mark.parametrize(
    "html",
    [
        pytest.param(None, id="no html"),
        pytest.param('<img src="cid:x.png"><a href="cid:my%20terms.pdf">', id="attached"),
        pytest.param('<img src="cid:{{ contact.picture }}">', id="computed"),
        pytest.param('<img src="cid:{{ contact.size }}-logo.png">', id="its beginning computed"),
        pytest.param('<img src="cid:logo-{% if contact.vip %}gold{% else %}blue{% endif %}.png">', id="in part"),
        pytest.param('<img src="{{ contact.scheme }}cid:logo.png">', id="what comes before it computed"),
        pytest.param('{% capture a %}<img src="cid:N">{% endcapture %}{{ a | replace: "N", "x.png" }}', id="captured"),
        pytest.param("{% comment %}<img src='cid:old.png'>{%- endcomment -%}", id="commented out"),
        pytest.param('<!--[if mso]><v:fill src="cid:bg.png"/><![endif]-->', id="in a comment of HTML"),
        pytest.param('<p title="cid:logo.png">Write cid:logo.png, or src="cid:logo.png"</p>', id="words"),
        pytest.param('<a href="https://a.example/?q=cid:logo.png">', id="another URL"),
    ],
)
def test_what_may_be_there_is_left_alone(html: str | None) -> None:
    check(html, ["my terms.pdf", "x.png"])


def test_names_become_ids_wherever_they_stand() -> None:
    html, shown = put_ids(
        '<img src="cid:a&amp;b.png">{{ "cid:x.png" }}<img src="cid:other">', {"a&b.png": "1@p", "x.png": "2@p"}
    )
    assert html == '<img src="cid:1@p">{{ "cid:2@p" }}<img src="cid:other">'
    assert shown == {"a&b.png", "x.png"}
