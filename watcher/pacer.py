"""One account's pace, and the waiting that it asks for."""

from dataclasses import replace
from datetime import timedelta

from watcher import schedule
from watcher.ports import Clock
from watcher.schedule import Pace


class Pacer:
    """One account's pace, and the waiting that it asks for."""

    def __init__(self, clock: Clock, pace: Pace) -> None:
        self._clock = clock
        self.pace = replace(pace, at=clock.elapsed())

    async def turn(self, *, is_urgent: bool = False) -> None:
        """Return when the account may make one more call.

        An urgent call is spent like any other but waits only for a pause: the calls after it wait longer.
        """
        self.pace, wait = schedule.spend(self.pace, now=self._clock.elapsed())
        if is_urgent:
            wait = self.pace.paused_until - self._clock.elapsed()
        while wait > 0:
            await self._clock.sleep(timedelta(seconds=wait))
            wait = self.pace.paused_until - self._clock.elapsed()

    def succeeded(self) -> None:
        """Note a call that was not throttled."""
        self.pace = schedule.succeeded(self.pace)

    def throttled(self, retry_after: timedelta | None) -> None:
        """Note that the gateway wants less: the account waits."""
        self.pace = schedule.throttled(self.pace, now=self._clock.elapsed(), retry_after=retry_after)

    def pause(self, span: timedelta) -> None:
        """Make no call for ``span``, whatever the pace."""
        until = max(self.pace.paused_until, self._clock.elapsed() + span.total_seconds())
        self.pace = replace(self.pace, paused_until=until)
