"""An SMTP server for tests that does as it should: aiosmtpd, with replies per recipient, STARTTLS and AUTH."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from smtp_lab import HOST, Accepted, wait_for


class Lab:
    """aiosmtpd in a thread.

    Attributes:
        accepted: mails answered with 2xx, in order.
        rcpt: replies to RCPT by recipient; others get 250.
        data: replies to the final dot by recipient; others get 250 (and are accepted, as are those with 2xx).
        logins: usernames that logged in.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        login: tuple[str, str] | None = None,
        pipelining: bool = True,
        log: list[tuple[str, Any]] | None = None,
        host: str = HOST,
        port: int = 0,
        most_octets: int | None = None,
    ) -> None:
        self.accepted: list[Accepted] = []
        self.rcpt: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self.logins: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.log: list[tuple[str, Any]] = log if log is not None else []
        self.login = login
        self._pipelining = pipelining
        lab = self

        class Server(SMTP):
            def connection_made(self, transport: Any) -> None:
                if not self._tls_protocol_was_here:
                    # asyncio does this only for sockets with an explicit protocol; else replies wait 40 ms.
                    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    lab.connections += 1
                    lab.open += 1
                    lab.most_open = max(lab.most_open, lab.open)
                super().connection_made(transport)

            def connection_lost(self, error: Exception | None) -> None:
                lab.open -= 1
                super().connection_lost(error)

            @property
            def _tls_protocol_was_here(self) -> bool:
                return self._original_transport is not None

        listener = socket.create_server((host, port))
        self.port: int = listener.getsockname()[1]

        class Started(Controller):
            def factory(self) -> SMTP:
                return Server(self.handler, **self.SMTP_kwargs)

            def _create_server(self) -> Any:
                return self.loop.create_server(self._factory_invoker, sock=listener, ssl=self.ssl_context)

        self._controller = Started(
            self,
            hostname=host,
            port=self.port,
            ready_timeout=10,
            ssl_context=tls if implicit else None,
            tls_context=None if implicit else tls,
            authenticator=self._authenticate if login else None,
            auth_require_tls=login is None,  # without a login none is offered
            data_size_limit=most_octets,
            enable_SMTPUTF8=True,
        )
        self._controller.start()
        wait_for(lambda: self.open == 0)  # the controller's own look at whether it answers
        self.connections = self.most_open = 0

    def stop(self) -> None:
        self._controller.stop(no_assert=True)

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], "250-PIPELINING", responses[-1]] if self._pipelining else responses

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, recipient: str, options: list[str]
    ) -> str:
        reply = self.rcpt.get(recipient, "250 2.1.5 OK")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(recipient)
        return reply

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        (recipient,) = envelope.rcpt_tos
        assert isinstance(envelope.content, bytes)
        mail = Accepted.of(envelope.mail_from or "", recipient, envelope.content)
        self.log.append(("dot", mail.message_id))
        reply = self.data.get(recipient, "250 2.0.0 OK queued")
        if reply.startswith("2"):
            self.accepted.append(mail)
        return reply

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else ("", "")
        if given != self.login:
            return AuthResult(success=False, handled=False)
        self.logins.append(given[0])
        return AuthResult(success=True)
