"""What a webhook sends, and what it makes of an answer."""

import base64
import gzip
import hashlib
import hmac
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import anyio
import pytest
from standardwebhooks.webhooks import Webhook

from tests.fakes import NOON, at, delivery, event, note, ticket
from tests.servers import Receiver, open_raw, open_receiver
from watcher import http
from watcher.config.values import check_signing_secret
from watcher.detect import digest
from watcher.duration import retry_after
from watcher.errors import ConfigError, SinkGone, SinkRejected, SinkUnavailable, TransientError
from watcher.model import Content, Event
from watcher.sinks.webhook import WebhookSink

SECRETS = tuple("whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (1, 2))

# --- webhook: what is sent --------------------------------------------------------------------------------


@asynccontextmanager
async def webhook(url: str, *, secrets: tuple[str, ...] = SECRETS[:1], **more: Any) -> AsyncIterator[WebhookSink]:
    values: dict[str, Any] = {"headers": {}, "content": Content.FULL, "timeout": timedelta(seconds=20)}
    async with http.open_session() as session:
        yield WebhookSink(session, name="hub", url=url, secrets=secrets, **(values | more))


async def sent(receiver: Receiver, told: Event, *, now: datetime | None = None, **more: Any) -> dict[str, str]:
    """Send an event; return the headers with which it arrived."""
    async with webhook(receiver.url, **more) as sink:
        await sink.send(delivery(told), now=now or datetime.now(UTC))
    return {name.lower(): value for name, value in receiver.received[-1].headers.items()}


def signature(secret: str, headers: dict[str, str], body: bytes) -> str:
    """Sign as the specification says, without the library."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def test_a_webhook_carries_the_headers_of_the_specification() -> None:
    now = datetime.now(UTC)
    async with open_receiver() as receiver:
        headers = await sent(receiver, event(), now=now, headers={"X-Team": "ops"})
        body = receiver.received[0].body
    assert headers["webhook-id"] == event().id == json.loads(body)["id"]
    assert headers["webhook-timestamp"] == str(int(now.timestamp()))
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert headers["user-agent"].startswith("watcher/")
    assert headers["x-team"] == "ops"
    assert headers["content-length"] == str(len(body))


async def test_the_signature_is_that_of_the_specification() -> None:
    async with open_receiver() as receiver:
        headers = await sent(receiver, event(note=note(1, text="请重试 \N{PARTY POPPER}")))
        body = receiver.received[0].body
    assert headers["webhook-signature"] == signature(SECRETS[0], headers, body)
    assert Webhook(SECRETS[0]).verify(body, headers)["id"] == headers["webhook-id"]


def test_the_signature_of_these_tests_is_the_published_one() -> None:
    headers = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330"}
    body = b'{"test": 2432232314}'
    published = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", headers, body) == published


async def test_each_of_two_secrets_signs() -> None:
    async with open_receiver() as receiver:
        headers = await sent(receiver, event(), secrets=SECRETS)
        body = receiver.received[0].body
    assert headers["webhook-signature"].split(" ") == [signature(secret, headers, body) for secret in SECRETS]
    for secret in SECRETS:
        Webhook(secret).verify(body, headers)


async def test_without_a_secret_nothing_is_signed() -> None:
    async with open_receiver() as receiver:
        assert "webhook-signature" not in await sent(receiver, event(), secrets=())


@contextmanager
def local_time(zone: str) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = zone
    time.tzset()
    try:
        yield
    finally:
        del os.environ["TZ"]
        if before is not None:
            os.environ["TZ"] = before
        time.tzset()


async def test_in_shanghai_the_signature_verifies_too() -> None:
    """The library signs a wrong time if it is handed an instant with another offset than UTC's."""
    with local_time("Asia/Shanghai"):
        now = datetime.now(timezone(timedelta(hours=8)))
        async with open_receiver() as receiver:
            headers = await sent(receiver, event(), now=now)
            body = receiver.received[0].body
        assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
        assert headers["webhook-signature"] == signature(SECRETS[0], headers, body)
        Webhook(SECRETS[0]).verify(body, headers)


async def test_a_repeat_has_the_same_id_and_body_and_the_time_of_its_own_attempt() -> None:
    async with open_receiver() as receiver:
        first = await sent(receiver, event(), now=at(0))
        second = await sent(receiver, event(), now=at(5))
        assert receiver.received[0].body == receiver.received[1].body
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 300


async def test_a_digest_holds_its_events_with_their_ids() -> None:
    members = [event(n, ticket=ticket(f"T{n}")) for n in (1, 2)]
    async with open_receiver() as receiver:
        await sent(receiver, digest(members, sink="hub", now=NOON))
        data = json.loads(receiver.received[0].body)["data"]
    assert [each["id"] for each in data["events"]] == [each.id for each in members]


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!", "", "whsec_YQ"])
def test_a_secret_that_both_ends_could_read_differently_is_refused(secret: str) -> None:
    with pytest.raises(ConfigError, match="the secret is"):
        check_signing_secret(secret)


# --- webhook: what is answered ----------------------------------------------------------------------------


async def answer_to(receiver: Receiver) -> TransientError | SinkGone | None:
    """Send an event; return the error that the answer leads to."""
    refusal: TransientError | SinkGone | None = None
    async with webhook(f"{receiver.url}hook?key=SECRET") as sink:
        try:
            await sink.send(delivery(event()), now=NOON)
        except (SinkUnavailable, SinkGone) as error:
            refusal = error
    assert not [word for word in ("SECRET", "whsec_", "http://") if word in str(refusal)]
    return refusal


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_success(status: int) -> None:
    async with open_receiver() as receiver:
        receiver.answers(status)
        assert await answer_to(receiver) is None


@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 504, 599]
)
async def test_every_other_status_but_410_is_tried_again(status: int) -> None:
    async with open_receiver() as receiver:
        receiver.answers(status, headers={"Location": f"{receiver.url}elsewhere"})
        error = await answer_to(receiver)
        assert isinstance(error, SinkUnavailable)
        assert f"HTTP {status}" in str(error)
        # Redirects are not followed: the secret address would leave with them.
        assert [each.path for each in receiver.received] == ["/hook"]


async def test_410_asks_not_to_be_called_again() -> None:
    async with open_receiver() as receiver:
        receiver.answers(410)
        assert isinstance(await answer_to(receiver), SinkGone)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"), [("120", 120), (format_datetime(at(3), usegmt=True), 180), ("soon", None), ("-1", None)]
)
async def test_a_busy_receiver_may_name_a_time(status: int, value: str, seconds: float | None) -> None:
    async with open_receiver() as receiver:
        receiver.answers(status, headers={"Retry-After": value})
        error = await answer_to(receiver)
    assert isinstance(error, SinkUnavailable)
    assert error.retry_after == (None if seconds is None else timedelta(seconds=seconds))


async def test_a_time_that_came_with_another_status_means_nothing() -> None:
    async with open_receiver() as receiver:
        receiver.answers(500, headers={"Retry-After": "120"})
        error = await answer_to(receiver)
    assert isinstance(error, SinkUnavailable)
    assert error.retry_after is None


@pytest.mark.parametrize("value", ["", "1.5", "٣", "Thu, 99 Jan 2026 12:00:00 GMT", "12:00", "\x00"])
def test_a_time_that_cannot_be_read_is_none(value: str) -> None:
    assert retry_after(value, now=NOON) is None


def test_a_time_that_has_passed_is_now_and_a_huge_one_is_held() -> None:
    assert retry_after(format_datetime(at(-3), usegmt=True), now=NOON) == timedelta()
    assert retry_after("9" * 50, now=NOON) == timedelta(seconds=999_999_999)


async def test_a_success_counts_whatever_its_body_is_like() -> None:
    """The receiver has it: neither length nor compression of what it says about that may cost a repeat."""
    async with open_receiver() as receiver:
        receiver.answers(200, body=b"x" * 5_000_000)
        assert await answer_to(receiver) is None
        receiver.answers(200, body=gzip.compress(b"x" * 50_000_000), headers={"Content-Encoding": "gzip"})
        assert await answer_to(receiver) is None


@pytest.mark.parametrize(
    ("answer", "then", "words"),
    [
        (b"", "close", "closed before an answer"),
        (b"", "reset", "connection reset|closed before an answer"),
        (b"", "hang", "no whole answer within 0.3 s"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "close", "closed before an answer|not valid HTTP"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nab", "close", "HTTP 503"),
        (b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "hang", "HTTP 500"),
        (b"220 mail.example ESMTP\r\n", "close", "not valid HTTP"),
    ],
)
async def test_an_answer_that_is_no_success_is_tried_again(answer: bytes, then: str, words: str) -> None:
    async with (
        open_raw(answer, then=then) as url,
        webhook(f"{url}hook?key=SECRET", timeout=timedelta(seconds=0.3)) as sink,
    ):
        with pytest.raises(SinkUnavailable, match=words) as caught:
            await sink.send(delivery(event()), now=NOON)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "close"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + b"HTTP/1.1 204 No Content\r\n\r\n", "close"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "close"),
        (b"HTTP/1.0 200 OK\r\n\r\nthank you", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "hang"),
        (b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n", "hang"),
    ],
)
async def test_an_answer_counts_as_soon_as_it_is_whole(answer: bytes, then: str) -> None:
    """Also when it came before the body was read, after interim answers, or on a connection that stays open."""
    async with open_raw(answer, then=then) as url, webhook(url) as sink:
        with anyio.fail_after(10):
            await sink.send(delivery(event(note=note(1, text="x" * 15_000))), now=NOON)


async def test_a_connection_is_used_again() -> None:
    async with open_receiver() as receiver, webhook(receiver.url) as sink:
        for number in range(3):
            await sink.send(delivery(event(number)), now=NOON)
        assert len({each.peer for each in receiver.received}) == 1


async def test_an_upgrade_is_no_success() -> None:
    async with open_raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n") as url, webhook(url) as sink:
        with pytest.raises(SinkUnavailable, match="HTTP 101, switching protocols"):
            await sink.send(delivery(event()), now=NOON)


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!",
    ],
)
async def test_a_success_counts_although_its_body_does_not_arrive_whole(answer: bytes, then: str) -> None:
    async with open_raw(answer, then=then) as url, webhook(url, timeout=timedelta(seconds=0.3)) as sink:
        await sink.send(delivery(event()), now=NOON)


async def test_a_receiver_that_is_not_there_is_named_without_its_secret() -> None:
    async with open_receiver() as receiver:
        url = receiver.url
    async with webhook(f"{url}hook?key=SECRET") as sink:
        with pytest.raises(SinkUnavailable, match=r"cannot connect to 127\.0\.0\.1:") as caught:
            await sink.send(delivery(event()), now=NOON)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in sink.target


async def test_what_is_left_for_a_receiver_that_is_gone_is_told_to_nobody() -> None:
    """As when a sink that told several became a webhook under the same name."""
    async with open_receiver() as receiver, webhook(receiver.url) as sink:
        with pytest.raises(SinkRejected, match="no longer among the receivers"):
            await sink.send(delivery(event(), receiver="alice@corp.example"), now=NOON)
        assert receiver.received == []
