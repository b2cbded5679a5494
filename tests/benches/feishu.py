"""A Feishu bot with a signature."""

import json
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

from tests.benches import Bench
from tests.chats import open_chat_bench
from tests.gateways import KEY, SECRET, FeishuGateway
from watcher.render import Voice
from watcher.sinks.feishu import FeishuSink


def open_bench(*, timeout: timedelta) -> AbstractAsyncContextManager[Bench]:
    """Lend the sink and its receiver."""
    return open_chat_bench(
        FeishuGateway(secret=SECRET),
        lambda calls: FeishuSink(calls, name="chat", voice=Voice(), secret=SECRET, mention=["all"]),
        timeout=timeout,
        passing=11232,
        final=9499,
        key=KEY,
        secrets=[SECRET],
        identity=without_signature,
    )


def without_signature(body: dict[str, Any]) -> str:
    return json.dumps({name: value for name, value in body.items() if name not in {"timestamp", "sign"}})
