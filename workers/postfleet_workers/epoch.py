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

import uuid
from collections.abc import Callable

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
        live_workers: whether workers may hold jobs, sessions or permits from before a change.

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
    """The epoch of a Redis that lives in this process: what the in-memory twins share. `clock` is its server's time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.since: float | None = None
        self._epoch: str | None = None
        self._live = False
        self.keep(live_workers=False)

    def current(self) -> str | None:
        """See the function `current`."""
        return self._epoch if self._live else None

    def keep(self, live_workers: bool) -> tuple[str, bool]:
        """See the function `keep`."""
        if self._live and self._epoch:
            return self._epoch, False
        self._epoch, self._live = f"memory:{uuid.uuid4().hex}", True
        if live_workers:
            self.since = self.clock()
        return self._epoch, True

    def flush(self) -> None:
        """As FLUSHALL: nothing is left. The twins forget when they see another epoch."""
        self._epoch, self._live, self.since = None, False, None

    def restart(self) -> None:
        """As a restart that kept every key: the epoch is there but no longer live."""
        self._live = False
