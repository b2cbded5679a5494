"""A DingTalk robot with a signature."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.gateways import KEY, SECRET, DingTalkGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.dingtalk import DingTalkSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(DingTalkGateway(secret=SECRET)) as (gateway, session):
        calls = Gateway(session, gateway.url, service="DingTalk", timeout=timeout, secrets=[SECRET])
        yield Bench(
            sink=DingTalkSink(calls, name="chat", voice=Voice(), secret=SECRET, mention=["13800000000"]),
            received=lambda: [body["msgUuid"] for body in gateway.received],
            fails=lambda: gateway.refuses(-1, f"{gateway.url} {KEY} {SECRET}"),
            refuses=lambda: gateway.refuses(430102, f"{gateway.url} {KEY} {SECRET}"),
            hangs=gateway.hangs,
            secrets=(KEY, SECRET, gateway.url),
        )
