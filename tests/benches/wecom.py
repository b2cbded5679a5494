"""A WeCom robot."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import KEY, WecomGateway
from watcher.render import Voice
from watcher.sinks.wecom import WecomSink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    return open_chat_bench(
        WecomGateway(),
        lambda calls: WecomSink(calls, name="chat", voice=Voice(), mention=["zhangsan"]),
        timeout=timeout,
        passing=-1,
        final=40058,
        key=KEY,
    )
