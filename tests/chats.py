"""A bench for the sink of any chat, in front of its gateway."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from tests.benches import Bench
from tests.gateways import AnyGateway, serving
from watcher.chat.gateway import Gateway
from watcher.chat.sink import ChatSink


@asynccontextmanager
async def open_chat_bench(
    gateway: AnyGateway,
    build: Callable[[Gateway], ChatSink],
    *,
    timeout: timedelta,  # noqa: ASYNC109 - the sink's own
    passing: int | str,
    final: int | str,
    words: str = "no: {secrets}",
    key: str = "",
    secrets: Sequence[str] = (),
    identity: Callable[[dict[str, Any]], str] = json.dumps,
) -> AsyncIterator[Bench]:
    """Lend the sink and its receiver.

    ``passing`` and ``final`` are the codes of refusals that may pass and that will not; ``words`` stand beside them,
    with ``{secrets}`` for all that must not be repeated: ``secrets``, the address, and the ``key`` in it.
    ``identity`` is what in a message is the same in a repeat.
    """
    async with serving(gateway) as (server, session):
        hidden = [*filter(None, (server.url, key)), *secrets]
        said = words.format(secrets=" ".join(hidden))
        calls = Gateway(session, server.url, service="Chat", timeout=timeout, secrets=secrets)
        yield Bench(
            sink=build(calls),
            received=lambda: [identity(body) for body in server.received],
            fails=lambda: server.refuses(passing, said),
            refuses=lambda: server.refuses(final, said),
            hangs=server.hangs,
            secrets=hidden,
        )
