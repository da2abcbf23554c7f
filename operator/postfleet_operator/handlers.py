"""kopf's side: it watches, these handlers put what they hear into the cache and wake the loops, and decide nothing.

Only `on.event` handlers: they see every event and every relist, and leave no finalizer, annotation or progress on
anybody's object. What a watch may miss, a deletion while it was cut off, the periodic lists of `Watcher.relist` find.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, repeat
from typing import Any

import kopf
import structlog
from kubernetes.client import Configuration

from postfleet_operator import clock
from postfleet_operator.errors import OperatorError
from postfleet_operator.kube import paths
from postfleet_operator.kube.cache import Cache, name_of, version_of
from postfleet_operator.kube.client import Api
from postfleet_operator.kube.objects import PodView
from postfleet_operator.kube.secrets import Secrets
from postfleet_operator.spec import GROUP, VERSION
from postfleet_operator.spec.podtemplate import POOL_LABEL

log = structlog.get_logger(__name__)

OURS = {"deployments": POOL_LABEL, "pods": POOL_LABEL, "secrets": POOL_LABEL}
"""Label selectors of what is cached, by kind. Secrets are watched whole, because resources name any of them."""
DEAF_SECONDS = 60.0


class Watcher:
    """Takes in what the watches tell.

    Args:
        api: for lists.
        cache: what is filled.
        secrets: told of changed Secrets.
        namespaces: to watch; empty for all.
        changed: called when a loop should look.
        pod_gone: given every pod of ours that is gone.
    """

    def __init__(
        self,
        api: Api,
        cache: Cache,
        secrets: Secrets,
        namespaces: tuple[str, ...],
        changed: Callable[[], None],
        pod_gone: Callable[[PodView], None],
    ) -> None:
        self._api = api
        self._cache = cache
        self._secrets = secrets
        self._namespaces = namespaces or ("",)
        self._changed = changed
        self._pod_gone = pod_gone
        self._lock = threading.Lock()
        self._heard: dict[str, int] = {}
        self._listed: dict[str, tuple[int, float]] = {}

    def hear(self, plural: str, event: Mapping[str, Any]) -> None:
        """One event of a watch: type None (an initial list), ADDED, MODIFIED or DELETED, and the object."""
        manifest: Mapping[str, Any] = event["object"]
        self._heard[plural] = max(self._heard.get(plural, 0), version_of(manifest))
        if plural == "secrets":
            namespace, name = name_of(manifest)
            # A list tells of every Secret again, changed or not.
            if event["type"] is not None and self._secrets.changed(namespace, name):
                self._changed()
            if POOL_LABEL not in (manifest["metadata"].get("labels") or {}):
                return
        if event["type"] == "DELETED":
            self._gone(plural, self._cache.kinds()[plural].remove(manifest))
        else:
            self._cache.kinds()[plural].put(manifest)
        self._changed()

    def relist(self) -> None:
        """Compare the cache with whole lists. Raises what `Api.list` does."""
        with self._lock:
            self._secrets.forget()
            failed: OperatorError | None = None
            for plural in self._cache.kinds():
                try:
                    self._relist(plural)
                except OperatorError as error:  # one kind that may not be listed is no reason to miss the others
                    failed = failed or error
        self._changed()
        if failed is not None:
            raise failed

    def _relist(self, plural: str) -> None:
        kind = self._cache.kinds()[plural]
        listed: set[tuple[str, str]] = set()

        newest = 0

        def take(manifest: dict[str, Any]) -> None:
            nonlocal newest
            listed.add(name_of(manifest))
            newest = max(newest, version_of(manifest))
            try:
                kind.put(manifest)
            except Exception:  # a manifest like none before must not hide the others
                log.exception("not_understood", kind=plural, name=name_of(manifest))

        versions = []
        for namespace in self._namespaces:
            page = self._api.list(paths.collection(plural, namespace), OURS.get(plural, ""), take)
            versions.append(version_of(page))
        self._note(plural, newest)
        for value in kind.settle(listed, min(versions)):
            log.info("gone_unheard", kind=plural)
            if plural == "secrets":
                self._secrets.changed(value.namespace, value.name)
            self._gone(plural, value)

    def _note(self, plural: str, newest: int) -> None:
        known = self._listed.get(plural)
        if newest > self._heard.get(plural, 0) and (known is None or known[0] <= self._heard.get(plural, 0)):
            self._listed[plural] = (newest, clock.monotonic())

    def deaf(self) -> list[str]:
        """The kinds whose watch has not told, for `DEAF_SECONDS`, of an object that a list has."""
        now = clock.monotonic()
        return [
            plural
            for plural, (version, since) in list(self._listed.items())
            if version > self._heard.get(plural, 0) and now - since > DEAF_SECONDS
        ]

    def _gone(self, plural: str, value: object) -> None:
        if plural == "pods" and isinstance(value, PodView):
            self._pod_gone(value)


class Patience:
    """Seconds between a request's attempts, without an end.

    kopf stops for good after the last of a finite number, and may hang while it stops: when one watch has given up, the
    others find their session closed and wait for a login that nobody will do any more.
    """

    def __iter__(self) -> Iterator[float]:
        """From the start, for each request."""
        return chain((1.0, 2.0, 3.0), repeat(5.0))


def registry(watcher: Watcher) -> kopf.OperatorRegistry:
    """The handlers that feed `watcher`."""
    found = kopf.OperatorRegistry()

    def listen(plural: str, *selector: str, labels: Mapping[str, Any] | None = None) -> None:
        async def heard(event: kopf.RawEvent, **_: object) -> None:
            watcher.hear(plural, event)

        heard.__name__ = f"heard_{plural}"
        kopf.on.event(*selector, registry=found, labels=labels)(heard)

    listen(paths.POOLS, GROUP, VERSION, paths.POOLS)
    listen(paths.NODES, GROUP, VERSION, paths.NODES)
    listen("deployments", "apps", "v1", "deployments", labels={POOL_LABEL: kopf.PRESENT})
    listen("pods", "", "v1", "pods", labels={POOL_LABEL: kopf.PRESENT})
    listen("secrets", "", "v1", "secrets")
    return found


def connection(configuration: Configuration) -> kopf.ConnectionInfo:
    """The client's way to the API server, as kopf wants it; with the token as it is now, for a pod's is renewed."""
    bearer = configuration.get_api_key_with_prefix("BearerToken", alias="authorization") or ""
    scheme, _, token = bearer.rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        scheme=scheme or None,
        token=token or None,
        username=configuration.username or None,
        password=configuration.password or None,
    )


def settings() -> kopf.OperatorSettings:
    """How kopf watches: labels are selected by the server, so that no pod of others reaches this process."""
    found = kopf.OperatorSettings()
    for plural in ("deployments", "pods"):
        found.watching.label_selectors[plural] = POOL_LABEL
    found.watching.chunk_size = 500
    found.watching.server_timeout = 300
    found.watching.reconnect_backoff = 1.0
    found.networking.connect_timeout = 5
    found.networking.error_backoffs = Patience()
    found.queueing.error_delays = (1, 2, 5, 10, 30)
    found.posting.enabled = False
    found.scanning.disabled = True  # it would take lists of all namespaces and definitions; `App` begins again instead
    return found
