"""What a node's conditions say, a line per state of the world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.node_conditions import NodeFacts, Phase, compose, phase
from postfleet_operator.reachability import Reach
from postfleet_operator.reasons import Reason
from postfleet_operator.spec import NodeSpec, parse_node
from postfleet_operator.spec.warmup import WarmupDay
from unit.operator.building import node_manifest


def spec(**given: Any) -> NodeSpec:
    return parse_node(node_manifest(**given)).spec


ANSWERS = Reach(True, Reason.SERVER_ANSWERS, "it greets")
SILENT = Reach(False, Reason.NO_ANSWER, "it is silent")
GOOD = NodeFacts(3, spec(), mirrored=True, reach=ANSWERS)
PAUSED = spec(paused=True)
AWAY = Problem(Reason.DATABASE_UNAVAILABLE, "PostgreSQL: gone")


def broken(reason: Reason) -> Problem:
    return Problem(reason, f"because of {reason}")


def statuses(facts: NodeFacts) -> dict[str, tuple[str, str]]:
    return {each["type"]: (each["status"], each["reason"]) for each in compose(facts, [], 0.0)}


def test_a_node_that_sends_has_every_condition() -> None:
    assert statuses(GOOD) == {
        "Ready": ("True", "Sending"),
        "Mirrored": ("True", "Mirrored"),
        "CredentialsReady": ("True", "NoLoginNeeded"),
        "Reachable": ("True", "ServerAnswers"),
        "IdentityUnique": ("True", "Unique"),
        "PoolFound": ("True", "AnyPool"),
        "Warming": ("False", "NoWarmup"),
        "Paused": ("False", "NotPaused"),
    }
    assert phase(GOOD, known=False) is Phase.ACTIVE


@pytest.mark.parametrize(
    ("facts", "condition", "status", "reason", "ready", "where"),
    [
        pytest.param(
            replace(GOOD, mirrored=False), "Mirrored", "False", "NotMirroredYet", "False", Phase.PENDING, id="new"
        ),
        pytest.param(
            replace(GOOD, mirrored=False, database=AWAY), "Mirrored", "False", "DatabaseUnavailable", "False",
            Phase.PENDING, id="PostgreSQL is away",
        ),
        pytest.param(
            replace(GOOD, mirrored=False, name=broken(Reason.NAME_TAKEN)), "Mirrored", "False", "NameTaken", "False",
            Phase.BLOCKED, id="an older node has its name",
        ),
        pytest.param(
            replace(GOOD, name=broken(Reason.NAME_TAKEN)), "IdentityUnique", "False", "NameTaken", "False",
            Phase.BLOCKED, id="and so it is not unique",
        ),
        pytest.param(
            replace(GOOD, credentials=broken(Reason.SECRET_MISSING)), "CredentialsReady", "False", "SecretMissing",
            "False", Phase.BLOCKED, id="no Secret",
        ),
        pytest.param(
            replace(GOOD, spec=spec(smtp={"host": "smtp", "credentialsSecretRef": {"name": "s"}})), "CredentialsReady",
            "True", "LoginDelivered", "True", Phase.ACTIVE, id="a login",
        ),
        pytest.param(
            replace(GOOD, reach=SILENT), "Reachable", "False", "NoAnswer", "False", Phase.BLOCKED, id="out of reach"
        ),
        pytest.param(
            replace(GOOD, reach=Reach(None, Reason.NOT_KNOWN, "?")), "Reachable", "Unknown", "NotKnown", "True",
            Phase.ACTIVE, id="nobody knows",
        ),
        pytest.param(
            replace(GOOD, double=broken(Reason.SAME_LOGIN)), "IdentityUnique", "False", "SameLogin", "True",
            Phase.ACTIVE, id="it sends although it is a double",
        ),
        pytest.param(
            replace(GOOD, pool=broken(Reason.POOL_MISSING)), "PoolFound", "False", "PoolMissing", "False",
            Phase.BLOCKED, id="no pool",
        ),
        pytest.param(
            replace(GOOD, unserved=broken(Reason.QUEUE_UNSERVED)), "PoolFound", "False", "QueueUnserved", "False",
            Phase.BLOCKED, id="workers that do not listen to all of its mail",
        ),
        pytest.param(
            replace(GOOD, unserved=broken(Reason.QUEUE_UNSERVED), credentials=broken(Reason.SECRET_MISSING)), "Ready",
            "False", "SecretMissing", "False", Phase.BLOCKED, id="what keeps all of its mail is told first",
        ),
        pytest.param(
            replace(GOOD, spec=spec(workers={"poolRef": {"name": "email"}})), "PoolFound", "True", "PoolFound", "True",
            Phase.ACTIVE, id="its pool",
        ),
        pytest.param(
            replace(GOOD, spec=PAUSED), "Paused", "True", "Paused", "False", Phase.PAUSED, id="paused"
        ),
        pytest.param(
            replace(GOOD, spec=PAUSED, pool=broken(Reason.POOL_MISSING)), "Paused", "True", "Paused", "False",
            Phase.PAUSED, id="paused and broken",
        ),
        pytest.param(
            replace(GOOD, workers=Facts(1, problem=broken(Reason.NAME_TAKEN)), deployment="email-a"), "Ready", "False",
            "NameTaken", "False", Phase.BLOCKED, id="its Deployment is somebody else's",
        ),
        pytest.param(
            replace(GOOD, workers=Facts(1, workload=Workload(exists=True)), deployment="email-a"), "Ready", "True",
            "Sending", "True", Phase.ACTIVE, id="its workers are asleep",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_where_it_belongs(
    facts: NodeFacts, condition: str, status: str, reason: str, ready: str, where: Phase
) -> None:
    found = statuses(facts)
    assert found[condition] == (status, reason)
    assert found["Ready"][0] == ready
    assert phase(facts, known=False) is where


def test_a_node_is_active_only_while_it_is_ready() -> None:
    lost = replace(GOOD, mirrored=False, database=AWAY)
    assert phase(lost, known=True) is Phase.BLOCKED
    assert phase(replace(lost, database=None), known=True) is Phase.PENDING


def test_a_spec_that_cannot_be_read_moves_only_ready() -> None:
    before = compose(GOOD, [], 0.0)
    after = compose(NodeFacts(4, invalid=broken(Reason.INVALID_SPEC)), before, 60.0)
    assert after[0]["reason"] == "InvalidSpec"
    assert after[0]["lastTransitionTime"] == "1970-01-01T00:01:00Z"
    assert after[1:] == before[1:]


def test_the_time_moves_only_with_the_status() -> None:
    before = compose(GOOD, [], 0.0)
    worse = compose(replace(GOOD, reach=SILENT), before, 60.0)
    times = {each["type"]: each["lastTransitionTime"] for each in worse}
    assert times["Reachable"] == times["Ready"] == "1970-01-01T00:01:00Z"
    assert times["Mirrored"] == "1970-01-01T00:00:00Z"


WARMING = spec(warmup={"startDate": "2026-03-01"})


@pytest.mark.parametrize(
    ("given", "today", "status", "message", "where"),
    [
        pytest.param(
            WARMING, WarmupDay(12, 900), ("True", "CapGrows"), "day 12 of its plan: 900 mails in any 24 hours",
            Phase.WARMING, id="under way",
        ),
        pytest.param(
            WARMING, WarmupDay(-3, 50), ("True", "WarmupAhead"),
            "its plan begins on 2026-03-01; until then the first day's cap holds, 50 mails a day",
            Phase.WARMING, id="ahead",
        ),
        pytest.param(
            WARMING, None, ("False", "WarmupOver"), "its plan has reached targetPerDay, 50,000 mails a day",
            Phase.ACTIVE, id="over",
        ),
        pytest.param(
            spec(warmup={"enabled": False}), None, ("False", "NoWarmup"), "it has no spec.warmup that is enabled",
            Phase.ACTIVE, id="switched off",
        ),
    ],
)  # fmt: skip
def test_a_warmup_is_a_phase_until_its_plan_is_over(
    given: NodeSpec, today: WarmupDay | None, status: tuple[str, str], message: str, where: Phase
) -> None:
    facts = replace(GOOD, spec=given, warmup=today)
    assert statuses(facts)["Warming"] == status
    assert message in [each["message"] for each in compose(facts, [], 0.0)]
    assert phase(facts, known=True) is where


def test_what_blocks_a_node_or_pauses_it_comes_before_its_warmup() -> None:
    facts = replace(GOOD, spec=WARMING, warmup=WarmupDay(1, 50))
    assert phase(replace(facts, mirrored=False), known=True) is Phase.PENDING
    assert phase(replace(facts, credentials=broken(Reason.SECRET_MISSING)), known=True) is Phase.BLOCKED
    assert phase(replace(facts, spec=PAUSED), known=True) is Phase.PAUSED


def test_a_node_says_which_of_its_keys_are_delivered() -> None:
    dkim = {"selector": "s1", "privateKeySecretRef": {"name": "k"}}
    login = {"host": "smtp", "credentialsSecretRef": {"name": "s"}}
    signs, both = {"identity": {"domain": "x.example", "dkim": dkim}}, {"smtp": login}
    for given, words in ((signs, "its DKIM key"), (both, "its login"), (signs | both, "its login and its DKIM key")):
        conditions = {each["type"]: each for each in compose(replace(GOOD, spec=spec(**given)), [], 0.0)}
        told = conditions["CredentialsReady"]
        assert (told["reason"], told["message"]) == ("LoginDelivered", f"its workers have {words}")
