"""A connection to a D-Bus message bus: made when it is needed, and again after it broke.

dbus-fast is an extra (``desktop``), so it is imported where it is used.
"""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from watcher.envelope import excerpt
from watcher.errors import ConfigError, SinkUnavailable
from watcher.render import one_line

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

_LONGEST_REASON_CHARS = 200
_BUS = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
_NOBODY = {
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    # A server that was to be started and ended at once, as all of them do where there is no screen.
    "org.freedesktop.DBus.Error.Spawn.ChildExited",
    "org.freedesktop.DBus.Error.Spawn.ChildSignaled",
}


class BusUnavailable(SinkUnavailable):
    """There is no bus, or it is gone."""


class NobodyThere(SinkUnavailable):
    """The bus works, but nobody there is who was called."""


def require_library() -> None:
    """Raise ``ConfigError`` where dbus-fast is not installed."""
    if importlib.util.find_spec("dbus_fast") is None:
        raise ConfigError(
            'dbus-fast, which pop-ups need, is not installed beside watcher: pip install "dbus-fast>=5.2,<6"'
        )


def session_address(environ: Mapping[str, str]) -> str:
    """Return the address of the session's bus, as D-Bus and systemd define it; "" if there is no session.

    A user unit has ``XDG_RUNTIME_DIR`` always, and ``DBUS_SESSION_BUS_ADDRESS`` mostly.
    """
    runtime = environ.get("XDG_RUNTIME_DIR")
    return environ.get("DBUS_SESSION_BUS_ADDRESS") or (f"unix:path={runtime}/bus" if runtime else "")


def system_address(environ: Mapping[str, str]) -> str:
    """Return the address of the system's bus."""
    return environ.get("DBUS_SYSTEM_BUS_ADDRESS") or "unix:path=/run/dbus/system_bus_socket"


class Bus:
    """Calls raise ``BusUnavailable``, ``NobodyThere`` or ``SinkUnavailable``; they have no time limit of their own."""

    def __init__(self, address: str, *, name: str, on_message: Callable[["Message"], None] | None = None) -> None:
        self._address = address
        self._name = name
        self._on_message = on_message
        self._rules: tuple[str, ...] = ()
        self._connection: MessageBus | None = None
        #: How many there were so far.
        self.connections = 0

    def listen(self, *rules: str) -> None:
        """Receive what these match rules describe, from the next connection on."""
        self._rules = rules

    @property
    def is_connected(self) -> bool:
        """Tell whether there is a connection that works as far as is known."""
        return self._connection is not None and self._connection.connected

    async def connect(self) -> None:
        """Connect, unless there is a connection that works."""
        if self.is_connected:
            return
        from dbus_fast.aio import MessageBus  # noqa: PLC0415
        from dbus_fast.errors import DBusFastError  # noqa: PLC0415

        self.close()
        if not self._address:
            raise BusUnavailable(
                f"there is no {self._name}: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"
            )
        try:
            connection = await MessageBus(bus_address=self._address).connect()
        except (DBusFastError, OSError, EOFError, ValueError) as error:
            raise BusUnavailable(f"the {self._name} cannot be reached: {_reason(error)}") from error
        self._connection = connection
        self.connections += 1
        if self._on_message:
            connection.add_message_handler(self._receive)
        is_listening = False
        try:
            for rule in self._rules:
                await self.call(*_BUS, "AddMatch", "s", [rule])
            is_listening = True
        finally:
            if not is_listening:
                self.close()

    def _receive(self, message: "Message") -> None:
        if self._on_message:
            self._on_message(message)

    async def call(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: Sequence[Any] = (),
        *,
        starts_service: bool = False,
        on_serial: Callable[[int], None] = lambda _serial: None,
    ) -> list[Any]:
        """Return the body of the answer; connects if need be.

        ``on_serial`` is told the number that an answer, should it come too late, will refer to.
        """
        from dbus_fast import Message, MessageFlag, MessageType  # noqa: PLC0415
        from dbus_fast.errors import DBusFastError  # noqa: PLC0415

        await self.connect()
        connection = self._connection
        if connection is None:
            raise BusUnavailable(f"the {self._name} is gone")
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(body),
            flags=MessageFlag.NONE if starts_service else MessageFlag.NO_AUTOSTART,
            serial=connection.next_serial(),
        )
        on_serial(message.serial)
        try:
            answer = await connection.call(message)
        except (DBusFastError, OSError, EOFError) as error:
            self.close()
            raise BusUnavailable(f"the {self._name} is gone: {_reason(error)}") from error
        if answer is None:  # the connection was closed meanwhile
            raise BusUnavailable(f"the {self._name} is gone")
        if answer.message_type is MessageType.ERROR:
            raise _refusal(destination, answer)
        return list(answer.body)

    def close(self) -> None:
        """Disconnect; the next call connects again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.connected:
            connection.disconnect()


def _refusal(destination: str, answer: "Message") -> SinkUnavailable:
    if answer.error_name in _NOBODY:
        return NobodyThere(f"nobody answers to {destination} in this session")
    text = str(answer.body[0]) if answer.body else ""
    return SinkUnavailable(
        excerpt(one_line(f"{destination} answered {answer.error_name}: {text}"), _LONGEST_REASON_CHARS)
    )


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return excerpt(one_line(str(error)), _LONGEST_REASON_CHARS) or type(error).__name__
