"""Come to a mail server, over TLS and logged in, and say what its answers mean.

Sources: RFC 5321 (SMTP), RFC 8314 (TLS for submission), RFC 4954 (AUTH).
"""

import asyncio
import base64
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import aiosmtplib
import anyio

from watcher import tls
from watcher.errors import PermanentError, SinkRejected, SinkUnavailable, TransientError
from watcher.redact import Redactor

PERMANENT = 5
TOO_LARGE = 552
# RCPT is refused so where a login is missing: nothing is wrong with the receiver.
_LOGIN_MISSING = 530
# A mail that was taken is not to be sent again because the goodbye was slow.
_GOODBYE_S = 1.0
_HOST_NAME = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


class Connection(aiosmtplib.SMTP):
    """One connection; closing it closes the socket, whatever the other side still owes."""

    AUTH_METHODS = ("plain", "login", "cram-md5")

    @property
    def supported_auth_methods(self) -> list[str]:
        """The best method alone: a password that it refuses, the next one refuses too, and some servers count."""
        return super().supported_auth_methods[:1]

    async def transact(
        self,
        sender: str,
        receivers: Iterable[str],
        data: bytes,
        *,
        utf8: bool,
        refuse: Callable[[str, aiosmtplib.SMTPRecipientRefused], None],
    ) -> None:
        """Hand over a mail to all receivers but those that ``refuse`` is told of, each as soon as the server says so.

        The library's own ``sendmail`` loses those when the data is refused, or the connection breaks. Raises
        ``SMTPSenderRefused`` or ``SMTPDataError`` if the mail as such is refused.
        """
        options = ["SMTPUTF8", "BODY=8BITMIME"] if utf8 else []
        if self.supports_extension("size"):
            options.insert(0, f"SIZE={len(data)}")
        encoding = "utf-8" if utf8 else "ascii"
        is_taken = False
        try:
            await self.mail(sender, options=options, encoding=encoding)
            for receiver in receivers:
                try:
                    await self.rcpt(receiver, encoding=encoding)
                except aiosmtplib.SMTPRecipientRefused as error:
                    refuse(receiver, error)
                else:
                    is_taken = True
            if is_taken:
                await self.data(data)
        except aiosmtplib.SMTPResponseException:
            await self._forget_transaction()
            raise
        if not is_taken:
            await self._forget_transaction()

    async def _forget_transaction(self) -> None:
        """Make room for the next transaction; if that fails, so will the next one, and say why."""
        with suppress(aiosmtplib.SMTPResponseException, ConnectionError):
            await self.rset()

    def close(self) -> None:
        """Close the socket at once."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
        super().close()


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """The server that takes our mail, and how we come to it."""

    host: str
    port: int
    tls: Literal["starttls", "implicit", "none"]
    context: ssl.SSLContext = field(repr=False)
    user: str = ""
    password: str = field(default="", repr=False)
    timeout: timedelta = timedelta(seconds=60)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be repeated, in the forms in which the server gets to see it."""
        if not self.password:
            return ()
        forms = (self.password, f"\0{self.user}\0{self.password}")
        return (self.password, *(base64.b64encode(form.encode()).decode() for form in forms))

    def __str__(self) -> str:
        return f"the mail server {self.host}:{self.port}"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """Lend a connection, encrypted and logged in as configured; say in our words what goes wrong with it."""
        connection = Connection(
            hostname=self.host,
            port=self.port,
            local_hostname=_own_name(),
            # The whole attempt has a limit.
            timeout=None,
            use_tls=self.tls == "implicit",
            # Never None: that would take no for an answer.
            start_tls=self.tls == "starttls",
            tls_context=self.context,
            username=self.user or None,
            password=self.password if self.user else None,
        )
        try:
            await connection.connect()
            if connection.is_ehlo_or_helo_needed:
                # What the server said before TLS does not count, and nobody has asked it again so far.
                with suppress(aiosmtplib.SMTPHeloError):
                    await connection.ehlo()
            yield connection
            with anyio.move_on_after(_GOODBYE_S, shield=True), suppress(aiosmtplib.SMTPException, OSError):
                await connection.quit()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise self.meaning(error) from error
        finally:
            connection.close()

    def refusal(self, answer: aiosmtplib.SMTPRecipientRefused) -> TransientError | PermanentError:
        """Return what it means that the server does not take a mail for one receiver."""
        is_for_good = answer.code // 100 == PERMANENT and answer.code != _LOGIN_MISSING
        kind = SinkRejected if is_for_good else SinkUnavailable
        return kind(f"{self} answered {answer.code}", details=self._said(answer))

    def meaning(self, error: Exception) -> TransientError | PermanentError:
        """Return what an error means. What somebody must mend in the file is tried again, so that nothing is lost."""
        match error:
            case aiosmtplib.SMTPAuthenticationError(code=code) if code // 100 == PERMANENT:
                remedy = "look at `smtp.user` and `smtp.password`"
                return SinkUnavailable(f"{self} refused the login: {code}; {remedy}", details=self._said(error))
            case aiosmtplib.SMTPSenderRefused(code=code) if code // 100 == PERMANENT and code != TOO_LARGE:
                said = f"{self} takes no mail from {error.sender}: {code}; look at `from`"
                return SinkUnavailable(said, details=self._said(error))
            case aiosmtplib.SMTPSenderRefused() | aiosmtplib.SMTPDataError():
                kind = SinkRejected if error.code // 100 == PERMANENT else SinkUnavailable
                return kind(f"{self} refused the mail: {error.code}", details=self._said(error))
            case aiosmtplib.SMTPResponseException():
                return SinkUnavailable(f"{self} answered {error.code}", details=self._said(error))
        return SinkUnavailable(self._lack(error))

    def _lack(self, error: Exception) -> str:
        """Say why there is no connection as it was configured."""
        match _root(error):
            case ssl.SSLCertVerificationError() as cause:
                remedy = "look at `smtp.host`, or name its authority in `smtp.ca`"
                return f"the certificate of {self} is not accepted: {tls.meaning(cause)}; {remedy}"
            case ssl.SSLError() as cause:
                return f"TLS with {self} failed: {tls.meaning(cause)}; look at `smtp.tls` and `smtp.port`"
            case socket.gaierror():
                return f"the host name {self.host} cannot be resolved"
            case aiosmtplib.SMTPServerDisconnected() | ConnectionError():
                return f"the connection to {self} was lost, or refused"
            case OSError(errno=int(number)):
                return f"cannot connect to {self}: {os.strerror(number).lower()}"
            case aiosmtplib.SMTPException(message=message):
                remedy = "look at `smtp.tls`, `smtp.port` and `smtp.user`"
                return f"{self} does not offer what is configured: {message} {remedy}"
        return f"no connection to {self}: {type(error).__name__}"

    def _said(self, answer: aiosmtplib.SMTPResponseException) -> str:
        """Return the server's own words as the details of an error; they may be anything, but not our password."""
        return Redactor(self.secrets).reason(answer.message)


def is_about_the_mail(error: aiosmtplib.SMTPSenderRefused | aiosmtplib.SMTPDataError) -> bool:
    """Tell whether another mail, or a smaller one, may be taken where this one is refused for good."""
    is_of_mail = isinstance(error, aiosmtplib.SMTPDataError) or error.code == TOO_LARGE
    return is_of_mail and error.code // 100 == PERMANENT


def _root(error: BaseException) -> BaseException:
    """Return what the library put its own error around."""
    cause = error.__cause__
    return cause if isinstance(cause, OSError) and not isinstance(error, ssl.SSLError) else error


def _own_name() -> str:
    """Return how we greet the server: by the machine's full name if it has one (RFC 5321, 4.1.4).

    The name service is not asked for it: that may take longer than the mail.
    """
    name = socket.gethostname()
    return name if _HOST_NAME.fullmatch(name) else "[127.0.0.1]"
