"""A bot of Telegram."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.gateways import TelegramGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.telegram import TelegramSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(TelegramGateway()) as (gateway, session):
        calls = Gateway(session, gateway.url, service="Telegram", timeout=timeout, secrets=[TelegramGateway.token])
        yield Bench(
            sink=TelegramSink(calls, name="chat", voice=Voice(), chat_id=gateway.chat_id),
            received=lambda: [json.dumps(body) for body in gateway.received],
            fails=lambda: gateway.refuses(403, f"{gateway.url} {gateway.token}"),
            refuses=lambda: gateway.refuses(400, f"Bad Request: message is too long {gateway.url}"),
            hangs=gateway.hangs,
            secrets=(gateway.token, gateway.url),
        )
