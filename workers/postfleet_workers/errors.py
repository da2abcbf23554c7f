"""Every error that the workers package raises on purpose.

PostfleetError
├── InputError            a person gave something that cannot work: one line, exit code 2
├── TransientError        worth trying again
│    ├── StoreUnavailable     PostgreSQL does not answer
│    └── PipeUnavailable      Redis does not answer
└── PermanentError        trying again cannot help
├── UnknownJobType
└── LeaseLost        this worker no longer owns what it was about to do
"""

from __future__ import annotations


class PostfleetError(Exception):
    """Base class of the package's errors."""


class InputError(PostfleetError):
    """A person gave something that cannot work. The message says what, where and what to do, in one line."""


class TransientError(PostfleetError):
    """Worth trying again later."""


class StoreUnavailable(TransientError):  # noqa: N818 - a state of the world, as in `httpx.ConnectTimeout`
    """PostgreSQL does not answer."""


class PipeUnavailable(TransientError):  # noqa: N818
    """Redis does not answer."""


class PermanentError(PostfleetError):
    """Trying again cannot help."""


class UnknownJobType(PermanentError):  # noqa: N818
    """No job type of that name is registered in this process."""


class LeaseLost(PermanentError):  # noqa: N818
    """This worker no longer owns what it was about to do."""
