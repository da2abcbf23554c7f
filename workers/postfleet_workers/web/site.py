"""The three addresses that mails link to, as an ASGI application.

GET  /u/<token>      a page with a button; nothing is changed
POST /u/<token>      unsubscribes (RFC 8058): mail programs do it for their users, the button does it too
GET  /c/<token>      a click: noted, and on to the address that stands signed in the token
GET  /o/<token>.gif  a picture of one transparent pixel: an open

The token is the whole authority: no cookie, no session, no address of our reader is looked at or kept. No answer holds
anything that was asked, no redirect leads where a token does not say, and no log line names a token.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Literal

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from postfleet_workers import clock
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.mail.errors import TokenInvalid
from postfleet_workers.mail.events import Seen
from postfleet_workers.mail.tokens import Key, Kind, Token, read
from postfleet_workers.metrics.web import WebMetrics
from postfleet_workers.web import pages
from postfleet_workers.web.readers import who_reads
from postfleet_workers.web.recorder import Recorder
from postfleet_workers.web.unsubscribing import Unsubscribing

log = structlog.get_logger(__name__)

MOST_BODY_BYTES = 8 * 1024
BODY_SECONDS = 5.0
RETRY_SECONDS = 30
HTML = "text/html; charset=utf-8"
WEB = re.compile("https?://", re.IGNORECASE)
ENDPOINTS = {"/u/": "unsubscribe", "/c/": "click", "/o/": "open"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": pages.POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "X-Robots-Tag": "noindex",
}


class Site:
    """The handlers. `application` is what a server runs."""

    def __init__(self, key: Key, recorder: Recorder, unsubscribing: Unsubscribing, metrics: WebMetrics) -> None:
        self._key = key
        self._recorder = recorder
        self._unsubscribing = unsubscribing
        routes = Starlette(
            routes=[
                Route("/u/{token}", self._unsubscribe, methods=["GET", "POST"]),
                Route("/c/{token}", self._click, methods=["GET"]),
                Route("/o/{token}.gif", self._open, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _refused},
        )
        self.application: ASGIApp = _Watched(routes, metrics)

    async def _unsubscribe(self, request: Request) -> Response:
        token = self._token(request, Kind.UNSUBSCRIBE)
        if request.method != "POST":
            return _page(pages.CONFIRM)
        await _read_away(request)
        try:
            known = await self._unsubscribing.commit(token.email_id)
        except StoreUnavailable as error:
            log.warning("unsubscribe_put_off", error=str(error).splitlines()[0])
            return _page(pages.AWAY, 503, {"Retry-After": str(RETRY_SECONDS)})
        return _page(pages.DONE) if known else _page(pages.GONE, 410)

    async def _click(self, request: Request) -> Response:
        token = self._token(request, Kind.CLICK)
        if not WEB.match(token.text):  # no more is looked at: what no parser takes was written so by the mail's author
            raise HTTPException(404)
        self._note(request, "click", token)
        return RedirectResponse(token.text, 302)

    async def _open(self, request: Request) -> Response:
        self._note(request, "open", self._token(request, Kind.OPEN))
        return Response(pages.PIXEL, media_type="image/gif", headers={"Cross-Origin-Resource-Policy": "cross-origin"})

    def _note(self, request: Request, kind: Literal["open", "click"], token: Token) -> None:
        reader = who_reads(request.method, request.headers)
        self._recorder.note(
            Seen(
                email_id=token.email_id,
                kind=kind,
                machine=reader.machine,
                at=clock.monotonic(),
                url=token.text or None,
                detail=reader.how or None,
            )
        )

    def _token(self, request: Request, kind: Kind) -> Token:
        try:
            return read(self._key, kind, request.path_params["token"])
        except TokenInvalid:
            raise HTTPException(404) from None


class _Watched:
    """Every answer gets the headers, is counted, and is a line of the log at DEBUG."""

    def __init__(self, application: ASGIApp, metrics: WebMetrics) -> None:
        self._application = application
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = clock.monotonic()
        endpoint = ENDPOINTS.get(scope.get("path", "")[:3], "other")

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()
                      if name.lower().encode() not in given),
                ]  # fmt: skip
                self._metrics.answered(endpoint, message["status"])
                log.debug(
                    "answered",
                    endpoint=endpoint,
                    method=scope["method"],
                    status=message["status"],
                    seconds=round(clock.monotonic() - begun, 4),
                )
            await send(message)

        await self._application(scope, receive, told)


async def _read_away(request: Request) -> None:
    """Take the body: RFC 8058 has it say `List-Unsubscribe=One-Click`, and the method has said the same."""
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MOST_BODY_BYTES:
                    raise HTTPException(413)
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408) from None


def _page(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, media_type=HTML, headers=headers)


async def _refused(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    body = {405: pages.WRONG_METHOD, 408: pages.TOO_SLOW, 413: pages.TOO_MUCH}.get(status, pages.NOT_FOUND)
    return _page(body, status, getattr(error, "headers", None))
