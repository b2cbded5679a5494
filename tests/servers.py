"""Real servers on this machine that do what tests tell them to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: CIMultiDict[str]
    body: bytes
    #: Address and port of who sent it.
    peer: str = ""


@dataclass
class Receiver:
    """A program that takes webhooks: with a 204, unless told to answer otherwise."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    script: list[web.Response] = field(default_factory=list)

    def answers(self, status: int, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Let the next answer be this one."""
        self.script.append(web.Response(status=status, body=body, headers=headers))

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.received.append(Received(request.path, CIMultiDict(request.headers), body, _peer(request)))
        return self.script.pop(0) if self.script else web.Response(status=204)


def _peer(request: web.Request) -> str:
    return str(request.transport.get_extra_info("peername")) if request.transport else ""


@asynccontextmanager
async def open_receiver(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Serve a receiver on a free port, with ``tls`` under the name localhost."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        host, port = runner.addresses[0][:2]
        receiver.url = f"https://localhost:{port}/" if tls else f"http://{host}:{port}/"
        yield receiver
    finally:
        await runner.cleanup()


@asynccontextmanager
async def open_raw(answer: bytes, *, then: str = "close") -> AsyncIterator[str]:
    """Serve these bytes, whatever is asked, and ``then`` close, reset or hang; lend the address."""
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if then == "hang":
            await writer.drain()
            await released.wait()
        if then == "reset":
            writer.transport.abort()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}/"
    finally:
        released.set()
        server.close()
        await server.wait_closed()
