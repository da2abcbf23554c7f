"""Links in mails that lead to `postfleet web`. Pure.

`<public_url>/<kind>/<token>`: `u` to unsubscribe, `c` for a click, `o` (with `.gif`) for an open. A click's token holds
where it leads to, signed: what is not signed by us redirects nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from postfleet_workers.errors import InputError
from postfleet_workers.mail import tokens
from postfleet_workers.mail.tokens import Key, Kind

LONGEST_URL = 2_000  # a link that would be longer stays as it is; no server takes much more


@dataclass(frozen=True, slots=True)
class Links:
    """Links of one deployment.

    Attributes:
        public_url: where recipients reach `postfleet web`, without a slash at the end.
        key: what signs tokens.
    """

    public_url: str
    key: Key = field(repr=False)

    def unsubscribe(self, email_id: int) -> str:
        """Where the recipient of this email says that it was the last one."""
        return self._link(Kind.UNSUBSCRIBE, email_id)

    def open(self, email_id: int) -> str:
        """The picture whose fetching tells that the email was opened."""
        return self._link(Kind.OPEN, email_id) + ".gif"

    def click(self, email_id: int, url: str) -> str:
        """A link that leads to `url`, and tells that it was followed."""
        return self._link(Kind.CLICK, email_id, url)

    def _link(self, kind: Kind, email_id: int, text: str = "") -> str:
        return f"{self.public_url}/{kind}/{tokens.sign(self.key, kind, email_id, text)}"


def links_of(public_url: str, key: Key | None) -> Links | None:
    """The links that the settings allow; None when either is not set.

    Raises:
        InputError: the URL cannot be the beginning of a link.
    """
    if not public_url or key is None:
        return None
    scheme, _, rest = public_url.partition("://")
    if scheme not in ("https", "http") or not rest or not public_url.isascii() or set(public_url) & set(' "<>?#'):
        raise InputError(f"POSTFLEET_PUBLIC_URL {public_url!r} is no URL; write https://mail.example.com")
    return Links(public_url.rstrip("/"), key)
