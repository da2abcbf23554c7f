"""From a template and one contact to the parts of a mail. Pure.

What can be done to a template is done once: style sheets are inlined, links are marked, the text is made of the HTML
when there is none. What cannot is done to each rendered mail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postfleet_workers.mail.errors import TemplateInvalid
from postfleet_workers.mail.message.html import inlined, styled
from postfleet_workers.mail.message.plaintext import text_of, text_template
from postfleet_workers.mail.message.template import Template, compiled
from postfleet_workers.mail.message.tracking import MARK, marked


@dataclass(frozen=True, slots=True)
class Tracking:
    """What is to be known of a mail once it is there."""

    opens: bool = False
    clicks: bool = False


NO_TRACKING = Tracking()


@dataclass(frozen=True, slots=True)
class Rendered:
    """One mail's parts. `unsubscribe_url` is '' when there is none; tracked HTML has its marks (`tracking`)."""

    subject: str
    text: str
    html: str | None
    unsubscribe_url: str


@dataclass(frozen=True, slots=True)
class Content:
    """A campaign's or a single mail's templates, compiled; prepared once, rendered per contact.

    Attributes:
        text: None when each mail's is made of its HTML.
        late: style sheets are inlined in each mail.
    """

    subject: Template
    text: Template | None
    html: Template | None
    unsubscribe_url: Template | None
    campaign: Mapping[str, str]
    sender: Mapping[str, str]
    tracking: Tracking
    late: bool

    @classmethod
    def prepare(
        cls,
        *,
        subject: str,
        text: str,
        html: str | None,
        unsubscribe_url: str | None = None,
        campaign_name: str = "",
        sender_domain: str = "",
        tracking: Tracking = NO_TRACKING,
    ) -> Content:
        """Compile the parts (cached by text).

        Raises:
            TemplateInvalid: a syntax error; templates are checked when they are created, so this is a surprise here.
        """
        sheets = styled(html or "")
        source = sheets.source
        if not sheets.late:
            source = marked(source, opens=tracking.opens, clicks=tracking.clicks)
        return cls(
            subject=compiled("subject", subject),
            text=compiled("text", text) if text or not html else _text_of(html),
            html=compiled("html", source) if html else None,
            unsubscribe_url=compiled("unsubscribe_url", unsubscribe_url) if unsubscribe_url else None,
            campaign={"name": campaign_name},
            sender={"domain": sender_domain},
            tracking=tracking,
            late=sheets.late,
        )

    def render(
        self, *, email: str, attributes: Mapping[str, Any], message_id: str, unsubscribe_url: str = ""
    ) -> Rendered:
        """The parts for one contact; `contact.email` is always the recipient's address.

        An `unsubscribe_url` that is given is taken in place of the template's.

        Raises:
            RenderFailed: the contact's data does not go through a filter, or a limit was hit.
        """
        variables: dict[str, Any] = {
            "contact": {**attributes, "email": email},
            "campaign": self.campaign,
            "sender": self.sender,
            "message_id": message_id.strip("<>"),
            "unsubscribe_url": unsubscribe_url,
        }
        if self.unsubscribe_url is not None and not unsubscribe_url:
            variables["unsubscribe_url"] = self.unsubscribe_url.render(variables).strip()
        html = None if self.html is None else self.html.render(variables)
        if html is not None and self.late:
            html = marked(inlined(html), opens=self.tracking.opens, clicks=self.tracking.clicks)
        return Rendered(
            subject=self.subject.render(variables).strip(" "),
            text=text_of((html or "").replace(MARK, "")) if self.text is None else self.text.render(variables),
            html=html,
            unsubscribe_url=variables["unsubscribe_url"],
        )


def _text_of(html: str) -> Template | None:
    source = text_template(html)
    try:
        return None if source is None else compiled("text", source)
    except TemplateInvalid:  # a block that begins in one place of the HTML and ends in another, say in an attribute
        return None
