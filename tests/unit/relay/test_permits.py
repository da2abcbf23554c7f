"""How many jobs the limits will permit soon."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.relay import gate
from postfleet_workers.relay.census import Pipeful
from postfleet_workers.relay.gate import Node, Rules, Tenant
from postfleet_workers.relay.permits import Permits, foresee, still_to_ask
from postfleet_workers.throttling.limiter import Admission
from postfleet_workers.throttling.limits import Limit, node_limits, tenant_limits
from postfleet_workers.throttling.memory import MemoryLimiter

SESSIONS = Limit("sessions:n1", "node n1 maxConnections", 20, 1.0)
PER_MINUTE = node_limits("n1", {"limits": {"perMinute": 60}})
PER_DAY = tenant_limits("acme", None, 1000)
RULES = Rules({"acme": Tenant(3, PER_DAY)}, {"n1": Node(PER_MINUTE, SESSIONS, frozenset(), paused=False)})


def test_what_has_still_to_ask_a_limit_is_counted_over_all_queues() -> None:
    minute, day = PER_MINUTE[0].key, PER_DAY[0].key
    pipes = {
        "priority-high": {("acme", "", "n1"): Pipeful(offered=3, running=10, fresh=4)},
        "bulk": {("other", "", "n1"): Pipeful(offered=5), ("acme", "", ""): Pipeful(offered=100)},
    }
    assert still_to_ask(RULES, pipes) == {minute: 12, day: 7, SESSIONS.key: 18}


def test_each_executing_mail_holds_a_session_of_its_node_and_of_its_site() -> None:
    spec = {"limits": {"perHour": 900, "sites": [{"name": "gmail", "perMinute": 60, "maxConnections": 5}]}}
    rules = Rules(nodes={"n1": gate.node("n1", spec, paused=False)})
    found = still_to_ask(rules, {"bulk": {("acme", "", "n1/gmail"): Pipeful(offered=2, running=7, fresh=3)}})
    assert (found["sessions:n1"], found["sessions:n1|gmail"]) == (9, 9)
    assert found["postfleet:limit:site:n1|gmail:minute"] == 5


class Clock:
    """Stands still."""

    def __call__(self) -> float:
        return 1_000_000.0


@pytest.fixture
def limiter() -> MemoryLimiter:
    return MemoryLimiter(MemoryEpoch(Clock()))


def test_rates_are_asked_for_the_next_seconds_and_for_the_next_minute(limiter: MemoryLimiter) -> None:
    found = foresee(limiter, [*PER_MINUTE, *PER_MINUTE], {}, {})
    key = PER_MINUTE[0].key
    assert 1 <= found.now[key] <= 4
    assert 55 <= found.plan[key] <= 60


def test_what_is_in_the_pipe_is_taken_off_and_never_below_zero(limiter: MemoryLimiter) -> None:
    key = PER_MINUTE[0].key
    free = foresee(limiter, PER_MINUTE, {}, {})
    found = foresee(limiter, PER_MINUTE, {}, {key: 10})
    assert found.plan[key] == free.plan[key] - 10
    assert found.now[key] == 0


@pytest.mark.parametrize(
    ("pace", "now", "plan"),
    [
        pytest.param(0.1, 400, 12_000, id="20 sessions at 10 mails a second"),
        pytest.param(1.0, 40, 1200, id="20 sessions at a mail a second"),
        pytest.param(30.0, 20, 40, id="slow: at least one mail for each session"),
        pytest.param(600.0, 20, 20, id="very slow"),
        pytest.param(0.0, 40_000, 1_200_000, id="too fast to measure"),
    ],
)
def test_sessions_let_through_what_they_can_deliver(limiter: MemoryLimiter, pace: float, now: int, plan: int) -> None:
    found = foresee(limiter, [SESSIONS], {SESSIONS.key: pace}, {})
    assert (found.now[SESSIONS.key], found.plan[SESSIONS.key]) == (now, plan)


def test_without_limits_the_limiter_is_not_asked() -> None:
    class Away(MemoryLimiter):
        def peek_many(self, asks: Sequence[tuple[Sequence[Limit], int]], horizon_seconds: float) -> list[Admission]:
            raise AssertionError("asked")

    assert foresee(Away(MemoryEpoch(Clock())), [], {}, {}) == Permits({}, {})


def test_a_look_that_only_fills_the_pipe_plans_nothing() -> None:
    limiter = MemoryLimiter(MemoryEpoch(Clock()))
    whole, brief = (foresee(limiter, PER_MINUTE, {}, {}, planned=planned) for planned in (True, False))
    assert whole.plan
    assert brief == Permits(whole.now, {}, whole.rates)


def test_the_tightest_limit_is_named() -> None:
    found = Permits({}, {PER_MINUTE[0].key: 60, SESSIONS.key: 20, PER_DAY[0].key: 900})
    assert found.binding((*PER_MINUTE, SESSIONS, *PER_DAY)) == "node n1 maxConnections"
    assert found.binding(PER_MINUTE) == "node n1 per_minute"
    assert found.binding(()) is None
