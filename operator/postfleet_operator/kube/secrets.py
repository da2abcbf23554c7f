"""Reads the Secrets that resources name, and only those; their content is kept until it is heard that they changed."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from postfleet_operator.errors import NotFound
from postfleet_operator.kube import objects, paths
from postfleet_operator.kube.client import Api

Name = tuple[str, str]


class Secrets:
    """Answers from memory; safe for all threads."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._known: dict[Name, Mapping[str, str] | None] = {}
        self._changes = 0
        self._counted: dict[Name, int] = {}

    def read(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """A Secret's content, or None when there is none.

        Raises:
            Rejected: the operator may not read it.
            ClusterUnavailable: the server does not answer.
        """
        with self._lock:
            if (namespace, name) in self._known:
                return self._known[namespace, name]
            changes = self._changes
        try:
            content: Mapping[str, str] | None = objects.secret_data(
                self._api.get(paths.one("secrets", namespace, name))
            )
        except NotFound:
            content = None
        with self._lock:
            if changes == self._changes:  # nothing was heard while the answer was on its way
                self._known[namespace, name] = content
        return content

    def changed(self, namespace: str, name: str) -> bool:
        """Something happened to a Secret; whether anybody had asked for it."""
        with self._lock:
            self._changes += 1
            if counted := (namespace, name) in self._counted:
                self._counted[namespace, name] += 1
            return self._known.pop((namespace, name), self) is not self or counted

    def changes(self, namespace: str, name: str) -> int:
        """How often a Secret changed since this was asked first, as far as was heard."""
        with self._lock:
            return self._counted.setdefault((namespace, name), 0)

    def forget(self) -> None:
        """Read everything again: changes may have gone unheard."""
        with self._lock:
            self._changes += 1
            self._known.clear()
