"""What every chat has in common: answers that are none, refusals in words, and nothing said that is secret."""

import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime

import pytest

from tests.fakes import NOON, delivery, event, note, ticket
from tests.gateways import (
    KEY,
    DingTalkGateway,
    FakeGateway,
    FeishuGateway,
    NtfyGateway,
    SlackGateway,
    TelegramGateway,
    WecomGateway,
    serving,
)
from tests.servers import open_raw, open_receiver
from watcher import http
from watcher.chat.gateway import Gateway, Refusal
from watcher.detect import digest
from watcher.duration import retry_after
from watcher.errors import SinkRejected, SinkUnavailable, TransientError
from watcher.model import Content
from watcher.ports import Sink
from watcher.render import Voice
from watcher.sinks.dingtalk import DingTalkSink
from watcher.sinks.feishu import FeishuSink
from watcher.sinks.ntfy import NtfySink
from watcher.sinks.slack import SlackSink
from watcher.sinks.telegram import TelegramSink
from watcher.sinks.wecom import WecomSink

CHATS = ("dingtalk", "feishu", "wecom", "slack", "telegram", "ntfy")
GATEWAYS = {
    "dingtalk": DingTalkGateway,
    "feishu": FeishuGateway,
    "wecom": WecomGateway,
    "slack": SlackGateway,
    "telegram": TelegramGateway,
    "ntfy": NtfyGateway,
}
each_chat = pytest.mark.parametrize("kind", CHATS)


@dataclass(frozen=True)
class Bench:
    sink: Sink
    gateway: FakeGateway


def sink_of(kind: str, calls: Gateway, *, voice: Voice) -> Sink:
    match kind:
        case "dingtalk":
            return DingTalkSink(calls, name=kind, voice=voice)
        case "feishu":
            return FeishuSink(calls, name=kind, voice=voice)
        case "wecom":
            return WecomSink(calls, name=kind, voice=voice)
        case "slack":
            return SlackSink(calls, name=kind, voice=voice)
        case "telegram":
            return TelegramSink(calls, name=kind, voice=voice, chat_id=TelegramGateway().chat_id)
        case _:
            return NtfySink(calls, name=kind, voice=voice, topic=NtfyGateway().topic, token=NtfyGateway().token)


@asynccontextmanager
async def chat(kind: str, *, url: str = "", voice: Voice | None = None, limit_s: float = 20.0) -> AsyncIterator[Bench]:
    async with serving(GATEWAYS[kind](clock=lambda: NOON)) as (gateway, session):
        calls = Gateway(session, url or gateway.url, service=kind, timeout=timedelta(seconds=limit_s))
        yield Bench(sink_of(kind, calls, voice=voice or Voice()), gateway)


async def failure(bench: Bench) -> TransientError:
    with pytest.raises(SinkUnavailable) as caught:
        await bench.sink.send(delivery(event()), now=NOON)
    assert bench.gateway.received == []
    return caught.value


# --- answers that are none --------------------------------------------------------------------------------


@each_chat
async def test_a_200_that_is_a_proxys_page_is_no_success(kind: str) -> None:
    async with chat(kind) as bench:
        bench.gateway.answers_html()
        assert "HTTP 200, but the answer is not the service's own" in str(await failure(bench))


@each_chat
@pytest.mark.parametrize(
    "body",
    [
        *("", "null", "[]", "0", '"ok"', "{}", "[" * 9000, '{"code": 0'),
        '{"errcode": null, "code": null, "ok": "true", "id": 5}',
        '{"errcode": false, "code": false, "ok": 1}',
        '{"errcode": 0.0, "code": [0]}',
        '{"errcode": "x"}',
    ],
)
async def test_a_200_without_the_gateways_own_word_is_no_success(kind: str, body: str) -> None:
    async with chat(kind) as bench:
        bench.gateway.answers(200, body)
        await failure(bench)


@each_chat
@pytest.mark.parametrize("body", ['{"errcode": 0, "code": 0, "ok": true, "id": "x"}', "ok"])
async def test_a_failure_whose_body_says_success_is_a_failure(kind: str, body: str) -> None:
    async with chat(kind) as bench:
        bench.gateway.answers(502, body)
        assert "HTTP 502, bad gateway" in str(await failure(bench))


@each_chat
async def test_a_redirect_is_not_followed(kind: str) -> None:
    async with open_receiver() as elsewhere, chat(kind) as bench:
        bench.gateway.answers(302, Location=elsewhere.url)
        assert "a redirect, which is not followed" in str(await failure(bench))
        assert elsewhere.received == []


@each_chat
async def test_a_429_names_its_time(kind: str) -> None:
    async with chat(kind) as bench:
        bench.gateway.answers(429, "slow down", Retry_After="30")
        error = await failure(bench)
        assert error.retry_after == timedelta(seconds=30)
        assert "HTTP 429, too many requests" in str(error)


@each_chat
async def test_an_answer_without_an_end_is_cut_off(kind: str) -> None:
    async with chat(kind) as bench:
        bench.gateway.answers(200, '{"errcode": 0, "code": 0, "ok": true, "id": "x", "pad": "' + "x" * 1_000_000 + '"}')
        await failure(bench)


@each_chat
async def test_half_an_answer_is_none(kind: str) -> None:
    half = b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"errcode":0'
    async with open_raw(half) as url, chat(kind, url=f"{url}hook?key={KEY}") as bench:
        error = await failure(bench)
        assert "broke off in the middle" in str(error)
        assert KEY not in str(error)


@each_chat
async def test_no_answer_within_the_time_limit_is_a_failure(kind: str) -> None:
    async with chat(kind, limit_s=0.2) as bench:
        bench.gateway.hangs()
        assert "no whole answer within 0.2 s" in str(await failure(bench))


@each_chat
async def test_a_gateway_that_is_not_there_is_tried_again(kind: str) -> None:
    async with open_receiver() as receiver:
        url = f"{receiver.url}hook?key={KEY}"
    async with chat(kind, url=url) as bench:
        error = await failure(bench)
        assert "cannot connect" in str(error)
        assert KEY not in str(error)


@each_chat
async def test_a_code_that_nobody_knows_may_pass(kind: str) -> None:
    async with chat(kind) as bench:
        if kind == "slack":
            bench.gateway.answers(418, "something_new")
            assert "HTTP 418" in str(await failure(bench))
            return
        code = 40099 if kind == "ntfy" else 499
        bench.gateway.refuses(code, f"what\u202eis\x1b[31m this {KEY}")
        error = await failure(bench)
        assert f"{kind} refuses the message (code {code}: what" in str(error)
        assert not {"\x1b", "\u202e"} & set(str(error))


# --- messages ---------------------------------------------------------------------------------------------


@each_chat
@pytest.mark.parametrize("text", ["请重试。", 'a "quoted" \\ text\n', "<&>", "👩\u200d👩\u200d👧"])
async def test_the_longest_replies_are_taken(kind: str, text: str) -> None:
    told = event(ticket=ticket(title=text * 500), note=note(1, text=text * 9000))
    async with chat(kind, voice=Voice(content=Content.FULL)) as bench:
        await bench.sink.send(delivery(told), now=NOON)
        assert len(bench.gateway.received) == 1


@each_chat
async def test_the_largest_digest_is_taken(kind: str) -> None:
    events = [
        event(n, ticket=ticket(f"T{n}", title="标题" * 300), note=note(n, text="请重试。" * 3000)) for n in range(20)
    ]
    async with chat(kind, voice=Voice(content=Content.FULL)) as bench:
        await bench.sink.send(delivery(digest(events, sink=kind, now=NOON)), now=NOON)
        assert len(bench.gateway.received) == 1


@each_chat
async def test_what_is_previewed_is_what_is_sent(kind: str) -> None:
    async with chat(kind) as bench:
        preview = bench.sink.preview(event(), now=NOON)
        assert bench.gateway.requests == []
        await bench.sink.send(delivery(event()), now=NOON)
        (body,) = bench.gateway.received
        shown = json.loads(preview)
        assert {name: body[name] for name in shown} == shown


@each_chat
async def test_a_receiver_that_a_chat_does_not_have_is_told_nothing(kind: str) -> None:
    async with chat(kind) as bench:
        with pytest.raises(SinkRejected, match="bob is no longer among the receivers"):
            await bench.sink.send(delivery(event(), receiver="bob"), now=NOON)
        assert bench.gateway.requests == []


@each_chat
async def test_a_chat_wants_what_waits_as_one(kind: str) -> None:
    async with chat(kind) as bench:
        assert (bench.sink.most_at_once, bench.sink.parallel) == (1, 1)


@each_chat
async def test_another_address_is_another_target(kind: str) -> None:
    async with chat(kind, url=f"https://a.example/{KEY}") as one, chat(kind, url="https://b.example/") as other:
        assert one.sink.target != other.sink.target
        assert KEY not in one.sink.target


@each_chat
async def test_a_proxy_is_used(kind: str) -> None:
    """The proxy of this test answers itself: what counts is that it is asked, and for what."""
    async with open_receiver() as proxy, http.open_session() as session:
        proxy.answers(502)
        calls = Gateway(
            session, "http://gateway.invalid/hook", service=kind, timeout=timedelta(seconds=20), proxy=proxy.url
        )
        with pytest.raises(SinkUnavailable, match="HTTP 502"):
            await sink_of(kind, calls, voice=Voice()).send(delivery(event()), now=NOON)
        assert proxy.received[0].headers["Host"] == "gateway.invalid"


# --- refusals ---------------------------------------------------------------------------------------------


def refusals(kind: str) -> list[Refusal]:
    return list(importlib.import_module(f"watcher.sinks.{kind}").REFUSALS)


@each_chat
def test_every_refusal_is_a_sentence_and_can_be_reached(kind: str) -> None:
    seen: dict[int | str, list[str]] = {}
    for refusal in refusals(kind):
        assert len(refusal.says.split()) > 2
        assert refusal.when == refusal.when.lower()
        assert not any(earlier in refusal.when for earlier in seen.get(refusal.code, [])), refusal
        seen.setdefault(refusal.code, []).append(refusal.when)


@each_chat
async def test_every_refusal_is_said_in_its_words(kind: str) -> None:
    for refusal in refusals(kind):
        async with chat(kind) as bench:
            bench.gateway.refuses(refusal.code, refusal.when)
            with pytest.raises(refusal.error) as caught:
                await bench.sink.send(delivery(event()), now=NOON)
            assert refusal.says in str(caught.value)
            if isinstance(caught.value, TransientError):
                assert caught.value.retry_after == refusal.wait


@each_chat
def test_what_somebody_can_mend_loses_nothing(kind: str) -> None:
    """Wrong keys, keywords and addresses: the delivery waits until the configuration is right."""
    for refusal in refusals(kind):
        if any(word in refusal.says for word in ("check", "write", "copy", "ask", "add it", "switch it on", "lower")):
            assert issubclass(refusal.error, SinkUnavailable) or "template" in refusal.says


def test_secrets_are_taken_out_of_what_a_gateway_says() -> None:
    url = "https://h.example/services/T0/B0/Q2F0IHBob3RvcyBhcmUgbmljZQ?access_token=abc%2Fdef-token&key=k%20k"
    calls = Gateway(None, url, service="X", timeout=timedelta(seconds=1), secrets=["SEC+4711/x", ""])  # type: ignore[arg-type]
    secrets = ("Q2F0IHBob3RvcyBhcmUgbmljZQ", "abc/def-token", "abc%2Fdef-token", "SEC+4711/x", "SEC%2B4711%2Fx", url)
    for secret in secrets:
        said = str(calls.refusal(1, f"no: {secret}!", ()))
        assert secret not in said
        assert "no: …!" in said
    assert "send too fast" in str(Gateway.refusal(calls, 1, "send too fast", ()))


def test_what_a_gateway_says_is_cut() -> None:
    calls = Gateway(None, "https://h.example/", service="X", timeout=timedelta(seconds=1))  # type: ignore[arg-type]
    assert len(str(calls.refusal(1, "long " * 1000, ()))) < 300


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", timedelta(minutes=2)),
        (format_datetime(NOON + timedelta(minutes=1)), timedelta(minutes=1)),
        (format_datetime(NOON - timedelta(minutes=1)), timedelta()),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("9" * 40, timedelta(seconds=999_999_999)),
    ],
)
def test_retry_after_is_read(value: str, expected: timedelta | None) -> None:
    assert retry_after(value, now=NOON) == expected


def test_the_chats_have_different_targets_at_one_address() -> None:
    calls = Gateway(None, "https://h.example/", service="X", timeout=timedelta(seconds=1))  # type: ignore[arg-type]
    chats: list[Sink] = [TelegramSink(calls, name="t", voice=Voice(), chat_id=chat_id) for chat_id in ("1", "2")]
    chats += [NtfySink(calls, name="n", voice=Voice(), topic=topic) for topic in ("a", "b")]
    assert len({sink.target for sink in chats}) == 4
