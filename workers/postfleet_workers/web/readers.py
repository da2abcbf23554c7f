"""Who asks for a link or a picture of a mail: its reader, or a machine that looks into mail before anybody does. Pure.

A machine's event is kept and flagged, as what it asks for says nothing about people. Gmail's and Yahoo's picture
proxies load when the mail is opened, so they are people's; what Gmail loads ahead has a signature of its own, and
Apple's Mail Privacy Protection loads every mail's pictures, under a bare `Mozilla/5.0`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

APPLE = "Mozilla/5.0"
GMAIL_AHEAD = "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
PROXIES = {"GoogleImageProxy": "gmail proxy", "YahooMailProxy": "yahoo proxy"}
# `(?<!cu)`: a maker of telephones is called Cubot.
SCANNERS = re.compile(
    r"(?<!cu)bot\b|crawler|spider|scanner|preview|facebookexternalhit|whatsapp|barracuda|proofpoint|mimecast|symantec"
    r"|messagelabs|forcepoint|fireeye|trendmicro|sophos|urlscan|headless|phantomjs|python|curl/|wget/|libwww|java/"
    r"|go-http-client|apache-httpclient|node-fetch|axios/|okhttp",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Reader:
    """`how` is a word of a closed list, or empty: what the request itself says is not kept."""

    machine: bool = False
    how: str = ""


def who_reads(method: str, headers: Mapping[str, str]) -> Reader:
    """Tell from a request. `headers` are looked up by lower-case names."""
    agent = headers.get("user-agent", "").strip()
    if method == "HEAD":
        return Reader(machine=True, how="head")
    if any("prefetch" in headers.get(name, "").lower() for name in ("purpose", "sec-purpose", "x-moz", "x-purpose")):
        return Reader(machine=True, how="prefetch")
    if not agent:
        return Reader(machine=True, how="no agent")
    if agent == APPLE:
        return Reader(machine=True, how="apple privacy")
    if agent.endswith(GMAIL_AHEAD):
        return Reader(machine=True, how="gmail ahead")
    if SCANNERS.search(agent):
        return Reader(machine=True, how="scanner")
    return next((Reader(how=how) for name, how in PROXIES.items() if name in agent), Reader())
