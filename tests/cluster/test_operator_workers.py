"""Workers that are scaled, moved and killed for real, and the jobs and mails that must not notice."""

from __future__ import annotations

from typing import Any

import pytest
from cluster_worlds import World
from nodeagent import Agent
from operators import eventually, node, pool
from shops import Shop

from fleet import Fleet
from mail_lab import Lab
from postfleet_workers.mail.outbox import NewEmail, send_email
from smtp_lab import running

BRISK = {"cooldownSeconds": 1, "pollingIntervalSeconds": 1, "scaleDown": {"stabilizationWindowSeconds": 0}}
SCALE_DOWNS = 50
MOST = 5

pytestmark = pytest.mark.faults


@pytest.fixture
def shop(world: World, agent: Agent, fleet: Fleet) -> Shop:
    shop = Shop(world, agent, fleet)
    shop.open()
    return shop


@pytest.mark.timeout(180)
def test_workers_come_for_a_latency_target_and_what_they_do_is_learned(shop: Shop) -> None:
    autoscaling = {**BRISK, "target": {"latencySeconds": 1}, "maxReplicas": 4}
    shop.world.apply(shop.pool(autoscaling=autoscaling))
    shop.world.scaled(0)
    shop.jobs(600, 0.05)
    eventually(shop.left, lambda left: left == 0, seconds=60)
    status = shop.world.status()
    assert max(decision["to"] for decision in status["recentDecisions"]) >= 2
    assert 10 < float(status["throughputPerReplica"]) < 90, "four threads, 50 ms each: 80 at best"
    assert 0 < float(status["startupSeconds"]) < 30
    shop.world.scaled(0, seconds=90)  # arrivals are a moving average of half a minute
    shop.ready(0)
    assert (shop.runs(), shop.exit_codes()) == ({1}, {0})


@pytest.mark.timeout(300)
def test_fifty_scale_downs_under_load_interrupt_no_job(shop: Shop) -> None:
    shop.world.apply(shop.pool(mode="Manual", replicas=1))
    shop.ready(1)
    downs = 0
    while downs < SCALE_DOWNS:
        shop.jobs(max(400 - shop.left(), 0), 0.3)
        scale(shop, MOST)
        shop.ready(MOST)
        for fewer in range(MOST - 1, 0, -1):
            scale(shop, fewer)
            downs += 1
    eventually(shop.left, lambda left: left == 0, seconds=90)
    scale(shop, 0)
    shop.ready(0)
    assert shop.runs() == {1}
    assert shop.fleet.rows("SELECT id, state, attempt, strikes FROM jobs WHERE attempt <> 1 OR strikes <> 0") == []
    assert shop.ended_otherwise(0, 143) == "", "143: told to end before it had begun"


@pytest.mark.timeout(180)
def test_mail_of_a_dedicated_node_goes_through_its_own_workers_and_back(shop: Shop) -> None:
    dedicated = {"poolRef": {"name": "email"}, "placement": "Dedicated"}
    shop.fleet.execute("INSERT INTO tenants (name) VALUES ('acme')")
    with running(Lab()) as lab:
        smtp = {"host": "127.0.0.1", "port": lab.port, "tls": "None"}
        shop.world.apply(shop.pool("priority-high", mode="Manual", replicas=1), node(smtp=smtp))
        shop.ready(1)
        placed(shop, "Shared")
        send(shop, "ann")
        eventually(lambda: senders(shop), lambda found: found == {"ann": "email"})

        shop.world.apply(node(smtp=smtp, workers=dedicated))
        placed(shop, "Dedicated")
        own = "email-acme-1"
        early = until_it_goes_by(shop, own)
        send(shop, "bob", "cid")
        eventually(lambda: {senders(shop).get(name) for name in ("bob", "cid")}, lambda found: found == {own})

        shop.world.apply(node(smtp=smtp, workers={**dedicated, "placement": "Shared"}))
        send(shop, "dan")
        eventually(lambda: senders(shop), lambda found: "dan" in found)
        eventually(lambda: shop.world.get("deployment", own), lambda found: found is None, seconds=60)
        shop.ready(1)
        send(shop, "eve")
        eventually(lambda: senders(shop).get("eve"), lambda found: found == "email")
        taken = sorted(mail.recipient.partition("@")[0] for mail in lab.accepted)
    assert taken == sorted(["ann", "bob", "cid", "dan", "eve", *early])


def test_jobs_of_a_pod_that_is_killed_come_back_before_its_lease_ends(shop: Shop) -> None:
    shop.fleet.env["POSTFLEET_LEASE_SECONDS"] = "600"
    shop.world.apply(shop.pool(mode="Manual", replicas=1))
    shop.ready(1)
    (name,) = shop.agent.pids()
    shop.jobs(4, 5.0)
    eventually(lambda: shop.world.redis.llen("probe:order"), lambda begun: begun == 4)
    shop.world.kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
    eventually(lambda: shop.world.redis.llen("probe:order"), lambda begun: begun == 8, seconds=30)
    eventually(shop.left, lambda left: left == 0)
    assert [end.code for end in shop.agent.exits[name]] == [137]


def test_pods_that_the_cluster_has_no_place_for_are_told_of(world: World, agent: Agent) -> None:
    agent.pretend_ready_seconds = 0.1
    (machine,) = agent.machines.values()
    machine.capacity = 2
    world.backlog(300)
    world.operator()
    world.apply(pool(autoscaling={**BRISK, "target": {"backlogPerReplica": 100}}))
    world.scaled(3)
    world.backlog(900)
    eventually(lambda: world.condition("ScalingLimited"), lambda found: found == ("True", "Unschedulable"))
    eventually(lambda: world.reasons("email"), lambda found: "ScalingHeld" in found)
    assert world.replicas() == 3
    machine.capacity = 20
    world.scaled(9)
    eventually(lambda: world.condition("ScalingLimited")[0], lambda found: found == "False")


def scale(shop: Shop, replicas: int) -> None:
    """What a person does, and the operator after them."""
    shop.world.kubectl("scale", "jobpool/email", f"--replicas={replicas}")
    shop.world.scaled(replicas)


def placed(shop: Shop, placement: str) -> None:
    """Wait until the ledger has the node as it is."""
    sql = "SELECT spec #>> '{workers,placement}' FROM sending_nodes"
    eventually(lambda: [row[0] for row in shop.fleet.rows(sql)], lambda found: found == [placement])


def send(shop: Shop, *names: str) -> None:
    with shop.fleet.engine.begin() as connection:
        for name in names:
            mail = NewEmail("acme", f"{name}@example.org", "acme-1", "s", text="t", sender="a@a.example")
            send_email(connection, mail)


def until_it_goes_by(shop: Shop, deployment: str) -> list[str]:
    """Send until a mail goes by these workers: relay and workers read nodes every few seconds. Who got one."""
    names: list[str] = []
    while True:
        names.append(f"early{len(names)}")
        send(shop, names[-1])
        if eventually(lambda: senders(shop).get(names[-1]), seconds=60) == deployment:
            return names


def senders(shop: Shop) -> dict[str, Any]:
    """Which Deployment sent the mail to each name."""
    rows = shop.fleet.rows(
        "SELECT split_part(e.recipient, '@', 1), w.replica FROM email_attempts a"
        " JOIN emails e ON e.id = a.email_id JOIN workers w ON w.id = a.worker WHERE a.outcome = 'sent'"
    )
    return {name: replica.rsplit("-", 2)[0] for name, replica in rows}
