"""What each sink makes of an event, and of a receiver that misbehaves."""

import base64
import gzip
import hashlib
import hmac
import io
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import anyio
import pytest
from standardwebhooks.webhooks import Webhook

from tests.fakes import NOON, at, delivery, event, note, ticket
from tests.servers import Receiver, open_raw, open_receiver
from watcher import http
from watcher.config.values import check_signing_secret
from watcher.detect import digest
from watcher.errors import ConfigError, SinkGone, SinkUnavailable, TransientError
from watcher.model import Content, Event
from watcher.ports import Sink
from watcher.render import Voice
from watcher.sinks.console import ConsoleSink
from watcher.sinks.dry import DrySink
from watcher.sinks.file import FileSink
from watcher.sinks.webhook import WebhookSink, retry_after

SHANGHAI = ZoneInfo("Asia/Shanghai")
SECRETS = tuple("whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (1, 2))

# --- console and dry run ----------------------------------------------------------------------------------


def console(stream: TextIO, *, content: Content = Content.FULL) -> ConsoleSink:
    return ConsoleSink(name="terminal", stream=stream, voice=Voice(content=content, zone=SHANGHAI))


async def test_the_console_says_who_replied_to_what() -> None:
    stream = io.StringIO()
    await console(stream).send(delivery(event()), now=NOON)
    said = stream.getvalue()
    assert said.startswith("agent 1024 replied: Why ECS renewal failed?\n")
    assert "> Please try again." in said
    assert "0005PYGCW" in said
    assert "2026-01-15 20:00 CST" in said
    assert said.endswith("\n")


async def test_nothing_in_a_reply_steers_the_terminal() -> None:
    stream = io.StringIO()
    told = event(note=note(1, text="\x1b]0;owned\x07 \u202e evil \x9b2J\r\nsecond"), ticket=ticket(title="\x1b[31mred"))
    await console(stream).send(delivery(told), now=NOON)
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(stream.getvalue())


async def test_content_that_is_not_to_leave_stays_here() -> None:
    stream = io.StringIO()
    await console(stream, content=Content.NONE).send(delivery(event()), now=NOON)
    assert "Please try again." not in stream.getvalue()


async def test_a_terminal_that_knows_fewer_letters_gets_what_it_can_show(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream:
        await console(stream).send(delivery(event(note=note(1, text="请重试"))), now=NOON)
    assert "> ???" in (tmp_path / "out").read_text()


async def test_a_closed_console_is_unavailable() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(SinkUnavailable, match="cannot write to the console"):
        await console(stream).send(delivery(event()), now=NOON)


async def test_a_pipe_whose_reader_is_gone_is_unavailable() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = os.fdopen(writer, "w", encoding="utf-8")
    with pytest.raises(SinkUnavailable, match="Broken pipe"):
        await console(stream).send(delivery(event()), now=NOON)
    stream.close()


async def test_a_pipe_that_nobody_reads_holds_up_nothing_else() -> None:
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w", encoding="utf-8")
    with anyio.move_on_after(0.2) as scope:
        await console(stream).send(delivery(event(note=note(1, text="x" * 1_000_000))), now=NOON)
    assert scope.cancelled_caught
    # Let the thread that still writes come to its end.
    with os.fdopen(reader, "rb") as drain:
        received = b""
        while not received.endswith(b"\n") or len(received) < 1_000_000:
            received += await anyio.to_thread.run_sync(os.read, drain.fileno(), 1 << 20)
    stream.close()


async def test_a_dry_run_names_the_sink_and_the_id() -> None:
    stream = io.StringIO()
    told = event()
    await DrySink(name="hub", console=console(stream)).send(delivery(told), now=NOON)
    assert stream.getvalue().startswith(f"would go to hub as {told.id}:\n")


# --- file -------------------------------------------------------------------------------------------------


def file(path: Path) -> FileSink:
    return FileSink(name="log", path=path, content=Content.FULL)


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


async def test_each_event_is_one_line_behind_the_others(tmp_path: Path) -> None:
    sink = file(tmp_path / "new" / "events.jsonl")
    told = [event(n, note=note(n, text="first\nsecond 请\u2028third")) for n in (1, 2)]
    for each in told:
        await sink.send(delivery(each), now=NOON)
    text = (tmp_path / "new" / "events.jsonl").read_bytes()
    assert [json.loads(line)["id"] for line in text.split(b"\n")[:-1]] == [each.id for each in told]
    assert text.endswith(b"\n")


async def test_a_line_that_was_cut_off_swallows_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"id":"msg_whole"}\n{"id":"msg_ha')
    await file(path).send(delivery(event()), now=NOON)
    whole, torn, new = path.read_text().splitlines()
    assert (whole, torn) == ('{"id":"msg_whole"}', '{"id":"msg_ha')
    assert json.loads(new)["id"] == event().id


async def test_the_file_may_be_rotated_at_any_time(tmp_path: Path) -> None:
    sink, path = file(tmp_path / "events.jsonl"), tmp_path / "events.jsonl"
    await sink.send(delivery(event(1)), now=NOON)
    path.rename(tmp_path / "events.1")
    await sink.send(delivery(event(2)), now=NOON)
    assert [len(lines(each)) for each in (path, tmp_path / "events.1")] == [1, 1]


async def test_a_place_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "events.jsonl", tmp_path, Path("/proc/nowhere/events.jsonl")):
        with pytest.raises(SinkUnavailable, match=f"cannot write to {path}: "):
            await file(path).send(delivery(event()), now=NOON)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
async def test_a_full_disk_is_unavailable() -> None:
    with pytest.raises(SinkUnavailable, match="No space left on device"):
        await file(Path("/dev/full")).send(delivery(event()), now=NOON)


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    await file(tmp_path / "events.jsonl").send(delivery(event()), now=NOON)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


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
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "close", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "hang", "no whole answer within 0.3 s"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "close", "broke off"),
        (b"220 mail.example ESMTP\r\n", "close", "not valid HTTP"),
    ],
)
async def test_an_answer_that_is_not_whole_is_tried_again(answer: bytes, then: str, words: str) -> None:
    async with (
        open_raw(answer, then=then) as url,
        webhook(f"{url}hook?key=SECRET", timeout=timedelta(seconds=0.3)) as sink,
    ):
        with pytest.raises(SinkUnavailable, match=words) as caught:
            await sink.send(delivery(event()), now=NOON)
    assert "SECRET" not in str(caught.value)


async def test_a_receiver_that_is_not_there_is_named_without_its_secret() -> None:
    async with open_receiver() as receiver:
        url = receiver.url
    async with webhook(f"{url}hook?key=SECRET") as sink:
        with pytest.raises(SinkUnavailable, match=r"cannot connect to 127\.0\.0\.1:") as caught:
            await sink.send(delivery(event()), now=NOON)
    assert "SECRET" not in str(caught.value)
    assert "SECRET" not in sink.target


def test_every_sink_keeps_the_contract(tmp_path: Path) -> None:
    sinks: list[Sink] = [file(tmp_path / "x"), console(sys.stdout), DrySink(name="d", console=console(sys.stdout))]
    assert [sink.name for sink in sinks] == ["log", "terminal", "d"]
    assert all(sink.target and sink.parallel >= 1 for sink in sinks)
