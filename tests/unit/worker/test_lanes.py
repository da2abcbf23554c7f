"""The messages that a process has fetched, and the threads that take them. With real threads, and no sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest

from postfleet_workers.worker.lanes import Lane, Lanes
from postfleet_workers.worker.shares import Shares

SOON = 10.0  # bounds a failing test


def fetched(queue: str, name: str = "") -> Any:
    return SimpleNamespace(message=SimpleNamespace(queue_name=queue, name=name))


@pytest.fixture
def lanes() -> Lanes:
    return Lanes(Shares(["urgent", "bulk", "retry"], {"bulk": 6, "retry": 2}))


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


class Taking:
    """Threads that are known to wait in `take` before the test goes on."""

    def __init__(self, lanes: Lanes, pool: ThreadPoolExecutor) -> None:
        self._lanes = lanes
        self._pool = pool

    def start(self, *, reserved: bool, timeout: float = SOON) -> Future[Any]:
        asked = threading.Event()
        pick = self._lanes._pick

        def noticed(*, reserved: bool) -> str | None:
            asked.set()
            return pick(reserved=reserved)

        self._lanes._pick = noticed  # type: ignore[method-assign]
        future = self._pool.submit(self._lanes.take, timeout, reserved=reserved)
        assert asked.wait(SOON)
        self._lanes._pick = pick  # type: ignore[method-assign]
        return future


@pytest.fixture
def taking(lanes: Lanes, threads: ThreadPoolExecutor) -> Taking:
    return Taking(lanes, threads)


def test_messages_of_a_queue_come_out_in_the_order_they_came_in(lanes: Lanes) -> None:
    items = [fetched("bulk", str(n)) for n in range(5)]
    for item in items:
        lanes.put(item)
    assert [lanes.take(0, reserved=False) for _ in items] == items


def test_urgent_mail_goes_before_bulk_that_came_first(lanes: Lanes) -> None:
    for queue in ("bulk", "bulk", "urgent"):
        lanes.put(fetched(queue))
    assert [lanes.take(0, reserved=False).message.queue_name for _ in range(3)] == ["urgent", "bulk", "bulk"]


def test_a_reserved_thread_never_takes_bulk(lanes: Lanes) -> None:
    lanes.put(fetched("bulk"))
    with pytest.raises(Empty):
        lanes.take(0, reserved=True)
    assert lanes.take(0, reserved=False).message.queue_name == "bulk"


def test_nothing_within_the_timeout_is_empty(lanes: Lanes) -> None:
    with pytest.raises(Empty):
        lanes.take(0.01, reserved=False)


def test_a_waiting_thread_wakes_when_a_message_comes(lanes: Lanes, taking: Taking) -> None:
    waiting = taking.start(reserved=False)
    item = fetched("bulk")
    lanes.put(item)
    assert waiting.result(SOON) is item


def test_urgent_mail_finds_the_reserved_thread_while_every_other_is_busy(lanes: Lanes, taking: Taking) -> None:
    waiting = taking.start(reserved=True)
    lanes.put(fetched("bulk"))
    urgent = fetched("urgent")
    lanes.put(urgent)
    assert waiting.result(SOON) is urgent


def test_bulk_wakes_the_right_one_of_two_waiting_threads(lanes: Lanes, taking: Taking) -> None:
    reserved = taking.start(reserved=True)
    free = taking.start(reserved=False)
    bulk, urgent = fetched("bulk"), fetched("urgent")
    lanes.put(bulk)
    assert free.result(SOON) is bulk
    lanes.put(urgent)
    assert reserved.result(SOON) is urgent


def test_many_threads_take_each_message_once(lanes: Lanes, threads: ThreadPoolExecutor) -> None:
    items = [fetched(queue, str(n)) for n in range(200) for queue in ("bulk", "retry")]

    def drain() -> list[Any]:
        mine = []
        try:
            while True:
                mine.append(lanes.take(0.05, reserved=False))
        except Empty:
            return mine

    drained = [threads.submit(drain) for _ in range(4)]
    for item in items:
        lanes.put(item)
    taken = [item for future in drained for item in future.result(SOON)]
    assert len(taken) == len(items)
    assert {id(item) for item in taken} == {id(item) for item in items}


def test_what_is_left_at_the_end_is_found_whatever_its_queue(lanes: Lanes) -> None:
    for queue in ("retry", "urgent", "bulk"):
        lanes.put(fetched(queue))
    for queue in ("retry", "urgent", "bulk"):
        assert [item.message.queue_name for item in lanes.drain(queue)] == [queue]
        assert lanes.drain(queue) == []


@pytest.mark.parametrize(("reserved", "queue"), [(False, "bulk"), (True, "urgent")])
def test_a_lane_is_one_threads_view(lanes: Lanes, reserved: bool, queue: str) -> None:
    lane = Lane(lanes, reserved=reserved)
    lanes.put(fetched(queue))
    assert lane.get(timeout=0).message.queue_name == queue
    lane.task_done()
