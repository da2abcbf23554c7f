"""Replies as they come over a connection."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

from postfleet_workers.mail.smtp.wire import MAX_REPLY, Wire


def test_of_a_reply_without_measure_a_part_is_kept() -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    said = b"".join(b"550-%s\r\n" % (b"x" * 4000) for _ in range(100)) + b"550 no\r\n250 next\r\n"
    with closing(Wire(ours, "mail.acme.example")) as wire, theirs:
        speaker = threading.Thread(target=theirs.sendall, args=(said,))
        speaker.start()
        code, text = wire.getreply()
        assert (code, len(text)) == (550, MAX_REPLY)
        assert wire.getreply() == (250, b"next")
        speaker.join(10)
