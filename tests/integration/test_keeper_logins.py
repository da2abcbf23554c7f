"""The keeper brings workers the keys of their nodes, and takes them away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from integration.keeping import SHARED, Keeping, keep, node
from postfleet_operator.census import HELD
from postfleet_operator.credentials import MOST_BYTES
from postfleet_operator.errors import ClusterUnavailable, NameTaken
from postfleet_operator.logins import LINGER_SECONDS
from postfleet_operator.reasons import Reason


@pytest.fixture
def keeping(database_url: str) -> Iterator[Keeping]:
    with keep(database_url) as keeping:
        yield keeping


def test_a_rotated_secret_reaches_the_workers_within_a_look(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"))
    keeping.tick()
    keeping.cluster.secrets["default", "smtp"] = {"username": "u", "password": "new"}
    keeping.tick()
    assert keeping.files()["acme-1.password"] == "new"
    assert keeping.condition("CredentialsReady") == ("True", "LoginDelivered")


def test_without_its_secret_a_node_s_mail_waits_instead_of_failing(keeping: Keeping) -> None:
    keeping.put(node(secret="late"), node("acme-2", secret="smtp"))
    keeping.tick()
    assert keeping.condition("CredentialsReady") == ("False", "SecretMissing")
    assert (keeping.phase(), keeping.phase("default/acme-2")) == ("Blocked", "Active")
    assert {name: row[0] for name, row in keeping.rows().items()} == {"acme-1": True, "acme-2": False}
    keeping.cluster.secrets["default", "late"] = {"username": "u"}
    keeping.tick()
    assert keeping.condition("CredentialsReady") == ("False", "SecretKeyMissing")
    keeping.cluster.secrets["default", "late"] = {"username": "u", "password": "p"}
    keeping.tick()
    assert (keeping.phase(), keeping.rows()["acme-1"][0]) == ("Active", False)
    assert keeping.files().keys() >= {"acme-1.username", "acme-2.username"}
    assert keeping.events() == ["CredentialsMissing", "NodeReady"]


def test_a_deleted_node_s_login_stays_until_its_mail_in_flight_is_done(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"), node("acme-2"))
    keeping.tick()
    keeping.cluster.remove_resource("SendingNode", "default/acme-1")
    keeping.tick()
    assert keeping.rows().keys() == {"acme-2"}
    assert keeping.files().keys() == {"acme-1.username", "acme-1.password"}
    keeping.tick(LINGER_SECONDS)
    assert keeping.files() == {}
    assert keeping.forgotten == ["default/acme-1"]


def test_a_broken_node_s_login_stays_with_the_shared_workers(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"))
    keeping.tick()
    broken = node(secret="smtp")
    broken["spec"]["smtp"]["port"] = "many"
    keeping.put(broken)
    for _ in range(3):
        keeping.tick(LINGER_SECONDS)
    assert keeping.files().keys() == {"acme-1.username", "acme-1.password"}


def test_logins_that_do_not_fit_into_one_secret(keeping: Keeping) -> None:
    keeping.cluster.secrets["default", "huge"] = {"username": "v", "password": "x" * MOST_BYTES}
    keeping.put(node(secret="smtp"), node("acme-2", born=2, secret="huge"))
    keeping.tick()
    for _ in range(3):
        assert keeping.condition("CredentialsReady", "default/acme-2") == ("False", "SecretTooLarge")
        assert keeping.condition("Mirrored", "default/acme-2") == ("True", "Mirrored")
        assert keeping.condition("CredentialsReady") == ("True", "LoginDelivered")
        assert keeping.rows()["acme-2"][0] is True
        keeping.tick()


def test_a_restarted_operator_takes_away_what_it_had_not_yet(keeping: Keeping) -> None:
    keeping.cluster.secrets["default", "email-nodes"] = {"gone.username": "u", "gone.password": "p"}
    keeping.tick()
    keeping.tick(LINGER_SECONDS)
    assert ("apply_secret", SHARED) in keeping.cluster.calls
    assert keeping.files() == {}


def test_a_secret_that_is_somebody_else_s_is_told_at_the_nodes_that_need_it(keeping: Keeping) -> None:
    keeping.cluster.failures[SHARED] = NameTaken("Secret email-nodes belongs to somebody else")
    keeping.put(node(secret="smtp"), node("acme-2"))
    keeping.tick()
    assert keeping.condition("CredentialsReady") == ("False", "NameTaken")
    assert keeping.condition("CredentialsReady", "default/acme-2") == ("True", "NoLoginNeeded")
    del keeping.cluster.failures[SHARED]
    keeping.tick(10)
    assert keeping.condition("CredentialsReady") == ("True", "LoginDelivered")


def test_a_secret_that_cannot_be_read_for_now_changes_nothing(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping.put(node(secret="smtp"))
    keeping.tick()

    def away(namespace: str, name: str) -> None:
        raise ClusterUnavailable("503")

    with monkeypatch.context() as patch:
        patch.setattr(keeping.cluster, "secret", away)
        keeping.put(node("acme-2", secret="other"))
        keeping.tick()
    assert keeping.condition("CredentialsReady") == ("True", "LoginDelivered")
    assert keeping.condition("CredentialsReady", "default/acme-2") == ("False", "ClusterUnavailable")
    assert keeping.rows()["acme-2"][0] is False, f"only {HELD} hold mail"
    assert Reason.CLUSTER_UNAVAILABLE not in HELD


def signing(**dkim: Any) -> dict[str, Any]:
    reference = {"privateKeySecretRef": {"name": "dkim"}}
    return {"domain": "acme-1.example", "dkim": {"selector": "s1", **reference, **dkim}}


def test_a_dkim_key_goes_to_the_workers_and_nowhere_else(keeping: Keeping) -> None:
    keeping.cluster.secrets["default", "dkim"] = {"private.key": "PEM"}
    keeping.put(node(secret="smtp", identity=signing()))
    keeping.tick()
    assert keeping.files() == {"acme-1.username": "u", "acme-1.password": "p", "acme-1.dkim": "PEM"}
    assert "PEM" not in str(keeping.rows())
    keeping.cluster.secrets["default", "dkim"] = {"private.key": "NEW"}
    keeping.tick()
    assert keeping.files()["acme-1.dkim"] == "NEW"


def test_without_its_dkim_key_a_node_s_mail_waits_instead_of_leaving_unsigned(keeping: Keeping) -> None:
    keeping.put(node(identity=signing()))
    keeping.tick()
    assert keeping.condition("CredentialsReady") == ("False", "SecretMissing")
    assert keeping.rows()["acme-1"][0] is True
    keeping.cluster.secrets["default", "dkim"] = {"private.key": "PEM"}
    keeping.tick()
    assert (keeping.condition("CredentialsReady"), keeping.phase()) == (("True", "LoginDelivered"), "Active")
    assert keeping.rows()["acme-1"][0] is False
