"""ntfy: published as JSON, told apart by its own codes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import NOON, delivery, event, note, ticket
from tests.gateways import NtfyGateway, serving
from watcher.chat.gateway import Gateway
from watcher.errors import SinkUnavailable
from watcher.model import Content, Severity
from watcher.render import Voice
from watcher.sinks.ntfy import NtfySink
from watcher.template import TemplateWording


@asynccontextmanager
async def topic(**more: Any) -> AsyncIterator[tuple[NtfySink, Any]]:
    async with serving(NtfyGateway()) as (server, session):
        calls = Gateway(session, server.url, service="ntfy", timeout=timedelta(seconds=20))
        values: dict[str, Any] = {"voice": Voice(), "topic": server.topic, "token": server.token} | more
        yield NtfySink(calls, name="ntfy", **values), server


async def test_a_reply_arrives_with_title_link_and_button() -> None:
    async with topic() as (sink, server):
        await sink.send(delivery(event(ticket=ticket(title="续费失败?"))), now=NOON)
        assert server.received == [
            {
                "topic": server.topic,
                "title": "agent 1024 replied: 续费失败?",
                "message": "Please try again.\n0005PYGCW · prod · 12:00 UTC · Open: https://console.example/",
                "priority": 3,
                "sequence_id": event().id,
                "click": "https://console.example/",
                "actions": [{"action": "view", "label": "Open ticket", "url": "https://console.example/"}],
            }
        ]


async def test_what_is_urgent_has_a_higher_priority() -> None:
    async with topic() as (sink, server):
        await sink.send(delivery(event(ticket=ticket(severity=Severity.URGENT))), now=NOON)
        assert server.received[0]["priority"] == 4


async def test_without_an_address_there_is_no_button() -> None:
    async with topic() as (sink, server):
        await sink.send(delivery(event(url="")), now=NOON)
        assert not {"click", "actions"} & set(server.received[0])


async def test_a_long_reply_is_cut_before_it_becomes_a_file() -> None:
    async with topic(voice=Voice(content=Content.FULL)) as (sink, server):
        await sink.send(delivery(event(note=note(1, text="请重试。" * 3000))), now=NOON)
        message = server.received[0]["message"]
        assert 4080 < len(message.encode()) <= 4096
        assert message.endswith("Open: https://console.example/")


async def test_a_long_title_of_a_template_is_cut() -> None:
    async with topic(voice=Voice(own={"subject": TemplateWording("{{ '题' * 9000 }}", part="subject")})) as (
        sink,
        server,
    ):
        await sink.send(delivery(event()), now=NOON)
        assert len(server.received[0]["title"].encode()) <= 1024


async def test_a_wrong_token_is_explained() -> None:
    async with topic(token="tk_wrong") as (sink, _):
        with pytest.raises(SinkUnavailable, match="no permission to publish to the topic; check `token`"):
            await sink.send(delivery(event()), now=NOON)


async def test_a_topic_without_a_token_is_asked_without_one() -> None:
    async with topic(token="") as (sink, server):
        with pytest.raises(SinkUnavailable):
            await sink.send(delivery(event()), now=NOON)
        assert "Authorization" not in server.requests[0].headers


async def test_the_topic_is_not_shown_because_it_is_a_password() -> None:
    async with topic() as (sink, server):
        assert server.topic not in sink.preview(event(), now=NOON)
        assert "续费" in json.loads(sink.preview(event(ticket=ticket(title="续费")), now=NOON))["title"]


async def test_todays_quota_that_is_spent_is_waited_for() -> None:
    async with topic() as (sink, server):
        server.refuses(42908, "limit reached: too many messages")
        with pytest.raises(SinkUnavailable, match="the day's quota of messages is used up") as caught:
            await sink.send(delivery(event()), now=NOON)
        assert caught.value.retry_after == timedelta(hours=1)
