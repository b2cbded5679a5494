"""Apprise in front of a real HTTP server that speaks the plainest of its languages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from tests.benches import Bench
from tests.servers import open_receiver
from watcher.render import Voice
from watcher.sinks.apprise import AppriseSink, Service

TOKEN, PASSWORD = "tok-3n-f0r-t3sts", "pa55w0rd-f0r-t3sts"


class Silence(web.Response):
    """An answer that is given only when nobody waits for it any more."""

    def __init__(self, ended: anyio.Event) -> None:
        super().__init__()
        self._ended = ended

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        await self._ended.wait()
        return await super().prepare(request)


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    async with open_receiver() as receiver:
        address = receiver.url.removeprefix("http://")
        url = f"json://user:{PASSWORD}@{address}{TOKEN}/"
        sink = AppriseSink([Service(url, time_limit=timeout)], name="phone", voice=Voice())
        failed: list[int] = []
        ended = anyio.Event()

        def fails() -> None:
            failed.append(len(receiver.received))
            receiver.answers(500, body=f"no such token: {TOKEN}".encode())

        def hangs() -> None:
            failed.append(len(receiver.received))
            receiver.script.append(Silence(ended))

        def received() -> list[str]:
            taken = (each for number, each in enumerate(receiver.received) if number not in failed)
            return [json.dumps(json.loads(each.body), sort_keys=True) for each in taken]

        try:
            yield Bench(
                sink=sink, received=received, fails=fails, refuses=None, hangs=hangs, secrets=(TOKEN, PASSWORD, url)
            )
        finally:
            ended.set()
