"""A campaign's mail moves from a node that holds it to one that has room, unless it was tried."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sqlalchemy import text

from mail_bench import TENANT, Bench
from postfleet_workers.jobs import Registry
from postfleet_workers.relay import gate, sisters
from postfleet_workers.relay.publisher import Publisher
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.redis import RedisLimiter

SETTINGS = Settings(database_url="postgresql://unused", redis_url="redis://unused")
QUEUE = "campaign-standard"


def campaign(bench: Bench, mails: int, node: str) -> None:
    """Mail of one campaign over nodes `spent` and `free`, all of it at `node`."""
    bench.enqueue(*(f"u{number}@b.example" for number in range(mails)), node=node)
    with bench.engine.begin() as connection:
        connection.execute(text("INSERT INTO contact_lists (tenant, name) VALUES (:t, 'l')"), {"t": TENANT})
        campaign_id = connection.execute(
            text(
                "INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text, state) "
                "SELECT :t, 'c', id, 'a@b.example', '{spent,free}', '', '', 'running' FROM contact_lists RETURNING id"
            ),
            {"t": TENANT},
        ).scalar_one()
        connection.execute(text("UPDATE jobs SET batch = :batch"), {"batch": f"campaign:{campaign_id}"})


def even_out(bench: Bench) -> int:
    """What the relay does at its poll."""
    publisher = Publisher(Pipe(bench.client), RedisLimiter(bench.client), Registry([bench.job_type]), SETTINGS)
    with bench.engine.connect() as connection:
        with connection.begin():
            rules = gate.read(connection)
        looks = publisher.publish(connection, [QUEUE], rules, [], full=True)
        return sisters.even_out(connection, publisher.limiter, looks, rules)


def by_route(bench: Bench) -> dict[str, int]:
    nodes = {row["job_id"]: row["node"] for row in bench.emails()}
    assert all(job["route"].partition("/")[0] == nodes[job["id"]] for job in bench.jobs())
    return dict(Counter(job["route"] for job in bench.jobs()))


def test_what_a_spent_node_holds_goes_where_there_is_room_for_a_minute(bench: Bench) -> None:
    bench.node(1, name="spent", perHour=30)
    bench.node(1, name="free", perMinute=60)
    campaign(bench, 200, "spent")
    moved = even_out(bench)
    assert 50 <= moved <= 60
    assert by_route(bench) == {"spent": 200 - moved, "free": moved}
    assert even_out(bench) <= 5, "what was given to it takes its room"


def test_a_paused_nodes_mail_goes_to_its_sister_but_not_what_was_tried(bench: Bench) -> None:
    bench.node(1, name="spent", paused=True)
    bench.node(1, name="free")
    campaign(bench, 10, "spent")
    with bench.engine.begin() as connection:
        connection.execute(
            text("UPDATE emails SET begun_at = now() WHERE recipient IN ('u0@b.example', 'u1@b.example')")
        )
        connection.execute(
            text("UPDATE jobs j SET snoozes = 1 FROM emails e WHERE e.job_id = j.id AND e.recipient = 'u2@b.example'")
        )
        connection.execute(text("UPDATE emails SET resends = 1 WHERE recipient = 'u3@b.example'"))
    assert even_out(bench) == 6
    assert by_route(bench) == {"spent": 4, "free": 6}


def test_a_node_gets_what_its_sessions_can_do_and_nothing_while_that_is_put_off_again_and_again(bench: Bench) -> None:
    bench.node(1, name="spent", perHour=30)
    bench.node(1, name="free", maxConnections=1)
    campaign(bench, 200, "spent")
    assert even_out(bench) == 60
    with bench.engine.begin() as connection:
        connection.execute(
            text("UPDATE jobs SET state = 'scheduled', run_at = now() + interval '30 s' WHERE route = 'free'")
        )
    assert even_out(bench) == 0


def test_a_campaigns_own_limit_moves_nothing(bench: Bench) -> None:
    bench.node(1, name="spent")
    bench.node(1, name="free")
    campaign(bench, 50, "spent")
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE campaigns SET per_minute = 5"))
    assert even_out(bench) == 0


def test_mail_for_a_suspended_site_keeps_its_site_at_the_sister(bench: Bench) -> None:
    sites: Any = [{"name": "gmail", "perMinute": 50}]
    bench.node(1, name="spent", sites=sites)
    bench.node(1, name="free", sites=sites)
    bench.enqueue("u@gmail.com", "u@elsewhere.example", node="spent")
    campaign(bench, 0, "spent")
    with bench.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO slowdowns (node, site, action, rule, reply, until) "
                "VALUES ('spent', 'gmail', 'suspend', 'r', '421', postfleet_now() + interval '1 hour')"
            )
        )
    assert even_out(bench) == 1
    assert by_route(bench) == {"free/gmail": 1, "spent": 1}
