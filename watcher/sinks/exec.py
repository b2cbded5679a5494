"""Run a program for each event, with the event as JSON on its standard input."""

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import anyio
from anyio.abc import Process

from watcher import envelope, render
from watcher.errors import SinkRejected, SinkUnavailable
from watcher.model import Content, Delivery, Event
from watcher.ports import event_for_all
from watcher.redact import Redactor

#: What a program gets of the daemon's own environment, beside LC_*: what it needs to run, and no secret.
_HANDED_ON = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")
#: sysexits.h: the input is wrong, and will be wrong the next time.
_EX_DATAERR = 65
_PATIENCE_S = 2.0
_CHUNK_BYTES = 65536
_KEPT_BYTES = 8192
# A pipe holds so much at the most, unless somebody goes on writing.
_MOST_CHUNKS_AFTER_END = 16


class ExecSink:
    """One run for each event; a repeat gets the same ``id``.

    Standard input is one line of JSON, the document that a webhook gets, and then its end; who does not read it may
    succeed all the same. Exit status 0 is success, 65 (EX_DATAERR) means never again with this event, and everything
    else that it is to be tried again; the last line on standard error says why. Standard output is not looked at.
    The environment has WATCHER_EVENT_ID, WATCHER_EVENT_TYPE, WATCHER_SINK, WATCHER_ATTEMPT (from 1), ``environment``
    and nothing else. The program has a session of its own: past its time limit, or cancelled, it gets SIGTERM, and
    2 s later SIGKILL, with all that it started. What it leaves behind when it ends by itself is left alone.
    """

    # A program that takes its time must not hold up every other ticket; what it does at the same time is its own.
    parallel = 2
    spacing = timedelta()
    most_at_once = None

    def __init__(
        self,
        *,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        secrets: Collection[str],
        content: Content,
        timeout: timedelta,
    ) -> None:
        """``folder`` is where the program runs; ``secrets`` are never repeated after it."""
        self.name = name
        self.target = sha256("\0".join((*command, str(folder))).encode("utf-8", "surrogateescape")).hexdigest()
        self._command = list(command)
        self._program = render.one_line(Path(command[0]).name)
        self._folder = folder
        self._environment = dict(environment)
        self._redactor = Redactor(secrets)
        self._content = content
        self._timeout_s = timeout.total_seconds()

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        """Run the program and wait for its end."""
        line = envelope.seal(event_for_all(delivery), content=self._content, limit=None, replay=delivery.replay) + b"\n"
        with _pipe() as (given, ours), _pipe() as (heard, theirs):
            process = await self._start(delivery, stdin=given, stderr=theirs)
            given.close()
            theirs.close()
            complaints = _Tail()
            async with _ended(process):
                with anyio.move_on_after(self._timeout_s):
                    await _converse(process, line, to=ours, heard=heard, complaints=complaints)
                status = process.returncode
        if status is None:
            raise SinkUnavailable(f"{self._program} did not end within {self._timeout_s:g} s")
        if status:
            self._refuse(status, complaints)

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        """Return the program's name and what it would be given; its arguments are left out."""
        body = envelope.seal(event, content=self._content, limit=None).decode()
        return f"| {self._program}\n\n{body}\n"

    async def _start(self, delivery: Delivery, *, stdin: BinaryIO, stderr: BinaryIO) -> Process:
        own = {
            "WATCHER_EVENT_ID": delivery.event.id,
            "WATCHER_EVENT_TYPE": envelope.type_of(delivery.event.kind),
            "WATCHER_SINK": self.name,
            "WATCHER_ATTEMPT": str(delivery.attempts + 1),
        }
        try:
            return await anyio.open_process(
                self._command,
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=self._folder,
                env=self._environment | own,
                start_new_session=True,
            )
        except OSError as error:
            raise SinkUnavailable(f"{self._program} cannot be started: {error.strerror}") from error
        except ValueError as error:
            # A NUL in a secret, say.
            raise SinkUnavailable(f"{self._program} cannot be started: its environment is not valid") from error

    def _refuse(self, status: int, complaints: "_Tail") -> None:
        how = f"was ended by {_signal_name(-status)}" if status < 0 else f"ended with exit status {status}"
        why = complaints.last_line(self._redactor)
        message = f"{self._program} {how}: {why}" if why else f"{self._program} {how}"
        raise SinkRejected(message) if status == _EX_DATAERR else SinkUnavailable(message)


def harmless(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a program may have of the daemon's environment."""
    return {name: value for name, value in environ.items() if name in _HANDED_ON or name.startswith("LC_")}


@contextmanager
def _pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Open a pipe; both ends are closed in the end, whoever closed one before."""
    reader, writer = os.pipe()
    with open(reader, "rb", buffering=0) as out, open(writer, "wb", buffering=0) as into:  # noqa: PTH123
        yield out, into


@asynccontextmanager
async def _ended(process: Process) -> AsyncIterator[None]:
    """Lend a process that runs; whatever happens, it has ended afterwards, with all that it started if it had to."""
    try:
        yield
    finally:
        if process.returncode is None:
            with anyio.CancelScope(shield=True):
                _signal_all(process, signal.SIGTERM)
                with anyio.move_on_after(_PATIENCE_S):
                    await process.wait()
                _signal_all(process, signal.SIGKILL)
                await process.wait()


def _signal_all(process: Process, number: signal.Signals) -> None:
    # It leads a group of its own, which may outlive it.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _converse(process: Process, line: bytes, *, to: BinaryIO, heard: BinaryIO, complaints: "_Tail") -> None:
    """Feed a program and listen to it until it has ended; who inherited its pipes is not waited for."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_feed, to, line)
        tasks.start_soon(_listen, heard, complaints)
        await process.wait()
        tasks.cancel_scope.cancel()
    for _ in range(_MOST_CHUNKS_AFTER_END):
        if not _hear(heard, complaints):
            break


async def _feed(to: BinaryIO, data: bytes) -> None:
    os.set_blocking(to.fileno(), False)
    # It need not read it all.
    with to, suppress(BrokenPipeError):
        while data:
            await anyio.wait_writable(to)
            data = data[to.write(data) or 0 :]


async def _listen(heard: BinaryIO, complaints: "_Tail") -> None:
    os.set_blocking(heard.fileno(), False)
    while True:
        await anyio.wait_readable(heard)
        if not _hear(heard, complaints):
            return


def _hear(heard: BinaryIO, complaints: "_Tail") -> bool:
    """Take what a pipe holds; return whether there was anything."""
    chunk = heard.read(_CHUNK_BYTES)
    complaints.add(chunk or b"")
    return bool(chunk)


class _Tail:
    """The end of what a program said."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._is_cut = False

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        if len(self._bytes) > _KEPT_BYTES:
            del self._bytes[:-_KEPT_BYTES]
            self._is_cut = True

    def last_line(self, redactor: Redactor) -> str:
        """Return the last line that says anything, without secrets."""
        text = self._bytes.decode(errors="replace")
        if self._is_cut:
            # The rest of a text that was cut in two would not be recognised.
            text = text[redactor.longest :]
        lines = (redactor.reason(line) for line in reversed(redactor.redact(text).splitlines()))
        return next(filter(None, lines), "")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
