"""`watcher desktop`: in a login session, show what the daemon of this machine tells."""

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import aiohttp
import anyio
import structlog
from aiohttp import WSMsgType
from anyio.abc import TaskGroup

from watcher import log as logging
from watcher.errors import ConfigError, SinkUnavailable
from watcher.log import Edges
from watcher.popup import (
    LARGEST_MESSAGE_BYTES,
    Close,
    Failed,
    FromDesk,
    Popup,
    Ready,
    Remind,
    Show,
    Shown,
    ToDesk,
    decode_to_desk,
    encode,
)
from watcher.session.bus import require_library
from watcher.session.desk import Desk
from watcher.signals import listen_for_signals
from watcher.web.desks import DESK_URL, HEARTBEAT_S, socket_beside

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Of the unit, and of a daemon that root has started otherwise.
_SYSTEM_SOCKETS = (Path("/run/watcher/desktop.sock"), Path("/var/lib/watcher/watcher.db.desktop.sock"))
_FIRST_PAUSE_S, _LAST_PAUSE_S = 0.5, 15.0
_CONNECT_PATIENCE_S = 5.0
_MOST_KEPT = 50
_TRIED_AGAIN = "tried again until there is one; another place: --socket PATH"


async def show(socket: Path | None) -> None:
    """Show pop-ups until SIGTERM or SIGINT; raises ``ConfigError`` where that can never work."""
    logging.set_up()
    require_library()
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        await group.start(listen_for_signals, stop)
        link = _Link(Places(socket))
        group.start_soon(link.run, group)
        await stop.wait()
        group.cancel_scope.cancel()
    link.desk.disconnect()
    log.info("stopped")


class Places:
    """Where a daemon may listen: at the one place that was named, else at those that daemons use."""

    def __init__(self, named: Path | None) -> None:
        self._named = named
        self._configured: list[Path] | None = None

    def find(self) -> Path | None:
        """Return the first socket that exists."""
        # Not pathlib: where we may not look, there is none for us.
        return next((path for path in self if os.path.exists(path)), None)  # noqa: PTH110

    def __iter__(self) -> Iterator[Path]:
        if self._named:
            yield self._named
            return
        yield from _SYSTEM_SOCKETS
        if os.environ.get("XDG_RUNTIME_DIR"):
            yield Path(os.environ["XDG_RUNTIME_DIR"]) / "watcher" / "desktop.sock"
        if self._configured is None:
            self._configured = list(_beside_the_store())
        yield from self._configured


def _beside_the_store() -> Iterator[Path]:
    """Yield the socket of the daemon whose configuration is at hand; none is needed, nor need it be readable."""
    # Only where it must: this process runs in every session, and the configuration is most of its size.
    from watcher.assemble import state_path  # noqa: PLC0415
    from watcher.config.load import find, load  # noqa: PLC0415

    with suppress(ConfigError):
        yield socket_beside(state_path(load(find(None))), None)


class _Link:
    """The connection to the daemon: made again for ever, because daemons are restarted."""

    def __init__(self, places: Places) -> None:
        self.desk = Desk(os.environ, on_remind=self._remind, on_ready=self._ready)
        self._places = places
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        #: What somebody has clicked while there was no daemon to tell.
        self._kept: list[FromDesk] = []
        self._edges = Edges(log)

    async def run(self, group: TaskGroup) -> None:
        """Stay connected until cancelled."""
        group.start_soon(self.desk.run)
        pause = _FIRST_PAUSE_S
        while True:
            if await self._stay_connected():
                pause = _FIRST_PAUSE_S
            await anyio.sleep(random.uniform(0.5, 1) * pause)  # noqa: S311
            pause = min(pause * 2, _LAST_PAUSE_S)

    async def _stay_connected(self) -> bool:
        """Connect and do what the daemon says until the connection ends; return whether there was one."""
        path = self._places.find()
        if path is None:
            looked = ", ".join(map(str, self._places))
            self._edges.failed("daemon", "no daemon", error=f"there is no socket at {looked}", next=_TRIED_AGAIN)
            return False
        try:
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
                with anyio.fail_after(_CONNECT_PATIENCE_S):
                    socket = await session.ws_connect(
                        f"http://watcher{DESK_URL}", heartbeat=HEARTBEAT_S, max_msg_size=LARGEST_MESSAGE_BYTES
                    )
                async with socket:
                    if self._edges.is_failing("daemon"):
                        self._edges.worked("daemon", "connected", socket=str(path))
                    else:
                        log.info("connected", socket=str(path))
                    await self._obey(socket)
        except aiohttp.WSServerHandshakeError as error:
            self._edges.failed("daemon", "no daemon", error=_refusal(error.status), next=_TRIED_AGAIN)
            return False
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            reason = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else "no answer"
            self._edges.failed("daemon", "no daemon", error=f"{path}: {reason}", next=_TRIED_AGAIN)
            return False
        self._edges.failed("daemon", "daemon gone", error="it ended the connection", next=_TRIED_AGAIN)
        return True

    async def _obey(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        try:
            kept, self._kept = self._kept, []
            for message in kept:
                await self._tell(message, keep=True)
            async with anyio.create_task_group() as steps:
                async for frame in socket:
                    if frame.type is not WSMsgType.TEXT:
                        break
                    steps.start_soon(self._do, decode_to_desk(frame.data))
        except* ValueError:
            log.warning("daemon not understood", next="daemon and desktop should be of the same version")
        finally:
            self._socket = None

    async def _do(self, message: ToDesk) -> None:
        match message:
            case Show(number, popup):
                await self._tell(await self._show(number, popup))
            case Close(ticket):
                try:
                    await self.desk.close(ticket)
                except SinkUnavailable as error:
                    log.debug("pop-up not closed", error=str(error))

    async def _show(self, number: int, popup: Popup) -> FromDesk:
        try:
            await self.desk.show(popup)
        except SinkUnavailable as error:
            self._edges.failed("show", "pop-up not shown", error=error, next="it is shown when that is over")
            return Failed(number, str(error))
        self._edges.worked("show", "pop-ups are shown again")
        return Shown(number)

    async def _tell(self, message: FromDesk, *, keep: bool = False) -> None:
        """Tell the daemon; what it must learn is kept while it is not there."""
        try:
            if self._socket is None:
                raise ConnectionError
            await self._socket.send_str(encode(message))
        except OSError:
            if keep and len(self._kept) < _MOST_KEPT and message not in self._kept:
                self._kept.append(message)

    async def _remind(self, popup: Popup) -> None:
        await self._tell(Remind(popup.event, popup.sink), keep=True)

    async def _ready(self) -> None:
        # Whoever connects counts as ready: this need not be kept.
        await self._tell(Ready())


def _refusal(status: int) -> str:
    if status == HTTPStatus.FORBIDDEN:
        return "the daemon does not serve this user; name it in `users` of a desktop sink"
    return f"the daemon answered {status}; daemon and desktop should be of the same version"
