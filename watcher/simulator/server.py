"""Runs the simulator: a world behind a real HTTP server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from watcher.simulator import control
from watcher.simulator.control import Control
from watcher.simulator.gateway import Gateway
from watcher.simulator.world import World


@dataclass(frozen=True, slots=True)
class Simulator:
    """A simulator that runs."""

    world: World
    #: Scheme, host and port, without a slash at the end.
    url: str

    @property
    def control_url(self) -> str:
        """Where the world can be changed; a GET there says how."""
        return self.url + control.PATH

    @property
    def greeting(self) -> str:
        """What somebody who has just started it wants to know. The keys are made up, so they may be shown."""
        lines = [f"Ticket API simulator: {self.url}", f"Control endpoint:     {self.control_url}"]
        for account in self.world.accounts.values():
            lines += [f"Account {account.name}: key id {key.id}, secret {key.secret}" for key in account.keys]
        return "\n".join(lines)


@asynccontextmanager
async def open_simulator(world: World, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Simulator]:
    """Serve ``world`` until the context ends; port 0 takes a free one.

    At the end, calls that are still under way are broken off.
    """
    app = web.Application()
    Control(world).add_to(app)
    Gateway(world).add_to(app)
    # Handlers end with their client; those that hang on purpose end soon after the server is told to stop.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound_host, bound_port = runner.addresses[0][:2]
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        yield Simulator(world, f"http://{shown}:{bound_port}")
    finally:
        await runner.cleanup()
