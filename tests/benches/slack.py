"""An incoming webhook of Slack."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.gateways import KEY, SlackGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.slack import SlackSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(SlackGateway()) as (gateway, session):
        calls = Gateway(session, gateway.url, service="Slack", timeout=timeout)
        yield Bench(
            sink=SlackSink(calls, name="chat", voice=Voice(), mention=["U012AB3CD"]),
            received=lambda: [json.dumps(body) for body in gateway.received],
            fails=lambda: gateway.refuses("no_service"),
            refuses=lambda: gateway.refuses("invalid_payload"),
            hangs=gateway.hangs,
            secrets=(KEY, gateway.url),
        )
