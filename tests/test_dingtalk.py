"""DingTalk's custom robot: its signature, its keyword, its limits, and a burst of replies."""

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import NOON, FakeClock, at, delivery, event, note, ticket
from tests.gateways import KEY, SECRET, DingTalkGateway, serving
from watcher.chat.gateway import Gateway
from watcher.config.chats import DingTalkModel
from watcher.dispatch import Lane
from watcher.errors import SinkGone, SinkUnavailable
from watcher.model import DeliveryState
from watcher.render import Voice
from watcher.retry import RetryPolicy
from watcher.sinks.dingtalk import DingTalkSink, signed
from watcher.store import open_store
from watcher.template import TemplateWording

BURST = 50


@asynccontextmanager
async def robot(gateway: DingTalkGateway | None = None, **more: Any) -> AsyncIterator[tuple[DingTalkSink, Any]]:
    async with serving(gateway or DingTalkGateway(clock=lambda: NOON)) as (server, session):
        calls = Gateway(session, server.url, service="DingTalk", timeout=timedelta(seconds=20), secrets=[SECRET])
        yield DingTalkSink(calls, name="ding", **({"voice": Voice()} | more)), server


async def test_a_reply_arrives_with_its_title_and_text() -> None:
    async with robot() as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        (body,) = server.received
        assert body["markdown"]["title"] == "agent 1024 replied: Why ECS renewal failed?"
        assert body["markdown"]["text"].startswith("#### agent 1024 replied: Why ECS renewal failed?\n\n> Please try")
        assert body["at"] == {"atMobiles": [], "isAtAll": False}


def test_the_signature_is_that_of_the_vendors_page() -> None:
    """HmacSHA256 over timestamp (ms), line feed and secret, with the secret as key; Base64."""
    expected = hmac.new(b"this is secret", digestmod=hashlib.sha256)
    expected.update(b"1768478400000")
    expected.update(b"\n")
    expected.update(b"this is secret")
    assert signed("this is secret", NOON) == {
        "timestamp": "1768478400000",
        "sign": base64.b64encode(expected.digest()).decode(),
    }


async def test_a_robot_with_a_secret_takes_what_is_signed() -> None:
    # Secrets whose signatures hold `+` and `/`, which an address must carry escaped.
    for number in range(20):
        secret = f"{SECRET}{number}"
        async with robot(DingTalkGateway(clock=lambda: NOON, secret=secret), secret=secret) as (sink, server):
            await sink.send(delivery(event()), now=NOON)
            assert len(server.received) == 1
            assert server.requests[0].query["access_token"] == KEY


async def test_a_wrong_secret_is_explained() -> None:
    async with robot(DingTalkGateway(clock=lambda: NOON, secret="another"), secret=SECRET) as (sink, _):
        with pytest.raises(SinkUnavailable, match="signature is refused; check `secret`"):
            await sink.send(delivery(event()), now=NOON)


async def test_a_clock_that_is_wrong_is_explained() -> None:
    async with robot(DingTalkGateway(clock=lambda: at(90), secret=SECRET), secret=SECRET) as (sink, _):
        with pytest.raises(SinkUnavailable, match="is the clock of this machine right"):
            await sink.send(delivery(event()), now=NOON)


async def test_a_robot_that_insists_on_a_keyword_gets_it() -> None:
    async with robot(DingTalkGateway(clock=lambda: NOON, keyword="工单通知"), keyword="工单通知") as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        await sink.send(delivery(event(2, ticket=ticket(title="工单通知"))), now=NOON)
        first, second = (body["markdown"]["text"] for body in server.received)
        assert first.endswith("\n\n工单通知")
        assert second.count("工单通知") == 1


async def test_a_keyword_that_is_missing_is_explained() -> None:
    async with robot(DingTalkGateway(clock=lambda: NOON, keyword="监控")) as (sink, _):
        with pytest.raises(SinkUnavailable, match="requires a keyword; write it as the sink's `keyword`"):
            await sink.send(delivery(event()), now=NOON)


async def test_people_are_mentioned_in_the_text_and_beside_it() -> None:
    mention = ["+86-13800000000", "+852-51234567", "all"]
    async with robot(mention=mention) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        (body,) = server.received
        assert body["at"] == {"atMobiles": ["13800000000", "+852-51234567"], "isAtAll": True}
        assert body["markdown"]["text"].endswith("\n\n@13800000000 @+852-51234567")


async def test_a_template_keeps_mentions_and_keyword() -> None:
    voice = Voice(own={"text": TemplateWording("{{ 'y' * 30000 }}", part="text")})
    gateway = DingTalkGateway(clock=lambda: NOON, keyword="监控")
    async with robot(gateway, voice=voice, keyword="监控", mention=["13800000000"]) as (sink, server):
        await sink.send(delivery(event()), now=NOON)
        assert server.received[0]["markdown"]["text"].endswith("y…\n\n@13800000000\n\n监控")


async def test_nobody_is_mentioned_by_a_reply() -> None:
    text = "@13900000000 @all @所有人"
    async with robot(mention=["13800000000"]) as (sink, server):
        await sink.send(delivery(event(note=note(1, text=text))), now=NOON)
        (body,) = server.received
        assert body["at"] == {"atMobiles": ["13800000000"], "isAtAll": False}
        assert body["markdown"]["text"].count("@") == 1


async def test_a_repeat_carries_the_id_and_a_replay_does_not() -> None:
    async with robot() as (sink, server):
        for attempt in (delivery(event()), delivery(event(), attempts=1), delivery(event(), replay=True)):
            await sink.send(attempt, now=NOON)
        assert [body.get("msgUuid") for body in server.received] == [event().id, event().id, None]


async def test_a_dissolved_group_is_gone_for_good() -> None:
    async with robot() as (sink, server):
        server.refuses(400013, "group is dismissed")
        with pytest.raises(SinkGone, match="the group has been dissolved"):
            await sink.send(delivery(event()), now=NOON)


async def test_who_sent_too_fast_waits_for_ten_minutes() -> None:
    async with robot() as (sink, server):
        server.refuses(130101, "send too fast")
        with pytest.raises(SinkUnavailable, match=r"lower the sink's `rate` \(code 130101: send too fast\)") as caught:
            await sink.send(delivery(event()), now=NOON)
        assert caught.value.retry_after == timedelta(minutes=10)


async def test_a_code_may_be_a_text() -> None:
    async with robot() as (sink, server):
        server.answers(200, '{"errcode": "0", "errmsg": "ok"}')
        await sink.send(delivery(event()), now=NOON)
        server.answers(200, '{"errcode": "310000", "errmsg": "sign not match"}')
        with pytest.raises(SinkUnavailable, match="signature"):
            await sink.send(delivery(event()), now=NOON)


# --- a burst, through the real lane and store -------------------------------------------------------------


@pytest.mark.parametrize("a_minute", [DingTalkModel.usual_a_minute, 20])
async def test_a_burst_becomes_few_messages_none_refused_and_nothing_lost(tmp_path: Path, a_minute: int) -> None:
    clock = FakeClock(at(30))
    events = [event(n, ticket=ticket(f"T{n:04}", title=f"Question {n}"), minutes=n / 100) for n in range(BURST)]
    async with (
        open_store(tmp_path / "watcher.db") as store,
        robot(DingTalkGateway(clock=clock.now), spacing=timedelta(minutes=1) / a_minute) as (sink, server),
    ):
        for each in events:
            await store.add(each, [delivery(each, sink="ding")])
        lane = Lane(sink=sink, store=store, clock=clock, policy=RetryPolicy())
        await lane.attempt_all()
        rows = [row for row in await store.history(most=1000) if row.sink == "ding"]
        texts = "\n".join(body["markdown"]["text"] for body in server.received)

    assert server.refused == 0
    assert len(server.received) <= 5
    assert [each.ticket.id for each in events if each.ticket.id not in texts] == []
    assert {row.state for row in rows} == {DeliveryState.DELIVERED}
    assert sum(clock.slept) < 60


async def test_without_its_pace_the_same_burst_would_be_refused() -> None:
    """The gateway of these tests does count: the pace is what the burst owes its luck to."""
    clock = FakeClock(at(30))
    async with robot(DingTalkGateway(clock=clock.now)) as (sink, server):
        for number in range(20):
            await sink.send(delivery(event(number)), now=clock.now())
        with pytest.raises(SinkUnavailable, match="rate limit exceeded; messages are refused for 10 minutes"):
            await sink.send(delivery(event(20)), now=clock.now())
        clock.advance(599)
        with pytest.raises(SinkUnavailable):
            await sink.send(delivery(event(20)), now=clock.now())
        assert len(server.received) == 20
