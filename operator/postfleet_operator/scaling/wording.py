"""Numbers as people read them in statuses and messages. Pure."""

from __future__ import annotations


def number(value: float, thousands: str = "") -> str:
    """Three digits are enough for people, and keep noise from being worth a write; whole numbers from 1000 on."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:{thousands}.0f}"


def count(value: int, noun: str) -> str:
    """`1 job`, `2,000 jobs`."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}"


def jobs(value: int, verb: str) -> str:
    """`1 job waits`, `2,000 jobs wait`."""
    return f"{count(value, 'job')} {verb}{'s' if value == 1 else ''}"
