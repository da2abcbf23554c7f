from __future__ import annotations

from postfleet_workers.mail.render import Content, Rendered


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
