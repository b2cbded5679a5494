"""A Feishu bot with a signature."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from tests.benches import Bench
from tests.gateways import KEY, SECRET, FeishuGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.feishu import FeishuSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(FeishuGateway(secret=SECRET)) as (gateway, session):
        calls = Gateway(session, gateway.url, service="Feishu", timeout=timeout, secrets=[SECRET])
        yield Bench(
            sink=FeishuSink(calls, name="chat", voice=Voice(), secret=SECRET, mention=["all"]),
            received=lambda: [without_signature(body) for body in gateway.received],
            fails=lambda: gateway.refuses(11232, f"{gateway.url} {KEY} {SECRET}"),
            refuses=lambda: gateway.refuses(9499, f"Bad Request {gateway.url} {SECRET}"),
            hangs=gateway.hangs,
            secrets=(KEY, SECRET, gateway.url),
        )


def without_signature(body: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in body.items() if name not in {"timestamp", "sign"}})
