"""Print events to a terminal or a pipe."""

from datetime import datetime, tzinfo
from typing import TextIO

import anyio

from watcher import render
from watcher.errors import SinkUnavailable
from watcher.model import Content, Event


class ConsoleSink:
    """A few lines of text for each event."""

    parallel = 1

    def __init__(self, *, name: str, stream: TextIO, content: Content, zone: tzinfo) -> None:
        self.name = name
        self.target = "console"
        self._stream = stream
        self._content = content
        self._zone = zone

    async def send(self, event: Event, *, now: datetime, replay: bool = False) -> None:  # noqa: ARG002
        """Write and flush."""
        await self.print("", event)

    async def print(self, introduction: str, event: Event) -> None:
        """Write an introduction and the event."""
        text = introduction + render.plain_text(event, content=self._content, zone=self._zone)
        try:
            # In a thread: a pipe that nobody reads blocks whoever writes to it.
            await anyio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)
        except (OSError, ValueError) as error:
            raise SinkUnavailable(f"cannot write to the console: {error}") from error

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, errors="replace").decode(encoding))
        self._stream.flush()
