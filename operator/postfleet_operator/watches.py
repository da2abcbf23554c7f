"""The lives of kopf: it watches until it is told to stop, and is begun again when it ends by itself.

It ends by itself when a watch fails in a way that no patience mends, such as a definition that is gone for a while.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import kopf
import structlog
from kubernetes.client import Configuration

from postfleet_operator import handlers

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 2.0
# How long kopf may take to end. It may hang: watches that find their session closed wait for a login that nobody does.
END_SECONDS = 10.0


class Watches:
    """Feeds a watcher for as long as it is told to.

    Args:
        watcher: is told of everything that is heard.
        configuration: how to reach the API server.
        namespaces: what to watch; all of them if it is empty.
    """

    def __init__(self, watcher: handlers.Watcher, configuration: Configuration, namespaces: Sequence[str]) -> None:
        self._watcher = watcher
        self._configuration = configuration
        self._namespaces = tuple(namespaces)
        self._stop = threading.Event()
        self._over = threading.Event()

    def run(self) -> None:
        """Watch until `end`."""
        while not self._stop.is_set():
            try:
                self._live()
            except Exception as error:  # noqa: BLE001 - whatever it was, the lists go on and the watches come back
                log.warning("watches_ended", error=f"{type(error).__name__}: {error}"[:500])
            else:
                if not self._stop.is_set():
                    log.warning("watches_ended", error="kopf stopped by itself")
            self._stop.wait(AGAIN_SECONDS)

    def end(self) -> None:
        """Stop watching; from any thread."""
        self._stop.set()
        self._over.set()

    def _live(self) -> None:
        # A thread of kopf's waits for the flag, so the flag is set however kopf ends.
        over = self._over = threading.Event()
        loop = asyncio.new_event_loop()
        try:
            if not self._stop.is_set():
                loop.run_until_complete(self._watch(over))
        finally:
            over.set()
            if left := asyncio.all_tasks(loop):
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(left, timeout=1.0))
            loop.close()

    async def _watch(self, over: threading.Event) -> None:
        registry, ending = handlers.registry(self._watcher), asyncio.Event()

        @kopf.on.login(registry=registry)
        def login(**_: object) -> kopf.ConnectionInfo:
            return handlers.connection(self._configuration)

        @kopf.on.cleanup(registry=registry)
        async def cleanup(**_: object) -> None:
            ending.set()

        life = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=handlers.settings(),
                standalone=True,
                namespaces=self._namespaces,
                clusterwide=not self._namespaces,
                stop_flag=over,
            )
        )
        warned = asyncio.create_task(ending.wait())
        await asyncio.wait({life, warned}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({life}, timeout=END_SECONDS)
        warned.cancel()
        if not life.done():
            raise TimeoutError(f"kopf did not end within {END_SECONDS:.0f} s")
        life.result()
