"""The keeper on a real PostgreSQL, over the in-memory cluster: what happens to nodes as people change them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from integration.keeping import DEDICATED, OWN, SHARED, Keeping, end, keep, node
from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts
from postfleet_operator.errors import NotLeader
from postfleet_operator.keeper import MIRROR_SECONDS
from postfleet_operator.ledger import RETRY_SECONDS
from postfleet_operator.logins import LINGER_SECONDS
from postfleet_operator.strays import DEPLOYMENT_SECONDS
from unit.operator.building import manifest


@pytest.fixture
def keeping(database_url: str) -> Iterator[Keeping]:
    with keep(database_url) as keeping:
        yield keeping


def test_a_node_is_mirrored_gets_its_login_to_the_workers_and_says_so(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp", limits={"perDay": 100}))
    keeping.tick()
    assert keeping.rows()["acme-1"][0] is False
    assert "username" not in str(keeping.rows())
    assert keeping.files() == {"acme-1.username": "u", "acme-1.password": "p"}
    status = keeping.cluster.status("default/acme-1", "SendingNode")
    assert (status["phase"], status["observedGeneration"]) == ("Active", 1)
    assert (status["acceptedToday"], status["remainingToday"]) == (0, 100)
    assert keeping.condition("Ready") == ("True", "Sending")
    assert keeping.condition("Reachable") == ("Unknown", "NotKnown")
    assert keeping.phases == {"default/acme-1": "Active"}


def test_nothing_is_written_while_nothing_changes(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"), node("acme-2"))
    keeping.tick()
    calls = list(keeping.cluster.calls)
    for _ in range(30):
        keeping.tick()
    assert keeping.cluster.calls == calls
    assert keeping.events() == []


def test_shared_to_dedicated_and_back(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"))
    keeping.tick()
    keeping.put(node(secret="smtp", workers=DEDICATED))
    keeping.deploy()
    keeping.known[OWN] = Facts(1, workload=Workload(exists=True, replicas=3, ready=2, present=3))
    keeping.tick()
    assert keeping.files(OWN) == keeping.files() == {"acme-1.username": "u", "acme-1.password": "p"}
    assert keeping.rows()["acme-1"][1]["workers"]["placement"] == "Dedicated"
    workers = keeping.cluster.status("default/acme-1", "SendingNode")["workers"]
    assert workers == {"deployment": "email-acme-1", "desiredReplicas": 3, "replicas": 3, "readyReplicas": 2}
    keeping.tick(LINGER_SECONDS)
    assert keeping.files() == {}, "the shared workers have done what they had begun"
    assert keeping.files(OWN) != {}

    keeping.put(node(secret="smtp"))
    keeping.tick()
    assert keeping.files() != {}, "they have the login before the mail"
    assert OWN in keeping.cluster.deployments
    assert "workers" not in keeping.cluster.status("default/acme-1", "SendingNode")
    keeping.tick(DEPLOYMENT_SECONDS - 1)
    assert OWN in keeping.cluster.deployments, "the workers hear first that their node is served elsewhere"
    keeping.tick(2)
    assert ("remove", OWN) in keeping.cluster.calls
    assert keeping.cluster.deployments.keys() == {SHARED}


def test_a_pool_that_is_missing_is_said_and_the_mail_waits(keeping: Keeping) -> None:
    keeping.put(node(workers={"poolRef": {"name": "nope"}, "placement": "Dedicated"}))
    keeping.tick()
    assert keeping.condition("PoolFound") == ("False", "PoolMissing")
    assert (keeping.phase(), keeping.rows()["acme-1"][0]) == ("Blocked", True)
    keeping.put(manifest("nope"))
    keeping.tick()
    assert keeping.condition("PoolFound") == ("True", "PoolFound")
    assert (keeping.phase(), keeping.rows()["acme-1"][0]) == ("Active", False)
    assert keeping.events() == ["PoolMissing", "NodeReady"]


def test_two_nodes_with_one_login_both_send_and_the_younger_says_so(keeping: Keeping) -> None:
    smtp = {"host": "mx.example", "credentialsSecretRef": {"name": "smtp"}}
    keeping.put(node("old", smtp=smtp), node("young", born=2, smtp=smtp))
    keeping.tick()
    assert keeping.condition("IdentityUnique", "default/old") == ("True", "Unique")
    assert keeping.condition("IdentityUnique", "default/young") == ("False", "SameLogin")
    assert keeping.rows().keys() == {"old", "young"}
    assert keeping.phase("default/young") == "Active"
    assert keeping.events() == ["IdentityShared"]


def test_of_two_nodes_with_one_name_the_younger_is_not_mirrored_and_gets_no_login_of_the_other(
    keeping: Keeping,
) -> None:
    keeping.put(node(born=1, namespace="a"), node(born=2, secret="smtp", paused=False))
    keeping.tick()
    assert keeping.rows()["acme-1"][1]["smtp"]["credentialsSecretRef"] is None
    assert keeping.files() == {}
    assert keeping.condition("Mirrored") == ("False", "NameTaken")
    assert keeping.condition("IdentityUnique") == ("False", "NameTaken")
    assert (keeping.phase(), keeping.phase("a/acme-1")) == ("Blocked", "Active")
    keeping.cluster.remove_resource("SendingNode", "a/acme-1")
    keeping.tick()
    assert (keeping.phase(), keeping.files().keys()) == ("Active", {"acme-1.username", "acme-1.password"})


def test_postgresql_goes_away_and_comes_back(keeping: Keeping) -> None:
    keeping.put(node())
    keeping.tick()
    keeping.away = True
    keeping.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'postfleet-operator'")
    keeping.put(node("acme-2", secret="smtp"))
    keeping.tick(20)
    assert keeping.files() != {}, "the rest goes on"
    assert keeping.condition("Mirrored") == keeping.condition("Mirrored", "default/acme-2")
    assert keeping.condition("Mirrored") == ("False", "DatabaseUnavailable")
    assert (keeping.phase(), keeping.phase("default/acme-2")) == ("Blocked", "Pending")
    for _ in range(8):
        keeping.tick()
    keeping.away = False
    keeping.tick(RETRY_SECONDS)
    assert keeping.condition("Mirrored") == ("True", "Mirrored")
    assert (keeping.phase("default/acme-2"), keeping.rows().keys()) == ("Active", {"acme-1", "acme-2"})
    assert keeping.events() == ["DatabaseLost", "DatabaseRestored"]


def test_a_table_that_somebody_touched_is_put_right(keeping: Keeping) -> None:
    keeping.put(node())
    keeping.tick()
    keeping.sql("DELETE FROM sending_nodes")
    keeping.tick(MIRROR_SECONDS)
    assert keeping.rows().keys() == {"acme-1"}


def test_a_clock_that_is_set_back_delays_nothing(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"), node("acme-2"))
    keeping.tick()
    keeping.cluster.remove_resource("SendingNode", "default/acme-1")
    keeping.tick()
    keeping.sql("DELETE FROM sending_nodes; INSERT INTO jobs (type, queue) VALUES ('t', 'lost')")
    keeping.tick(-900)
    assert keeping.files() != {}, "mail in flight has its time all the same"
    assert (keeping.rows().keys(), keeping.unserved[-1]) == ({"acme-2"}, {"lost": 1})
    keeping.tick(LINGER_SECONDS)
    assert keeping.files() == {}


def test_a_node_that_cannot_be_read_stays_as_it_was_and_stops_nobody(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp", workers=DEDICATED))
    keeping.deploy()
    keeping.tick()
    broken = node(secret="smtp", workers=DEDICATED)
    broken["spec"]["smtp"]["port"] = "many"
    keeping.put(broken, node("acme-2"))
    for _ in range(3):
        keeping.tick(LINGER_SECONDS)
    assert keeping.condition("Ready") == ("False", "InvalidSpec")
    assert keeping.condition("Mirrored") == ("True", "Mirrored")
    assert keeping.rows().keys() == {"acme-1", "acme-2"}
    assert OWN in keeping.cluster.deployments
    assert keeping.events() == ["InvalidSpec"]


def test_queues_that_no_pool_serves_are_told(keeping: Keeping) -> None:
    keeping.sql("INSERT INTO jobs (type, queue) VALUES ('t', 'lost'), ('t', 'retry')")
    keeping.tick()
    assert keeping.unserved == [{"lost": 1}]
    assert keeping.events() == ["QueueUnserved"]
    keeping.put(manifest("other", queues=["lost"]))
    keeping.tick(10)
    assert keeping.unserved[-1] == {}


def test_mail_of_a_dedicated_node_that_its_own_workers_do_not_listen_to_is_told_at_the_node(keeping: Keeping) -> None:
    keeping.put(manifest("urgent", queues=["campaign-standard"]), node(workers=DEDICATED), node("acme-2"))
    keeping.tick()
    keeping.sql(
        "INSERT INTO jobs (type, queue, route, state) VALUES ('t', 'retry', 'acme-1', 'retryable'),"
        " ('t', 'campaign-standard', 'acme-2', 'available'), ('t', 'campaign-standard', 'acme-1/gmail', 'available')"
    )
    keeping.tick(10)
    assert keeping.condition("PoolFound") == keeping.condition("Ready") == ("False", "QueueUnserved")
    assert keeping.condition("PoolFound", "default/acme-2") == ("True", "AnyPool")
    assert keeping.unserved[-1] == {"campaign-standard.acme-1": 1}
    assert keeping.rows()["acme-1"][0] is False, "its other mail goes on"
    [event] = keeping.cluster.events
    assert (event.resource, event.reason) == ("default/acme-1", "QueueUnserved")
    assert event.message == (
        "JobPool email sends for it and does not list campaign-standard (1 unfinished job), so nobody sends that mail: "
        "add it to the pool's spec.queues, or name a pool that lists it in spec.workers.poolRef"
    )
    keeping.put(manifest(queues=["priority-high", "retry", "campaign-standard"]))
    keeping.tick(10)
    assert (keeping.condition("PoolFound"), keeping.phase()) == (("True", "PoolFound"), "Active")
    assert keeping.unserved[-1] == {}
    assert keeping.events() == ["QueueUnserved", "NodeReady"]


def test_a_pool_that_cannot_be_read_hides_no_other_pool_s_unserved_mail(keeping: Keeping) -> None:
    keeping.put({**manifest("broken"), "spec": {"queues": 5}}, node(workers=DEDICATED))
    keeping.sql("INSERT INTO jobs (type, queue, route) VALUES ('t', 'bulk', 'acme-1')")
    keeping.tick()
    assert keeping.condition("PoolFound") == ("False", "QueueUnserved")
    assert keeping.unserved == []


def test_who_does_not_lead_does_nothing(keeping: Keeping) -> None:
    keeping.put(node(secret="smtp"))
    keeping.cluster.failures[SHARED] = NotLeader("another replica leads")
    keeping.tick()
    assert keeping.rows() == {}
    assert keeping.cluster.calls == []


def test_a_new_keeper_does_not_tell_again_what_was_told(keeping: Keeping) -> None:
    keeping.put(node(workers={"poolRef": {"name": "nope"}}))
    keeping.tick()
    other = keeping.another()
    other.tick(keeping.now + 1)
    end(other)
    assert keeping.events() == ["PoolMissing"]
    assert [call for call, _ in keeping.cluster.calls] == ["patch_status"]


def test_a_node_that_another_operator_mirrors_is_left_to_it_and_says_so(keeping: Keeping) -> None:
    other = keeping.another("the fleet of somebody else")
    keeping.put(node())
    other.tick(keeping.now)
    end(other)
    keeping.put(node(limits={"perDay": 5}, secret="smtp"), node("acme-2", secret="smtp"))
    keeping.tick()
    assert keeping.files() == {"acme-2.username": "u", "acme-2.password": "p"}, "the row may name another server"
    assert keeping.rows()["acme-1"][1]["limits"]["perDay"] is None
    assert keeping.condition("Mirrored") == ("False", "NameTaken")
    assert keeping.condition("Ready") == ("False", "NameTaken")
    assert keeping.condition("Ready", "default/acme-2") == ("True", "Sending")
    keeping.cluster.remove_resource("SendingNode", "default/acme-1")
    keeping.tick()
    assert set(keeping.rows()) == {"acme-1", "acme-2"}


def test_once_the_other_operator_is_gone_its_node_is_taken_over(keeping: Keeping) -> None:
    other = keeping.another("an operator that was removed")
    keeping.put(node())
    other.tick(keeping.now)
    end(other)
    keeping.tick()
    assert keeping.condition("Ready") == ("False", "NameTaken")
    keeping.sql("UPDATE node_owners SET seen_at = seen_at - interval '1 hour' WHERE owner <> 'here'")
    keeping.tick(MIRROR_SECONDS)
    keeping.tick()
    assert keeping.condition("Ready") == ("True", "Sending")


def test_a_warmup_is_told_day_by_day(keeping: Keeping) -> None:
    plan = {"startDate": "1970-01-01", "growthFactor": "2", "targetPerDay": 200}
    keeping.put(node(warmup=plan, limits={"perDay": 150}))
    told = []
    for _ in range(4):
        keeping.tick()
        status = keeping.cluster.status("default/acme-1", "SendingNode")
        told.append((status["phase"], status.get("warmupDay"), status["capToday"], status["remainingToday"]))
        keeping.now += 86_400
    assert told == [
        ("Warming", 1, 50, 50), ("Warming", 2, 100, 100), ("Warming", 3, 150, 150), ("Active", None, 150, 150),
    ]  # fmt: skip
    assert keeping.condition("Warming") == ("False", "WarmupOver")


def test_slow_downs_in_force_are_told_and_gone_when_they_are_over(keeping: Keeping) -> None:
    keeping.put(node(), node("acme-2"))
    keeping.sql(
        "INSERT INTO slowdowns (node, site, action, value, rule, reply, until) VALUES"
        " ('acme-1', 'gmail', 'per_minute', 10, 'gmail.rate', '421 4.7.28', postfleet_now() + interval '10 minutes'),"
        " ('acme-1', 'apple', 'suspend', NULL, 'apple.deferred', '421', postfleet_now() - interval '1 second')"
    )
    keeping.tick()
    (slow,) = keeping.cluster.status("default/acme-1", "SendingNode")["slowdowns"]
    assert (slow["site"], slow["action"], slow["value"], slow["rule"]) == ("gmail", "per_minute", 10, "gmail.rate")
    assert "slowdowns" not in keeping.cluster.status("default/acme-2", "SendingNode")
    assert keeping.events() == ["SlowedDown"]
    keeping.sql("DELETE FROM slowdowns")
    keeping.tick(10)
    assert "slowdowns" not in keeping.cluster.status("default/acme-1", "SendingNode")


def test_a_node_that_delivers_directly_has_no_server_to_be_asked(keeping: Keeping) -> None:
    keeping.put(node(smtp={"host": "mx"}), node("acme-2", smtp={"host": "mx"}))
    keeping.tick()
    assert (keeping.condition("Reachable"), keeping.phase()) == (("Unknown", "ManyServers"), "Active")
    assert keeping.condition("IdentityUnique", "default/acme-2") == ("True", "Unique")
