"""The socket for desktops: `watcher desktop`, run in a login session, is told here what to show.

A WebSocket on a UNIX socket, with the messages of ``watcher.popup``. Anybody on this machine may connect; who it is
says the kernel (SO_PEERCRED, unix(7)), and only the users that a sink names are served.
"""

import asyncio
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import anyio
import structlog
from aiohttp import WSCloseCode, WSMsgType, web

from watcher.errors import SinkUnavailable
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
    decode_from_desk,
    encode,
)
from watcher.web.peers import best_of, listening, names_of, peer

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Part of the address, so that a daemon and a desktop of different ages do not misunderstand one another.
DESK_URL = "/desk/1"
#: How long a desktop may take to show something.
PATIENCE = timedelta(seconds=5)
HEARTBEAT_S = 20.0
_MOST_OF_ONE_USER = 8
_REMEMBERED = 200
_ACCEPT_PAUSE_S = 1.0


class Audience(Protocol):
    """A sink, as far as desktops are concerned."""

    @property
    def users(self) -> Collection[str]:
        """Whose desktops show what it tells: login names or numbers."""
        ...

    @property
    def name(self) -> str:
        """The sink's name."""
        ...

    def ready(self) -> None:
        """Deliver what waits: a desktop is there (again)."""
        ...

    async def remind(self, event: str, user: str) -> None:
        """Tell ``user`` this event again later."""
        ...


def socket_beside(store: Path, runtime_directory: str | None) -> Path:
    """Return the socket's path: in the unit's runtime directory, else beside the store."""
    if runtime_directory:
        return Path(runtime_directory.split(":")[0]) / "desktop.sock"
    return store.with_name(store.name + ".desktop.sock")


@dataclass
class _Call:
    """A pop-up that a desktop was asked to show."""

    done: anyio.Event = field(default_factory=anyio.Event)
    #: Why it was not shown; "" if it was.
    reason: str = "the desktop disconnected"


class _Connection:
    """One connected desktop."""

    def __init__(self, socket: web.WebSocketResponse, names: frozenset[str], *, patience: timedelta) -> None:
        self.names = names
        self._socket = socket
        self._patience_s = patience.total_seconds()
        self._calls: dict[int, _Call] = {}
        self._last_number = 0

    async def show(self, popup: Popup) -> None:
        """Return when the desktop has shown it, else raise ``SinkUnavailable``."""
        self._last_number += 1
        number, call = self._last_number, _Call()
        self._calls[number] = call
        try:
            with anyio.fail_after(self._patience_s):
                await self._send(Show(number, popup))
                await call.done.wait()
        except TimeoutError as error:
            raise SinkUnavailable(f"the desktop did not answer within {self._patience_s:g} s") from error
        except OSError as error:
            raise SinkUnavailable("the desktop disconnected") from error
        finally:
            del self._calls[number]
        if call.reason:
            raise SinkUnavailable(call.reason)

    async def close_ticket(self, ticket: str) -> None:
        """Let what is shown of a ticket be closed; a desktop that does not listen keeps it."""
        try:
            with anyio.move_on_after(self._patience_s):
                await self._send(Close(ticket))
        except OSError:
            return

    async def _send(self, message: ToDesk) -> None:
        await self._socket.send_str(encode(message))

    def answered(self, number: int, reason: str) -> None:
        """Take the answer to a call; one that is no longer waited for means nothing."""
        call = self._calls.get(number)
        if call:
            call.reason = reason
            call.done.set()

    def lost(self) -> None:
        """End what waits for an answer."""
        for call in self._calls.values():
            call.done.set()

    async def end(self) -> None:
        """Say goodbye."""
        await self._socket.close(code=WSCloseCode.GOING_AWAY)


class Desks:
    """The connected desktops, by user. ``serve`` serves the socket; without it there are none."""

    def __init__(self, *, patience: timedelta = PATIENCE) -> None:
        self._patience = patience
        self._audiences: list[Audience] = []
        self._connections: list[_Connection] = []
        self._refused: set[int] = set()
        self._transports: dict[int, list[asyncio.BaseTransport]] = {}
        #: Per user, the tickets that were read last: told to a desktop that was away at that moment.
        self._read: dict[str, dict[str, None]] = {}

    def admit(self, audience: Audience) -> None:
        """Serve the desktops of a sink's users."""
        self._audiences.append(audience)

    def is_connected(self, user: str) -> bool:
        """Tell whether a desktop of this user is there."""
        return any(user in connection.names for connection in self._connections)

    async def show(self, user: str, popup: Popup) -> None:
        """Show a pop-up on every desktop of a user; raises ``SinkUnavailable`` if none has shown it."""
        errors: list[SinkUnavailable] = []
        connections = self._of(user)
        if not connections:
            raise SinkUnavailable(f"{user} has no desktop connected")
        for ticket in popup.tickets:
            self._read.get(user, {}).pop(ticket, None)

        async def show(connection: _Connection) -> None:
            try:
                await connection.show(popup)
            except SinkUnavailable as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            for connection in connections:
                group.start_soon(show, connection)
        if len(errors) == len(connections):
            raise errors[0]

    async def close(self, user: str, ticket: str) -> None:
        """Close what is shown of a ticket to a user."""
        read = self._read.setdefault(user, {})
        read[ticket] = None
        if len(read) > _REMEMBERED:
            del read[next(iter(read))]
        async with anyio.create_task_group() as group:
            for connection in self._of(user):
                group.start_soon(connection.close_ticket, ticket)

    def _of(self, user: str) -> list[_Connection]:
        return [connection for connection in self._connections if user in connection.names]

    # --- the socket ---------------------------------------------------------------------------------------

    async def serve(self, path: Path) -> None:
        """Serve the socket until cancelled; a socket that is left over from a killed daemon is replaced.

        Where a socket cannot be, the daemon runs without.
        """
        if not hasattr(socket, "SO_PEERCRED"):
            log.warning("no desktop socket", error="this system does not say who connects")
            return
        try:
            listener = listening(path)
        except OSError as error:
            log.warning("no desktop socket", path=str(path), error=str(error), next="no `watcher desktop` can connect")
            return
        app = web.Application()
        app.router.add_get(DESK_URL, self._welcome)
        app.on_shutdown.append(self._say_goodbye)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        try:
            await runner.setup()
            log.info("desktop socket", path=str(path))
            await self._accept(listener, runner)
        finally:
            listener.close()
            path.unlink(missing_ok=True)  # noqa: ASYNC240 - the end of it all
            with anyio.CancelScope(shield=True):
                await runner.cleanup()

    async def _accept(self, listener: socket.socket, runner: web.AppRunner) -> None:
        """Hand connections to the server, a few for each user: nobody can use up our file descriptors."""
        loop = asyncio.get_running_loop()
        server = runner.server
        while server is not None:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("desktop not accepted", error=str(error))
                await anyio.sleep(_ACCEPT_PAUSE_S)
                continue
            uid = peer(connection)
            mine = [transport for transport in self._transports.get(uid, []) if not transport.is_closing()]
            if len(mine) >= _MOST_OF_ONE_USER:
                connection.close()
                continue
            transport, _ = await loop.connect_accepted_socket(server, connection)
            self._transports[uid] = [*mine, transport]

    async def _say_goodbye(self, _app: web.Application) -> None:
        async with anyio.create_task_group() as group:
            for connection in self._connections:
                group.start_soon(connection.end)

    async def _welcome(self, request: web.Request) -> web.StreamResponse:
        """Serve one desktop until it leaves."""
        transport = request.transport
        if transport is None:
            return web.Response(status=400)
        uid = peer(transport.get_extra_info("socket"))
        names = await names_of(uid)
        if not any(names.intersection(audience.users) for audience in self._audiences):
            if uid not in self._refused:
                self._refused.add(uid)
                log.warning(
                    "desktop refused",
                    user=best_of(names),
                    next="if it is one of yours, name it in `users` of a desktop sink",
                )
            return web.Response(status=403)
        response = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=LARGEST_MESSAGE_BYTES, timeout=1)
        await response.prepare(request)
        await self._converse(response, _Connection(response, names, patience=self._patience))
        return response

    async def _converse(self, response: web.WebSocketResponse, connection: _Connection) -> None:
        self._connections.append(connection)
        user = best_of(connection.names)
        log.info("desktop connected", user=user)
        try:
            for ticket in self._read_by(connection):
                await connection.close_ticket(ticket)
            self._say_ready(connection)
            async for message in response:
                if message.type is not WSMsgType.TEXT:
                    break
                await self._take(decode_from_desk(message.data), connection)
        except ValueError:
            log.warning("desktop disconnected", user=user, error="it said what nobody understands")
        finally:
            self._connections.remove(connection)
            connection.lost()
            log.info("desktop left", user=user)

    def _read_by(self, connection: _Connection) -> list[str]:
        return [ticket for user in connection.names for ticket in self._read.get(user, ())]

    async def _take(self, message: FromDesk, connection: _Connection) -> None:
        match message:
            case Shown(number):
                connection.answered(number, "")
            case Failed(number, reason):
                connection.answered(number, reason or "no reason given")
            case Ready():
                self._say_ready(connection)
            case Remind(event, sink):
                for audience, user in self._audiences_of(connection):
                    if audience.name == sink:
                        await audience.remind(event, user)

    def _say_ready(self, connection: _Connection) -> None:
        for audience, _ in self._audiences_of(connection):
            audience.ready()

    def _audiences_of(self, connection: _Connection) -> Iterable[tuple[Audience, str]]:
        for audience in self._audiences:
            for user in connection.names.intersection(audience.users):
                yield audience, user
