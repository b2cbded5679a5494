"""The custom bot of Feishu and Lark: its signature, its keyword, rich text, and cards for templates."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from tests.fakes import NOON, at, delivery, event, note, ticket
from tests.gateways import SECRET, FeishuGateway, serving, texts_in
from watcher.chat.gateway import Gateway
from watcher.errors import SinkRejected, SinkUnavailable
from watcher.model import Content, Kind, Language
from watcher.render import Voice
from watcher.sample import example
from watcher.sinks.feishu import FeishuSink, signed
from watcher.template import TemplateWording


@asynccontextmanager
async def bot(gateway: FeishuGateway | None = None, **more: Any) -> AsyncIterator[tuple[FeishuSink, Any]]:
    async with serving(gateway or FeishuGateway(clock=lambda: NOON)) as (server, session):
        calls = Gateway(session, server.url, service="Feishu", timeout=timedelta(seconds=20), secrets=[SECRET])
        yield FeishuSink(calls, name="lark", **({"voice": Voice()} | more)), server


def post(body: dict[str, Any], language: str = "en_us") -> dict[str, Any]:
    told: dict[str, Any] = body["content"]["post"][language]
    return told


async def test_a_reply_is_rich_text_with_a_link() -> None:
    async with bot() as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert post(server.received[0]) == {
            "title": "agent 1024 replied: Why ECS renewal failed?",
            "content": [
                [{"tag": "text", "text": "Please try again."}],
                [
                    {"tag": "text", "text": "0005PYGCW · prod · 12:00 UTC · "},
                    {"tag": "a", "text": "Open", "href": "https://console.example/"},
                ],
            ],
        }


async def test_it_speaks_chinese() -> None:
    async with bot(voice=Voice(language=Language.CHINESE)) as (sink, server):
        await sink.send(delivery(example(Kind.REPLY)), now=NOON)
        assert "回复了" in post(server.received[0], "zh_cn")["title"]


def test_the_signature_is_that_of_the_vendors_page() -> None:
    """HmacSHA256 over nothing, with timestamp (s), line feed and secret as key; Base64."""
    key = b"1768478400" + b"\n" + b"demo"
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded)).digest()
    expected = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()
    assert signed("demo", NOON) == {"timestamp": "1768478400", "sign": base64.b64encode(expected).decode()}
    assert hmac.compare_digest(expected, hmac.new(key, b"", "sha256").digest())


async def test_a_bot_with_a_secret_takes_what_is_signed() -> None:
    async with bot(FeishuGateway(clock=lambda: NOON, secret=SECRET), secret=SECRET) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert len(server.received) == 1
        assert "sign" not in json.loads(sink.preview(event(), now=NOON))


@pytest.mark.parametrize(("secret", "clock_minutes"), [("another", 0), (SECRET, 90)])
async def test_a_wrong_signature_is_explained(secret: str, clock_minutes: int) -> None:
    gateway = FeishuGateway(clock=lambda: at(clock_minutes), secret=secret)
    async with bot(gateway, secret=SECRET) as (sink, _):
        with pytest.raises(SinkUnavailable, match=r"check `secret`, and whether the clock .* \(code 19021: sign match"):
            await sink.send(delivery(event()), now=NOON)


@pytest.mark.parametrize("own", [{}, {"text": TemplateWording("{{ headline }}", part="text")}], ids=["post", "card"])
async def test_a_bot_that_insists_on_a_keyword_gets_it(own: dict[str, TemplateWording]) -> None:
    gateway = FeishuGateway(clock=lambda: NOON, keyword="工单通知")
    async with bot(gateway, keyword="工单通知", voice=Voice(own=own)) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        await sink.send(delivery(event(2, ticket=ticket(title="工单通知"))), now=NOON)
        first, second = (texts_in(body) for body in server.received)
        assert [text for text in first if text.endswith("工单通知")] == first[-1:]
        assert "工单通知" not in second
        assert not any(text.endswith("\n\n工单通知") for text in second)


async def test_a_keyword_that_is_missing_is_explained() -> None:
    async with bot(FeishuGateway(clock=lambda: NOON, keyword="监控")) as (sink, _):
        with pytest.raises(SinkUnavailable, match=r"write it as the sink's `keyword` \(code 19024"):
            await sink.send(delivery(event()), now=NOON)


async def test_people_are_mentioned() -> None:
    async with bot(mention=["ou_1a2b", "all"]) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert post(server.received[0])["content"][-1] == [
            {"tag": "at", "user_id": "ou_1a2b"},
            {"tag": "at", "user_id": "all"},
        ]


@pytest.mark.parametrize("text", ['<at user_id="all">x</at>', "<AT id=all></AT>", "< at user_id='all'>", "@all"])
async def test_nobody_is_mentioned_by_a_reply(text: str) -> None:
    async with bot() as (sink, server):
        await sink.send(delivery(event(note=note(1, text=text), ticket=ticket(title=text))), now=NOON)
        told = post(server.received[0])
        assert {node["tag"] for nodes in told["content"] for node in nodes} == {"text", "a"}
        written = told["title"] + "".join(node["text"] for nodes in told["content"] for node in nodes)
        assert "<at" not in written.lower().replace(" ", "")


async def test_a_template_is_sent_as_a_card() -> None:
    own = {"text": TemplateWording("**{{ data.ticket.id }}** {{ data.note.content }}", part="text")}
    told = event(note=note(1, text="<at id=all></at>"))
    async with bot(voice=Voice(own=own), mention=["ou_1a2b"]) as (sink, server):
        await sink.send(delivery(told), now=NOON)
        (body,) = server.received
        assert body["card"]["header"]["title"]["content"] == "agent 1024 replied: Why ECS renewal failed?"
        (element,) = body["card"]["elements"]
        assert element["tag"] == "markdown"
        assert element["content"].startswith("**0005PYGCW** ")
        assert element["content"].count("<at") == 1
        assert element["content"].endswith("<at id=ou_1a2b></at>")


@pytest.mark.parametrize("own", [{}, {"text": TemplateWording("{{ 'y' * 50000 }}", part="text")}])
async def test_the_whole_request_stays_below_the_limit(own: dict[str, TemplateWording]) -> None:
    gateway = FeishuGateway(clock=lambda: NOON, secret=SECRET, keyword="工单")
    voice = Voice(content=Content.FULL, own=own)
    async with bot(gateway, secret=SECRET, keyword="工单", mention=["all"], voice=voice) as (sink, server):
        await sink.send(delivery(event(note=note(1, text='"\\' * 20_000))), now=NOON)
        assert 19_000 < int(server.requests[0].headers["Content-Length"]) <= 20_000


async def test_a_digest_tells_every_event_with_its_headline() -> None:
    async with bot() as (sink, server):
        await sink.send(delivery(example(Kind.DIGEST)), now=NOON)
        told = post(server.received[0])
        texts = [node["text"] for nodes in told["content"] for node in nodes]
        assert told["title"] == "2 tickets have unread replies"
        assert [text for text in texts if text.startswith("•")] == [
            "• Unread reply of Agent 1024: Why ECS renewal failed?",
            "• Unread reply of 工程师 2048: ECS 快照失败",
        ]


async def test_a_bad_request_is_not_repeated_but_too_many_are() -> None:
    async with bot() as (sink, server):
        server.refuses(9499, "Bad Request")
        with pytest.raises(SinkRejected):
            await sink.send(delivery(event()), now=NOON)
        server.refuses(9499, "frequency limited psm[lark]")
        with pytest.raises(SinkUnavailable):
            await sink.send(delivery(event()), now=NOON)
