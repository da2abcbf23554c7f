"""Replies as they come over a connection."""

from __future__ import annotations

import socket
import threading
from contextlib import closing

import pytest

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


def test_a_reply_that_came_while_we_stood_still_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen, or without a processor for longer than the wait: what the server said meanwhile counts."""
    waiting, times = threading.Event(), [0.0, 0.0]  # when the wait begins, and when nothing has come yet

    def monotonic() -> float:
        now = times.pop() if times else 1_000.0
        if not times:
            waiting.set()
        return now

    monkeypatch.setattr("postfleet_workers.mail.smtp.wire.monotonic", monotonic)
    ours, theirs = socket.socketpair()
    ours.settimeout(10)

    def speak() -> None:
        waiting.wait(10)
        theirs.sendall(b"250 2.0.0 ok\r\n")

    with closing(Wire(ours, "mail.acme.example")) as wire, theirs:
        speaker = threading.Thread(target=speak)
        speaker.start()
        assert wire.getreply() == (250, b"2.0.0 ok")
        speaker.join(10)
