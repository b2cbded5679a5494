"""What each sink makes of an event, and of a receiver that misbehaves."""

import io
import json
import os
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO
from zoneinfo import ZoneInfo

import anyio
import pytest

from tests.fakes import NOON, delivery, event, note, ticket, until
from watcher.errors import SinkUnavailable
from watcher.model import Content
from watcher.ports import Sink
from watcher.render import Voice
from watcher.sinks.console import ConsoleSink
from watcher.sinks.dry import DrySink
from watcher.sinks.file import FileSink

SHANGHAI = ZoneInfo("Asia/Shanghai")

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


async def test_while_a_place_has_not_taken_a_line_no_further_thread_waits_for_it(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(reader, bytes(1 << 16))
    sink = FileSink(name="log", path=pipe, content=Content.FULL, timeout=timedelta(seconds=0.1))
    with pytest.raises(SinkUnavailable, match="did not take the line within"):
        await sink.send(delivery(event()), now=NOON)
    with pytest.raises(SinkUnavailable, match="has not taken an earlier line yet"):
        await sink.send(delivery(event()), now=NOON)
    # Let the thread that still writes come to its end.
    os.read(reader, 1 << 20)
    await until(lambda: not sink._writing.is_busy)
    os.close(reader)


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    await file(tmp_path / "events.jsonl").send(delivery(event()), now=NOON)
    assert (tmp_path / "events.jsonl").stat().st_mode & 0o777 == 0o600


def test_every_sink_keeps_the_contract(tmp_path: Path) -> None:
    sinks: list[Sink] = [file(tmp_path / "x"), console(sys.stdout), DrySink(name="d", console=console(sys.stdout))]
    assert [sink.name for sink in sinks] == ["log", "terminal", "d"]
    assert all(sink.target and sink.parallel >= 1 for sink in sinks)
