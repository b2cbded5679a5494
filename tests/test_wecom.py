"""The group robot of WeCom: its limit in bytes, its mentions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import NOON, delivery, event, note, ticket
from tests.gateways import WecomGateway, serving
from watcher.chat.gateway import Gateway
from watcher.detect import digest
from watcher.errors import SinkUnavailable
from watcher.model import Content
from watcher.render import Voice
from watcher.sinks.wecom import WecomSink


@asynccontextmanager
async def robot(url: str = "", **more: Any) -> AsyncIterator[tuple[WecomSink, Any]]:
    async with serving(WecomGateway(clock=lambda: NOON)) as (server, session):
        calls = Gateway(session, server.url + url, service="WeCom", timeout=timedelta(seconds=20))
        yield WecomSink(calls, name="wecom", **({"voice": Voice()} | more)), server


async def test_a_reply_arrives_as_markdown() -> None:
    async with robot(mention=["zhangsan"]) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert server.received == [
            {
                "msgtype": "markdown",
                "markdown": {
                    "content": "#### agent 1024 replied: Why ECS renewal failed?\n\n> Please try again.\n\n"
                    "0005PYGCW · prod · 12:00 UTC · [Open](https://console.example/)\n\n<@zhangsan>"
                },
            }
        ]


async def test_the_text_is_cut_at_the_limit_of_bytes_and_mentions_stay() -> None:
    async with robot(mention=["zhangsan", "lisi"], voice=Voice(content=Content.FULL)) as (sink, server):
        await sink.send(delivery(event(note=note(1, text="请重试。" * 3000))), now=NOON)
        content = server.received[0]["markdown"]["content"]
        assert 4090 < len(content.encode()) <= 4096
        assert content.endswith("[Open](https://console.example/)\n\n<@zhangsan> <@lisi>")


async def test_twenty_replies_in_one_message_are_each_named() -> None:
    many = [event(n, ticket=ticket(f"T{n:04}", title="实例续费失败" * 9), note=note(n)) for n in range(20)]
    async with robot() as (sink, server):
        await sink.send(delivery(digest(many, sink="wecom", now=NOON)), now=NOON)
        content = server.received[0]["markdown"]["content"]
        assert [each.ticket.id for each in many if each.ticket.id not in content] == []


async def test_nobody_is_mentioned_by_a_reply() -> None:
    async with robot(mention=["zhangsan"]) as (sink, server):
        await sink.send(delivery(event(note=note(1, text="<@lisi> <@all> @all"))), now=NOON)
        assert server.received[0]["markdown"]["content"].count("<@") == 1


async def test_a_wrong_key_is_explained() -> None:
    async with robot("x") as (sink, _):
        with pytest.raises(SinkUnavailable, match=r"unknown robot; copy .* \(code 93000: invalid webhook url"):
            await sink.send(delivery(event()), now=NOON)


async def test_the_twenty_first_message_of_a_minute_waits_a_minute() -> None:
    async with robot() as (sink, server):
        for number in range(20):
            await sink.send(delivery(event(number)), now=NOON)
        with pytest.raises(SinkUnavailable, match="lower the sink's `rate`") as caught:
            await sink.send(delivery(event(20)), now=NOON)
        assert caught.value.retry_after == timedelta(minutes=1)
        assert len(server.received) == 20
