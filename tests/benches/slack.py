"""An incoming webhook of Slack."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import KEY, SlackGateway
from watcher.render import Voice
from watcher.sinks.slack import SlackSink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    return open_chat_bench(
        SlackGateway(),
        lambda calls: SlackSink(calls, name="chat", voice=Voice(), mention=["U012AB3CD"]),
        timeout=timeout,
        passing="no_service",
        final="invalid_payload",
        # It says its code and nothing else.
        words="",
        key=KEY,
    )
