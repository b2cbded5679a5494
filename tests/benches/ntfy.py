"""A topic of an ntfy server with a token."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import NtfyGateway
from watcher.render import Voice
from watcher.sinks.ntfy import NtfySink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    gateway = NtfyGateway()
    return open_chat_bench(
        gateway,
        lambda calls: NtfySink(calls, name="chat", voice=Voice(), topic=gateway.topic, token=gateway.token),
        timeout=timeout,
        passing=50001,
        final=41303,
        secrets=[gateway.topic, gateway.token],
        identity=lambda body: str(body["sequence_id"]),
    )
