"""This session as a desk: it shows pop-ups within a time limit, obeys the lock screen, and hears clicks."""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

import anyio
from anyio.abc import TaskGroup

from watcher.bell import Bell
from watcher.errors import SinkUnavailable
from watcher.popup import LockScreen, Popup
from watcher.session import screen
from watcher.session.bus import Bus, system_address
from watcher.session.notifications import DEFAULT, OPEN, REMIND, Notifications
from watcher.session.opener import open_page

#: Less than a daemon waits for the answer, so that it learns the reason.
PATIENCE = timedelta(seconds=4)
_MOST_PAGES_AT_ONCE = 4
_MOST_CLICKS = 20
# While something could not be shown, so often is looked whether it can be now; signals are quicker.
_FIRST_LOOK_S, _LAST_LOOK_S = 2.0, 60.0


class Desk:
    """Raises ``SinkUnavailable`` from ``show``, within ``patience``. Clicks are heard while ``run`` runs."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        on_remind: Callable[[Popup], Awaitable[None]],
        on_ready: Callable[[], Awaitable[None]],
        patience: timedelta = PATIENCE,
    ) -> None:
        self._environ = environ
        self._on_remind = on_remind
        self._on_ready = on_ready
        self._patience_s = patience.total_seconds()
        self._notifications = Notifications(environ, on_click=self._click, on_change=self._look_now)
        self._system = Bus(system_address(environ), name="system bus")
        self._clicks: deque[tuple[Popup, str]] = deque(maxlen=_MOST_CLICKS)
        self._bell = Bell()
        self._showing = anyio.Lock()
        #: The last pop-up could not be shown: something waits for that to end.
        self._is_hindered = False
        self._was_locked = False
        self._look_every_s = _FIRST_LOOK_S
        self._look_at = float("inf")

    async def show(self, popup: Popup) -> None:
        """Show a pop-up as the lock screen allows."""
        try:
            await self._within_patience(partial(self._show, popup))
        except SinkUnavailable:
            self._is_hindered = True
            self._look_at = anyio.current_time() + self._look_every_s
            self._bell.ring()
            raise
        self._look_every_s = _FIRST_LOOK_S
        # Something else may still wait for the screen to be unlocked.
        if not self._was_locked:
            self._is_hindered, self._look_at = False, float("inf")

    async def _show(self, popup: Popup) -> None:
        body = popup.body
        if popup.lock_screen is not LockScreen.FULL:
            await self._notifications.bus.connect()
            if await self._is_locked():
                if popup.lock_screen is LockScreen.NONE:
                    self._was_locked = True
                    raise SinkUnavailable("the screen is locked")
                body = ""
        await self._notifications.show(popup, body=body)

    async def _is_locked(self) -> bool:
        return await screen.is_locked(self._notifications.bus, self._system)

    async def close(self, ticket: str) -> None:
        """Close what is shown of a ticket that was read."""
        await self._within_patience(partial(self._notifications.close, ticket))

    async def _within_patience(self, step: Callable[[], Awaitable[object]]) -> None:
        try:
            with anyio.fail_after(self._patience_s):
                async with self._showing:
                    await step()
        except TimeoutError as error:
            raise SinkUnavailable(f"the notification server did not answer within {self._patience_s:g} s") from error

    # --- what people do -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Do what is clicked, and say when pop-ups can be shown again; until cancelled."""
        async with anyio.create_task_group() as pages:
            limiter = anyio.Semaphore(_MOST_PAGES_AT_ONCE)
            while True:
                await self._bell.wait(min(self._look_at - anyio.current_time(), _LAST_LOOK_S))
                while self._clicks:
                    await self._act(*self._clicks.popleft(), pages, limiter)
                if self._is_hindered and anyio.current_time() >= self._look_at and await self._can_show():
                    self._is_hindered = self._was_locked = False
                    self._look_at = float("inf")
                    await self._on_ready()

    def _click(self, popup: Popup, action: str) -> None:
        self._clicks.append((popup, action))
        self._bell.ring()

    def _look_now(self) -> None:
        if self._is_hindered:
            self._look_at = anyio.current_time()
            self._bell.ring()

    async def _act(self, popup: Popup, action: str, pages: TaskGroup, limiter: anyio.Semaphore) -> None:
        if action in {DEFAULT, OPEN} and popup.url:
            pages.start_soon(self._open, popup.url, limiter)
        elif action == REMIND and popup.remind_label:
            await self._on_remind(popup)
            try:
                await self._within_patience(partial(self._notifications.remove, popup))
            except SinkUnavailable:
                return

    async def _open(self, url: str, limiter: anyio.Semaphore) -> None:
        async with limiter:
            await open_page(url, environ=self._environ)

    async def _can_show(self) -> bool:
        """Try what the last pop-up failed at; the longer it fails, the less often."""
        self._look_every_s = min(self._look_every_s * 2, _LAST_LOOK_S)
        self._look_at = anyio.current_time() + self._look_every_s
        try:
            await self._within_patience(self._notifications.check)
            return not (self._was_locked and await self._is_locked())
        except SinkUnavailable:
            return False

    def disconnect(self) -> None:
        """Leave the buses; what is shown stays."""
        self._notifications.bus.close()
        self._system.close()
