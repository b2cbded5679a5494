"""Telegram's Bot API: its HTML, its own way to ask for a rest."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import NOON, delivery, event, note
from tests.gateways import TelegramGateway, serving
from watcher.chat.gateway import Gateway
from watcher.errors import SinkUnavailable
from watcher.model import Content
from watcher.render import Voice
from watcher.sinks.telegram import TelegramSink, address, is_token
from watcher.template import TemplateWording

CHAT = "-1001234567890"


@asynccontextmanager
async def bot(*, chat_id: str = CHAT, token: str = TelegramGateway.token, **more: Any) -> AsyncIterator[Any]:
    async with serving(TelegramGateway()) as (server, session):
        url = address(server.url.removesuffix(server.path), token)
        calls = Gateway(session, url, service="Telegram", timeout=timedelta(seconds=20), secrets=[token])
        yield TelegramSink(calls, name="tg", chat_id=chat_id, **({"voice": Voice()} | more)), server


async def test_a_reply_arrives_as_html_without_a_preview_of_links() -> None:
    async with bot() as (sink, server):
        await sink.send(delivery(event(note=note(1, text="a < b & c"))), now=NOON)
        assert server.received == [
            {
                "chat_id": CHAT,
                "text": "<b>agent 1024 replied: Why ECS renewal failed?</b>\n"
                "<blockquote>a &lt; b &amp; c</blockquote>\n"
                '0005PYGCW · prod · 12:00 UTC · <a href="https://console.example/">Open</a>',
                "link_preview_options": {"is_disabled": True},
                "parse_mode": "HTML",
            }
        ]


@pytest.mark.parametrize("text", ["𝔘" * 9000, "&" * 9000, "请" * 9000])
async def test_a_long_reply_is_cut_by_the_units_that_telegram_counts(text: str) -> None:
    async with bot(voice=Voice(content=Content.FULL)) as (sink, server):
        await sink.send(delivery(event(note=note(1, text=text))), now=NOON)
        assert 4080 < len(server.received[0]["text"].encode("utf-16-le")) // 2 <= 4096


async def test_nobody_is_mentioned_by_a_reply() -> None:
    async with bot() as (sink, server):
        await sink.send(delivery(event(note=note(1, text="@durov <a href='tg://user?id=1'>x</a>"))), now=NOON)
        assert "@durov" not in server.received[0]["text"]
        assert "<a href='tg" not in server.received[0]["text"]


async def test_the_time_that_telegram_names_is_kept() -> None:
    async with bot() as (sink, server):
        server.throttles(37)
        with pytest.raises(SinkUnavailable, match="lower the sink's `rate`") as caught:
            await sink.send(delivery(event()), now=NOON)
        assert caught.value.retry_after == timedelta(seconds=37)


@pytest.mark.parametrize("asked", ['"soon"', "-5", "null", "1e99", "[]", "99999999999999999999"])
async def test_a_time_that_is_none_is_not_kept(asked: str) -> None:
    async with bot() as (sink, server):
        server.answers(429, f'{{"ok": false, "error_code": 429, "parameters": {{"retry_after": {asked}}}}}')
        with pytest.raises(SinkUnavailable) as caught:
            await sink.send(delivery(event()), now=NOON)
        assert caught.value.retry_after is None


async def test_an_unknown_chat_is_explained() -> None:
    async with bot(chat_id="-5") as (sink, _):
        with pytest.raises(SinkUnavailable, match="unknown chat; check `chat`"):
            await sink.send(delivery(event()), now=NOON)


async def test_a_wrong_token_is_explained_and_not_said() -> None:
    async with bot(token="123:wrong-token-4711") as (sink, _):
        with pytest.raises(SinkUnavailable, match="unknown bot; copy its token again") as caught:
            await sink.send(delivery(event()), now=NOON)
        assert "4711" not in str(caught.value)


async def test_a_template_whose_markup_is_wrong_is_explained() -> None:
    async with bot(voice=Voice(own={"text": TemplateWording("<b>half", part="text")})) as (sink, _):
        with pytest.raises(SinkUnavailable, match="check the `text` template"):
            await sink.send(delivery(event()), now=NOON)


async def test_a_template_that_must_be_cut_arrives_as_plain_text() -> None:
    own = {"text": TemplateWording("<b>{{ 'y' * 9000 }}</b>", part="text")}
    async with bot(voice=Voice(own=own)) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        (body,) = server.received
        assert "parse_mode" not in body
        assert body["text"].startswith("<b>yyy")


@pytest.mark.parametrize("token", ["", "abc", "123:", "123:a/b", "123:a?b", "x:abc", "123:abc\n"])
def test_what_is_no_token_is_noticed(token: str) -> None:
    assert not is_token(token)
    assert is_token(TelegramGateway.token)
