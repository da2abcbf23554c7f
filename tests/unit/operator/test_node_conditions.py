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
            replace(GOOD, spec=spec(smtp={"host": "mx", "credentialsSecretRef": {"name": "s"}})), "CredentialsReady",
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
