"""A DingTalk robot with a signature."""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import KEY, SECRET, DingTalkGateway
from watcher.render import Voice
from watcher.sinks.dingtalk import DingTalkSink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    return open_chat_bench(
        DingTalkGateway(secret=SECRET),
        lambda calls: DingTalkSink(calls, name="chat", voice=Voice(), secret=SECRET, mention=["13800000000"]),
        timeout=timeout,
        passing=-1,
        final=430102,
        key=KEY,
        secrets=[SECRET],
        identity=lambda body: str(body["msgUuid"]),
    )
