"""A process of the bare loop: `python -m speed.loop THREADS FIRST LAST AT_A_TIME`; a line on stdin begins it.

Nothing hands out the work: each thread has its range of rows.
"""

from __future__ import annotations

import sys
import threading

from speed.work import Hands


def run(first: int, last: int, at_a_time: int, ready: threading.Barrier, begin: threading.Event) -> None:
    """One thread's share."""
    hands = Hands()
    ready.wait()
    begin.wait()
    if at_a_time == 1:
        for number in range(first, last + 1):
            hands.send_one(number)
    else:
        for start in range(first, last + 1, at_a_time):
            hands.send_many(range(start, min(start + at_a_time, last + 1)))


def main() -> None:
    """Start the threads, say so, and wait for the word."""
    threads, first, last, at_a_time = map(int, sys.argv[1:])
    begin, ready = threading.Event(), threading.Barrier(threads + 1)
    each = -(-(last - first + 1) // threads)
    shares = [(start, min(start + each - 1, last), at_a_time, ready, begin) for start in range(first, last + 1, each)]
    running = [threading.Thread(target=run, args=share) for share in shares]
    for thread in running:
        thread.start()
    ready.wait()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    begin.set()
    for thread in running:
        thread.join()
    print("done", flush=True)  # noqa: T201
    sys.stdin.readline()


if __name__ == "__main__":
    main()
