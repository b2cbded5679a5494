"""A topic of an ntfy server with a token."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.gateways import NtfyGateway, serving
from watcher.chat.gateway import Gateway
from watcher.render import Voice
from watcher.sinks.ntfy import NtfySink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109 - the sink's own
    """Lend the sink and its receiver."""
    async with serving(NtfyGateway()) as (gateway, session):
        calls = Gateway(session, gateway.url, service="ntfy", timeout=timeout, secrets=[gateway.topic, gateway.token])
        yield Bench(
            sink=NtfySink(calls, name="chat", voice=Voice(), topic=gateway.topic, token=gateway.token),
            received=lambda: [body["sequence_id"] for body in gateway.received],
            fails=lambda: gateway.refuses(50001, f"{gateway.topic} {gateway.token}"),
            refuses=lambda: gateway.refuses(41303, f"{gateway.topic} {gateway.token}"),
            hangs=gateway.hangs,
            secrets=(gateway.topic, gateway.token),
        )
