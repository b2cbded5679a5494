"""A bot of Telegram."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import TelegramGateway
from watcher.render import Voice
from watcher.sinks.telegram import TelegramSink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    gateway = TelegramGateway()
    return open_chat_bench(
        gateway,
        lambda calls: TelegramSink(calls, name="chat", voice=Voice(), chat_id=gateway.chat_id),
        timeout=timeout,
        passing=403,
        final=400,
        words="Bad Request: message is too long {secrets}",
        secrets=[gateway.token],
    )
