"""The daemon's socket beside its store: what only the running process knows, for the commands of the same machine.

A poll that finds nothing writes nothing, so when a ticket was last looked at stands in no file.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from aiohttp import web

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_TIMEOUT_S = 5.0


def socket_of(store: Path) -> Path:
    """Return the socket of the daemon that works on ``store``."""
    return store.with_name(store.name + ".sock")


@asynccontextmanager
async def open_control(store: Path, answers: dict[str, Callable[[], Any]]) -> AsyncIterator[None]:
    """Answer ``GET /NAME`` with what the function of that name returns, as JSON, to whoever may open the socket.

    Who holds the store's lock calls this: a socket that is left over from a killed daemon is replaced. Where a
    socket cannot be (the path is too long, a file system without sockets), the daemon runs without.
    """
    app = web.Application()
    for name, answer in answers.items():
        app.router.add_get(f"/{name}", _handler(answer))
    runner = web.AppRunner(app, access_log=None)
    path = socket_of(store)
    await runner.setup()
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        await web.UnixSite(runner, path).start()
    except OSError as error:
        log.warning("no control socket", path=str(path), error=str(error), next="commands show what is stored")
    finally:
        os.umask(before)
    try:
        yield
    finally:
        await runner.cleanup()
        path.unlink(missing_ok=True)


def _handler(answer: Callable[[], Any]) -> Callable[[web.Request], Any]:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(answer())

    return handle


async def ask(store: Path, name: str) -> Any:
    """Return what the running daemon answers to ``GET /NAME``, or None if none runs (or none that is so able)."""
    path = socket_of(store)
    if not path.exists():
        return None
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path)), timeout=timeout) as session,
            session.get(f"http://watcher/{name}", raise_for_status=True) as response,
        ):
            return await response.json()
    except (OSError, TimeoutError, aiohttp.ClientError):
        return None
