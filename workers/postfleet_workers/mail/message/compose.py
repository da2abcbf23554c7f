"""The bytes of a mail: headers by RFC 5322, 2369, 2919 and 8058, parts by RFC 2045 to 2047, 2183 and 2387. Pure.

    multipart/mixed                     only with attachments
      multipart/alternative             only with both, text and HTML
        text/plain
        multipart/related               only with images that the HTML shows
          text/html

What does not change within a campaign is prepared once in a `Skeleton`; per mail only strings are joined. Bodies are
7-bit: plain when they are ASCII with short lines, quoted-printable when mostly ASCII, else base64, so that any server
can take them and no line exceeds 998 octets.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from hashlib import blake2b

from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message.headers import (
    FOLD_AT,
    MAX_LINE,
    Address,
    address,
    parameter,
    refuse_control,
    unstructured,
)

LONGEST_URL = 900
_SCHEMES = ("https://", "http://", "mailto:")  # what mail programs follow (RFC 2369)
_SENDER_ID = range(5, 16)  # characters that Gmail takes for the last field of a Feedback-ID


@dataclass(frozen=True, slots=True)
class Stream:
    """What a mail is one of: for the filters of its reader, and for the reports of the reader's provider.

    Attributes:
        tenant: whose mail it is.
        campaign: the campaign's name; '' for a single mail, which something that happened has caused.
        list_name: the list that the campaign goes to.
    """

    tenant: str
    campaign: str = ""
    list_name: str = ""

    def headers(self, domain: str) -> str:
        """The header lines that say so; `domain` is the sender's.

        Feedback-ID is as Gmail wants it: up to three names, then who sends, in 5 to 15 characters. RFC 3834 asks
        machines to leave Auto-Submitted mail unanswered.
        """
        sender = domain if len(domain) in _SENDER_ID else blake2b(domain.encode(), digest_size=5).hexdigest()
        if not self.campaign:
            return f"Feedback-ID: {self.tenant}:transactional:{sender}\r\nAuto-Submitted: auto-generated\r\n"
        list_id = f"{self.list_name}.{self.tenant}.{domain}"
        return (
            f"List-ID: <{list_id}>\r\nFeedback-ID: {self.campaign}:{self.tenant}:campaign:{sender}\r\n"
            "Precedence: bulk\r\n"
        )


@dataclass(frozen=True, slots=True)
class Enclosure:
    """A file as a MIME part, encoded once for all mails that carry it; `content_id` is '' unless the HTML shows it."""

    part: str
    content_id: str = ""


def enclose(name: str, content_type: str, encoded: str, content_id: str = "") -> Enclosure:
    """The part of a file, from its `base64_lines`; with a `content_id` it is shown where the HTML says so by `cid:`."""
    disposition = "inline" if content_id else "attachment"
    shown = f"Content-ID: <{content_id}>\r\n" if content_id else ""
    head = (
        f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n"
        f"Content-Disposition: {disposition};\r\n {parameter('filename', name)}\r\n{shown}\r\n"
    )
    return Enclosure(head + encoded, content_id)


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What all mails of one campaign share."""

    sender: Address
    domain: str
    fixed: str

    @classmethod
    def prepare(cls, sender: str, reply_to: str | None, domain: str, stream: Stream | None = None) -> Skeleton:
        """Prepare the headers that do not change; `domain` (the node's identity) makes Message-IDs.

        Raises:
            ComposeRefused: an address is none.
        """
        refuse_control("Message-ID", domain)
        source = address(sender, header="From")
        fixed = f"From: {source.header}\r\n"
        if reply_to:
            fixed += f"Reply-To: {address(reply_to, header='Reply-To').header}\r\n"
        if stream is not None:
            fixed += stream.headers(source.domain)
        return cls(source, domain, fixed)

    def message_id(self, stored: str) -> str:
        """The Message-ID of a row: as stored when it has a domain, else at this node's."""
        inner = stored.strip("<>")
        return f"<{inner}>" if "@" in inner else f"<{inner}@{self.domain}>"

    def compose(
        self,
        *,
        mark: str,
        message_id: str,
        to: Address,
        subject: str,
        text: str,
        html: str | None,
        unsubscribe_url: str = "",
        unsubscribe_mail: str = "",
        date: datetime,
        files: Sequence[Enclosure] = (),
    ) -> bytes:
        """One whole message, CRLF, ending in one; not dot-stuffed.

        Args:
            mark: what `X-Postfleet-Email` says: the email's id, signed where there is a key.
            message_id: from the row; the same for every attempt.
            to: the recipient.
            subject: rendered subject.
            text: rendered text part; without a word in it there is only the HTML part.
            html: rendered HTML part, or None for a text-only mail.
            unsubscribe_url: with https also announces one-click unsubscribing (RFC 8058).
            unsubscribe_mail: an address that a mail to does the same.
            date: when this attempt is made; aware.
            files: attachments, and images that the HTML shows.

        Raises:
            ComposeRefused: a header value holds a line break or is no address.
        """
        refuse_control("Subject", subject)
        own_id = self.message_id(message_id)
        refuse_control("Message-ID", own_id)
        unsubscribe = _unsubscribe(unsubscribe_url, unsubscribe_mail) if unsubscribe_url else ""
        seed = blake2b(own_id.encode("utf-8", "replace"), digest_size=15).hexdigest()
        when = _date(int(date.timestamp()))
        return (
            f"Date: {when}\r\n{self.fixed}To: {to.header}\r\nSubject: {unstructured(subject)}\r\n"
            f"Message-ID: {own_id}\r\n{unsubscribe}X-Postfleet-Email: {mark}\r\nMIME-Version: 1.0\r\n"
            f"{_content(text, html, files, seed)}"
        ).encode("utf-8", "replace")


def _content(text: str, html: str | None, files: Sequence[Enclosure], seed: str) -> str:
    """The part that is the whole body. `seed` makes the boundaries, no two of which begin alike."""
    if html is None:
        content = _part("text/plain", text, seed)
    else:
        content = _part("text/html", html, seed)
        if files and (shown := [file.part for file in files if file.content_id]):
            content = _multipart('related;\r\n type="text/html"', f"=_r{seed}", [content, *shown])
        if text and not text.isspace():
            content = _multipart("alternative", f"=_a{seed}", (_part("text/plain", text, seed), content))
    if files and (attached := [file.part for file in files if html is None or not file.content_id]):
        content = _multipart("mixed", f"=_m{seed}", [content, *attached])
    return content


def _multipart(kind: str, boundary: str, parts: Sequence[str]) -> str:
    between = f"\r\n--{boundary}\r\n"
    return (
        f'Content-Type: multipart/{kind};\r\n boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\n{between.join(parts)}\r\n--{boundary}--\r\n"
    )


def _part(content_type: str, body: str, seed: str) -> str:
    """A MIME part with its headers. Encoded unless it is ASCII with short lines and cannot be taken for a boundary."""
    if "\r" in body:
        body = body.replace("\r\n", "\n").replace("\r", "\n")
    if not body.endswith("\n"):
        body += "\n"
    if body.isascii() and seed not in body and "\0" not in body:
        lines = body.split("\n")
        if max(map(len, lines)) <= MAX_LINE:
            crlf = "\r\n".join(lines)
            return f'Content-Type: {content_type}; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n{crlf}'
    raw = body.encode("utf-8", "replace")
    if len(raw) > 1.2 * len(body):  # a third or more of it would be escaped, threefold
        encoding, content = "base64", base64_lines(raw.replace(b"\n", b"\r\n"))
    else:
        encoding = "quoted-printable"
        content = binascii.b2a_qp(raw, quotetabs=False, istext=True).decode("ascii").replace("\n", "\r\n")
    return f'Content-Type: {content_type}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{content}'


def base64_lines(raw: bytes) -> str:
    """Base64 in lines of 76 characters, each ended by CRLF."""
    packed = binascii.b2a_base64(raw, newline=False).decode("ascii")
    return "\r\n".join([*(packed[i : i + FOLD_AT] for i in range(0, len(packed), FOLD_AT)), ""])


def _unsubscribe(url: str, mail: str) -> str:
    refuse_control("List-Unsubscribe", url)
    known = url.lower().startswith(_SCHEMES)
    if not known or not url.isascii() or " " in url or "<" in url or ">" in url or len(url) > LONGEST_URL:
        raise ComposeRefused(f"List-Unsubscribe: {url[:100]!r} is not a URL; write https://acme.example/leave")
    one_click = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if url.lower().startswith("https://") else ""
    by_mail = f",\r\n <mailto:{mail}>" if mail else ""
    return f"List-Unsubscribe: <{url}>{by_mail}\r\n{one_click}"


@lru_cache(maxsize=256)
def _date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC))
