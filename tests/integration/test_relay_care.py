"""Looking after a queue's messages on a real PostgreSQL and a real Redis: what waits stays on offer, the rest goes."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis
from sqlalchemy import Engine

from integration.ledger_steps import QUEUE, add, change, claim, job_row, move_clock, offer, start_worker
from postfleet_workers.jobs import NewJob
from postfleet_workers.relay import care
from postfleet_workers.relay.queue import HEARTBEATS, Pipe

SECONDS = 30.0


@pytest.fixture
def pipe(redis_client: redis.Redis) -> Pipe:
    return Pipe(redis_client)


def publish(engine: Engine, pipe: Pipe, count: int = 1, *, seconds_ago: float = 0.0) -> list[tuple[int, int]]:
    """Offer jobs, each in a message of its own."""
    add(engine, *[NewJob("probe", QUEUE)] * count)
    items = offer(engine, most=count)
    pipe.push(QUEUE, [("probe", [item]) for item in items], int((pipe.server_time() - seconds_ago) * 1000))
    return items


def fetch(client: redis.Redis, broker: str) -> None:
    """What Dramatiq's fetch does with one message."""
    client.zadd(HEARTBEATS, {broker: 1.0})
    message_id = client.lpop(f"dramatiq:{QUEUE}")
    assert isinstance(message_id, str)
    client.sadd(f"dramatiq:__acks__.{broker}.{QUEUE}", message_id)


def look_after(engine: Engine, pipe: Pipe, *live: str) -> None:
    with engine.connect() as connection:
        care.look_after(connection, pipe, QUEUE, lambda queue, route: (queue, route) == (QUEUE, ""), set(live), SECONDS)


def test_what_lies_on_a_road_that_its_node_has_left_is_free_to_go_the_other(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis
) -> None:
    roads = {"stays": QUEUE, "moved": f"{QUEUE}.moved"}
    for route in roads:
        add(engine, *[NewJob("probe", QUEUE, route=route)] * 2)
    stays, moved = (offer(engine, ("default", "", route)) for route in roads)
    runs, waits = moved
    pipe.push(QUEUE, [("probe", [runs])], int(pipe.server_time() * 1000))
    fetch(redis_client, "w")
    start_worker(engine, "w")
    claim(engine, [runs])
    pipe.push(QUEUE, [("probe", [item]) for item in [*stays, waits]], int(pipe.server_time() * 1000))
    with engine.connect() as connection:
        care.look_after(connection, pipe, QUEUE, lambda queue, route: roads.get(route, queue) == QUEUE, {"w"}, SECONDS)
    assert left(pipe) == sorted(job_id for job_id, _ in [*stays, runs]), "what runs is not disturbed"
    assert offer(engine, ("default", "", "moved")) == [(waits[0], waits[1] + 1)], "at once"
    assert offer(engine, ("default", "", "stays")) == []


def left(pipe: Pipe) -> list[int]:
    return sorted(message.items[0][0] for message in pipe.messages(QUEUE))


@pytest.mark.parametrize(
    ("fetched", "seconds_ago"),
    [
        pytest.param(False, 3600, id="waits, however long"),
        pytest.param(True, 2 * SECONDS - 10, id="fetched by a live worker"),
    ],
)
def test_a_message_that_may_still_run_keeps_its_rows_on_offer(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis, fetched: bool, seconds_ago: float
) -> None:
    ((job_id, _),) = publish(engine, pipe, seconds_ago=seconds_ago)
    if fetched:
        fetch(redis_client, "alive")
    move_clock(engine, "29 seconds")
    before = job_row(engine, job_id).published_until
    look_after(engine, pipe, "alive")
    assert job_row(engine, job_id).published_until - before > timedelta(seconds=20)
    move_clock(engine, "58 seconds")
    assert offer(engine) == [], "still on offer to the same message"
    assert left(pipe) == [job_id]


def test_a_message_that_a_live_worker_fetched_and_lost_goes_and_its_rows_are_published_again(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis
) -> None:
    ((job_id, publication),) = publish(engine, pipe, seconds_ago=2 * SECONDS + 1)
    fetch(redis_client, "alive")
    look_after(engine, pipe, "alive")
    assert left(pipe) == []
    assert offer(engine) == [(job_id, publication + 1)]
    start_worker(engine, "alive")
    assert claim(engine, [(job_id, publication)], "alive") == [], "should it turn up after all"


def test_a_message_whose_job_runs_long_stays_and_holds_the_rest_of_its_bundle_no_longer(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis
) -> None:
    add(engine, *[NewJob("probe", QUEUE)] * 2)
    runs, left_over = items = offer(engine)
    pipe.push(QUEUE, [("probe", items)], int((pipe.server_time() - 3600) * 1000))
    fetch(redis_client, "w")
    start_worker(engine, "w", seconds=3600)
    claim(engine, [runs])
    look_after(engine, pipe, "w")
    assert left(pipe) == [runs[0]]
    move_clock(engine, "31 seconds")
    assert [job_id for job_id, _ in offer(engine)] == [left_over[0]]


def test_a_message_of_a_dead_worker_goes_and_its_rows_are_free_at_once(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis
) -> None:
    first, second = publish(engine, pipe, 2)
    fetch(redis_client, "dead")
    look_after(engine, pipe, "alive")
    assert left(pipe) == [second[0]]
    assert [job_id for job_id, _ in offer(engine)] == [first[0]]
    assert redis_client.keys("dramatiq:__acks__*") == []


def test_a_message_whose_job_runs_is_kept_while_its_worker_lives(
    engine: Engine, pipe: Pipe, redis_client: redis.Redis
) -> None:
    items = publish(engine, pipe)
    fetch(redis_client, "w")
    start_worker(engine, "w")
    claim(engine, items)
    look_after(engine, pipe, "w")
    assert left(pipe) == [items[0][0]]
    assert job_row(engine, items[0][0]).state == "executing"


@pytest.mark.parametrize("state", ["completed", "cancelled", "discarded"])
def test_a_message_whose_rows_have_moved_on_goes(engine: Engine, pipe: Pipe, state: str) -> None:
    gone, stays = publish(engine, pipe, 2)
    change(engine, "UPDATE jobs SET state = :state WHERE id = :id", state=state, id=gone[0])
    look_after(engine, pipe)
    assert left(pipe) == [stays[0]]
    assert pipe.depths([QUEUE]) == {QUEUE: 1}


def test_messages_that_are_not_ours_go(engine: Engine, pipe: Pipe, redis_client: redis.Redis) -> None:
    for number, data in enumerate(("not json", '{"args": [[[1e400, 1]]]}', '{"args": [[[99999999999999999999, 1]]]}')):
        redis_client.hset(f"dramatiq:{QUEUE}.msgs", f"m{number}", data)
        redis_client.rpush(f"dramatiq:{QUEUE}", f"m{number}")
    ((job_id, _),) = publish(engine, pipe)
    look_after(engine, pipe)
    assert left(pipe) == [job_id]
