"""Put one email into the outbox: its job and its row, in the caller's own transaction.

    with engine.begin() as connection:
        connection.execute(...)                                 # the caller's own writes
        send_email(connection, NewEmail(tenant="acme", to="ann@example.org", node="acme-1", subject="Hi", text="…"))

Committed together, or not at all. The template is checked here, not when the mail is due.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, text

from postfleet_workers import tenants
from postfleet_workers.enqueue import enqueue
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import FIRST_QUEUE, NewJob
from postfleet_workers.mail import capacity, queries
from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message import attachments, images
from postfleet_workers.mail.message.headers import address
from postfleet_workers.mail.message.template import check
from postfleet_workers.mail.node import UNREADABLE, NodeSpec, parse_node
from postfleet_workers.mail.sites import by_domain
from postfleet_workers.names import checked_name

JOB_TYPE = "email.send"
ON_UNKNOWN = ("hold", "resend")

FIND_NODE = text("SELECT spec, paused FROM sending_nodes WHERE name = :name")
TODAY = text("SELECT CAST(timezone('UTC', postfleet_now()) AS date)")


@dataclass(frozen=True, slots=True)
class NewEmail:
    """One mail to send. `vars` are what `{{ contact.… }}` means in its templates.

    Attributes:
        tenant: whose mail it is.
        to: recipient, with or without a name.
        node: sending node; '' chooses one that is open to the tenant, by capacity and the recipient's address: the same
            recipient has the same node while the nodes stay what they are.
        subject: subject template.
        text: text part's template; when there is none, the text is made of the HTML.
        html: HTML part's template, if there is one; `cid:NAME` in it shows the attachment of that name.
        sender: From; default `postmaster@` the node's domain.
        reply_to: Reply-To.
        vars: the recipient's attributes.
        queue: default the most urgent one.
        priority: lower goes first within the tenant and queue.
        run_at: not before this; None is now.
        expires_at: not after this.
        unique_key: a second mail with the same key is refused while the first is not cancelled or discarded.
        on_unknown: what happens when nobody knows whether it was accepted: `hold` it, or `resend` it, once.
        attachments: files to attach, or to show in the HTML.
    """

    tenant: str
    to: str
    node: str
    subject: str
    text: str = ""
    html: str | None = None
    sender: str | None = None
    reply_to: str | None = None
    vars: Mapping[str, Any] = field(default_factory=dict)
    queue: str = FIRST_QUEUE
    priority: int = 0
    run_at: datetime | None = None
    expires_at: datetime | None = None
    unique_key: str | None = None
    on_unknown: str = "hold"
    attachments: Sequence[attachments.File] = ()


def send_email(connection: Connection, email: NewEmail) -> int:
    """Enqueue a transactional mail; its email id.

    Raises:
        InputError: an unknown tenant or node, a bad address, a template that cannot work, what can be no queue, a
            unique key that is taken, attachments that no mail can carry, HTML that shows one which is not there.
    """
    checked_name("queue", email.queue)
    if email.on_unknown not in ON_UNKNOWN:
        raise InputError(f"on_unknown: {email.on_unknown!r} is not one of {', '.join(ON_UNKNOWN)}")
    check(email.subject, email.text, email.html, known=email.vars.keys())
    images.check(email.html, [file.name for file in email.attachments])
    try:
        to = address(email.to, header="to")
        for header, value in (("from", email.sender), ("reply-to", email.reply_to)):
            if value:
                address(value, header=header)
    except ComposeRefused as error:
        raise InputError(str(error)) from None
    tenants.require(connection, email.tenant)
    node = _node(connection, email, to.mailbox)
    job_id = enqueue(connection, _job(email, _route(node, to.mailbox)))
    if job_id is None:
        raise InputError(f"an email with the unique key {email.unique_key!r} was enqueued before")
    content: dict[str, Any] = {
        "subject": email.subject, "text": email.text, "html": email.html, "sender": email.sender,
        "reply_to": email.reply_to, "vars": dict(email.vars),
    }  # fmt: skip
    if to.name:
        content["to_name"] = to.name
    if email.attachments:
        content["attachments"] = attachments.store(connection, email.tenant, email.attachments)
    parameters = {
        "job_id": job_id, "tenant": email.tenant, "class": "transactional", "node": node.name,
        "recipient": to.mailbox, "message_id": f"<{uuid.uuid4().hex}@{node.domain}>", "content": json.dumps(content),
        "run_at": email.run_at, "on_unknown": email.on_unknown,
    }  # fmt: skip
    return int(connection.execute(queries.ADD_EMAIL, parameters).scalar_one())


def _node(connection: Connection, email: NewEmail, mailbox: str) -> NodeSpec:
    """The node that was named, or the one whose turn the recipient is."""
    if email.node:
        found = connection.execute(FIND_NODE, {"name": email.node}).one_or_none()
        if found is None:
            raise InputError(f"sending node {email.node!r} does not exist")
        try:
            node = parse_node(email.node, found.spec, paused=found.paused)
        except UNREADABLE as error:
            raise InputError(f"sending node {email.node!r} has an invalid spec: {error}") from None
        if not node.open_to(email.tenant):
            raise InputError(f"sending node {email.node!r} is not open to tenant {email.tenant!r}")
        return node
    able = {node.name: node for node in capacity.nodes(connection) if node.open_to(email.tenant)}
    if not able:
        raise InputError(f"no sending node is open to tenant {email.tenant!r}; apply a SendingNode")
    site = capacity.known_sites(list(able.values())).get(_domain(mailbox), "")
    turns = capacity.choices(list(able.values()), site, connection.scalar(TODAY))
    return able[turns[crc32(mailbox.lower().encode()) % len(turns)]]


def _route(node: NodeSpec, mailbox: str) -> str:
    return node.route(by_domain(_domain(mailbox), node.sites))


def _domain(mailbox: str) -> str:
    return mailbox.rpartition("@")[2].lower()


def _job(email: NewEmail, route: str) -> NewJob:
    return NewJob(
        JOB_TYPE,
        email.queue,
        tenant=email.tenant,
        route=route,
        priority=email.priority,
        unique_key=email.unique_key,
        run_at=email.run_at,
        expires_at=email.expires_at,
    )
