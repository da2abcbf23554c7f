"""Errors of the mail package.

InputError
 ├── TemplateInvalid       a template that cannot work: found when it is created
 └── KeyInvalid            a private key that cannot sign mail
PermanentError
 ├── RenderFailed          this contact's data does not go through this template
 ├── ComposeRefused        a header value that must not go on the wire (an injected line break, a bad address)
 └── TokenInvalid          a link or an address that we did not sign
TransientError
 └── SmtpFault             no reply to act on; `phase` tells how far it got
      ├── Unreachable          no connection: refused, unresolvable, timed out
      ├── NowhereToGo          the recipient's servers have no address that could take mail
      ├── ConnectionLost       closed or silent; after Phase.DOT nobody knows whether it was accepted
      └── SetupFault           ours to mend, and no mail's fault
           ├── TlsFailed       no trustworthy TLS where it is required
           ├── AddressMissing  an address that mail is to leave from is not this machine's
           ├── LoginRefused    the server refuses our credentials, or they must not be sent
           └── LoginMissing    our credentials are not there, or not yet
"""

from __future__ import annotations

from postfleet_workers.errors import InputError, PermanentError, TransientError
from postfleet_workers.mail.replies.reply import Phase, Reply


class TemplateInvalid(InputError):  # noqa: N818
    """A template that cannot work. The message names the part, the line and what is wrong."""


class KeyInvalid(InputError):  # noqa: N818
    """A private key that cannot sign mail. The message says what is wrong, as the end of a sentence."""


class RenderFailed(PermanentError):  # noqa: N818
    """A template failed on one contact's data, or hit a limit on loops or output."""


class ComposeRefused(PermanentError):  # noqa: N818
    """A header value that must not go on the wire."""


class TokenInvalid(PermanentError):  # noqa: N818
    """A token that we did not sign, or not for this."""


class SmtpFault(TransientError):  # noqa: N818
    """An SMTP session failed.

    Attributes:
        phase: how far it got.
        reply: what the server said, if it said anything.
        host: the server that it failed at, as attempts name it; '' where that is not known.
        remembered: the server was not asked for this: it failed so a moment ago.
    """

    remembered: bool = False

    def __init__(self, phase: Phase, message: str, reply: Reply | None = None, host: str = "") -> None:
        super().__init__(message)
        self.phase = phase
        self.reply = reply
        self.host = host


class Unreachable(SmtpFault):
    """No connection, or the server turned us away before any mail."""


class NowhereToGo(SmtpFault):
    """The recipient's servers have no address that could take mail; `reply` says so as a server would, for good."""


class ConnectionLost(SmtpFault):
    """The server closed the connection or stayed silent for too long."""


class SetupFault(SmtpFault):
    """Ours to mend: mail waits for it, without an attempt.

    Attributes:
        times: refusals in a row that this process has met, this one included.
        pause_seconds: how long this process leaves the node alone now.
    """

    times: int = 1
    pause_seconds: float = 0.0


class TlsFailed(SetupFault):
    """No trustworthy TLS where it is required."""


class AddressMissing(SetupFault):
    """An address that the node's mail is to leave from is not this machine's."""


class LoginRefused(SetupFault):
    """The server refuses the credentials, or they must not be sent over this connection."""


class LoginMissing(SetupFault):
    """Our credentials are not there, or not yet: a kubelet takes up to two minutes to bring them."""


class DkimMissing(SetupFault):
    """The key that signs is not there, not yet, or cannot be used; mail of the node never goes out unsigned."""

    remembered = True  # logged where the key is read, once; no server was asked
