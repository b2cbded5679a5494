"""The console in front of a pipe, whose place a full disk or a full pipe can take."""

import io
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from tests.benches import Bench
from watcher.render import Voice
from watcher.sinks.console import ConsoleSink


class Terminal(io.StringIO):
    """A stream whose next bytes go where they are told to go."""

    encoding = "utf-8"

    def __init__(self, handle: int) -> None:
        super().__init__()
        self.handle = handle
        self.next: list[int] = []

    def fileno(self) -> int:
        return self.next.pop(0) if self.next else self.handle


def full_pipe() -> tuple[int, int]:
    """Return both ends of a pipe that takes nothing until somebody reads it."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(1 << 16))
    os.set_blocking(writer, True)
    return reader, writer


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    full_disk = os.open("/dev/full", os.O_WRONLY)
    unread, full = full_pipe()
    terminal = Terminal(writer)
    heard = bytearray()

    def received() -> list[str]:
        with suppress(BlockingIOError):
            while chunk := os.read(reader, 1 << 16):
                heard.extend(chunk)
        # Each event begins with the one line that is not indented.
        return re.findall(r"^\S.*\n(?:\s.*\n)*", heard.decode(), re.MULTILINE)

    try:
        yield Bench(
            sink=ConsoleSink(name="terminal", stream=terminal, voice=Voice(), timeout=timeout),
            received=received,
            fails=lambda: terminal.next.append(full_disk),
            refuses=None,
            hangs=lambda: terminal.next.append(full),
        )
    finally:
        # Who still writes there is let go: nobody will read it any more.
        os.close(unread)
        for handle in (reader, writer, full, full_disk):
            os.close(handle)
