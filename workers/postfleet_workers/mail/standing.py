"""How the sending nodes stand: what limits them, how far their warmup is, what slows them down, what they sent.

Reads only. The rows are plain, for people and programs alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from postfleet_workers.errors import InputError
from postfleet_workers.mail import sites, warmup
from postfleet_workers.mail.node import UNREADABLE, parse_node

NODES = text("""
SELECT n.name, n.spec, n.paused, n.updated_at, coalesce(s.minute, 0) AS sent_minute, coalesce(s.hour, 0) AS sent_hour,
       coalesce(s.day, 0) AS sent_day, CAST(postfleet_now() AT TIME ZONE 'UTC' AS date) AS today
FROM sending_nodes n LEFT JOIN (
    SELECT node, count(*) FILTER (WHERE finished_at > postfleet_now() - interval '1 minute') AS minute,
           count(*) FILTER (WHERE finished_at > postfleet_now() - interval '1 hour') AS hour, count(*) AS day
    FROM email_attempts WHERE outcome = 'sent' AND finished_at > postfleet_now() - interval '1 day'
      AND (CAST(:name AS text) IS NULL OR node = :name)
    GROUP BY node
) s ON s.node = n.name
WHERE CAST(:name AS text) IS NULL OR n.name = :name
ORDER BY n.name
""")
SLOWDOWNS = text("""
SELECT node, site, action, value, until, rule, reply FROM slowdowns
WHERE until > postfleet_now() AND (CAST(:name AS text) IS NULL OR node = :name) ORDER BY node, site, action
""")
SENT_TO_SITES = text("""
SELECT coalesce(site, '') AS site, count(*) AS sent_day FROM email_attempts
WHERE node = :name AND outcome = 'sent' AND finished_at > postfleet_now() - interval '1 day' GROUP BY 1
""")

OWN = ("host", "tls", "domain", "addresses", "return_path", "dkim", "placement", "limits", "tenants", "warmup")
Row = dict[str, Any]


def nodes(connection: Connection) -> list[Row]:
    """Every node: its limits, `warmup` (None without one), `slowdowns` in force, what it sent of late.

    Of one whose spec makes no sense `host` says so, and what the spec would tell is None.
    """
    return [row for _, row in _nodes(connection, None)]


def node(connection: Connection, name: str) -> Row:
    """The same of one node, with what holds at each site under `sites`.

    Raises:
        InputError: there is no such node.
    """
    found = _nodes(connection, name)
    if not found:
        raise InputError(f"sending node {name!r} does not exist, see `postfleet nodes list`")
    [(spec, row)] = found
    sent = {row.site: row.sent_day for row in connection.execute(SENT_TO_SITES, {"name": name})}
    return {**row, "sites": [] if row["tls"] is None else _sites(spec, sent)}


def _nodes(connection: Connection, name: str | None) -> list[tuple[Mapping[str, Any], Row]]:
    """The spec and the row of every node, or of one."""
    slow: dict[str, list[Row]] = {}
    for row in connection.execute(SLOWDOWNS, {"name": name}).mappings():
        slow.setdefault(row["node"], []).append({key: value for key, value in row.items() if key != "node"})
    rows = connection.execute(NODES, {"name": name}).mappings().all()
    return [(row["spec"], _node(row, slow.get(row["name"], []))) for row in rows]


def _node(row: RowMapping, slowdowns: list[Row]) -> Row:
    try:
        own = _own(row)
    except UNREADABLE as error:  # whoever looks wants to know which one it is, and see the others
        invalid = f"invalid spec: {type(error).__name__}: {error}"
        own = {**dict.fromkeys(OWN), "host": invalid, "limits": {}, "tenants": []}
    return {
        "name": row["name"],
        **own,
        "paused": row["paused"],
        "slowdowns": slowdowns,
        "sent_minute": row["sent_minute"],
        "sent_hour": row["sent_hour"],
        "sent_day": row["sent_day"],
        "updated_at": row["updated_at"],
    }


def _own(row: RowMapping) -> Row:
    """What the node's spec says (`OWN`)."""
    spec = row["spec"]
    read = parse_node(row["name"], spec)
    limits = spec.get("limits") or {}
    values = (
        f"{read.host}:{read.port}",
        read.tls.value,
        read.domain,
        list(read.addresses),
        read.return_path_domain or None,
        read.dkim and f"{read.dkim.selector}._domainkey.{read.dkim.domain}",
        "Dedicated" if read.dedicated else "Shared",
        {name: value for name, value in limits.items() if value is not None and name != "sites"},
        list(spec.get("tenants") or ()),
        _warmup(spec, row["today"], row["sent_day"]),
    )
    return dict(zip(OWN, values, strict=True))


def _warmup(spec: Mapping[str, Any], today: date, accepted: int) -> Row | None:
    found = warmup.cap(spec.get("warmup"), today)
    if found is None:
        return None
    return {"day": found.day, "cap": found.cap, "accepted": accepted, "remaining": max(found.cap - accepted, 0)}


def _sites(spec: Mapping[str, Any], sent: Mapping[str, int]) -> list[Row]:
    limiting = sorted(sites.limiting_sites(spec))
    if sites.limits_of(sites.ROLLED_UP, spec) != sites.SiteLimits():
        limiting.append(sites.DEFAULT)
    return [_site(each, spec, sent) for each in limiting]


def _site(name: str, spec: Mapping[str, Any], sent: Mapping[str, int]) -> Row:
    """What holds there; of the sites without a name it is what holds at each, and what was sent to all of them."""
    unnamed = name == sites.DEFAULT
    limits = sites.limits_of(sites.ROLLED_UP if unnamed else name, spec)
    count = sum(n for site, n in sent.items() if sites.is_rolled_up(site)) if unnamed else sent.get(name, 0)
    return {"site": name, **asdict(limits), "sent_day": count}
