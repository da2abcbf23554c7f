"""What the relay pushes and sees, against a real Dramatiq broker and worker: the layout in Redis is Dramatiq's own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis
from dramatiq import Message as DramatiqMessage
from dramatiq.brokers.redis import RedisBroker

from postfleet_workers import pipe as pipes
from postfleet_workers.relay.queue import HEARTBEATS, Message, Pipe
from postfleet_workers.worker import broker as brokers
from postfleet_workers.worker.lanes import Lanes, LaneWorker
from postfleet_workers.worker.shares import Shares

QUEUES = ["urgent", "bulk"]
WAIT_SECONDS = 20.0  # only bounds a failing test

Items = tuple[tuple[int, int], ...]


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what happens in other threads."""
    pause = threading.Event()
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"
        pause.wait(0.01)


@dataclass
class Ran:
    """What actors were called with; each call waits for `go`."""

    calls: queue.SimpleQueue[tuple[str, Items]] = field(default_factory=queue.SimpleQueue)
    go: threading.Event = field(default_factory=threading.Event)

    def __call__(self, type_name: str, items: Sequence[tuple[int, int]]) -> None:
        self.calls.put((type_name, tuple(items)))
        assert self.go.wait(WAIT_SECONDS)

    def next(self) -> tuple[str, Items]:
        return self.calls.get(timeout=WAIT_SECONDS)


@pytest.fixture
def pipe(redis_client: redis.Redis) -> Pipe:
    return Pipe(redis_client)


@pytest.fixture
def ran() -> Ran:
    return Ran()


@pytest.fixture
def make_broker(redis_url: str, redis_client: redis.Redis) -> Iterator[Callable[[str, Ran], RedisBroker]]:
    made: list[tuple[RedisBroker, redis.Redis]] = []

    def make(broker_id: str, ran: Ran) -> RedisBroker:
        client = pipes.connect(redis_url, decode=False)
        broker = brokers.make(client, broker_id, QUEUES, ran)
        made.append((broker, client))
        return broker

    yield make
    for broker, client in made:
        broker.close()
        client.close()


@pytest.fixture
def start(make_broker: Callable[[str, Ran], RedisBroker]) -> Iterator[Callable[..., LaneWorker]]:
    """Start a worker on a broker of its own; all end with the test."""
    started: list[tuple[LaneWorker, Ran]] = []

    def start(broker_id: str, ran: Ran, threads: int = 2, reserved: int = 0) -> LaneWorker:
        lanes = Lanes(Shares(QUEUES, {}))
        broker = make_broker(broker_id, ran)
        worker = LaneWorker(broker, queues=QUEUES, threads=threads, poll_ms=10, reserved=reserved, lanes=lanes)
        worker.start()
        started.append((worker, ran))
        return worker

    yield start
    for worker, ran in started:
        ran.go.set()
        worker.stop(timeout=10_000)


def fetch(broker: RedisBroker, queue_name: str, count: int) -> tuple[Any, list[Any]]:
    """A consumer that has fetched, as Dramatiq's own threads do, and what it holds."""
    consumer = broker.consume(queue_name, prefetch=count, timeout=10)
    return consumer, [next(consumer) for _ in range(count)]


def push(pipe: Pipe, *bundles: Items, queue_name: str = "bulk", actor: str = "probe") -> None:
    pipe.push(queue_name, [(actor, bundle) for bundle in bundles], 1_700_000_000_000)


def seen(pipe: Pipe, queue_name: str = "bulk") -> dict[Items, tuple[bool, str | None]]:
    return {message.items: (message.waiting, message.broker) for message in pipe.messages(queue_name)}


def ack_sets(client: redis.Redis) -> dict[str, set[str]]:
    return {key: client.smembers(key) for key in client.keys("dramatiq:__acks__.*")}  # type: ignore[misc]


ONE: Items = ((1, 1),)
TWO: Items = ((2, 1), (3, 7))
THREE: Items = ((2**63 - 1, 2**31 - 1),)


def test_a_worker_runs_what_was_pushed_and_acks_it(
    pipe: Pipe, ran: Ran, start: Callable[..., LaneWorker], redis_client: redis.Redis
) -> None:
    push(pipe, ONE, TWO)
    push(pipe, THREE, actor="email.send")
    ran.go.set()
    start("replica-1", ran)
    assert sorted(ran.next() for _ in range(3)) == [("email.send", THREE), ("probe", ONE), ("probe", TWO)]
    until(lambda: pipe.depths(QUEUES) == {"urgent": 0, "bulk": 0}, "every message acked")
    assert redis_client.keys("dramatiq:bulk*") == []
    assert ack_sets(redis_client) == {}


def test_a_pushed_message_is_one_of_dramatiqs_own(pipe: Pipe, redis_client: redis.Redis) -> None:
    push(pipe, TWO)
    ((message_id, data),) = redis_client.hgetall("dramatiq:bulk.msgs").items()
    message: DramatiqMessage[Any] = DramatiqMessage.decode(str(data).encode())
    assert (message.message_id, message.queue_name, message.actor_name) == (message_id, "bulk", "probe")
    assert message.options == {"redis_message_id": message_id}
    assert message.message_timestamp == 1_700_000_000_000
    assert message.encode() == DramatiqMessage.decode(message.encode()).encode()


def test_messages_are_fetched_in_the_order_they_were_pushed(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker]
) -> None:
    bundles: list[Items] = [((n, 1),) for n in range(20)]
    push(pipe, *bundles[:10])
    push(pipe, *bundles[10:])
    consumer, messages = fetch(make_broker("replica-1", ran), "bulk", 20)
    assert [tuple(map(tuple, message.args[0])) for message in messages] == bundles
    consumer.close()


def test_depths_count_what_waits_and_what_is_in_flight(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker]
) -> None:
    push(pipe, ONE, TWO, THREE)
    consumer, _ = fetch(make_broker("replica-1", ran), "bulk", 2)
    assert pipe.depths(["bulk", "urgent", "unknown"]) == {"bulk": 3, "urgent": 0, "unknown": 0}
    consumer.close()


def test_waiting_and_fetched_messages_are_told_apart_with_who_holds_them(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker]
) -> None:
    push(pipe, ONE, TWO, THREE)
    push(pipe, ONE, queue_name="urgent")
    first, _ = fetch(make_broker("replica-1", ran), "bulk", 1)
    second, _ = fetch(make_broker("replica-2", ran), "bulk", 1)
    assert seen(pipe) == {ONE: (False, "replica-1"), TWO: (False, "replica-2"), THREE: (True, None)}
    assert seen(pipe, "urgent") == {ONE: (True, None)}, "queues are looked at apart"
    first.close()
    second.close()


def test_what_runs_is_seen_as_held_until_it_is_acked(pipe: Pipe, ran: Ran, start: Callable[..., LaneWorker]) -> None:
    push(pipe, ONE)
    start("replica-1", ran)
    ran.next()
    assert seen(pipe) == {ONE: (False, "replica-1")}
    ran.go.set()
    until(lambda: seen(pipe) == {}, "acked")


def test_a_stopping_worker_gives_back_what_it_had_only_fetched(
    pipe: Pipe, ran: Ran, start: Callable[..., LaneWorker]
) -> None:
    worker = start("replica-1", ran, threads=2, reserved=1)
    push(pipe, ONE, TWO)
    running = ran.next()[1]
    (fetched,) = {ONE, TWO} - {running}
    until(lambda: seen(pipe)[fetched] == (False, "replica-1"), "fetched, though its only thread is busy")
    stopping = threading.Thread(target=worker.stop, kwargs={"timeout": 10_000})
    stopping.start()
    until(lambda: not any(thread.running for thread in worker.workers), "threads take nothing new")
    ran.go.set()
    stopping.join(WAIT_SECONDS)
    assert seen(pipe) == {fetched: (True, None)}
    assert ran.calls.empty()


def test_a_process_holds_no_more_of_a_queue_than_it_has_threads(
    pipe: Pipe, ran: Ran, start: Callable[..., LaneWorker]
) -> None:
    push(pipe, *[((n, 1),) for n in range(10)])
    start("replica-1", ran, threads=2)
    ran.next()
    ran.next()
    held = [message for message in pipe.messages("bulk") if message.broker == "replica-1"]
    assert len(held) == 2


def test_a_dropped_message_is_gone_wherever_it_was(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker], redis_client: redis.Redis
) -> None:
    push(pipe, ONE, TWO, THREE)
    consumer, _ = fetch(make_broker("replica-1", ran), "bulk", 1)
    by_items = {message.items: message for message in pipe.messages("bulk")}
    pipe.drop("bulk", [by_items[ONE], by_items[THREE]])
    assert seen(pipe) == {TWO: (True, None)}
    assert redis_client.lrange("dramatiq:bulk", 0, -1) == [by_items[TWO].id]
    assert ack_sets(redis_client) == {}
    consumer.close()


def test_acking_a_message_that_was_dropped_meanwhile_does_no_harm(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker]
) -> None:
    push(pipe, ONE, TWO)
    consumer, (message,) = fetch(make_broker("replica-1", ran), "bulk", 1)
    pipe.drop("bulk", [one for one in pipe.messages("bulk") if one.items == ONE])
    consumer.ack(message)
    assert seen(pipe) == {TWO: (True, None)}
    consumer.close()


def test_a_message_fetched_between_the_look_and_the_drop_does_no_harm(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker], redis_client: redis.Redis
) -> None:
    push(pipe, ONE)
    looked = pipe.messages("bulk")
    consumer, (message,) = fetch(make_broker("replica-1", ran), "bulk", 1)
    pipe.drop("bulk", looked)
    assert seen(pipe) == {}
    consumer.ack(message)
    assert ack_sets(redis_client) == {}
    consumer.close()


def test_dropping_nothing_is_no_call() -> None:
    Pipe(redis.Redis(port=1)).drop("bulk", [])
    Pipe(redis.Redis(port=1)).push("bulk", [], 0)


def test_a_message_in_nobodys_hands_is_an_orphan(pipe: Pipe, redis_client: redis.Redis) -> None:
    push(pipe, ONE, TWO)
    redis_client.lpop(
        "dramatiq:bulk"
    )  # as a fetch that died between LPOP and SADD would leave it, were it not a script
    assert seen(pipe) == {ONE: (False, None), TWO: (True, None)}
    orphan = next(message for message in pipe.messages("bulk") if message.items == ONE)
    pipe.drop("bulk", [orphan])
    assert seen(pipe) == {TWO: (True, None)}


def test_forgotten_brokers_leave_their_messages_as_orphans(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker], redis_client: redis.Redis
) -> None:
    push(pipe, ONE, TWO)
    push(pipe, THREE, queue_name="urgent")
    dead, alive = make_broker("replica-dead", ran), make_broker("replica-alive", ran)
    consumers = [fetch(dead, "bulk", 1)[0], fetch(alive, "bulk", 1)[0], fetch(dead, "urgent", 1)[0]]
    soon = (pipe.server_time() + 3600) * 1000
    pipe.forget_brokers({"replica-alive"}, soon)
    assert seen(pipe) == {ONE: (False, None), TWO: (False, "replica-alive")}
    assert seen(pipe, "urgent") == {THREE: (False, None)}
    assert redis_client.zrange(HEARTBEATS, 0, -1) == ["replica-alive"]
    assert set(ack_sets(redis_client)) == {"dramatiq:__acks__.replica-alive.bulk"}
    for consumer in consumers:
        consumer.close()


def test_a_broker_that_called_lately_is_not_forgotten(
    pipe: Pipe, ran: Ran, make_broker: Callable[[str, Ran], RedisBroker]
) -> None:
    push(pipe, ONE)
    consumer, _ = fetch(make_broker("replica-new", ran), "bulk", 1)
    pipe.forget_brokers(set(), (pipe.server_time() - 60) * 1000)
    assert seen(pipe) == {ONE: (False, "replica-new")}
    consumer.close()


def test_an_actor_that_raises_is_acked_and_its_message_never_comes_back(
    pipe: Pipe, start: Callable[..., LaneWorker], redis_client: redis.Redis
) -> None:
    class Raising(Ran):
        def __call__(self, type_name: str, items: Sequence[tuple[int, int]]) -> None:
            super().__call__(type_name, items)
            raise RuntimeError("on purpose")

    ran = Raising()
    ran.go.set()
    push(pipe, ONE)
    start("replica-1", ran)
    ran.next()
    until(lambda: seen(pipe) == {}, "message gone")
    assert redis_client.keys("dramatiq:bulk*") == []
    assert ran.calls.empty()


def test_a_type_that_this_process_does_not_know_reaches_the_runner_all_the_same(
    pipe: Pipe, ran: Ran, start: Callable[..., LaneWorker], redis_client: redis.Redis
) -> None:
    ran.go.set()
    push(pipe, ONE, actor="unheard.of")
    push(pipe, TWO)
    start("replica-1", ran)
    assert {ran.next(), ran.next()} == {("unheard.of", ONE), ("probe", TWO)}
    until(lambda: seen(pipe) == {}, "both acked")
    assert redis_client.keys("dramatiq:bulk*") == []


def test_no_queue_for_delays_is_consumed(ran: Ran, start: Callable[..., LaneWorker]) -> None:
    assert set(start("replica-1", ran).consumers) == set(QUEUES)


def test_the_relays_view_needs_no_broker_that_ever_called(pipe: Pipe) -> None:
    push(pipe, ONE)
    (message,) = pipe.messages("bulk")
    assert message == Message(message.id, ONE, True, None)
    assert pipe.messages("empty") == []
