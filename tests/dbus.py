"""A message bus of our own, and on it a notification server that does what it is told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from dbus_fast import Message, MessageType, Variant
from dbus_fast.aio import MessageBus

from tests.programs import needs
from watcher.popup import LockScreen, Popup

NOTIFICATIONS, SAVER, LOGIND = (
    "org.freedesktop.Notifications",
    "org.freedesktop.ScreenSaver",
    "org.freedesktop.login1",
)
# With no folder of services but our own: nothing on this machine is started for us.
_CONFIG = """\
<busconfig>
  <type>session</type>
  <listen>unix:path={path}</listen>
  <servicedir>{services}</servicedir>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_type="signal"/>
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
  </policy>
</busconfig>
"""

needs_bus = needs("dbus-daemon")


def a_popup(**more: Any) -> Popup:
    values: dict[str, Any] = {
        "key": "prod/0005PYGCW",
        "event": "msg_1",
        "sink": "desk",
        "tickets": ("prod/0005PYGCW",),
        "summary": "Agent 1024 replied: Why ECS renewal failed?",
        "body": "0005PYGCW, prod. Use <b> & retry.",
        "url": "https://console.example/0005PYGCW",
        "open_label": "Open ticket",
        "remind_label": "Remind me in 1 hour",
        "lock_screen": LockScreen.TITLE,
    }
    return Popup(**{name: value for part in (values, more) for name, value in part.items()})


@dataclass
class PrivateBus:
    """A running dbus-daemon."""

    address: str
    process: asyncio.subprocess.Process

    def environ(self, **more: str) -> dict[str, str]:
        """Return what a session on this bus has in its environment; the system's bus is none."""
        return {"DBUS_SESSION_BUS_ADDRESS": self.address, "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nowhere"} | more

    async def dies(self) -> None:
        """End, as at the end of a session."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def open_bus(folder: Path, *, starts: str = "") -> AsyncIterator[PrivateBus]:
    """Run a bus whose socket is in ``folder``; it starts a command as its notification server, if there is one."""
    config, socket, services = folder / "bus.conf", folder / "bus", folder / "services"
    config.write_text(_CONFIG.format(path=socket, services=services))
    services.mkdir(exist_ok=True)
    if starts:
        (services / "server.service").write_text(f"[D-BUS Service]\nName={NOTIFICATIONS}\nExec={starts}\n")
    process = await asyncio.create_subprocess_exec(
        "dbus-daemon",
        f"--config-file={config}",
        "--nofork",
        "--nosyslog",
        "--print-address",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    bus = PrivateBus(f"unix:path={socket}", process)
    try:
        assert process.stdout
        with anyio.fail_after(30):
            assert await process.stdout.readline()
        yield bus
    finally:
        with anyio.CancelScope(shield=True):
            await bus.dies()


@dataclass(frozen=True)
class Notified:
    """One call of Notify."""

    number: int
    replaces: int
    summary: str
    body: str
    actions: list[str]
    hints: Mapping[str, Any]
    client: str
    application: str
    icon: str
    expires: int


@dataclass
class Server:
    """A notification server, a screen saver and a logind in one."""

    bus: MessageBus
    notified: list[Notified] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    capabilities: list[str] = field(default_factory=lambda: ["body", "body-markup", "actions"])
    asked: list[str] = field(default_factory=list)
    is_locked: bool = False
    #: Answer nothing about the lock.
    is_silent: bool = False
    #: Answer every question with a text.
    is_strange: bool = False
    _hanging: list[Message] | None = None
    _errors: list[str] = field(default_factory=list)
    _last_number: int = 0

    # --- what it is told to do ---

    def hangs(self) -> None:
        """Answer nothing from now on."""
        self._hanging = []

    def works(self) -> None:
        """Answer again; what was asked meanwhile is answered late."""
        hanging, self._hanging = self._hanging or [], None
        for message in hanging:
            self.bus.send(self._answer(message))

    def fails(self, text: str = "too many notifications") -> None:
        """Refuse the next Notify."""
        self._errors.append(text)

    async def leaves(self) -> None:
        """Give up the name, as a server that ends."""
        await self.bus.release_name(NOTIFICATIONS)

    async def returns(self) -> None:
        """Take the name, as a server that starts."""
        self.notified.clear()
        await self.bus.request_name(NOTIFICATIONS)

    def clicks(self, action: str, number: int | None = None) -> None:
        """Let a person click on a pop-up (the last one)."""
        shown = next(each for each in reversed(self.notified) if number in {None, each.number})
        self._signal(NOTIFICATIONS, "ActionInvoked", "us", [shown.number, action], to=shown.client)

    def dismisses(self, number: int) -> None:
        """Let a person close a pop-up."""
        self._signal(NOTIFICATIONS, "NotificationClosed", "uu", [number, 2])

    def locks(self) -> None:
        """Lock the screen."""
        self.is_locked = True
        self._signal(SAVER, "ActiveChanged", "b", [True])

    def unlocks(self) -> None:
        """Unlock the screen."""
        self.is_locked = False
        self._signal(SAVER, "ActiveChanged", "b", [False])

    # --- how it does it ---

    def _signal(self, interface: str, member: str, signature: str, body: list[Any], to: str | None = None) -> None:
        path = "/" + interface.replace(".", "/")
        self.bus.send(
            Message(
                message_type=MessageType.SIGNAL,
                destination=to,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=body,
            )
        )

    def handle(self, message: Message) -> Message | bool | None:
        if message.message_type is not MessageType.METHOD_CALL or not message.interface:
            return None
        self.asked.append(message.member or "")
        if self._hanging is not None and message.interface == NOTIFICATIONS:
            self._hanging.append(message)
            return True
        if self.is_silent and message.member == "GetActive":
            return True
        return self._answer(message)

    def _answer(self, message: Message) -> Message:
        if self.is_strange:
            return Message.new_method_return(message, "s", ["well"])
        match message.member:
            case "GetCapabilities":
                return Message.new_method_return(message, "as", [self.capabilities])
            case "Notify":
                if self._errors:
                    return Message.new_error(message, "org.example.Error.Excess", self._errors.pop(0))
                return Message.new_method_return(message, "u", [self._notify(message)])
            case "CloseNotification":
                self.closed += message.body
                return Message.new_method_return(message)
            case "GetActive":
                return Message.new_method_return(message, "b", [self.is_locked])
            case "Get":
                return Message.new_method_return(message, "v", [Variant("b", self.is_locked)])
        return Message.new_error(message, "org.freedesktop.DBus.Error.UnknownMethod", message.member or "")

    def _notify(self, message: Message) -> int:
        application, replaces, icon, summary, body, actions, hints, expires = message.body
        if not replaces:
            self._last_number += 1
        number = replaces or self._last_number
        plain = {name: value.value for name, value in hints.items()}
        self.notified.append(
            Notified(number, replaces, summary, body, actions, plain, message.sender or "", application, icon, expires)
        )
        return int(number)


@asynccontextmanager
async def open_server(bus: PrivateBus, *names: str) -> AsyncIterator[Server]:
    """Run a server on the bus under these names (that of notifications, if none is given)."""
    connection = await MessageBus(bus_address=bus.address).connect()
    server = Server(connection)
    connection.add_message_handler(server.handle)
    for name in names or (NOTIFICATIONS,):
        await connection.request_name(name)
    try:
        yield server
    finally:
        if connection.connected:
            connection.disconnect()
            await connection.wait_for_disconnect()  # type: ignore[no-untyped-call]
