"""Append events to a file, one JSON line each."""

import os
from datetime import datetime, timedelta
from pathlib import Path

from watcher import envelope
from watcher.blocking import Busy, OneAtATime
from watcher.errors import SinkUnavailable
from watcher.model import Content, Delivery, Event
from watcher.ports import event_for_all

_TIMEOUT = timedelta(seconds=20)


class FileSink:
    """JSON Lines: the same document that a webhook receives, on stable storage before it counts as delivered.

    The file is opened anew for each event, so that it may be rotated at any time.
    """

    parallel = 1
    spacing = timedelta()
    most_at_once = None

    def __init__(self, *, name: str, path: Path, content: Content, timeout: timedelta = _TIMEOUT) -> None:
        self.name = name
        self.target = str(path)
        self._path = path
        self._content = content
        self._timeout = timeout
        self._writing = OneAtATime()

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        """Append one line and sync it."""
        line = envelope.seal(event_for_all(delivery), content=self._content, limit=None, replay=delivery.replay) + b"\n"
        try:
            await self._writing.run(self._timeout, self._append, line)
        except Busy as error:
            raise SinkUnavailable(f"{self._path} has not taken an earlier line yet") from error
        except TimeoutError as error:
            limit_s = self._timeout.total_seconds()
            raise SinkUnavailable(f"{self._path} did not take the line within {limit_s:g} s") from error
        except OSError as error:
            raise SinkUnavailable(f"cannot write to {self._path}: {error.strerror}") from error

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        """Return the line."""
        return envelope.seal(event, content=self._content, limit=None).decode() + "\n"

    def _append(self, line: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            # A write that a full disk cut short left half a line: it must not swallow this one.
            if os.fstat(handle).st_size and os.pread(handle, 1, os.fstat(handle).st_size - 1) != b"\n":
                line = b"\n" + line
            written = file.write(line)
            if written != len(line):
                raise OSError(None, "the disk took only a part of the line")
            os.fsync(handle)
