"""Files that mails carry: checked when a mail or a campaign is made, kept once per tenant, read once per process.

A file that the HTML shows, as `<img src="cid:logo.png">`, goes beside the HTML under an id of its own; every other one
is attached.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from mimetypes import MimeTypes
from pathlib import Path

from sqlalchemy import Connection, text

from postfleet_workers.errors import InputError
from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message import images
from postfleet_workers.mail.message.compose import Enclosure, base64_lines, enclose
from postfleet_workers.mail.message.headers import refuse_control

MAX_FILES = 20
MAX_BYTES = 10_000_000  # of a mail's files together: some receivers take no mail above 10 MB, many none above 25
KEPT_BYTES = 64_000_000  # of encoded files, per process
LONGEST_NAME = 200
# What the large providers take from nobody, not even in an archive; the mail would bounce.
FORBIDDEN = re.compile(
    "ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|ins|iso|isp|jar|jse?|lib|lnk|mde|ms[cipt]|nsh|pif|ps1|"
    "scr|sct|shb|sys|vb[es]?|vhd|vxd|ws[cfh]|xll"
)
_TYPES = MimeTypes(filenames=())  # the built-in table alone: the same on every machine
_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_OTHER = "application/octet-stream"

ADD = text("""
INSERT INTO attachments (tenant, name, content_type, sha256, body, created_at)
VALUES (:tenant, :name, :content_type, :sha256, :body, postfleet_now())
ON CONFLICT (tenant, sha256, name) DO UPDATE
    SET content_type = excluded.content_type, created_at = excluded.created_at -- it is not to be forgotten yet
RETURNING id
""")
LOAD = text("""
SELECT id, name, content_type, sha256, body FROM attachments WHERE id = ANY(CAST(:ids AS bigint[]))
""")


@dataclass(frozen=True, slots=True)
class File:
    """A file to send. `content_type` '' is told by the name."""

    name: str
    body: bytes = field(repr=False)
    content_type: str = ""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file as mails carry it: `encoded` is base64, in lines."""

    name: str
    content_type: str
    content_id: str
    encoded: str = field(repr=False)


def read(path: Path) -> File:
    """A file of this machine, under its own name.

    Raises:
        InputError: it cannot be read, or no mail could carry it.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes; a mail carries at most {MAX_BYTES:,}")
        return File(path.name, path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def check(files: Sequence[File]) -> None:
    """Refuse what no mail can carry.

    Raises:
        InputError: too many, too large together, a name that is none, or a kind that receivers refuse.
    """
    if len(files) > MAX_FILES:
        raise InputError(f"{len(files)} attachments; a mail carries at most {MAX_FILES}")
    total = sum(len(file.body) for file in files)
    if total > MAX_BYTES:
        raise InputError(f"attachments of {total:,} bytes; a mail carries at most {MAX_BYTES:,}")
    for file in files:
        _check_name(file.name)
        if file.content_type and not _TYPE.fullmatch(file.content_type.lower()):
            raise InputError(f"attachment {file.name!r}: {file.content_type!r} is no content type, as image/png is")


def store(connection: Connection, tenant: str, files: Sequence[File]) -> list[int]:
    """Keep a tenant's files; their ids, in order. The same file under the same name is kept once, from now on.

    How long: see `mail.retention`.

    Raises:
        InputError: as `check`.
    """
    check(files)
    ids = []
    for file in files:
        parameters = {
            "tenant": tenant, "name": file.name, "content_type": _type_of(file),
            "sha256": sha256(file.body).hexdigest(), "body": file.body,
        }  # fmt: skip
        ids.append(int(connection.execute(ADD, parameters).scalar_one()))
    return ids


class Attachments:
    """Files by id, encoded, the most recently used ones kept; shared by a process' threads. A file never changes."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._kept_bytes = kept_bytes
        self._lock = threading.Lock()
        self._files: OrderedDict[int, Attachment] = OrderedDict()

    def get(self, connection: Connection, ids: Iterable[int]) -> dict[int, Attachment]:
        """Those of `ids` that exist."""
        wanted = set(ids)
        with self._lock:
            found = {key: self._files[key] for key in wanted if key in self._files}
            for key in found:
                self._files.move_to_end(key)
        if missing := wanted - found.keys():
            rows = connection.execute(LOAD, {"ids": list(missing)})
            fresh = {row.id: _encoded(row.name, row.content_type, row.sha256, bytes(row.body)) for row in rows}
            found |= fresh
            with self._lock:
                self._files.update(fresh)
                while len(self._files) > 1 and sum(len(f.encoded) for f in self._files.values()) > self._kept_bytes:
                    self._files.popitem(last=False)
        return found


def enclosed(html: str | None, files: Sequence[Attachment]) -> tuple[str | None, tuple[Enclosure, ...]]:
    """The HTML with the ids of the images that it shows by name, and every file as a part."""
    shown: frozenset[str] = frozenset()
    if html is not None and files:
        html, shown = images.put_ids(html, {file.name: file.content_id for file in files})
    parts = [enclose(f.name, f.content_type, f.encoded, f.content_id if f.name in shown else "") for f in files]
    return html, tuple(parts)


def _check_name(name: str) -> None:
    try:
        refuse_control("attachment", name)
    except ComposeRefused as error:
        raise InputError(str(error)) from None
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or "/" in name or "\\" in name:
        raise InputError(f"attachment {name[:100]!r}: give a file name of 1 to {LONGEST_NAME} characters, no path")
    ending = name.rpartition(".")[2].lower()
    if FORBIDDEN.fullmatch(ending):
        raise InputError(f"attachment {name!r}: receivers refuse mail with .{ending} files; send a link to it")


def _type_of(file: File) -> str:
    """The content type; what must not be base64 (RFC 2046: message and multipart) is some file."""
    kind = file.content_type.lower() or _TYPES.guess_type(file.name)[0] or _OTHER
    return _OTHER if kind.startswith(("message/", "multipart/")) else kind


def _encoded(name: str, content_type: str, digest: str, body: bytes) -> Attachment:
    return Attachment(name, content_type, f"{digest[:32]}@postfleet", base64_lines(body))
