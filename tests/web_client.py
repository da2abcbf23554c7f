"""A real `postfleet web`, and what mail programs, browsers and scanners ask of it."""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fleet import Fleet, Process
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.tokens import Key

SECRET = "0123456789abcdef0123456789abcdef"
LINKS = Links("http://127.0.0.1", Key(SECRET.encode()))
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36"
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Web:
    """The process, and requests to it. Nothing follows a redirect."""

    def __init__(self, fleet: Fleet, **env: str) -> None:
        given = {"POSTFLEET_SECRET_KEY": SECRET, "POSTFLEET_WEB_PORT": "0", **env}
        self.process: Process = fleet.start("web", env=given)
        found = re.search(r'"port": (\d+), "event": "web"', self.process.log.read_text())
        assert found, self.process.tail()
        self.port = int(found.group(1))

    def ask(self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        """One request; `url` is a link of ours, or a path."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, urlsplit(url).path, body, dict(BROWSER if headers is None else headers))
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def one_click(self, email_id: int) -> Reply:
        """As RFC 8058 has mail programs do it."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", LINKS.unsubscribe(email_id), b"List-Unsubscribe=One-Click", headers)
