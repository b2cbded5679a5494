"""A file on a disk, whose place a full disk or a pipe that nobody reads can take."""

import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path, PosixPath

from tests.benches import Bench
from tests.fakes import until
from watcher.model import Content
from watcher.sinks.file import FileSink


class Place(PosixPath):
    """A path that leads elsewhere when it is told to."""

    elsewhere: str = ""

    def __fspath__(self) -> str:
        where, self.elsewhere = self.elsewhere or str(self), ""
        return where


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    with tempfile.TemporaryDirectory() as name:
        place, pipe = Place(f"{name}/events.jsonl"), f"{name}/pipe"
        os.mkfifo(pipe)
        handle = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        fill(handle)
        sink = FileSink(name="archive", path=place, content=Content.FULL, timeout=timeout)

        def received() -> list[str]:
            path = Path(str(place))
            return [json.loads(line)["id"] for line in path.read_bytes().split(b"\n") if line] if path.exists() else []

        try:
            yield Bench(
                sink=sink,
                received=received,
                fails=lambda: setattr(place, "elsewhere", "/dev/full"),
                refuses=None,
                hangs=lambda: setattr(place, "elsewhere", pipe),
            )
        finally:
            # Who still writes there comes to an end.
            os.read(handle, 1 << 20)
            await until(lambda: not sink._writing.is_busy)
            os.close(handle)


def fill(handle: int) -> None:
    try:
        while True:
            os.write(handle, bytes(1 << 16))
    except BlockingIOError:
        return
