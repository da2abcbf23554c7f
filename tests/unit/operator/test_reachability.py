"""Who is believed about an SMTP server: its workers first, then a look at its banner."""

from __future__ import annotations

import pytest

from postfleet_operator.deliveries import Experience
from postfleet_operator.reachability import FRESH_SECONDS, Probe, judge, judge_direct
from postfleet_operator.reasons import Reason

NOW = 10_000.0
GREETS = Probe(NOW - 5, "mx:25")
SILENT = Probe(NOW - 5, "mx:25", "Connection refused")
SENT = Experience(sent_at=NOW - 60)
REFUSED = Experience(failed_at=NOW - 60, phase="connect", failure="Connection refused")
LOGIN = Experience(sent_at=NOW - 90, failed_at=NOW - 60, phase="auth", failure="535 no")
RECOVERED = Experience(sent_at=NOW - 30, failed_at=NOW - 60, phase="auth", failure="535 no")
OLD = Experience(NOW - FRESH_SECONDS - 9, NOW - FRESH_SECONDS, "auth", "535 no")


@pytest.mark.parametrize(
    ("experience", "probe", "own_place", "status", "reason"),
    [
        pytest.param(SENT, None, False, True, Reason.MAIL_TAKEN, id="mail was taken"),
        pytest.param(SENT, SILENT, False, True, Reason.MAIL_TAKEN, id="mail was taken, whatever the probe says"),
        pytest.param(LOGIN, GREETS, False, False, Reason.SESSIONS_FAIL, id="a banner disproves no refused login"),
        pytest.param(RECOVERED, SILENT, False, True, Reason.MAIL_TAKEN, id="it went well since"),
        pytest.param(REFUSED, None, False, False, Reason.SESSIONS_FAIL, id="workers cannot connect"),
        pytest.param(REFUSED, GREETS, False, True, Reason.SERVER_ANSWERS, id="it is back"),
        pytest.param(REFUSED, Probe(NOW - 70, "mx:25"), False, False, Reason.SESSIONS_FAIL, id="it was there before"),
        pytest.param(REFUSED, GREETS, True, False, Reason.SESSIONS_FAIL, id="from its own place it is not back"),
        pytest.param(OLD, GREETS, False, True, Reason.SERVER_ANSWERS, id="what is long ago is no news"),
        pytest.param(Experience(), None, False, None, Reason.NOT_KNOWN, id="nobody has tried"),
        pytest.param(Experience(), GREETS, True, True, Reason.SERVER_ANSWERS, id="a dedicated one answers"),
        pytest.param(Experience(), SILENT, False, False, Reason.NO_ANSWER, id="silent"),
        pytest.param(Experience(), SILENT, True, None, Reason.NOT_KNOWN, id="silent, as seen from another place"),
    ],
)
def test_the_verdict(
    experience: Experience, probe: Probe | None, own_place: bool, status: bool | None, reason: Reason
) -> None:
    reach = judge(experience, probe, own_place=own_place, now=NOW)
    assert (reach.status, reach.reason) == (status, reason)


def test_what_the_workers_met_is_told() -> None:
    assert judge(LOGIN, GREETS, own_place=False, now=NOW).message == "sessions of the workers fail at auth: 535 no"


@pytest.mark.parametrize(
    ("experience", "status", "reason"),
    [
        pytest.param(RECOVERED, True, Reason.MAIL_TAKEN, id="some server takes mail"),
        pytest.param(LOGIN, True, Reason.MAIL_TAKEN, id="another one that failed says nothing"),
        pytest.param(REFUSED, None, Reason.SESSIONS_FAIL, id="none does, one failed"),
        pytest.param(OLD, None, Reason.MANY_SERVERS, id="nothing lately"),
    ],
)
def test_a_node_that_delivers_directly_is_reachable_while_it_delivers(
    experience: Experience, status: bool | None, reason: Reason
) -> None:
    reach = judge_direct(experience, now=NOW)
    assert (reach.status, reach.reason) == (status, reason)
