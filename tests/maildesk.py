"""An email sink that encloses files, before a real mail server and a real server of files."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import aiohttp
from aiohttp import web

from tests.fakes import NOON, delivery, event, note
from tests.mailserver import Mail, PostOffice, open_office, server_at
from watcher import http
from watcher.mail.attachments import Downloads
from watcher.mail.compose import Addresses
from watcher.mail.mailbox import parse_mailbox
from watcher.model import Attachment, Content, Event
from watcher.render import Voice
from watcher.sinks.email import EmailSink


@dataclass
class FileServer:
    """Serves files, unless told otherwise."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    #: Tells of each request.
    on_request: Callable[[web.Request], None] = lambda _: None
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def keeps(self, path: str, content: bytes = b"content") -> str:
        """Keep a file; return its address."""
        self.files[path] = content
        return f"{self.url}{path}?Signature=made-up"

    def refuses(self, path: str, status: int) -> None:
        """Answer so when the file is asked for."""
        self.statuses[path] = status

    def hangs(self, path: str) -> None:
        """Never end to send the file."""
        self.hanging.add(path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.asked.append(path)
        self.on_request(request)
        status = self.statuses.get(path, 200 if path in self.files else 404)
        headers = {"Location": f"{self.url}elsewhere"} if status == 302 else {}
        if path not in self.hanging:
            return web.Response(body=self.files.get(path, b""), status=status, headers=headers)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"some")
        await self.released.wait()
        return response


@asynccontextmanager
async def open_files() -> AsyncIterator[FileServer]:
    files = FileServer()
    app = web.Application()
    app.router.add_get("/{path:.*}", files.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        files.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
        yield files
    finally:
        files.released.set()
        await runner.cleanup()


@dataclass
class Desk:
    """A sink that encloses files, and what is around it."""

    office: PostOffice
    files: FileServer
    session: aiohttp.ClientSession

    async def tells(
        self,
        told: Event,
        *,
        refresh: Callable[[Event], Awaitable[Sequence[Attachment]]] | None = None,
        max_size: int = 1_000_000,
        content: Content = Content.FULL,
        seconds: float = 30.0,
    ) -> Mail:
        """Send an event; return the mail as it arrived."""
        sink = self.sink(refresh=refresh, max_size=max_size, content=content, seconds=seconds)
        await sink.send(delivery(told), now=NOON)
        return self.office.received[-1]

    def sink(
        self,
        *,
        refresh: Callable[[Event], Awaitable[Sequence[Attachment]]] | None = None,
        max_size: int = 1_000_000,
        content: Content = Content.FULL,
        seconds: float = 30.0,
        to: Sequence[str] = ("ops@corp.example",),
    ) -> EmailSink:
        """Return a sink that encloses files."""
        return EmailSink(
            name="mail",
            server=server_at(self.office, timeout=timedelta(seconds=seconds)),
            addresses=Addresses(sender=parse_mailbox("w@corp.example"), to=[*map(parse_mailbox, to)]),
            voice=Voice(content=content),
            downloads=Downloads(session_of=lambda _: self.session, max_size=max_size, refresh=refresh),
        )


@asynccontextmanager
async def open_desk(*, allow_loopback: bool = True, **more: Any) -> AsyncIterator[Desk]:
    async with (
        open_office(**more) as office,
        open_files() as files,
        http.open_session(public_only=True, allow_loopback=allow_loopback) as session,
    ):
        yield Desk(office, files, session)


def attached(*files: Attachment | str, **more: Any) -> Event:
    named = (
        each if isinstance(each, Attachment) else Attachment(name=each.partition("?")[0].rpartition("/")[2], url=each)
        for each in files
    )
    return event(note=note(attachments=tuple(named)), **more)


def enclosed(mail: Mail) -> dict[str, bytes]:
    return {
        str(part.get_filename()): cast("bytes", part.get_payload(decode=True))
        for part in mail.message.iter_attachments()
    }
