"""The epoch: one value in Redis that changes whenever Redis may have forgotten something.

Keys:
    postfleet:epoch        `<run_id>:<uuid>`. `run_id` is the server's own (INFO server), new at each start: a restart
                           is noticed even when the append-only file kept the key. Absent after a flush.
    postfleet:epoch:since  server time (float seconds) of the last change that found live workers, else absent. Limits
                           and session leases hold back after it, as what they knew may be lost.

An epoch is *live* when the key is there and names the running server. The scripts of `journal` and `throttling` check
that themselves (`epoch.lua`), so nothing is decided on forgotten state between a restart and the relay's noticing.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import redis

from postfleet_workers.lua import script
from postfleet_workers.pipe import pipe_errors

EPOCH_KEY = "postfleet:epoch"
SINCE_KEY = "postfleet:epoch:since"


def current(client: redis.Redis) -> str | None:
    """The live epoch; None when Redis was emptied or restarted and no relay has noticed yet.

    Raises:
        PipeUnavailable: Redis does not answer.
    """
    with pipe_errors():
        found: str = script(client, "epoch_current")(keys=[EPOCH_KEY])
    return found or None


def keep(client: redis.Redis, live_workers: bool) -> tuple[str, bool]:
    """Make sure that there is a live epoch; atomic, so several relays may do it at once.

    Args:
        client: Redis.
        live_workers: whether what Redis may have forgotten can still matter, that is whether a worker lived within the
            last day, the longest window of a limit. False on a new installation: nobody has to wait.

    Returns:
        The live epoch, and whether this call began it.

    Raises:
        PipeUnavailable: Redis does not answer.
    """
    with pipe_errors():
        epoch, changed = script(client, "epoch_keep")(
            keys=[EPOCH_KEY, SINCE_KEY], args=[uuid.uuid4().hex, int(live_workers)]
        )
    return epoch, bool(changed)


class MemoryEpoch:
    """A Redis that lives in this process, as far as the in-memory twins need one: an epoch, a clock, keys, one lock.

    Attributes:
        clock: the server's time, in seconds.
        since: see the module.
        lock: a twin holds it for what Redis does in one script.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.since: float | None = None
        self.lock = threading.RLock()
        self._rooms: dict[str, dict[Any, Any]] = {}
        self._epoch: str | None = None
        self._live = False
        self.keep(live_workers=False)

    def current(self) -> str | None:
        """See the function `current`."""
        with self.lock:
            return self._epoch if self._live else None

    def keep(self, live_workers: bool) -> tuple[str, bool]:
        """See the function `keep`."""
        with self.lock:
            if self._live and self._epoch:
                return self._epoch, False
            self._epoch, self._live = f"memory:{uuid.uuid4().hex}", True
            if live_workers:
                self.since = self.clock()
            return self._epoch, True

    def room(self, name: str) -> dict[Any, Any]:
        """The keys of one twin. Ask each time: a flush empties it."""
        return self._rooms.setdefault(name, {})

    def flush(self) -> None:
        """As FLUSHALL."""
        with self.lock:
            self._epoch, self._live, self.since = None, False, None
            self._rooms.clear()

    def restart(self) -> None:
        """As a restart that kept every key: the epoch is there but no longer live."""
        with self.lock:
            self._live = False
