"""A lead that cannot be sought is told when it begins, not at every try."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import Configuration
from structlog.testing import capture_logs

from postfleet_operator.errors import ClusterUnavailable, OperatorError, Rejected
from postfleet_operator.kube import leadership
from postfleet_operator.kube.client import Api
from postfleet_operator.kube.leadership import COMPLAIN_SECONDS, Leadership


class Rounds(Leadership):
    """Its rounds end as told, two seconds apart; None is a round that went well."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *ends: OperatorError | None) -> None:
        super().__init__(Api(Configuration(host="http://127.0.0.1:1")), "n", "lease", "me")
        self._ends = list(ends)
        self._now = 0.0
        monkeypatch.setattr(leadership.clock, "monotonic", lambda: self._now)

    def round(self) -> None:
        self._now += 2.0
        end = self._ends.pop(0)
        if not self._ends:
            self._stop.set()
        if end is not None:
            raise end

    def run(self) -> list[str]:
        with capture_logs() as lines:
            self._stop.wait = lambda _: False  # type: ignore[method-assign, assignment]
            self._run()
        return [told(line) for line in lines]


def told(line: Any) -> str:
    assert (line["event"], line["log_level"]) == ("lease_not_renewed", "warning")
    return str(line["error"])


def away(number: int) -> ClusterUnavailable:
    return ClusterUnavailable(f"away {number}")


def test_an_error_that_stays_is_told_once_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = int(COMPLAIN_SECONDS / 2)
    assert Rounds(monkeypatch, *map(away, range(rounds + 2))).run() == ["away 0", f"away {rounds}"]


def test_another_error_and_one_that_comes_back_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [away(0), away(1), Rejected("forbidden"), None, Rejected("forbidden again")]
    assert Rounds(monkeypatch, *ends).run() == ["away 0", "forbidden", "forbidden again"]
