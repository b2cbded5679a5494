"""The product on one machine: a simulator, a scripted conversation, the real daemon, and a program that listens."""

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import structlog
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from watcher import log as logging
from watcher.assemble import assembled
from watcher.clock import SystemClock
from watcher.config.load import load
from watcher.errors import WatcherError
from watcher.signals import listen_for_signals
from watcher.simulator import DEMO_SCRIPT, load_script, open_simulator
from watcher.simulator import play as play_timeline
from watcher.simulator.script import Script

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Made up for the demonstration, known to everybody, and good for nothing else.
_SECRET = "whsec_ZGVtb25zdHJhdGlvbi1vbmx5LW5vdC1hLXNlY3JldA=="  # noqa: S105
_INTRODUCTION = """\
A made-up conversation with a support agent. On this machine run a simulator of the Ticket API ("support desk"
tells what happens there), the real watcher (polled, reply found, delivered), and a program that takes its webhooks
("program received"). The paragraphs in between are what the sink `console` prints. Nothing leaves this machine.
"""
_CONFIG = """\
version: 1
accounts:
  demo:
    endpoint: {api}
    auth:
      type: access_key
      access_key_id: simulator
      access_key_secret: {{env: DEMO_SECRET}}
    quota: 20/s
defaults:
  poll: {{interval: 3s, jitter: 20%}}
watches:
  everything: {{discover: {{status: open, every: 10s}}}}
sinks:
  terminal: {{type: console}}
  program:
    type: webhook
    url: {receiver}
    sign: [{{env: DEMO_SIGNING_SECRET}}]
storage: {{path: watcher.db}}
"""


async def simulate(host: str, port: int, script: Path | None) -> None:
    """Serve a Ticket API until interrupted, and play the script's timeline if it has one."""
    logging.set_up()
    story = load_script(script)
    async with AsyncExitStack() as stack:
        try:
            simulator = await stack.enter_async_context(open_simulator(story.world, host=host, port=port))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise WatcherError(f"cannot listen on {host}:{port}: {reason}; see --host and --port") from error
        group = await stack.enter_async_context(anyio.create_task_group())
        stop = anyio.Event()
        await group.start(listen_for_signals, stop)
        print(simulator.greeting, flush=True)  # noqa: T201
        group.start_soon(_tell, story)
        await stop.wait()
        group.cancel_scope.cancel()


async def play(seconds: float | None) -> None:
    """Run everything until interrupted, or for so many seconds."""
    print(_INTRODUCTION, flush=True)  # noqa: T201
    logging.set_up(level="debug", form="text")
    story = load_script(DEMO_SCRIPT)
    with tempfile.TemporaryDirectory(prefix="watcher-demo-") as folder:
        async with open_simulator(story.world) as simulator, _open_receiver() as receiver:
            file = Path(folder) / "watcher.yaml"
            file.write_text(_CONFIG.format(api=simulator.url, receiver=receiver))
            config = load(file, {"DEMO_SECRET": "simulator", "DEMO_SIGNING_SECRET": _SECRET})
            log.info("simulator", address=simulator.url, control=simulator.control_url)
            log.info("demonstration", ends="at Ctrl-C" if seconds is None else f"after {seconds:g} s")
            async with assembled(config, clock=SystemClock()) as daemon, anyio.create_task_group() as group:
                stop = anyio.Event()
                await group.start(listen_for_signals, stop)
                group.start_soon(_tell, story)
                if seconds is not None:
                    group.start_soon(_stop_after, seconds, stop)
                await daemon.run(until=stop)
                delivered = sum(row.state == "delivered" for row in await daemon.store.history(most=100_000))
                log.info("stopped", polls=story.world.counts["ListTicketNotes"], delivered=delivered)
                group.cancel_scope.cancel()


async def _tell(story: Script) -> None:
    await play_timeline(story.world, story.timeline, on_step=lambda words: log.info("support desk", happens=words))


async def _stop_after(seconds: float, stop: anyio.Event) -> None:
    await anyio.sleep(seconds)
    stop.set()


@asynccontextmanager
async def _open_receiver() -> AsyncIterator[str]:
    """Serve what a consumer of the webhooks would write: check the signature, then believe the body."""

    async def receive(request: web.Request) -> web.Response:
        try:
            event = Webhook(_SECRET).verify(await request.read(), dict(request.headers))
        except WebhookVerificationError:
            return web.Response(status=400)
        log.info("program received", type=event["type"], subject=event["subject"], id=event["id"], signature="good")
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
