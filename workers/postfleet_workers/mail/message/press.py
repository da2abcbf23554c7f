"""Makes mails of parcels: rendered, composed, signed. What the mails of one bundle share is prepared once.

Nothing here waits for a server; only keys and attachments are read from outside, and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

import structlog

from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message.attachments import Attachment, enclosed
from postfleet_workers.mail.message.compose import Enclosure, Skeleton, Stream
from postfleet_workers.mail.message.dkim import Signer
from postfleet_workers.mail.message.headers import address
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.message.render import NO_TRACKING, Content, Tracking
from postfleet_workers.mail.message.tracking import tracked
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.parcels import Parcel
from postfleet_workers.mail.returnpath import return_path, unsubscribe_address
from postfleet_workers.mail.tokens import Key, stamp

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Supplies:
    """What a process makes its mails with.

    Attributes:
        credentials: the keys that sign.
        key: what return paths are signed with; None without POSTFLEET_SECRET_KEY.
        links: links to `postfleet web`; None without POSTFLEET_PUBLIC_URL, or without a key.
    """

    credentials: Credentials = field(default_factory=lambda: Credentials(None))
    key: Key | None = field(default=None, repr=False)
    links: Links | None = None


@dataclass(frozen=True, slots=True)
class Mail:
    """What goes on the wire."""

    sender: str
    recipient: str
    message: bytes


@dataclass(frozen=True, slots=True)
class _Prepared:
    content: Content
    skeleton: Skeleton
    files: tuple[Enclosure, ...]
    one_click: bool


class Press:
    """Used by one thread, for one bundle."""

    def __init__(self, supplies: Supplies) -> None:
        self._supplies = supplies
        self._prepared: dict[tuple[int, str], _Prepared] = {}
        self._signers: dict[str, Signer | None] = {}

    def make(self, parcel: Parcel, node: NodeSpec, now: datetime) -> Mail:
        """Render, compose and sign.

        Raises:
            PermanentError: it cannot be made (RenderFailed, ComposeRefused).
            TemplateInvalid: a template that should not have been accepted.
            DkimMissing: it must be signed, and cannot be now.
        """
        row, key, links = parcel.row, self._supplies.key, self._supplies.links
        domain = node.return_path_domain
        if domain and not key:
            _say_that_no_bounce_comes_back(node.name)
        signer = self._signer(node)
        prepared = self._of(parcel, node)
        skeleton = prepared.skeleton
        leads_to_us = links if prepared.one_click else None
        own = row.content or {}
        message_id = skeleton.message_id(row.message_id)
        attributes = row.attributes if own.get("vars") is None else own["vars"]
        rendered = prepared.content.render(
            email=row.recipient,
            attributes=attributes or {},
            message_id=message_id,
            unsubscribe_url=leads_to_us.unsubscribe(row.id) if leads_to_us else "",
        )
        html = rendered.html
        if html is not None and links is not None:
            html = tracked(html, links, row.id, rendered.unsubscribe_url)
        to = address(row.recipient, own.get("to_name") or "", header="To")
        message = skeleton.compose(
            mark=stamp(key, row.id) if key else str(row.id),
            message_id=message_id,
            to=to,
            subject=rendered.subject,
            text=rendered.text,
            html=html,
            unsubscribe_url=rendered.unsubscribe_url,
            unsubscribe_mail=unsubscribe_address(row.id, domain, key) if key and domain and leads_to_us else "",
            date=now,
            files=prepared.files,
        )
        if signer is not None:
            message = signer.sign(message, int(now.timestamp()))
        sender = return_path(row.id, domain, key) if key and domain else skeleton.sender.mailbox
        return Mail(sender, to.mailbox, message)

    def _signer(self, node: NodeSpec) -> Signer | None:
        if node.dkim is None:
            return None
        if node.name not in self._signers:
            self._signers[node.name] = self._supplies.credentials.signer(node.name, node.dkim)
        return self._signers[node.name]

    def _of(self, parcel: Parcel, node: NodeSpec) -> _Prepared:
        campaign, tenant = parcel.campaign, parcel.row.tenant
        if campaign is None:
            return _prepare(parcel.row.content or {}, Stream(tenant), parcel.files, node)
        key = (campaign.id, node.domain)
        if key not in self._prepared:
            parts = {
                "subject": campaign.subject, "text": campaign.text, "html": campaign.html,
                "unsubscribe_url": campaign.unsubscribe_url, "sender": campaign.sender, "reply_to": campaign.reply_to,
                "one_click": campaign.one_click,
            }  # fmt: skip
            stream = Stream(tenant, campaign.name, campaign.list_name)
            tracking = Tracking(campaign.track_opens, campaign.track_clicks) if self._supplies.links else NO_TRACKING
            self._prepared[key] = _prepare(parts, stream, parcel.files, node, tracking)
        return self._prepared[key]


def _prepare(
    parts: Mapping[str, Any],
    stream: Stream,
    files: Sequence[Attachment | None],
    node: NodeSpec,
    tracking: Tracking = NO_TRACKING,
) -> _Prepared:
    there = [file for file in files if file is not None]
    if len(there) < len(files):
        raise ComposeRefused("an attachment of it is gone")
    html, enclosures = enclosed(parts.get("html"), there)
    sender = parts.get("sender") or f"postmaster@{node.domain}"
    skeleton = Skeleton.prepare(sender, parts.get("reply_to"), node.domain, stream)
    content = Content.prepare(
        subject=parts.get("subject") or "",
        text=parts.get("text") or "",
        html=html,
        unsubscribe_url=parts.get("unsubscribe_url"),
        campaign_name=stream.campaign,
        sender_domain=skeleton.sender.domain,
        tracking=tracking,
    )
    return _Prepared(content, skeleton, enclosures, bool(parts.get("one_click")))


@cache
def _say_that_no_bounce_comes_back(node: str) -> None:
    """Once for each node and process."""
    log.warning("no_return_paths", node=node, error="it has a returnPathDomain, but POSTFLEET_SECRET_KEY is not set")
