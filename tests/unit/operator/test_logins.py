"""When a worker set's Secret is written again: at once when somebody touched it, and not for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator import census
from postfleet_operator.errors import ClusterUnavailable, NameTaken
from postfleet_operator.logins import CHECK_SECONDS, CHECKS_PER_TICK, QUIET_SECONDS, RETRY_SECONDS, Logins
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.reasons import Reason
from unit.operator.building import manifest, node_manifest

KEY, PLACE = "default/email", ("default", "email-nodes")
FILES = {"acme-1.username": "u", "acme-1.password": "p"}


class Delivering:
    """Logins of a cluster with one pool and one node; time moves only with `tick`."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.cluster.secrets["default", "smtp"] = {"username": "u", "password": "p"}
        smtp = {"host": "smtp", "credentialsSecretRef": {"name": "smtp"}}
        self.cluster.put(node_manifest(smtp=smtp))
        self.pool("first")
        self.logins = Logins(self.cluster)
        self.now = 1000.0

    def pool(self, uid: str) -> None:
        given = manifest()
        self.cluster.put({**given, "metadata": {**given["metadata"], "uid": uid}})

    def tick(self, seconds: float = 1.0) -> dict[str, Any]:
        self.now += seconds
        found = census.take(self.cluster.pools(), self.cluster.nodes())
        logins = self.logins.read(found.nodes).keys
        return self.logins.deliver(found.sets, found.mirrored, logins, [], 0.0, self.now)

    @property
    def applied(self) -> int:
        return self.cluster.calls.count(("apply_secret", KEY))

    def owner(self) -> str:
        return str(self.cluster.applied_secrets[KEY]["metadata"]["ownerReferences"][0]["uid"])


@pytest.fixture
def delivering() -> Delivering:
    delivering = Delivering()
    delivering.tick()
    assert (delivering.applied, delivering.cluster.secrets[PLACE]) == (1, FILES)
    for _ in range(3):
        delivering.tick()
    assert delivering.applied == 1
    return delivering


def test_a_secret_that_somebody_deleted_is_back_at_the_next_look(delivering: Delivering) -> None:
    delivering.cluster.delete_secret(*PLACE)
    delivering.tick()
    assert (delivering.applied, delivering.cluster.secrets[PLACE]) == (2, FILES)


def test_a_secret_that_somebody_changed_is_put_right_at_the_next_look(delivering: Delivering) -> None:
    delivering.cluster.put_secret(*PLACE, {"acme-1.username": "u"})
    delivering.tick()
    assert delivering.cluster.secrets[PLACE] == FILES


def test_one_that_was_touched_and_is_as_it_should_be_is_not_written(delivering: Delivering) -> None:
    delivering.cluster.put_secret(*PLACE, FILES)
    delivering.tick()
    assert delivering.applied == 1


def test_a_change_that_nobody_heard_of_is_found_now_and_then(delivering: Delivering) -> None:
    del delivering.cluster.secrets[PLACE]
    delivering.tick(QUIET_SECONDS)
    assert delivering.applied == 1
    delivering.tick(CHECK_SECONDS)
    assert delivering.applied == 2


def test_a_pool_that_was_made_anew_has_its_secret_back_when_the_collector_took_the_old_one(
    delivering: Delivering,
) -> None:
    delivering.cluster.remove_resource("JobPool", KEY)
    delivering.cluster.put_secret(*PLACE, FILES)  # the collector has not come yet
    delivering.tick()
    delivering.pool("second")
    delivering.tick()
    delivering.cluster.delete_secret(*PLACE)
    assert delivering.tick() == {}
    assert (delivering.cluster.secrets[PLACE], delivering.owner()) == (FILES, "second")


def test_one_that_was_in_the_way_is_not_waited_for_when_it_is_gone(delivering: Delivering) -> None:
    delivering.pool("second")
    delivering.cluster.failures[KEY] = NameTaken("the first pool's Secret is in the way")
    assert delivering.tick()["default/acme-1"].reason is Reason.NAME_TAKEN
    del delivering.cluster.failures[KEY]
    delivering.cluster.delete_secret(*PLACE)
    assert RETRY_SECONDS > 1
    assert delivering.tick() == {}
    assert delivering.owner() == "second"


def test_what_was_delivered_counts_as_there_while_nobody_can_look(
    delivering: Delivering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(namespace: str, name: str) -> None:
        raise ClusterUnavailable("503")

    delivering.cluster.delete_secret(*PLACE)
    with monkeypatch.context() as patch:
        patch.setattr(delivering.cluster, "secret", away)
        assert delivering.tick() == {}
    assert delivering.tick(RETRY_SECONDS) == {}
    assert delivering.cluster.secrets[PLACE] == FILES


def test_many_touched_at_once_are_all_put_right(delivering: Delivering) -> None:
    names = [f"p{n}" for n in range(CHECKS_PER_TICK + 10)]
    for name in names:
        delivering.cluster.put(manifest(name))
    delivering.tick()
    for name in names:
        delivering.cluster.delete_secret("default", f"{name}-nodes")
    delivering.tick()
    assert all(delivering.cluster.secrets["default", f"{name}-nodes"] == FILES for name in names)


def test_a_clock_that_is_set_back_delays_no_retry_and_no_check(delivering: Delivering) -> None:
    del delivering.cluster.secrets[PLACE]  # nobody hears of it
    delivering.tick(-3600)
    assert delivering.applied == 2
    delivering.cluster.put_secret(*PLACE, {})
    delivering.cluster.failures[KEY] = NameTaken("in the way")
    assert delivering.tick() != {}
    del delivering.cluster.failures[KEY]
    assert delivering.tick(-3600) == {}


def test_files_that_linger_outlive_a_secret_that_was_deleted(delivering: Delivering) -> None:
    delivering.cluster.remove_resource("SendingNode", "default/acme-1")
    found = census.take(delivering.cluster.pools(), [])
    delivering.logins.deliver(found.sets, [], {}, [], None, delivering.now)
    delivering.cluster.delete_secret(*PLACE)
    delivering.logins.deliver(found.sets, [], {}, [], None, delivering.now + 1)
    assert delivering.cluster.secrets[PLACE] == FILES
