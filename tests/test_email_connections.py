"""The email sink and connections that break, hang or never come about."""

import asyncio
import socket
import sys
import threading
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from tests.fakes import NOON, delivery, event, until
from tests.mailserver import PostOffice, open_office, server_context
from tests.test_email import failure, sink
from watcher.errors import SinkUnavailable

#: States of a connection, as Linux numbers them (include/net/tcp_states.h).
_TCP_CLOSE, _TCP_CLOSE_WAIT = 7, 8


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_connection_that_breaks_is_tried_again_under_the_same_id(command: str) -> None:
    async with open_office() as office:
        office.drops(command)
        error = await failure(sink(office))
        assert isinstance(error, SinkUnavailable)
        assert "lost" in str(error)
        await sink(office).send(delivery(event()), now=NOON)
    assert [mail.message["Message-ID"] for mail in office.received] == [f"<{event().id}@watcher.corp.example>"]


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
async def test_a_server_that_hangs_costs_no_more_than_the_time_limit(command: str) -> None:
    async with open_office() as office:
        office.hangs(command)
        with anyio.fail_after(20):
            error = await failure(sink(office, timeout=timedelta(seconds=0.3)))
        assert isinstance(error, SinkUnavailable)
        assert "did not take the mail within 0.3 s" in str(error)
        await until(lambda: not office.connections)


async def test_a_server_that_accepts_and_says_nothing_costs_no_more_than_the_time_limit() -> None:
    closed: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Returns when the other side has closed the connection.
        await reader.read()
        writer.close()
        await writer.wait_closed()
        closed.append(way)

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        office = PostOffice(port=server.sockets[0].getsockname()[1])
        for way in ("starttls", "implicit"):
            with anyio.fail_after(20):
                error = await failure(sink(office, tls=way, timeout=timedelta(seconds=0.3)))
            assert isinstance(error, SinkUnavailable)
            await until(partial(closed.__contains__, way))


async def test_a_slow_goodbye_repeats_no_mail() -> None:
    async with open_office() as office:
        office.hangs("QUIT")
        with anyio.fail_after(20):
            await sink(office).send(delivery(event()), now=NOON)
        assert len(office.received) == 1
        await until(lambda: not office.connections)


@pytest.mark.parametrize("way", ["starttls", "implicit", "none"])
@pytest.mark.parametrize("command", ["EHLO", "DATA"])
async def test_a_cancelled_attempt_leaves_nothing_behind(way: Any, command: str) -> None:
    async with open_office(way) as office:
        office.hangs(command)
        threads = threading.active_count()
        tasks = len(asyncio.all_tasks())
        async with anyio.create_task_group() as group:
            group.start_soon(partial(sink(office).send, delivery(event()), now=NOON))
            await until(lambda: command in office.commands)
            group.cancel_scope.cancel()
        await until(lambda: not office.connections)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        # One for the name service may wait for its next question.
        assert threading.active_count() <= threads + 1
        assert office.received == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the state of a connection")
async def test_a_server_that_has_stopped_to_read_keeps_no_connection() -> None:
    """A polite end of TLS waits for the other side's goodbye."""
    accepted: list[socket.socket] = []

    async def freeze(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        accepted.append(writer.get_extra_info("socket"))
        await released.wait()
        writer.transport.abort()

    def is_closed() -> bool:
        return accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in {_TCP_CLOSE, _TCP_CLOSE_WAIT}

    released = asyncio.Event()
    async with await asyncio.start_server(freeze, "127.0.0.1", 0, ssl=server_context()) as server:
        office = PostOffice(port=server.sockets[0].getsockname()[1], tls="implicit")
        assert isinstance(await failure(sink(office, timeout=timedelta(seconds=0.5))), SinkUnavailable)
        await until(is_closed, within=5)
        released.set()


async def test_nobody_there_is_said_in_words() -> None:
    async with open_office() as office:
        pass
    error = await failure(sink(office))
    assert isinstance(error, SinkUnavailable)
    assert "lost, or refused" in str(error)
    unknown = await failure(sink(PostOffice(host="mail.invalid", port=25)))
    assert isinstance(unknown, SinkUnavailable)
    assert "mail.invalid cannot be resolved" in str(unknown)


@pytest.mark.parametrize(
    "greeting", [b"421 busy\r\n", b"554 go away\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 100_000, b""]
)
async def test_a_strange_greeting_is_tried_again(greeting: bytes) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        error = await failure(sink(PostOffice(port=server.sockets[0].getsockname()[1])))
    assert isinstance(error, SinkUnavailable)
