"""The whole of it: jobs in PostgreSQL, a relay, an operator, and workers that are the pods of its Deployments."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from cluster_worlds import World
from nodeagent import Agent
from operators import eventually, node
from podstatus import Machine
from shops import QUICK, Shop
from sqlalchemy import text

from fleet import Fleet
from integration.mail_steps import QUEUES, copies, final, mail
from mail_lab import Lab
from smtp_lab import running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(180)]


@pytest.fixture
def shop(world: World, agent: Agent, fleet: Fleet) -> Shop:
    shop = Shop(world, agent, fleet)
    shop.open()
    return shop


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running(Lab(login=("ann", "first"))) as lab:
        yield lab


def test_jobs_wake_a_pool_and_when_they_are_done_it_sleeps_again(shop: Shop) -> None:
    shop.world.apply(shop.pool(autoscaling={**QUICK, "maxReplicas": 3}))
    shop.world.scaled(0)
    shop.jobs(200, 0.05)
    eventually(shop.left, lambda left: left == 0, seconds=60)
    assert shop.runs() == {1}
    shop.world.scaled(0, seconds=30)
    shop.ready(0)
    assert shop.exit_codes() == {0}
    status = shop.world.status()
    assert float(status["throughputPerReplica"]) > 0
    assert float(status["startupSeconds"]) > 0
    assert {"ScaledFromZero", "ScaledToZero"} <= shop.world.reasons("email")


def test_a_rollout_under_load_interrupts_no_job_and_old_workers_stay_until_new_ones_are_ready(shop: Shop) -> None:
    shop.world.apply(shop.pool(mode="Manual", replicas=2))
    shop.ready(2)
    before = set(shop.agent.pids())
    shop.jobs(150, 0.2)
    shop.world.apply(shop.pool(mode="Manual", replicas=2, threads=6))
    shop.world.kubectl("rollout", "status", "deployment/email", "--timeout=60s")
    shop.ready(2)
    assert not before & set(shop.agent.pids())
    eventually(shop.left, lambda left: left == 0, seconds=60)
    assert (shop.runs(), shop.exit_codes()) == ({1}, {0})


def test_what_a_killed_worker_had_begun_is_done_by_another(shop: Shop) -> None:
    shop.world.apply(shop.pool(mode="Manual", replicas=2))
    shop.ready(2)
    shop.jobs(60, 0.3)
    eventually(lambda: shop.world.redis.llen("probe:order"), lambda started: started >= 8)
    (name, pid) = next(iter(shop.agent.pids().items()))
    os.kill(pid, signal.SIGKILL)
    eventually(shop.left, lambda left: left == 0, seconds=60)
    assert [end.code for end in shop.agent.exits[name]] == [137]
    assert shop.runs() <= {1, 2}
    shop.ready(2)


def test_workers_that_find_no_place_are_not_added_to(shop: Shop) -> None:
    (machine,) = shop.agent.machines.values()
    machine.capacity = 1
    shop.world.apply(shop.pool(autoscaling={**QUICK, "maxReplicas": 6}))
    shop.jobs(100, 0.4)
    grown = eventually(shop.world.replicas, lambda found: (found or 0) > 1)
    eventually(lambda: str(shop.world.items("pod")), lambda text: "Unschedulable" in text)
    shop.jobs(400, 0.4)
    decided = eventually(
        lambda: shop.world.status().get("lastDecision", {}).get("clamps", []),
        lambda clamps: "Unschedulable" in [clamp["name"] for clamp in clamps],
    )
    assert "the cluster has no place for them" in str(decided)
    assert shop.world.replicas() == grown
    machine.capacity = 110
    eventually(shop.left, lambda left: left == 0, seconds=60)
    assert shop.runs() == {1}


def test_a_rotated_login_reaches_workers_that_run(shop: Shop, lab: Lab) -> None:
    login = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "smtp"},
        "stringData": {"username": "ann", "password": "first"},
    }
    smtp = {"host": "127.0.0.1", "port": lab.port, "tls": "None", "credentialsSecretRef": {"name": "smtp"}}
    limits = {"messagesPerConnection": 5}
    queues = QUEUES.split(",")
    shop.world.apply(login, node(smtp=smtp, limits=limits), shop.pool(*queues, mode="Manual", replicas=1))
    shop.ready(1)
    before = shop.agent.pids()
    send(shop, 30)
    assert final(shop.fleet) == {"sent": 30}
    lab.login = ("ann", "second")
    login["stringData"] = {"username": "ann", "password": "second"}
    shop.world.apply(login)
    send(shop, 30)
    assert final(shop.fleet) == {"sent": 60}
    assert shop.agent.pids() == before
    assert set(copies(lab).values()) == {1}


def test_a_dedicated_node_s_mail_leaves_from_its_own_place(shop: Shop) -> None:
    place = f"{shop.world.namespace}-eu"
    taint = {"key": "egress", "value": "eu", "effect": "NoSchedule"}
    shop.agent.add(Machine(place, {"place": "eu"}, (taint,)))
    workers = {
        "poolRef": {"name": "email"},
        "placement": "Dedicated",
        "nodeSelector": {"place": "eu"},
        "tolerations": [{"key": "egress", "operator": "Exists"}],
    }
    with running(Lab()) as lab:
        smtp = {"host": "127.0.0.1", "port": lab.port, "tls": "None"}
        identity = {"domain": "b.example"}
        shop.world.apply(
            node(smtp=smtp, workers=workers),
            node("acme-2", smtp=smtp, identity=identity),
            shop.pool(*QUEUES.split(","), autoscaling=QUICK),
        )
        send(shop, 100)
        send(shop, 100, "acme-2")
        assert final(shop.fleet) == {"sent": 200}
        assert set(copies(lab).values()) == {1}
    senders = shop.fleet.rows(
        "SELECT DISTINCT a.node, w.node, w.replica FROM email_attempts a JOIN workers w ON w.id = a.worker"
    )
    assert {(mail_of, worker_of) for mail_of, worker_of, _ in senders} == {("acme-1", "acme-1"), ("acme-2", "shared")}
    shop.world.scaled(0, "email-acme-1", seconds=30)
    shop.world.scaled(0, seconds=30)


def send(shop: Shop, count: int, by: str = "acme-1") -> None:
    """Send mails of a node once it is known."""
    sql = "SELECT name FROM sending_nodes WHERE name = :name AND NOT paused"
    eventually(lambda: shop.fleet.rows(sql, name=by))
    with shop.fleet.engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('acme') ON CONFLICT DO NOTHING"))
    mail(shop.fleet.engine, count, node=by)
