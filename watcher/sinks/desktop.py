"""Show events as pop-ups: on the desktops that are connected, or in the daemon's own session."""

import hashlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import anyio

from watcher import popup as popups
from watcher.bell import Bell
from watcher.errors import SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import Delivery, Event
from watcher.popup import LockScreen, Popup
from watcher.render import Voice
from watcher.session.bus import BusUnavailable
from watcher.session.desk import Desk

#: What nobody was there to be shown for so long is no news: it stays in the history, as given up.
OLDEST = timedelta(days=3)
_IDLE_S = 60.0
_MOST_CLOSES = 200
_BOTH_WAYS = "run `watcher desktop` in the session of the daemon's user, or name others in `users` and run it in theirs"


class Desks(Protocol):
    """The desktops that are connected."""

    def is_connected(self, user: str) -> bool:
        """Tell whether a desktop of this user is there."""
        ...

    async def show(self, user: str, popup: Popup) -> None:
        """Show it on every desktop of a user; raises ``SinkUnavailable`` if none has shown it."""
        ...

    async def close(self, user: str, ticket: str) -> None:
        """Close what is shown of a ticket to a user."""
        ...


class DesktopSink:
    """One pop-up for each ticket, replaced by the next; each of ``users`` is a receiver with an outcome of their own.

    Without ``users`` it is for ``own_user``, who runs the daemon: on their connected desktops, else in the session
    that the daemon itself runs in (``local``).
    """

    parallel = 1
    spacing = timedelta()
    most_at_once = 2

    def __init__(
        self,
        *,
        name: str,
        users: Sequence[str],
        own_user: str,
        desks: Desks,
        local: Callable[["DesktopSink"], Desk],
        voice: Voice,
        lock_screen: LockScreen,
        oldest: timedelta = OLDEST,
    ) -> None:
        self.name = name
        self.target = hashlib.sha256("\n".join(("desktop", *users)).encode()).hexdigest()
        self.users = tuple(dict.fromkeys(users)) or (own_user,)
        self._is_own = not users
        self._desks = desks
        self._local = local(self) if self._is_own else None
        self._voice = voice
        self._lock_screen = lock_screen
        self._oldest = oldest
        self._closes: deque[str] = deque(maxlen=_MOST_CLOSES)
        self._bell = Bell()
        #: Set by whoever puts the daemon together.
        self.on_ready: Callable[[], None] = _nothing
        self.on_remind: Callable[[str, str], Awaitable[None]] = _nobody

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Show the event to everybody, or to the one that the delivery is for."""
        self._refuse_what_is_old(delivery, now=now)
        shown = self._popup(delivery.event)
        if delivery.receiver:
            if delivery.receiver not in self.users:
                raise SinkRejected(f"{delivery.receiver} is no longer among the receivers of this sink")
            await self._show(delivery.receiver, shown)
            return
        left: dict[str, SinkUnavailable] = {}

        async def show(user: str) -> None:
            try:
                await self._show(user, shown)
            except SinkUnavailable as error:
                left[user] = error

        async with anyio.create_task_group() as group:
            for user in self.users:
                group.start_soon(show, user)
        if len(left) == len(self.users):
            raise SinkUnavailable("; ".join(dict.fromkeys(str(left[user]) for user in self.users)))
        if left:
            raise SinkPartly(left)

    def _refuse_what_is_old(self, delivery: Delivery, *, now: datetime) -> None:
        """Refuse what waited too long, unless a person asked for it again; of a digest, the newest counts."""
        newest = max(event.recorded_at for event in delivery.event.events or (delivery.event,))
        if not delivery.replay and now - newest > self._oldest:
            raise SinkRejected(f"not shown within {self._oldest.days} days")

    async def _show(self, user: str, shown: Popup) -> None:
        if self._local is None or self._desks.is_connected(user):
            await self._desks.show(user, shown)
            return
        try:
            await self._local.show(shown)
        except BusUnavailable as error:
            raise SinkUnavailable(f"{error}; {_BOTH_WAYS}") from error

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        """Return the pop-up's lines."""
        return popups.plain(self._popup(event))

    def _popup(self, event: Event) -> Popup:
        return popups.popup(event, self._voice, sink=self.name, lock_screen=self._lock_screen)

    # --- beside deliveries --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Close what was read, and in the daemon's own session hear clicks; until cancelled."""
        async with anyio.create_task_group() as group:
            if self._local:
                group.start_soon(self._local.run)
            while True:
                await self._bell.wait(_IDLE_S)
                while self._closes:
                    await self._close(self._closes.popleft())

    def was_read(self, ticket: str) -> None:
        """Close, in a moment, what is shown of a ticket (``account/number``): somebody has read it."""
        self._closes.append(ticket)
        self._bell.ring()

    async def _close(self, ticket: str) -> None:
        for user in self.users:
            await self._desks.close(user, ticket)
        if self._local:
            try:
                await self._local.close(ticket)
            except SinkUnavailable:
                return

    def ready(self) -> None:
        """Have what waits delivered: a desktop is there (again)."""
        self.on_ready()

    async def remind(self, event: str, user: str) -> None:
        """Have the event told to ``user`` again later."""
        await self.on_remind(event, "" if self._is_own else user)

    def disconnect(self) -> None:
        """Leave the daemon's own session; what is shown stays."""
        if self._local:
            self._local.disconnect()


def _nothing() -> None:
    pass


async def _nobody(_event: str, _receiver: str) -> None:
    pass
