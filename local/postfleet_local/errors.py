"""Errors of the local fleet.

LocalError
 ├── StackError      a server of the stack (PostgreSQL, Valkey, SMTP) did not come up
 └── ManifestError   a manifest or an option cannot be used: one line, exit code 2
"""

from __future__ import annotations


class LocalError(Exception):
    """Base class of the package's errors."""


class StackError(LocalError):
    """A server of the stack did not come up."""


class ManifestError(LocalError):
    """A manifest or an option cannot be used. The message says what, where and what to do, in one line."""
