"""The Kubernetes API as the operator uses it: JSON in, JSON out, short timeouts, typed errors.

Authentication, TLS and pooling are the `kubernetes` client's. Its generated models are not used: they cost more time
and memory than hundreds of pools leave, and drop fields that they do not know.

Every write asks `may_write` first, in the moment before it is sent: a replica of the operator that has lost its
leadership must not write any more, however long it was stopped in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import urllib3
from kubernetes.client import ApiClient, ApiException, Configuration

from postfleet_operator import clock
from postfleet_operator.errors import ClusterUnavailable, Conflict, NotFound, NotServed, Rejected
from postfleet_operator.spec import GROUP, VERSION

CONNECT_SECONDS = 2.0
READ_SECONDS = 10.0
# The longest that a server's Retry-After is obeyed.
QUIET_SECONDS = 30.0
PAGE = 500

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
PLAIN = "application/json"

# The API server refuses with 500 what is not in the schema of a Deployment. It never gets better by itself, and comes
# from the pool's podTemplate.
UNTYPED = re.compile(r"failed to create typed patch object \([^)]*\): (?:errors: )?")
TEMPLATE = re.compile(r"\.?\bspec\.template\.")
CONNECTION = re.compile(r"HTTPS?Connection(?:Pool)?\(host='([^']*)', port=(\d+)\): ")
NO_SUCH_PATH = "404 page not found"
OURS = f"/apis/{GROUP}/{VERSION}/"
CRDS_MISSING = "the CRDs are not installed: `postfleet-operator crds | kubectl apply --server-side -f -`"

Told = Callable[[str, str, int | None], None]


def anybody() -> None:
    """`may_write` of a client that needs no leadership."""


class Api:
    """One API server.

    Args:
        configuration: how to reach it.
        may_write: raises NotLeader when nothing may be written.
        told: told verb, resource and status code (None without an answer) of every call.
        read_seconds: how long an answer may take.
        source: what said how to reach it, for errors.
    """

    def __init__(
        self,
        configuration: Configuration,
        may_write: Callable[[], None] = anybody,
        told: Told | None = None,
        read_seconds: float = READ_SECONDS,
        source: str = "the kubeconfig",
    ) -> None:
        self._client = ApiClient(configuration)
        self._may_write = may_write
        self._told = told
        self._read_seconds = read_seconds
        self._source = source
        self._quiet_until = float("-inf")

    def get(self, path: str) -> dict[str, Any]:
        """Read one object.

        Raises:
            NotFound: it is not there.
            Rejected: the server refuses.
            ClusterUnavailable: the server does not answer, or is not able to.
        """
        return self._call("GET", path)

    def list(self, path: str, selector: str, take: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Read every object of a collection, page by page; `take` gets each. Returns the list without its items.

        Raises:
            NotServed: there are no such objects, their CRD is missing.
            Rejected: the server refuses.
            ClusterUnavailable: the server does not answer, or is not able to.
        """
        token, first = "", None
        while True:
            query = {"limit": str(PAGE), "labelSelector": selector, "continue": token}
            page = self._call("GET", path, {key: value for key, value in query.items() if value}, verb="LIST")
            for item in page.pop("items", []):
                take(item)
            first = first or page
            token = page.get("metadata", {}).get("continue") or ""
            if not token:
                return first

    def apply(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Server-side apply; conflicts are won, unknown fields refused. Raises like `get`, and NotLeader."""
        query = {"fieldManager": manager, "force": "true", "fieldValidation": "Strict"}
        return self._write("PATCH", path, query, body, APPLY)

    def merge(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """JSON merge patch. Raises like `get`, and NotLeader."""
        return self._write("PATCH", path, {"fieldManager": manager}, body, MERGE)

    def create(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Create an object. Raises like `get`, and NotLeader."""
        return self._write("POST", path, {"fieldManager": manager}, body, PLAIN)

    def replace(self, path: str, body: Mapping[str, Any], manager: str) -> dict[str, Any]:
        """Replace an object, whose resourceVersion must be the present one. Raises like `get`, and NotLeader."""
        return self._write("PUT", path, {"fieldManager": manager}, body, PLAIN)

    def delete(self, path: str) -> None:
        """Delete an object, and in the background what it owns; one that is gone already is fine."""
        try:
            self._write("DELETE", path, {"propagationPolicy": "Background"}, {}, PLAIN)
        except NotFound:
            return

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.close()

    def _write(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, Any], kind: str
    ) -> dict[str, Any]:
        self._may_write()
        return self._call(method, path, query, body, kind)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = PLAIN,
        verb: str = "",
    ) -> dict[str, Any]:
        if (left := self._quiet_until - clock.monotonic()) > 0:
            raise ClusterUnavailable(f"the API server asked to be left alone for {left:.0f} s more")
        status: int | None = None
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list((query or {}).items()),
                header_params={"Accept": PLAIN, "Content-Type": kind},
                body=None if body is None else dict(body),
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*request, _request_timeout=(CONNECT_SECONDS, self._read_seconds))
            status, content = answer.status, answer.read()  # type: ignore[no-untyped-call]
            self._obey(status, answer.headers)
        except ApiException as error:
            status, content = error.status, (error.body or error.reason or "")
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the API server: {_words(error) or type(error).__name__}") from error
        finally:
            if self._told is not None:
                self._told(verb or method, _resource(path), status)
        text = content.decode(errors="replace") if isinstance(content, bytes) else str(content)
        if status is not None and 200 <= status < 300:
            return _json(text)
        raise _failure(status or 0, text, path, self._source)

    def _obey(self, status: int, headers: Mapping[str, str]) -> None:
        if status in (429, 503):
            wanted = headers.get("Retry-After", "")  # in seconds; a date is for browsers
            seconds = min(float(wanted), QUIET_SECONDS) if wanted.isdigit() else 0.0
            self._quiet_until = clock.monotonic() + seconds


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ClusterUnavailable(f"the API server's answer is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise ClusterUnavailable(f"the API server's answer is no object: {text[:80]!r}")
    return found


def _failure(status: int, text: str, path: str, source: str) -> Exception:
    try:
        message = str(json.loads(text).get("message") or text)
    except (ValueError, AttributeError):
        message = text
    message = _words(message, 500) or f"status {status}"
    if status == 0:  # what the client says when TLS fails
        words = message.removeprefix("SSLError ")
        return ClusterUnavailable(f"the API server: no TLS: {words}; look at its certificate authority in {source}")
    if status == 401:
        return ClusterUnavailable(f"the API server: {status} {message}; look at the credentials in {source}")
    if status == 404:
        if message == NO_SUCH_PATH and path.startswith(OURS):
            return NotServed(CRDS_MISSING)
        return NotFound(f"{path}: {message}")
    if status == 409:
        return Conflict(f"the API server: {status} {message}")
    if status == 500 and (found := UNTYPED.match(message)) is not None:
        return Rejected(TEMPLATE.sub("spec.podTemplate.", message[found.end() :]))
    if status in (408, 410, 429) or status >= 500:
        return ClusterUnavailable(f"the API server: {status} {message}")
    return Rejected(message)


def _resource(path: str) -> str:
    """`deployments` of `/apis/apps/v1/namespaces/n/deployments/d/scale`; for metrics, so without any names."""
    parts = path.strip("/").split("/")
    rest = parts[2 if parts[0] == "api" else 3 :]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return "/".join([rest[0], *rest[2:3]]) if rest else ""


def _words(said: object, most: int = 200) -> str:
    return CONNECTION.sub(r"\1:\2: ", " ".join(str(said).split()))[:most]
