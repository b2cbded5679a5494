"""The notification server of a session: what is shown on it, and what people do with that.

Source: Desktop Notifications Specification 1.2 (specifications.freedesktop.org/notification-spec).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from watcher.errors import SinkUnavailable
from watcher.popup import Popup
from watcher.session import screen
from watcher.session.bus import Bus, NobodyThere, session_address

if TYPE_CHECKING:
    from dbus_fast import Message

Value = TypeVar("Value")

_NAME = "org.freedesktop.Notifications"
_SERVER = (_NAME, "/org/freedesktop/Notifications", _NAME)
_BUS_NAME = "org.freedesktop.DBus"
_BUS = (_BUS_NAME, "/org/freedesktop/DBus", _BUS_NAME)
_RULES = (
    f"type='signal',interface='{_NAME}'",
    f"type='signal',sender='{_BUS_NAME}',interface='{_BUS_NAME}',member='NameOwnerChanged',arg0='{_NAME}'",
)
_APPLICATION, _DESKTOP_ENTRY, _ICON, _CATEGORY = "Ticket Watcher", "watcher", "mail-unread-symbolic", "im.received"
_NORMAL, _CRITICAL = 1, 2
#: The keys of the actions; `default` is a click on the pop-up itself, which not every desktop has.
DEFAULT, OPEN, REMIND = "default", "open", "remind"
_SERVER_DECIDES = -1
# Clicks on pop-ups that are long gone from the screen, but not from the desktop's list of missed ones.
_REMEMBERED = 200
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass
class _OnScreen:
    """A pop-up that is shown."""

    number: int
    #: Its tickets that are not read yet.
    unread: set[str]


@dataclass
class _Memory:
    """What is known of one running server; another one knows nothing of it."""

    #: Which one it is; "" for none yet.
    owner: str = ""
    capabilities: frozenset[str] | None = None
    on_screen: dict[str, _OnScreen] = field(default_factory=dict)
    by_number: dict[int, Popup] = field(default_factory=dict)

    def keep(self, number: int, popup: Popup) -> None:
        self.on_screen[popup.key] = _OnScreen(number, set(popup.tickets))
        self.by_number.pop(number, None)
        self.by_number[number] = popup
        while len(self.by_number) > _REMEMBERED:
            del self.by_number[next(iter(self.by_number))]

    def closed(self, number: int) -> None:
        """Forget that it is on the screen; what was clicked on it may still be told."""
        self.on_screen = {key: shown for key, shown in self.on_screen.items() if shown.number != number}


class Notifications:
    """Shows, replaces and closes pop-ups. Raises ``SinkUnavailable``; has no time limit of its own."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        on_click: Callable[[Popup, str], None],
        on_change: Callable[[], None],
    ) -> None:
        self.bus = Bus(session_address(environ), name="session bus", on_message=self._receive)
        self.bus.listen(*_RULES, *screen.RULES)
        # Started where there is no screen, a server ends at once, and the bus refuses its name for two minutes.
        self._may_start_server = bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))
        self._on_click = on_click
        self._on_change = on_change
        self._memory = _Memory()
        #: On which of the bus's connections the server was asked what it can do.
        self._connection = 0
        #: What was asked to be shown and not answered yet, by the number of the call.
        self._unanswered: dict[int, Popup] = {}

    async def check(self) -> frozenset[str]:
        """Return what the server can do; asked anew whenever it may be another one."""
        await self.bus.connect()
        if self._connection != self.bus.connections:
            self._connection, self._memory.capabilities = self.bus.connections, None
            self._unanswered.clear()
        if self._memory.capabilities is None:
            try:
                capabilities = _only(await self._call("GetCapabilities"), list)
                owner = await self._owner()
            except NobodyThere as error:
                raise SinkUnavailable("no notification server runs in this session") from error
            if owner != self._memory.owner:
                self._memory = _Memory(owner=owner)
            self._memory.capabilities = frozenset(capabilities)
        return self._memory.capabilities

    async def _owner(self) -> str:
        """Return which server it is: its address on the bus, and which bus that is."""
        owner = _only(await self.bus.call(*_BUS, "GetNameOwner", "s", [_NAME]), str)
        bus = _only(await self.bus.call(*_BUS, "GetId"), str)
        return f"{owner} on {bus}"

    async def show(self, popup: Popup, *, body: str) -> None:
        """Show a pop-up, in the place of the last one with its key."""
        capabilities = await self.check()
        before = self._memory.on_screen.get(popup.key)
        arguments = _arguments(popup, body, capabilities, before.number if before else 0)
        try:
            answer = await self._call("Notify", "susssasa{sv}i", arguments, partial(self._expect, popup))
        except NobodyThere as error:
            self._memory.capabilities = None
            raise SinkUnavailable("no notification server runs in this session") from error
        self._memory.keep(_only(answer, int), popup)

    def _expect(self, popup: Popup, serial: int) -> None:
        self._unanswered[serial] = popup
        while len(self._unanswered) > _REMEMBERED:
            del self._unanswered[next(iter(self._unanswered))]

    async def close(self, ticket: str) -> None:
        """Close the pop-ups that tell of this ticket and of no other that is unread."""
        for key, shown in list(self._memory.on_screen.items()):
            shown.unread.discard(ticket)
            if not shown.unread:
                del self._memory.on_screen[key]
                await self._call("CloseNotification", "u", [shown.number])

    async def remove(self, popup: Popup) -> None:
        """Close this pop-up, if it is still there."""
        shown = self._memory.on_screen.pop(popup.key, None)
        if shown:
            await self._call("CloseNotification", "u", [shown.number])

    async def _call(
        self,
        member: str,
        signature: str = "",
        body: list[Any] | None = None,
        on_serial: Callable[[int], None] = lambda _serial: None,
    ) -> list[Any]:
        return await self.bus.call(
            *_SERVER, member, signature, body or [], starts_service=self._may_start_server, on_serial=on_serial
        )

    # --- what the server says -----------------------------------------------------------------------------

    def _receive(self, message: "Message") -> None:
        match (message.interface, message.member, message.body):
            case (_, "ActionInvoked", [int(number), str(action)]) if message.interface == _NAME:
                popup = self._memory.by_number.get(number)
                if popup:
                    self._on_click(popup, action)
            case (_, "NotificationClosed", [int(number), *_]) if message.interface == _NAME:
                self._memory.closed(number)
            case (_, "NameOwnerChanged", [str(name), str(), str()]) if name == _NAME:
                self._memory.capabilities = None
                self._on_change()
            case (interface, "ActiveChanged", _) if screen.is_about_the_screen(interface):
                self._on_change()
            case (_, _, [int(number)]) if message.reply_serial in self._unanswered:
                # Perhaps after our patience has ended: when it is told again, this one is to be replaced.
                self._memory.keep(number, self._unanswered.pop(message.reply_serial))


def _only(answer: list[Any], kind: type[Value]) -> Value:
    """Return the one value of an answer; raises ``SinkUnavailable`` if it is something else."""
    match answer:
        case [kind() as value]:
            return value
    raise SinkUnavailable("the notification server answers something strange")


def _arguments(popup: Popup, body: str, capabilities: frozenset[str], replaces: int) -> list[Any]:
    """Return what ``Notify`` is called with."""
    from dbus_fast import Variant  # noqa: PLC0415

    actions = []
    if "actions" in capabilities and popup.open_label:
        # The name of the default action is for nobody to read, but Xfce would make a second button of it.
        actions += [DEFAULT, "", OPEN, popup.open_label]
    if "actions" in capabilities and popup.remind_label:
        actions += [REMIND, popup.remind_label]
    hints = {
        "urgency": Variant("y", _CRITICAL if popup.is_urgent else _NORMAL),
        "category": Variant("s", _CATEGORY),
        "desktop-entry": Variant("s", _DESKTOP_ENTRY),
    }
    if "body-markup" in capabilities:
        body = body.translate(_ENTITIES)
    return [_APPLICATION, replaces, _ICON, popup.summary, body, actions, hints, _SERVER_DECIDES]
