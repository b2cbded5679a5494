"""A real mail server on this machine, with real TLS, that does what tests tell it to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cache
from typing import Any, Literal, cast

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from watcher import tls
from watcher.mail.smtp import MailServer

Tls = Literal["starttls", "implicit", "none"]
USER, PASSWORD = "watcher", "pässwörd-of-the-mail-server"


@dataclass(frozen=True)
class Mail:
    """One mail as it arrived."""

    sender: str
    receivers: tuple[str, ...]
    content: bytes
    options: tuple[str, ...] = ()
    #: The version of TLS, "" for none.
    tls: str = ""
    #: Who had logged in, "" for nobody.
    user: str = ""

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=policy.default)

    def part(self, kind: str) -> str:
        """Return the text of the plain or html part."""
        body = self.message.get_body((kind,))
        assert body
        return str(body.get_content()).replace("\r\n", "\n")


@dataclass
class PostOffice:
    """Takes mail, unless told otherwise."""

    host: str = "localhost"
    port: int = 0
    tls: Tls = "starttls"
    received: list[Mail] = field(default_factory=list)
    #: Each command that arrived, by its name.
    commands: list[str] = field(default_factory=list)
    connections: set[SMTP] = field(default_factory=set)
    #: For whom mail was offered, in order.
    asked: list[str] = field(default_factory=list)
    #: What the next commands of a name are answered with, None for as usual; a function is called instead.
    script: dict[str, list[str | Callable[[SMTP], Awaitable[str]] | None]] = field(default_factory=dict)
    #: By receiver, for as long as the office is open.
    refused: dict[str, str] = field(default_factory=dict)
    #: Extensions that are not announced.
    hidden: set[str] = field(default_factory=set)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def refuses(self, receiver: str, code: int, text: str = "user unknown") -> None:
        """Let every RCPT for this receiver be answered so."""
        self.refused[receiver] = f"{code} {text}"

    def accepts(self, receiver: str) -> None:
        """Take back what ``refuses`` said."""
        del self.refused[receiver]

    def answers(self, command: str, *answers: str) -> None:
        """Let the next commands of this name (``EHLO``, ``MAIL``, ``RCPT``, ``DATA``) be answered so."""
        self.script.setdefault(command, []).extend(answers)

    def works(self, command: str) -> None:
        """Let the next command of this name be answered as usual, whatever comes after it."""
        self.script.setdefault(command, []).append(None)

    def hangs(self, command: str) -> None:
        """Let the next command of this name get no answer."""

        async def hang(_: SMTP) -> str:
            await self.released.wait()
            return "421 too late"

        self.script.setdefault(command, []).append(hang)

    def drops(self, command: str) -> None:
        """Let the connection break at the next command of this name; at ``DATA``, after the whole mail has arrived."""

        async def drop(server: SMTP) -> str:
            assert server.transport
            cast("asyncio.Transport", server.transport).abort()
            return ""

        self.script.setdefault(command, []).append(drop)

    def hides(self, extension: str) -> None:
        """Do not announce an extension."""
        self.hidden.add(extension)

    # --- what aiosmtpd asks -------------------------------------------------------------------------------

    async def _scripted(self, command: str, server: SMTP) -> str | None:
        self.commands.append(command)
        waiting = self.script.get(command)
        if not waiting:
            return None
        answer = waiting.pop(0)
        return await answer(server) if callable(answer) else answer

    async def handle_EHLO(  # noqa: N802
        self, server: SMTP, session: Session, _: Envelope, name: str, responses: Sequence[str]
    ) -> Sequence[str]:
        answer = await self._scripted("EHLO", server)
        session.host_name = name
        kept = [line for line in responses if line[4:].partition(" ")[0] not in self.hidden]
        return [answer] if answer else kept

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, _: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        answer = await self._scripted("MAIL", server)
        if answer is None:
            envelope.mail_from = address
            envelope.mail_options.extend(options)
        return answer or "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, _: Session, envelope: Envelope, address: str, __: list[str]
    ) -> str:
        self.asked.append(address)
        answer = await self._scripted("RCPT", server) or self.refused.get(address)
        if answer is None:
            envelope.rcpt_tos.append(address)
        return answer or "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        answer = await self._scripted("DATA", server)
        if answer is None:
            self.received.append(_mail(server, session, envelope))
        return answer or "250 OK"

    async def handle_RSET(self, server: SMTP, _: Session, __: Envelope) -> str:  # noqa: N802
        return await self._scripted("RSET", server) or "250 OK"

    async def handle_QUIT(self, server: SMTP, _: Session, __: Envelope) -> str:  # noqa: N802
        return await self._scripted("QUIT", server) or "221 Bye"

    def authenticate(self, _: SMTP, __: Session, ___: Envelope, mechanism: str, data: Any) -> AuthResult:
        self.commands.append(f"AUTH {mechanism}")
        assert isinstance(data, LoginPassword)
        is_right = data == LoginPassword(USER.encode(), PASSWORD.encode())
        return AuthResult(success=is_right, handled=False, auth_data=USER)


def _mail(server: SMTP, session: Session, envelope: Envelope) -> Mail:
    assert server.transport
    cipher = server.transport.get_extra_info("cipher")
    assert isinstance(envelope.content, bytes)
    return Mail(
        sender=envelope.mail_from or "",
        receivers=tuple(envelope.rcpt_tos),
        content=envelope.content,
        options=tuple(envelope.mail_options),
        tls=cipher[1] if cipher else "",
        user=str(session.auth_data or ""),
    )


class _Counted(SMTP):
    """Keeps book of the connections that are open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.event_handler.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.connections.discard(self)
        super().connection_lost(error)


@cache
def authority() -> trustme.CA:
    return trustme.CA()


@cache
def _certificate(host: str) -> trustme.LeafCert:
    return authority().issue_cert(host)


def trust() -> ssl.SSLContext:
    """Return how clients check servers whose certificates are from the authority of these tests."""
    context = tls.trusting()
    authority().configure_trust(context)
    return context


def server_context(host: str = "localhost") -> ssl.SSLContext:
    """Return how a server with a certificate for ``host`` speaks TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _certificate(host).configure_cert(context)
    return context


@asynccontextmanager
async def open_office(
    tls: Tls = "starttls",
    *,
    certified_for: str = "localhost",
    auth: bool = False,
    size: int | None = None,
    utf8: bool = False,
) -> AsyncIterator[PostOffice]:
    """Serve a post office on a free port."""
    office = PostOffice(tls=tls)
    context = server_context(certified_for)

    def serve() -> SMTP:
        return _Counted(
            office,
            hostname="mail.example",
            data_size_limit=size,
            enable_SMTPUTF8=utf8,
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            authenticator=office.authenticate,
            # With implicit TLS, aiosmtpd does not notice that there is TLS: it cannot insist, but it offers.
            auth_required=auth and tls == "starttls",
            auth_require_tls=tls == "starttls",
            loop=asyncio.get_running_loop(),
        )

    listens_with = context if tls == "implicit" else None
    server = await asyncio.get_running_loop().create_server(serve, "127.0.0.1", 0, ssl=listens_with)
    try:
        office.port = server.sockets[0].getsockname()[1]
        yield office
    finally:
        office.released.set()
        server.close()
        for connection in list(office.connections):
            if connection.transport:
                cast("asyncio.Transport", connection.transport).abort()
        await server.wait_closed()


def server_at(office: PostOffice, **more: Any) -> MailServer:
    """Return how the sink comes to a post office."""
    values: dict[str, Any] = {"host": office.host, "port": office.port, "tls": office.tls, "context": trust()}
    return MailServer(**(values | more))
