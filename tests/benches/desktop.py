"""The desktop sink in a session of its own: a real bus, and a notification server that does what it is told."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.benches import Bench
from tests.dbus import open_bus, open_server
from watcher.popup import LockScreen, Popup
from watcher.render import Voice
from watcher.session.desk import Desk
from watcher.sinks.desktop import DesktopSink
from watcher.web.desks import Desks
from watcher.web.peers import own_user


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    """Show pop-ups of examples, which are years old."""

    async def remind(popup: Popup) -> None: ...

    async def ready() -> None: ...

    with tempfile.TemporaryDirectory() as folder:
        async with open_bus(Path(folder)) as bus, open_server(bus) as server:
            sink = DesktopSink(
                name="desk",
                users=[],
                own_user=own_user(),
                desks=Desks(),
                local=lambda _sink: Desk(bus.environ(), on_remind=remind, on_ready=ready, patience=timeout),
                voice=Voice(),
                lock_screen=LockScreen.TITLE,
                oldest=timedelta.max,
            )
            yield Bench(
                sink=sink,
                # A pop-up carries no id: what stands on it is the same for the same event.
                received=lambda: [f"{shown.summary}\n{shown.body}" for shown in server.notified],
                fails=server.fails,
                refuses=None,
                hangs=server.hangs,
            )
            sink.disconnect()
