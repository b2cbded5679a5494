"""A webhook in front of a program that takes it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from aiohttp import web

from tests.benches import Bench
from watcher import http
from watcher.model import Content
from watcher.sinks.webhook import WebhookSink

SECRET = "whsec_YSBzZWNyZXQgb2YgdGhlIGJlbmNoIGFuZCBvZiBub2JvZHk="


@dataclass
class _Program:
    taken: list[str] = field(default_factory=list)
    mood: str = ""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.Response:
        mood, self.mood = self.mood, ""
        body = await request.read()
        if mood == "fails":
            return web.Response(status=500, text=f"{request.url} {dict(request.headers)}")
        if mood == "hangs":
            await self.released.wait()
        self.taken.append(json.loads(body)["id"])
        return web.Response(status=204)

    def turns(self, mood: str) -> None:
        self.mood = mood


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    program = _Program()
    app = web.Application()
    app.router.add_post("/{path:.*}", program.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with http.open_session() as session:
            sink = WebhookSink(
                session,
                name="webhook",
                url=f"http://caller:pass-4711@{host}:{port}/hook?key=key-4711",
                secrets=[SECRET],
                headers={"X-Api-Key": "header-4711"},
                content=Content.FULL,
                timeout=timeout,
            )
            yield Bench(
                sink=sink,
                received=lambda: program.taken,
                fails=lambda: program.turns("fails"),
                # Nothing that a webhook answers is for good but 410, which switches the whole sink off.
                refuses=None,
                hangs=lambda: program.turns("hangs"),
                secrets=("4711", SECRET, SECRET.removeprefix("whsec_")),
            )
    finally:
        program.released.set()
        await runner.cleanup()
