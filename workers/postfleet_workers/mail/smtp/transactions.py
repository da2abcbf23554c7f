"""Mail transactions of one thread, several at once, each on a session of its own.

A receiver takes its time to answer, and so does the journal: while one is waited for the others go on, and the final
dots of all that have come so far are asked for together.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Sequence

from postfleet_workers.clock import monotonic
from postfleet_workers.mail.errors import ConnectionLost
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.smtp.session import CLOSING, Answer, SmtpSession

LINGER_SECONDS = 0.2


class Transaction:
    """One mail on its way: the envelope is out.

    Attributes:
        session: what it goes over.
        over: whether it has ended, by one of:
        answer: the reply that decided.
        error: ConnectionLost, or what kept the dot from being asked for. Neither: the dot was not to go out.
        seconds: how long it took.
    """

    def __init__(self, session: SmtpSession, sender: str, recipient: str, message: bytes) -> None:
        self.session = session
        self.over = False
        self.answer: Answer | None = None
        self.error: Exception | None = None
        self.seconds = 0.0
        self._began = monotonic()
        self._steps = session.transaction(sender, recipient, message)
        self._until: float | None = None
        self._take(lambda: next(self._steps))

    @property
    def at_dot(self) -> bool:
        """Whether only the dot is missing, and may go out or not."""
        return self._until is None and not self.over

    @property
    def until(self) -> float:
        """How long the server has to say something."""
        return self._until or 0.0

    @property
    def session_had_ended(self) -> bool:
        """Whether the session turned out to have ended before this mail."""
        if self.answer is not None:
            return (self.answer.phase, self.answer.reply.code) == (Phase.MAIL, CLOSING)
        return isinstance(self.error, ConnectionLost) and self.error.phase is Phase.MAIL

    def go_on(self, granted: bool = True) -> None:
        """The server said something; or, at the dot, it may go out or not."""
        self._take(lambda: self._steps.send(granted))

    def fail(self, error: Exception) -> None:
        """It cannot go on."""
        self._take(lambda: self._steps.throw(error))

    def _take(self, step: Callable[[], float | None]) -> None:
        try:
            self._until = step()
        except StopIteration as end:
            self.answer = end.value
        except Exception as error:  # noqa: BLE001 - whatever it is: it must not take the others along
            self.error = error
        else:
            return
        self.over, self.seconds = True, monotonic() - self._began


def carry_out(
    transactions: Sequence[Transaction],
    may_dot: Callable[[Sequence[Transaction]], bool],
    ended: Callable[[Sequence[Transaction]], None],
) -> None:
    """Return once all are over.

    Args:
        transactions: each on a session of its own.
        may_dot: asked right before the final dots of some; what it raises is their error.
        ended: told of each that is over: at the end, and before a longer wait for the others.
    """
    poll = select.poll()
    over = [transaction for transaction in transactions if transaction.over]
    under_way: dict[int, Transaction] = {}
    for transaction in transactions:
        if not transaction.over:
            descriptor = transaction.session.fileno()
            under_way[descriptor] = transaction
            poll.register(descriptor, select.POLLIN)
    while under_way:
        at_dot = [transaction for transaction in under_way.values() if transaction.at_dot]
        if at_dot:
            _ask(at_dot, may_dot)
        elif not _hear(under_way, poll, LINGER_SECONDS if over else float("inf")) and over:
            ended(over)
            over = []
        for descriptor, transaction in list(under_way.items()):
            if transaction.over:
                over.append(transaction)
                del under_way[descriptor]
                poll.unregister(descriptor)
    if over:
        ended(over)


def _ask(at_dot: Sequence[Transaction], may_dot: Callable[[Sequence[Transaction]], bool]) -> None:
    try:
        granted = may_dot(at_dot)
    except Exception as error:  # noqa: BLE001 - theirs; other dots may be out, and are waited for
        for transaction in at_dot:
            transaction.fail(error)
    else:
        for transaction in at_dot:
            transaction.go_on(granted)


def _hear(under_way: dict[int, Transaction], poll: select.poll, most_seconds: float) -> bool:
    """Wait until a server says something, or has been silent for too long; whether either was before `most_seconds`."""
    ready = [transaction for transaction in under_way.values() if transaction.session.holds_more()]
    late = min(transaction.until for transaction in under_way.values()) - monotonic()
    if not ready:
        wait = max(min(late, most_seconds), 0.0)
        ready = [under_way[descriptor] for descriptor, _ in poll.poll(wait * 1000)]
    if not ready:
        if most_seconds < late:
            return False
        now = monotonic()
        for transaction in under_way.values():
            if transaction.until <= now:
                transaction.fail(TimeoutError())
    for transaction in ready:
        transaction.go_on()
    return True
