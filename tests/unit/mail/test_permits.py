from __future__ import annotations

import pytest

from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.mail.permits import Permits
from postfleet_workers.throttling.limits import Limit, warmup_limit
from postfleet_workers.throttling.memory import MemoryLimiter
from worlds import Clock

LIMIT = (Limit("k", "node n1 per_minute", 6000, 60.0),)  # one every 10 ms, and a burst


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> MemoryLimiter:
    limiter = MemoryLimiter(MemoryEpoch(clock))
    limiter.acquire(LIMIT, 1)
    clock.advance(60)  # the burst is there again
    return limiter


def left(limiter: MemoryLimiter) -> int:
    return limiter.peek_many([(LIMIT, 1000)], 0)[0].granted


def test_one_question_is_enough_for_a_bundle_and_the_rest_goes_back(clock: Clock, limiter: MemoryLimiter) -> None:
    before = left(limiter)
    permits = Permits(limiter, LIMIT, clock, clock.advance)
    assert [permits.take(lambda: 50) for _ in range(3)] == [None] * 3
    assert left(limiter) == before - 50
    permits.give_back()
    assert left(limiter) == before - 3
    permits.give_back()
    assert left(limiter) == before - 3


def test_permits_older_than_a_second_go_back_before_more_are_asked_for(clock: Clock, limiter: MemoryLimiter) -> None:
    permits = Permits(limiter, LIMIT, clock, clock.advance)
    permits.take(lambda: 50)
    limiter.acquire(LIMIT, left(limiter))
    clock.advance(1.01)
    before = left(limiter)
    assert permits.take(lambda: 1) is None
    assert left(limiter) == before + 49 - 1


def test_a_permit_that_is_nearly_due_is_waited_for(clock: Clock, limiter: MemoryLimiter) -> None:
    limiter.acquire(LIMIT, left(limiter))
    before = clock()
    assert Permits(limiter, LIMIT, clock, clock.advance).take(lambda: 1) is None
    assert 0 < clock() - before <= 0.5


def test_a_spent_limit_is_named(clock: Clock, limiter: MemoryLimiter) -> None:
    limit = (Limit("slow", "node n1 per_minute", 60, 60.0),)
    permits = Permits(limiter, limit, clock, clock.advance)
    taken = 0
    while (refused := permits.take(lambda: 1)) is None:
        taken += 1
    assert (refused.bound, refused.wait_seconds > 0.5) == ("node n1 per_minute", True)
    assert 0 < taken <= 240


def test_without_limits_nobody_is_asked(clock: Clock, limiter: MemoryLimiter) -> None:
    assert Permits(limiter, (), clock, clock.advance).take(lambda: 50) is None


def test_what_was_not_accepted_is_free_again_where_it_was_reserved(clock: Clock, limiter: MemoryLimiter) -> None:
    warmup = warmup_limit("n1", 50)
    permits = Permits(limiter, (*LIMIT, warmup), clock, clock.advance)
    before = left(limiter)
    assert permits.take(lambda: 1) is None
    assert permits.take(lambda: 1) is not None
    permits.not_accepted(permits.taken_at)
    assert permits.take(lambda: 1) is None
    assert left(limiter) == before - 2  # the mail was sent all the same


def test_mails_that_go_out_together_give_back_what_each_of_them_took(clock: Clock, limiter: MemoryLimiter) -> None:
    warmup = (warmup_limit("n1", 10_000),)
    permits = Permits(limiter, warmup, clock, clock.advance)

    def granted() -> int:
        return limiter.peek_many([(warmup, 1000)], 0.0)[0].granted

    limiter.acquire(warmup, 1)
    clock.advance(3600)  # the burst is there again
    before = granted()
    taken = []
    for _ in range(4):
        assert permits.take(lambda: 1) is None
        taken.append(permits.taken_at)
        clock.advance(0.001)
    for taken_at in taken:
        permits.not_accepted(taken_at)
    assert granted() == before
