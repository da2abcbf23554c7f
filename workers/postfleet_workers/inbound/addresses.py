"""Where what comes back of each node's mail goes to."""

from __future__ import annotations

from sqlalchemy import Connection, text

from postfleet_workers.mail.returnpath import feedback_address
from postfleet_workers.mail.tokens import Key

RETURN_PATH_DOMAINS = text("""
SELECT name, spec #>> '{identity,returnPathDomain}' AS domain FROM sending_nodes
WHERE spec #>> '{identity,returnPathDomain}' <> '' ORDER BY name
""")


def addresses(connection: Connection, key: Key) -> list[dict[str, str]]:
    """By node that has a return-path domain: the domain, whose MX must lead here, and the address for complaints."""
    return [
        {"node": row.name, "return_path_domain": row.domain, "complaints_to": feedback_address(row.domain, key)}
        for row in connection.execute(RETURN_PATH_DOMAINS)
    ]
