"""Print events to a terminal or a pipe."""

import os
from datetime import datetime, timedelta
from typing import TextIO

from watcher import render
from watcher.blocking import Busy, OneAtATime
from watcher.errors import SinkUnavailable
from watcher.model import Delivery, Event
from watcher.ports import event_for_all
from watcher.render import Voice

_TIMEOUT = timedelta(seconds=20)


class ConsoleSink:
    """A few lines of text for each event."""

    parallel = 1
    spacing = timedelta()
    most_at_once = None

    def __init__(self, *, name: str, stream: TextIO, voice: Voice, timeout: timedelta = _TIMEOUT) -> None:
        self.name = name
        self.target = "console"
        self._stream = stream
        self._is_a_file = _is_a_file(stream)
        self._voice = voice
        self._timeout = timeout
        self._writing = OneAtATime()

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        """Write the event."""
        await self.print("", event_for_all(delivery))

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        """Return the lines."""
        return self._voice.say("text", event, render.plain_text(event, self._voice))

    async def print(self, introduction: str, event: Event) -> None:
        """Write an introduction and the event."""
        text = introduction + render.printable(self._voice.say("text", event, render.plain_text(event, self._voice)))
        text = text if text.endswith("\n") else text + "\n"
        try:
            await self._writing.run(
                self._timeout, self._write, text.encode(self._stream.encoding or "utf-8", "replace")
            )
        except (TimeoutError, Busy) as error:
            raise SinkUnavailable("nobody reads what the console prints") from error
        except (OSError, ValueError) as error:
            raise SinkUnavailable(f"cannot write to the console: {error}") from error

    def _write(self, data: bytes) -> None:
        """Write past the stream's buffer, whose lock a stuck write would hold against the end of the process."""
        if not self._is_a_file:
            self._stream.write(data.decode(self._stream.encoding or "utf-8"))
            return
        while data:
            data = data[os.write(self._stream.fileno(), data) :]


def _is_a_file(stream: TextIO) -> bool:
    try:
        stream.fileno()
    except (OSError, ValueError):
        return False
    return True
