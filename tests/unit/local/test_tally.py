"""Counting at the server, judging against the ledger."""

from __future__ import annotations

from pathlib import Path

from postfleet_local.tally import Accepted, Verdict, copies, judge, parse, read


def test_a_line_is_read_and_the_message_id_is_bare() -> None:
    assert parse("12.5\t<a@x>\t7\tjo@y\n") == Accepted(12.5, "a@x", "7", "jo@y")


def test_a_line_that_was_cut_short_does_not_count() -> None:
    assert parse("12.5\t<a@x>\t7\tjo@y") is None
    assert parse("12.5\t<a@x>\n") is None
    assert parse("soon\t<a@x>\t7\tjo@y\n") is None


def test_a_log_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "none") == []


def test_copies_are_counted_by_message_id(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("1\t<a>\t1\tx\n2\t<b>\t2\ty\n3\t<a>\t1\tx\n4\t<c")
    assert copies(read(tmp_path / "log")) == {"a": 2, "b": 1}


def test_every_mail_is_delivered_unknown_or_lost() -> None:
    statuses = {
        "a": "sent",
        "b": "sent",
        "c": "unknown",
        "d": "unknown",
        "e": "queued",
        "f": "bounced",
        "g": "deferred",
    }
    verdict = judge(statuses, {"a": 1, "b": 2, "d": 1, "stranger": 9})
    assert verdict == Verdict(emails=7, delivered=2, unknown=2, lost=3, duplicated=1, refused=1, waiting=1)
    assert not verdict.good


def test_an_unknown_mail_that_arrived_twice_is_a_duplicate_all_the_same() -> None:
    assert judge({"a": "unknown"}, {"a": 2}).duplicated == 1


def test_all_delivered_once_is_good() -> None:
    assert judge({"a": "sent", "b": "unknown"}, {"a": 1}).good
