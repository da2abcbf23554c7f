"""What may be done a little later, on a thread of its own: the words about pools, which scaling must not wait for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

END_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Errand:
    run: Callable[[], None]
    kept: bool


class Errands:
    """Runs what it is given, in the order given for each key, and the keys in turn.

    A slow API server makes a queue here. It does not grow with time: an errand that waits and need not be kept gives
    way to the next one of its key.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, list[_Errand]] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._ending = False
        self._held = False

    @contextmanager
    def held(self) -> Iterator[None]:
        """None begins meanwhile: what is more urgent has the API server to itself."""
        self._hold(True)
        try:
            yield
        finally:
            self._hold(False)

    def put(self, key: str, run: Callable[[], None], *, kept: bool) -> None:
        """Run it soon; `kept` also when another of the same key comes before its turn."""
        with self._changed:
            if self._ending:
                return
            errands = self._waiting.setdefault(key, [])
            if errands and not errands[-1].kept:
                errands.pop()
            errands.append(_Errand(run, kept))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run_all, name="errands", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def end(self, seconds: float = END_SECONDS) -> None:
        """Run what waits, for so long at most; nothing is taken afterwards."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(seconds)
        with self._changed:
            if self._waiting:
                log.warning("errands_left", keys=len(self._waiting))
            self._waiting.clear()

    def _hold(self, held: bool) -> None:
        with self._changed:
            self._held = held
            self._changed.notify_all()

    def _run_all(self) -> None:
        while (errand := self._next()) is not None:
            try:
                errand.run()
            except Exception:
                log.exception("errand_crashed")

    def _next(self) -> _Errand | None:
        with self._changed:
            while not self._waiting or self._held:
                if self._ending and not self._waiting:
                    return None
                self._changed.wait()
            key, errands = self._waiting.popitem(last=False)
            errand = errands.pop(0)
            if errands:
                self._waiting[key] = errands
            return errand
