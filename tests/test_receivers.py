"""The receivers in docs/, run as they stand, against the real sink."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes import delivery, event, note, ticket, until
from tests.programs import ALL_ARE_WANTED, needs
from watcher import http
from watcher.detect import digest
from watcher.errors import SinkUnavailable
from watcher.formats import Format
from watcher.model import Content, Event, Kind
from watcher.sample import example
from watcher.sinks.webhook import WebhookSink

ROOT = Path(__file__).parent.parent / "docs" / "receivers"
VECTORS = ROOT.parent / "webhook-vectors.json"
OLD, NEW, FOREIGN = ("whsec_" + base64.b64encode(bytes([letter]) * 32).decode() for letter in (1, 2, 3))

Command = tuple[Path, list[str]]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install what the receiver in JavaScript needs, in a copy of its folder."""
    folder = tmp_path_factory.mktemp("javascript") / "receiver"
    shutil.copytree(ROOT / "javascript", folder, ignore=shutil.ignore_patterns("node_modules", "package-lock.json"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
    done = subprocess.run(install, cwd=folder, check=False, timeout=150, capture_output=True, text=True)
    if done.returncode and not ALL_ARE_WANTED:
        pytest.skip(f"npm install failed: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(params=["python", pytest.param("javascript", marks=needs("node", "npm"))])
def command(request: pytest.FixtureRequest) -> Command:
    """Return where and how a receiver is run."""
    if request.param == "python":
        return ROOT / "python", [sys.executable, "receiver.py"]
    return request.getfixturevalue("javascript"), ["node", "receiver.mjs"]


@dataclass
class Program:
    """A receiver that runs, and what it printed."""

    url: str = ""
    lines: list[str] = field(default_factory=list)

    @property
    def handled(self) -> list[str]:
        """The ids of the events that it handled, in order."""
        return [line.split(" ")[0] for line in self.lines if line.startswith("msg_")]


@asynccontextmanager
async def running(command: Command, *, secrets: str = NEW) -> AsyncIterator[Program]:
    folder, words = command
    environ = os.environ | {"WEBHOOK_SECRET": secrets, "PORT": "0"}
    process = await asyncio.create_subprocess_exec(*words, cwd=folder, env=environ, stdout=asyncio.subprocess.PIPE)
    program = Program()
    reading = asyncio.create_task(_read(process.stdout, program.lines))
    try:
        await until(lambda: bool(program.lines))
        program.url = program.lines[0].removeprefix("listening on ")
        yield program
    finally:
        process.terminate()
        await process.wait()
        await reading


async def _read(stream: asyncio.StreamReader | None, lines: list[str]) -> None:
    assert stream
    async for line in stream:
        lines.append(line.decode().rstrip("\n"))  # noqa: PERF401 - read by others meanwhile


async def send(program: Program, of: Event, *, age: float = 0.0, secrets: tuple[str, ...] = (NEW,), **more: Any) -> str:
    """Send an event; return why it was not taken, or nothing."""
    async with http.open_session() as session:
        values: dict[str, Any] = {"headers": {}, "content": Content.FULL, "timeout": timedelta(seconds=30)}
        sink = WebhookSink(session, name="hub", url=program.url, secrets=secrets, **(values | more))
        try:
            await sink.send(delivery(of), now=datetime.now(UTC) - timedelta(seconds=age))
        except SinkUnavailable as error:
            return str(error)
    return ""


async def post(program: Program, body: bytes, headers: Mapping[str, str]) -> int:
    """Post something that the sink would never send; return the status."""
    async with http.open_session() as session:
        reply = await http.fetch(
            session, "POST", program.url, headers=headers, body=body, timeout_s=30, limit_bytes=10_000
        )
        return reply.status


async def test_what_is_signed_is_taken_once(command: Command) -> None:
    async with running(command) as program:
        assert [await send(program, event()) for _ in range(3)] == [""] * 3
        assert await send(program, event(2)) == ""
        await until(lambda: len(program.handled) == 2)
        assert program.handled == [event().id, event(2).id]
        said = json.loads(program.lines[1].split(" ", 2)[2])
        assert said == ["new", "0005PYGCW", "Why ECS renewal failed?", "Please try again."]


@pytest.mark.parametrize("kind", Kind)
async def test_every_kind_of_event_is_taken_in_every_format(command: Command, kind: Kind) -> None:
    told = example(kind)
    for form in Format:
        async with running(command) as program:
            assert await send(program, told, form=form) == ""
            await until(lambda: len(program.handled) == len(told.events or (told,)))
            assert program.handled == [each.id for each in told.events or (told,)]


async def test_the_events_of_a_digest_are_known_by_their_own_ids(command: Command) -> None:
    members = [event(number, ticket=ticket(f"T{number}")) for number in range(3)]
    gathered = digest(members, sink="hub", now=members[0].recorded_at)
    async with running(command) as program:
        assert await send(program, members[1]) == ""
        for form in Format:
            assert await send(program, gathered, form=form) == ""
        assert await send(program, members[0]) == ""
        await until(lambda: len(program.handled) == 3)
        assert sorted(program.handled) == sorted(each.id for each in members)
        assert program.handled[0] == members[1].id


async def test_what_is_not_signed_with_the_secret_is_refused(command: Command) -> None:
    async with running(command) as program:
        assert "HTTP 400" in await send(program, event(), secrets=(FOREIGN,))
        assert "HTTP 400" in await send(program, event(), secrets=())
        assert await send(program, event(2)) == ""
        await until(lambda: bool(program.handled))
        assert program.handled == [event(2).id]


@pytest.mark.parametrize("age", [400.0, -400.0])
async def test_what_is_too_old_or_too_new_is_refused(command: Command, age: float) -> None:
    async with running(command) as program:
        assert "HTTP 400" in await send(program, event(), age=age)
        assert program.handled == []


async def test_a_secret_can_be_changed_without_a_gap(command: Command) -> None:
    async with running(command, secrets=OLD) as program:
        assert await send(program, event(1), secrets=(NEW, OLD)) == ""
    async with running(command, secrets=f"{NEW} {OLD}") as program:
        assert await send(program, event(1), secrets=(OLD,)) == ""
        assert await send(program, event(2), secrets=(NEW,)) == ""
        assert "HTTP 400" in await send(program, event(3), secrets=(FOREIGN,))


async def test_garbage_is_refused_and_the_receiver_goes_on(command: Command) -> None:
    signed = {"webhook-id": "msg_1", "webhook-timestamp": str(int(datetime.now(UTC).timestamp()))}
    garbage: list[tuple[bytes, Mapping[str, str]]] = [
        (b"", {}),
        (b"{}", signed | {"webhook-signature": "v1,"}),
        (b"{}", signed | {"webhook-signature": "nonsense"}),
        (b"{}", signed | {"webhook-signature": "v1,%%%"}),
        (b"\xff\xfe", signed | {"webhook-signature": "v1,AAAA"}),
        (b"{}", signed | {"webhook-timestamp": "soon", "webhook-signature": "v1,AAAA"}),
    ]
    async with running(command) as program:
        assert [await post(program, body, headers) for body, headers in garbage] == [400] * len(garbage)
        assert await post(program, b"x" * 300_000, {}) == 413
        assert await send(program, event()) == ""


async def test_what_other_people_wrote_stays_on_one_line(command: Command) -> None:
    told = event(note=note(1, text="first\nmsg_forged second\r\n\x1b[31m"), ticket=ticket(title="a\nb"))
    async with running(command) as program:
        assert await send(program, told) == ""
        assert await send(program, event(2)) == ""
        await until(lambda: len(program.handled) >= 2)
        assert program.handled == [told.id, event(2).id]
        assert "\x1b" not in program.lines[1]


async def test_several_senders_at_once_are_served(command: Command) -> None:
    async with running(command) as program, anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(send, program, event(number % 4))
    assert sorted(program.handled) == sorted(event(number).id for number in range(4))


def test_without_a_secret_it_does_not_start(command: Command) -> None:
    folder, words = command
    environ = {name: value for name, value in os.environ.items() if name != "WEBHOOK_SECRET"}
    ended = subprocess.run(words, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (1, "WEBHOOK_SECRET is not set\n")


@needs("node", "npm")
def test_the_vectors_are_those_of_the_library_for_javascript(javascript: Path) -> None:
    program = """
        import { readFileSync } from "node:fs";
        import { Webhook } from "standardwebhooks";
        for (const { name, secrets, id, timestamp, body, signature, valid } of
            JSON.parse(readFileSync(process.argv[2], "utf8")).vectors) {
          const signed = secrets.map((each) => new Webhook(each).sign(id, new Date(timestamp * 1000), body)).join(" ");
          if ((signed === signature) !== valid) throw new Error(name);
        }
        console.log("good");
    """
    (javascript / "vectors.mjs").write_text(program)
    said = subprocess.check_output(["node", "vectors.mjs", str(VECTORS)], cwd=javascript, text=True, timeout=60)
    assert said == "good\n"


def test_what_is_installed_is_pinned() -> None:
    package = json.loads((ROOT / "javascript" / "package.json").read_text())
    assert all(version[0].isdigit() for version in package["dependencies"].values())
    assert all("==" in line for line in (ROOT / "python" / "requirements.txt").read_text().splitlines())
