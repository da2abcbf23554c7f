"""Every error that the operator package raises on purpose.

OperatorError
 ├── InputError               a person gave something that cannot work: one line each, exit code 2
 │    └── InvalidManifest     a JobPool, SendingNode or Secret; carries every problem found
 ├── TransientError           worth trying again
 │    ├── PipeUnavailable     Redis does not answer
 │    ├── StoreUnavailable    PostgreSQL does not answer
 │    ├── ClusterUnavailable  the cluster (or the local supervisor) does not answer
 │    │    └── Conflict       what was to be changed is not as it was seen
 │    └── NotLeader           another replica of the operator acts; nothing may be written
 └── PermanentError           trying again cannot help until somebody changes something
      ├── NameTaken           a Deployment of that name belongs to somebody else
      ├── Rejected            the cluster refused what was applied
      └── NotFound            the object is not there
           └── NotServed      the cluster has no such kind
"""

from __future__ import annotations

from collections.abc import Sequence


class OperatorError(Exception):
    """Base class of the package's errors."""


class InputError(OperatorError):
    """A person gave something that cannot work. The message says what, where and what to do, in one line."""


class InvalidManifest(InputError):  # noqa: N818 - a verdict on a value, as in `httpx.InvalidURL`
    """A manifest that cannot be used. `problems` holds one line per problem; the message joins them."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TransientError(OperatorError):
    """Worth trying again later."""


class PipeUnavailable(TransientError):  # noqa: N818 - a state of the world, as in `httpx.ConnectTimeout`
    """Redis does not answer."""


class StoreUnavailable(TransientError):  # noqa: N818
    """PostgreSQL does not answer."""


class ClusterUnavailable(TransientError):  # noqa: N818
    """The cluster does not answer."""


class Conflict(ClusterUnavailable):
    """What was to be changed is not as it was seen: look again."""


class NotLeader(TransientError):  # noqa: N818
    """Another replica of the operator acts, or may act by now: nothing may be written."""


class PermanentError(OperatorError):
    """Trying again cannot help until somebody changes something."""


class NameTaken(PermanentError):  # noqa: N818
    """A Deployment of the pool's name exists and belongs to another resource."""


class Rejected(PermanentError):  # noqa: N818
    """The cluster refused what was applied."""


class NotFound(PermanentError):  # noqa: N818
    """The object is not there."""


class NotServed(NotFound):
    """The cluster has no such kind of objects."""


def said(error: BaseException) -> str:
    """What an error says, in one line; its name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
