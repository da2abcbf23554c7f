"""Creating a campaign: everything that could go wrong at the 5,000th mail is looked for here, before there is any."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from postfleet_workers.campaigns.spec import CampaignSpec
from postfleet_workers.errors import InputError
from postfleet_workers.mail.errors import ComposeRefused, RenderFailed
from postfleet_workers.mail.message import images, template
from postfleet_workers.mail.message.attachments import File, store
from postfleet_workers.mail.message.compose import Skeleton, Stream
from postfleet_workers.mail.message.headers import address
from postfleet_workers.mail.message.render import Content

FIND_LIST = text("SELECT id FROM contact_lists WHERE tenant = :tenant AND name = :list")
LISTS = text("SELECT name FROM contact_lists WHERE tenant = :tenant ORDER BY name LIMIT 10")
ATTRIBUTES = text("""
SELECT DISTINCT jsonb_object_keys(c.attributes) FROM contact_list_members m JOIN contacts c ON c.id = m.contact_id
WHERE m.list_id = :list_id
""")
SAMPLE = text("""
SELECT c.email, c.attributes FROM contact_list_members m JOIN contacts c ON c.id = m.contact_id
WHERE m.list_id = :list_id ORDER BY c.id LIMIT 1
""")
NODES = text("SELECT name, spec -> 'tenants' AS tenants FROM sending_nodes ORDER BY name")
CREATE = text("""
INSERT INTO campaigns (tenant, name, list_id, sender, reply_to, nodes, queue, subject, text, html, unsubscribe_url,
                       one_click, track_opens, track_clicks, per_minute, attachments)
VALUES (:tenant, :name, :list_id, :sender, :reply_to, :nodes, :queue, :subject, :text, :html, :unsubscribe_url,
        :one_click, :track_opens, :track_clicks, :per_minute, :attachments)
ON CONFLICT (tenant, name) DO NOTHING RETURNING id
""")


def create(connection: Connection, spec: CampaignSpec, files: Sequence[File] = ()) -> int:
    """Check a campaign against what is there, and store it as a draft; returns its id.

    `files` are what its `attachments` name.

    Raises:
        InputError: its list or a node is not there, a node does not serve the tenant, the list is empty, a template
            has a syntax error, a variable that no contact of the list has or a file that is not attached, no mail can
            carry its attachments, or the name is taken.
    """
    list_id = _list_id(connection, spec)
    attributes = set(connection.execute(ATTRIBUTES, {"list_id": list_id}).scalars())
    _check_list(connection, spec, list_id)
    check_nodes(spec, {row.name: row.tenants or [] for row in connection.execute(NODES)})
    check_templates(spec, attributes)
    images.check(spec.html, [file.name for file in files])
    try_out(spec, connection.execute(SAMPLE, {"list_id": list_id}).one())
    attachments = store(connection, spec.tenant, files)
    created: int | None = connection.execute(
        CREATE,
        {**spec.model_dump(exclude={"list_name"}), "list_id": list_id, "attachments": attachments},
    ).scalar_one_or_none()
    if created is None:
        raise InputError(f"name: tenant {spec.tenant} has a campaign {spec.name!r} already; choose another name")
    return created


def check_nodes(spec: CampaignSpec, nodes: Mapping[str, Sequence[str]]) -> None:
    """Each named node exists and serves the tenant; `nodes` maps a node to its tenants (none: all).

    Raises:
        InputError: one does not.
    """
    for number, name in enumerate(spec.nodes):
        if name not in nodes:
            known = ", ".join(nodes) or "none yet (apply a SendingNode)"
            raise InputError(f"nodes[{number}]: no sending node {name!r}; known are {known}")
        if nodes[name] and spec.tenant not in nodes[name]:
            served = ", ".join(nodes[name])
            raise InputError(f"nodes[{number}]: {name!r} does not serve tenant {spec.tenant!r}, only {served}")


def check_templates(spec: CampaignSpec, attributes: Collection[str]) -> None:
    """Every part compiles and uses only what contacts of the list have.

    Raises:
        InputError: the first problem: part, line, what.
    """
    template.check(spec.subject, spec.text, spec.html, attributes, unsubscribe_url=spec.unsubscribe_url)


def try_out(spec: CampaignSpec, contact: Row[Any]) -> None:
    """Make the mail of a real contact: what fails for all (a division by zero, a link that is none) fails here.

    Raises:
        InputError: it cannot be made.
    """
    message_id = "<trial@postfleet.invalid>"
    stream = Stream(spec.tenant, spec.name, spec.list_name)
    skeleton = Skeleton.prepare(spec.sender, spec.reply_to, "postfleet.invalid", stream)
    content = Content.prepare(
        subject=spec.subject,
        text=spec.text,
        html=spec.html,
        unsubscribe_url=spec.unsubscribe_url,
        campaign_name=spec.name,
        sender_domain=skeleton.sender.domain,
    )
    try:
        rendered = content.render(email=contact.email, attributes=contact.attributes, message_id=message_id)
        skeleton.compose(
            mark="0",
            message_id=message_id,
            to=address(contact.email, header="To"),
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            unsubscribe_url=rendered.unsubscribe_url,
            date=datetime.fromtimestamp(0, UTC),
        )
    except (RenderFailed, ComposeRefused) as error:
        raise InputError(f"cannot be made for {contact.email}: {error}") from None


def _list_id(connection: Connection, spec: CampaignSpec) -> int:
    found: int | None = connection.execute(FIND_LIST, _names(spec)).scalar_one_or_none()
    if found is None:
        known = ", ".join(connection.execute(LISTS, _names(spec)).scalars()) or "none yet (import contacts first)"
        raise InputError(f"list: tenant {spec.tenant!r} has no list {spec.list_name!r}; known are {known}")
    return found


def _check_list(connection: Connection, spec: CampaignSpec, list_id: int) -> None:
    members = connection.execute(
        text("SELECT EXISTS (SELECT FROM contact_list_members WHERE list_id = :list_id)"), {"list_id": list_id}
    ).scalar_one()
    if not members:
        raise InputError(f"list: {spec.list_name!r} has no contacts; import some first")


def _names(spec: CampaignSpec) -> dict[str, Any]:
    return {"tenant": spec.tenant, "list": spec.list_name}
