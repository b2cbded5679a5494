"""A WeCom robot."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.gateways import KEY, WecomGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.wecom import WecomSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(WecomGateway()) as (gateway, session):
        calls = Gateway(session, gateway.url, service="WeCom", timeout=timeout)
        yield Bench(
            sink=WecomSink(calls, name="chat", voice=Voice(), mention=["zhangsan"]),
            received=lambda: [json.dumps(body) for body in gateway.received],
            fails=lambda: gateway.refuses(-1, f"{gateway.url} {KEY}"),
            refuses=lambda: gateway.refuses(40058, f"{gateway.url} {KEY}"),
            hangs=gateway.hangs,
            secrets=(KEY, gateway.url),
        )
