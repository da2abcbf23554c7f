from __future__ import annotations

from postfleet_workers.mail.message.render import Content, Rendered, Tracking
from postfleet_workers.mail.message.tracking import MARK


def content(**changes: str | None) -> Content:
    parts: dict[str, str | None] = {"subject": "Hi {{ contact.name }} ", "text": "{{ unsubscribe_url }}", "html": None}
    return Content.prepare(**(parts | changes), campaign_name="Spring", sender_domain="acme.example")  # type: ignore[arg-type]


def test_a_contact_becomes_the_parts_of_a_mail() -> None:
    rendered = content(
        html="<a href='{{ unsubscribe_url }}'>{{ campaign.name }} {{ sender.domain }} {{ message_id }}</a>",
        unsubscribe_url="https://acme.example/u?e={{ contact.email | url_encode }}&m={{ message_id }}",
    ).render(email="a+b@c.example", attributes={"name": "Ann"}, message_id="m1")
    assert rendered == Rendered(
        subject="Hi Ann",
        text="https://acme.example/u?e=a%2Bb%40c.example&m=m1",
        html="<a href='https://acme.example/u?e=a%2Bb%40c.example&amp;m=m1'>Spring acme.example m1</a>",
        unsubscribe_url="https://acme.example/u?e=a%2Bb%40c.example&m=m1",
    )


def test_the_recipient_is_always_contact_email() -> None:
    rendered = content(subject="{{ contact.email }}").render(
        email="right@x", attributes={"email": "wrong@x"}, message_id="m"
    )
    assert rendered.subject == "right@x"


def test_without_an_unsubscribe_link_the_variable_is_empty() -> None:
    rendered = content(text="[{{ unsubscribe_url }}]").render(email="a@b", attributes={}, message_id="m")
    assert (rendered.text, rendered.unsubscribe_url) == ("[]", "")


def test_a_link_that_is_given_is_taken_in_place_of_the_templates() -> None:
    rendered = content(unsubscribe_url="https://own.example/{{ message_id }}").render(
        email="a@b", attributes={}, message_id="m", unsubscribe_url="https://m.example/u/1x"
    )
    assert (rendered.text, rendered.unsubscribe_url) == ("https://m.example/u/1x", "https://m.example/u/1x")


def test_without_a_text_it_is_made_of_the_html_and_of_the_contacts_own_words() -> None:
    rendered = content(text="", html="<p>Dear {{ contact.name }},</p><p>bye</p>").render(
        email="a@b", attributes={"name": "A & B"}, message_id="m"
    )
    assert rendered.html == "<p>Dear A &amp; B,</p><p>bye</p>"
    assert rendered.text.rstrip() == "Dear A & B,\n\nbye"


def test_a_text_that_cannot_be_made_of_the_template_is_made_of_each_mail() -> None:
    tracked = Content.prepare(
        subject="s", text="", html="{{ contact.note | newline_to_br }} <a href='https://x'>Go</a>",
        tracking=Tracking(opens=True, clicks=True),
    )  # fmt: skip
    rendered = tracked.render(email="a@b", attributes={"note": "one\ntwo"}, message_id="m")
    assert rendered.text == "one\ntwo Go <https://x>\n"
    assert (rendered.html or "").count(MARK) == 4


def test_a_sheet_is_inlined_in_the_template_or_when_it_asks_for_it_in_the_mail() -> None:
    early = content(html="<style>p{x:y}</style><p>{{ contact.name }}")
    assert early.render(email="a@b", attributes={"name": "Ann"}, message_id="m").html == '<p style="x: y;">Ann'
    late = Content.prepare(
        subject="s", text="t", tracking=Tracking(clicks=True),
        html='<style data-css-inline="rendered">.b{x:y}</style><a class="{{ contact.plan }}" href="https://x">',
    )  # fmt: skip
    rendered = late.render(email="a@b", attributes={"plan": "b"}, message_id="m")
    assert rendered.html == '<a style="x: y;" class="b" href="\0https://x\0">'
