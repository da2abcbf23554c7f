"""From a template and one contact to the parts of a mail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postfleet_workers.mail.template import Template, compiled


@dataclass(frozen=True, slots=True)
class Rendered:
    """One mail's parts. `unsubscribe_url` is '' when there is none."""

    subject: str
    text: str
    html: str | None
    unsubscribe_url: str


@dataclass(frozen=True, slots=True)
class Content:
    """A campaign's or a single mail's templates, compiled; prepared once, rendered per contact."""

    subject: Template
    text: Template
    html: Template | None
    unsubscribe_url: Template | None
    campaign: Mapping[str, str]
    sender: Mapping[str, str]

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
    ) -> Content:
        """Compile the parts (cached by text).

        Raises:
            TemplateInvalid: a syntax error; templates are checked when they are created, so this is a surprise here.
        """
        return cls(
            subject=compiled("subject", subject),
            text=compiled("text", text),
            html=compiled("html", html) if html else None,
            unsubscribe_url=compiled("unsubscribe_url", unsubscribe_url) if unsubscribe_url else None,
            campaign={"name": campaign_name},
            sender={"domain": sender_domain},
        )

    def render(self, *, email: str, attributes: Mapping[str, Any], message_id: str) -> Rendered:
        """The parts for one contact; `contact.email` is always the recipient's address.

        Raises:
            RenderFailed: the contact's data does not go through a filter, or a limit was hit.
        """
        variables: dict[str, Any] = {
            "contact": {**attributes, "email": email},
            "campaign": self.campaign,
            "sender": self.sender,
            "message_id": message_id.strip("<>"),
            "unsubscribe_url": "",
        }
        url = ""
        if self.unsubscribe_url is not None:
            url = variables["unsubscribe_url"] = self.unsubscribe_url.render(variables).strip()
        return Rendered(
            subject=self.subject.render(variables).strip(" "),
            text=self.text.render(variables),
            html=None if self.html is None else self.html.render(variables),
            unsubscribe_url=url,
        )
