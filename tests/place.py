"""A folder with a watcher.yaml, the world that it watches, and a receiver; and the real command to run there."""

import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from watcher.simulator import Simulator, World, open_simulator

ROOT = Path(__file__).parent.parent
CEILING_S = 60.0
TICKET, OTHER = "0005PYGCW", "001571BTXC"
HOUR = 3600.0
SIGNING = "whsec_dGVzdHMtb25seS1ub3QtYS1zZWNyZXQtYXQtYWxs"
# Values that must not be seen anywhere outside the request that they sign.
CANARY_KEY, CANARY_HOOK, CANARY_PATH = "CanarySecretOfTheKey", "Y2FuYXJ5LXNlY3JldC1vZi10aGUtaG9vaw==", "canary-in-path"

CONFIG = """\
version: 1
accounts:
  main:
    endpoint: {api}
    auth: {auth}
    quota: 1000/s
defaults:
  poll: {{interval: 200ms, jitter: 0%}}
  retry: {{schedule: [200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 200ms, 5s, 5s, 5s]}}
{watches}
sinks:
{sinks}
storage: {{path: state/watcher.db}}
"""
BY_ENVIRONMENT = "{type: access_key, access_key_id: simulator, access_key_secret: {env: KEY_SECRET}}"
EVERYTHING = "watches: {everything: {discover: {status: open, every: 300ms}}}"
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")


async def until(condition: Callable[[], object], what: str, *, within: float = CEILING_S) -> None:
    """Wait until the condition holds; fail with ``what`` did not happen."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {within:g} s: {what}")
        await anyio.sleep(0.02)


@dataclass
class Got:
    """One request that came in."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def singles(self) -> list[dict[str, Any]]:
        """The events that the request tells, a digest's members one by one."""
        return list(self.body["data"].get("events") or [self.body])

    @property
    def notes(self) -> dict[str, str]:
        return {single["data"]["note"]["id"]: single["id"] for single in self.singles}


@dataclass
class Receiver:
    """Takes webhooks; ``answer`` decides what each path gets, and may take its time."""

    url: str = ""
    got: list[Got] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    hanging: set[str] = field(default_factory=set)
    open_calls: int = 0
    before_answer: Callable[[], None] = lambda: None
    let_go: anyio.Event = field(default_factory=anyio.Event)

    def at(self, path: str) -> list[Got]:
        return [got for got in self.got if got.path == path]

    def notes(self, path: str = "/hub") -> dict[str, set[str]]:
        """Return each note that arrived, with the ids under which it did."""
        found: dict[str, set[str]] = {}
        for got in self.at(path):
            for note, event in got.notes.items():
                found.setdefault(note, set()).add(event)
        return found

    async def _take(self, request: web.Request) -> web.Response:
        self.got.append(Got(request.path, dict(request.headers), json.loads(await request.read())))
        if request.path in self.hanging:
            self.open_calls += 1
            try:
                await self.let_go.wait()
            finally:
                self.open_calls -= 1
        self.before_answer()
        return web.Response(status=self.answers.get(request.path, 204))

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Receiver"]:
        app = web.Application()
        app.router.add_post("/{name}", self._take)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


@dataclass
class Done:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Place:
    """A folder with a watcher.yaml, the world that it watches, and the receiver that it tells."""

    folder: Path
    simulator: Simulator
    receiver: Receiver
    environ: dict[str, str]

    @property
    def world(self) -> World:
        return self.simulator.world

    @property
    def database(self) -> Path:
        return self.folder / "state" / "watcher.db"

    def webhook(self, name: str = "hub", **more: str) -> str:
        extra = "".join(f", {key}: {value}" for key, value in more.items())
        return f"  {name}: {{type: webhook, url: {self.receiver.url}/{name}, sign: [{{env: SIGNING}}]{extra}}}\n"

    def configure(self, *, sinks: str = "", watches: str = EVERYTHING, auth: str = BY_ENVIRONMENT) -> None:
        text = CONFIG.format(api=self.simulator.url, auth=auth, watches=watches, sinks=sinks or self.webhook())
        self.write("watcher.yaml", text)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    async def watcher(self, *args: str, ends: int | None = None, environ: Mapping[str, str] | None = None) -> Done:
        """Run the command in the folder; it must end with status ``ends`` and never show a traceback."""
        with anyio.fail_after(CEILING_S):
            done = await anyio.run_process(
                [sys.executable, "-m", "watcher", *args],
                cwd=self.folder,
                env=self.environ | dict(environ or {}),
                check=False,
            )
        result = Done(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert "Traceback" not in result.out + result.err, result.err
        if ends is not None:
            assert result.status == ends, f"{args}: status {result.status}\n{result.out}\n{result.err}"
        return result

    def tree(self) -> dict[str, bytes]:
        """Return every file under the folder with what it holds, and its time of change."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes() + str(path.stat().st_mtime_ns).encode()
            for path in sorted(self.folder.rglob("*"))
            if path.is_file()
        } | {str(path.relative_to(self.folder)): b"/" for path in self.folder.rglob("*") if path.is_dir()}


def clean_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KEY_SECRET": "simulator",
        "SIGNING": SIGNING,
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true",
        "PYTHONWARNINGS": "error",
        "TZ": "Asia/Shanghai",
    }


@asynccontextmanager
async def a_place(folder: Path, world: World | None = None) -> AsyncIterator[Place]:
    async with open_simulator(world or World()) as simulator, Receiver().open() as receiver:
        place = Place(folder, simulator, receiver, clean_environment(folder))
        place.configure()
        yield place


def an_old_conversation(world: World, ticket: str = TICKET, title: str = "Why ECS renewal failed?") -> None:
    """Add a ticket whose notes are all read."""
    world.add_ticket(ticket, title=title, at=time.time() - 5 * HOUR)
    world.customer_reply(ticket, "It failed.", at=time.time() - 4 * HOUR)
    world.agent_reply(ticket, "Please try again.", read=True, at=time.time() - 3 * HOUR)
