"""Slack's incoming webhooks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import NOON, delivery, event, note, ticket
from tests.gateways import SlackGateway, serving
from watcher.chat.gateway import Gateway
from watcher.errors import SinkUnavailable
from watcher.model import Content
from watcher.render import Voice
from watcher.sinks.slack import SlackSink


@asynccontextmanager
async def webhook(**more: Any) -> AsyncIterator[tuple[SlackSink, Any]]:
    async with serving(SlackGateway()) as (server, session):
        calls = Gateway(session, server.url, service="Slack", timeout=timedelta(seconds=20))
        yield SlackSink(calls, name="slack", **({"voice": Voice()} | more)), server


async def test_a_reply_arrives_in_slacks_own_markup() -> None:
    async with webhook(mention=["U012AB3CD", "here"]) as (sink, server):
        await sink.send(delivery(event(note=note(1, text="a < b & c"))), now=NOON)
        (body,) = server.received
        assert body["text"].split("\n") == [
            "*agent 1024 replied: Why ECS renewal failed?*",
            ">a &lt; b &amp; c",
            "0005PYGCW · prod · 12:00 UTC · <https://console.example/|Open>",
            "<@U012AB3CD> <!here>",
        ]


async def test_slacks_servers_fetch_nothing_that_a_reply_links_to() -> None:
    async with webhook() as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert (server.received[0]["unfurl_links"], server.received[0]["unfurl_media"]) == (False, False)


async def test_nobody_is_mentioned_by_a_reply() -> None:
    text = "<!channel> <!here> <!everyone> <@U012AB3CD> <!subteam^S1> @channel"
    async with webhook() as (sink, server):
        await sink.send(delivery(event(note=note(1, text=text), ticket=ticket(title=text))), now=NOON)
        assert "<!" not in server.received[0]["text"]
        assert "<@" not in server.received[0]["text"]


async def test_a_long_reply_is_cut() -> None:
    async with webhook(voice=Voice(content=Content.FULL)) as (sink, server):
        await sink.send(delivery(event(note=note(1, text="&" * 9000))), now=NOON)
        text = server.received[0]["text"]
        assert 3990 < len(text) <= 4000
        assert text.endswith("|Open>")


@pytest.mark.parametrize("word", ["no_service", "channel_is_archived"])
async def test_a_webhook_that_may_come_back_loses_nothing(word: str) -> None:
    """A 410 of Slack says that a channel is archived, which somebody may undo."""
    async with webhook() as (sink, server):
        server.refuses(word)
        with pytest.raises(SinkUnavailable, match=rf"\(code {word}\)"):
            await sink.send(delivery(event()), now=NOON)


async def test_only_the_word_ok_is_success() -> None:
    async with webhook() as (sink, server):
        server.answers(200, "no_service")
        with pytest.raises(SinkUnavailable, match="removed or switched off"):
            await sink.send(delivery(event()), now=NOON)
