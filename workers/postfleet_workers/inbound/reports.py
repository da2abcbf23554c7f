"""From the bytes of a mail that came back to what it says. Pure.

Bounces and delays are RFC 3464 reports, or the prose of servers that know none (flufl.bounce has read most of it);
complaints are RFC 5965 reports, or just our mail attached. Which email a report is about is not read from its prose:
the address that it came to tells that, or what we signed in the mail's own headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes, message_from_string
from email.message import Message
from email.utils import parseaddr
from enum import StrEnum

from flufl.bounce import all_failures

from postfleet_workers.mail import returnpath, tokens
from postfleet_workers.mail.replies import reply as replies
from postfleet_workers.mail.replies.reply import Reply
from postfleet_workers.mail.tokens import Key

# What reports say stands before the mail that they are about. More would let one mail take minutes of a processor:
# parsers and detectors look through blank lines again and again.
READ_BYTES = 128 * 1024
PROSE_BYTES = 32 * 1024
_CODE = re.compile(r"(?:^|[\s:;(])([45]\d\d)[ :-]")
_SERVERS = frozenset({"mailer-daemon", "postmaster"})
_ENHANCED = re.compile(r"(?<![\d.])([45]\.\d{1,3}\.\d{1,3})(?![\d.])")
_ENHANCED_ONLY = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_REPLY_LINE = re.compile(r"\s*(\d{3})[ -]\s*")
_DELIVERY_STATUS = ("message/delivery-status", "message/global-delivery-status")
_SAYS_NOTHING = frozenset({"5.0.0", "4.0.0"})  # RFC 3463: other undefined status


class Action(StrEnum):
    """What a server did, of RFC 3464 2.3.3's values: `relayed` and `expanded` are `delivered` to us."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"


@dataclass(frozen=True, slots=True)
class Status:
    """What became of the mail for one recipient.

    Attributes:
        action: what the server did.
        recipients: the addresses that it is about, in small letters: the original one, the final one.
        reply: what the last server said, as far as the report tells.
    """

    action: Action
    recipients: tuple[str, ...]
    reply: Reply


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A bounce, a delay or a delivery, of one recipient or several."""

    statuses: tuple[Status, ...]

    def about(self, recipient: str) -> Status:
        """What became of the mail to `recipient`.

        A forwarded mail comes back from an address that we never wrote to. Of several such ones, a mail has failed only
        if it failed for all.
        """
        address = recipient.lower()
        own = [status for status in self.statuses if address in status.recipients] or list(self.statuses)
        order = (Action.DELIVERED, Action.DELAYED, Action.FAILED)
        return min(own, key=lambda status: order.index(status.action))


@dataclass(frozen=True, slots=True)
class Complaint:
    """Somebody marked our mail as spam.

    Attributes:
        type: `abuse`, `fraud`, `opt-out`, …; '' when the report names none.
        reporter: the program that reports.
        email_id: the mail, where its headers tell; None: see the address that the report came to.
        message_id: the mail's Message-ID, or ''.
        recipient: who complained, as the report has it, or ''.
    """

    type: str
    reporter: str
    email_id: int | None
    message_id: str
    recipient: str


class Ignored(StrEnum):
    """Mail that says nothing of a delivery."""

    AUTO_REPLY = "auto_reply"
    NOT_SPAM = "not_spam"
    OTHER = "other"


Report = DeliveryReport | Complaint | Ignored


def read(content: bytes, key: Key, *, complaints: bool = False) -> Report:
    """What a mail says, of which the first `READ_BYTES` are looked at.

    Args:
        content: the mail, or its beginning.
        key: what our return paths and headers are signed with.
        complaints: it came to the address where nothing else is expected.
    """
    message = message_from_bytes(content[:READ_BYTES])
    if statuses := tuple(_statuses(message)):
        return DeliveryReport(statuses)
    feedback = _feedback(message)
    if feedback is not None or complaints:
        return _complaint(message, feedback, key)
    if _is_auto_reply(message):
        return Ignored.AUTO_REPLY
    if _part(message, *_DELIVERY_STATUS) is None and (status := _from_prose(message_from_bytes(content[:PROSE_BYTES]))):
        return DeliveryReport((status,))
    return Ignored.OTHER


def _statuses(message: Message) -> Iterator[Status]:
    """The groups of a `message/delivery-status` (RFC 3464 2.1): the message's, then one for each recipient."""
    part = _part(message, *_DELIVERY_STATUS)
    for group in _held(part):
        action = _action(_text(group, "Action"))
        if action is not None:
            recipients = (_recipient(group, "Original-Recipient"), _recipient(group, "Final-Recipient"))
            yield Status(action, tuple(filter(None, recipients)), _reply(group, action))


def _action(text: str) -> Action | None:
    word = text.lower()
    if word.startswith(("fail", "error")):  # OpenSMTPD writes `error`
        return Action.FAILED
    if word.startswith("delay"):
        return Action.DELAYED
    return Action.DELIVERED if word.startswith(("deliver", "relay", "expand")) else None


def _recipient(group: Message, name: str) -> str:
    text = _text(group, name)
    return parseaddr(text.partition(";")[2] or text)[1].lower()


def _reply(group: Message, action: Action) -> Reply:
    """The last server's answer: its words from Diagnostic-Code, its enhanced code from there or from Status."""
    found = _ENHANCED_ONLY.search(_text(group, "Status"))
    status = found[0] if found else ""
    kind, semicolon, diagnostic = str(group.get("Diagnostic-Code", "")).partition(";")
    said = diagnostic if semicolon else kind
    lines = [line.strip() for line in said.splitlines()]
    match = next((match for line in lines if (match := _REPLY_LINE.match(line))), None)
    otherwise = (
        250 if action is Action.DELIVERED else 450 if status.startswith("4") or action is Action.DELAYED else 550
    )
    code = int(match[1]) if match else otherwise
    reply = replies.parse(code, "\n".join(_REPLY_LINE.sub("", line, count=1) for line in lines if line))
    if reply.enhanced and reply.enhanced not in _SAYS_NOTHING:
        return reply
    told = next((e for e in _ENHANCED.findall(reply.text) if e not in _SAYS_NOTHING), status)
    return Reply(code, "" if told in _SAYS_NOTHING else told, reply.text)


def _complaint(message: Message, feedback: Message | None, key: Key) -> Report:
    kind = _text(feedback, "Feedback-Type").lower()
    if kind == "not-spam":
        return Ignored.NOT_SPAM
    original = _original(message)
    if feedback is None and original is None:
        return Ignored.AUTO_REPLY if _is_auto_reply(message) else Ignored.OTHER
    if kind == "auth-failure":  # RFC 6591: about our signatures
        return Ignored.OTHER
    sender = parseaddr(_text(feedback, "Original-Mail-From"))[1]
    email_id = returnpath.read(sender, key)
    if email_id is None:
        email_id = tokens.read_stamp(key, _text(original, "X-Postfleet-Email"))
    if email_id is None:
        email_id = returnpath.read(parseaddr(_text(original, "Return-Path"))[1], key)
    recipient = parseaddr(_text(feedback, "Original-Rcpt-To") or _text(original, "To"))[1]
    return Complaint(kind, _text(feedback, "User-Agent"), email_id, _text(original, "Message-ID"), recipient)


def _original(message: Message) -> Message | None:
    """Our mail, or its headers, within a report."""
    part = _part(message, "message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers")
    if part is None or part is message:
        return None
    return next(iter(_held(part)), None) or message_from_string(_body(part))


def _feedback(message: Message) -> Message | None:
    """The fields of a `message/feedback-report` (RFC 5965)."""
    part = _part(message, "message/feedback-report")
    if part is None:
        return None
    return next(iter(_held(part)), None) or message_from_string(_body(part))


def _is_auto_reply(message: Message) -> bool:
    """RFC 3834, and what was usual before it. Servers' bounces say that they are auto-replied, too."""
    if parseaddr(_text(message, "From"))[1].lower().rpartition("@")[0] in _SERVERS:
        return False
    automatic = _text(message, "Auto-Submitted").lower().startswith(("auto-replied", "auto-notified"))
    usual = _text(message, "Precedence").lower() == "auto_reply" or any(
        message.get(name) for name in ("X-Autoreply", "X-Autorespond", "X-Autorespond-From")
    )
    return automatic or usual or message.get_param("report-type") == "disposition-notification"


def _from_prose(message: Message) -> Status | None:
    try:
        delayed, failed = all_failures(message)
    except Exception:  # noqa: BLE001 - its seventeen detectors trip over what is no mail, each in its own way
        return None
    if not delayed and not failed:
        return None
    action = Action.FAILED if failed else Action.DELAYED
    recipients = tuple(sorted(address.decode("ascii", "replace").lower() for address in failed or delayed))
    part = _part(message, "text/plain", "text/html")
    text = _body(part) if part is not None else ""
    text = re.split(r"(?im)^-+ ?(?:this is a copy|original message|below this line|return)", text, maxsplit=1)[0]
    enhanced = _ENHANCED.search(text)
    code = _CODE.search(text)
    otherwise = 450 if action is Action.DELAYED or (enhanced and enhanced[1].startswith("4")) else 550
    line = next(
        (line for line in text.splitlines() if (code and code[0] in line) or (enhanced and enhanced[1] in line)), text
    )
    reply = replies.parse(int(code[1]) if code else otherwise, line)
    return Status(action, recipients, Reply(reply.code, enhanced[1] if enhanced else "", reply.text))


def _text(message: Message | None, name: str) -> str:
    if message is None:
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in str(message.get(name, ""))).split())


def _part(message: Message, *types: str) -> Message | None:
    """The first part of one of these types; what is within a mail that came back is not looked at."""
    if message.get_content_type() in types:
        return message
    if message.get_content_maintype() != "multipart":
        return None
    return next((found for part in _held(message) if (found := _part(part, *types)) is not None), None)


def _held(part: Message | None) -> list[Message]:
    payload = part.get_payload() if part is not None else None
    return [held for held in payload if isinstance(held, Message)] if isinstance(payload, list) else []


def _body(part: Message) -> str:
    payload = part.get_payload(decode=True)
    return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
