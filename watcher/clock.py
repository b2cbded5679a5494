"""Real time."""

import time
from datetime import UTC, datetime, timedelta

import anyio

# CLOCK_BOOTTIME goes on while the machine is suspended, so that a poll is due right after it wakes up.
_ELAPSED = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Return seconds since an arbitrary point, time asleep included."""
        return time.clock_gettime(_ELAPSED)

    async def sleep(self, span: timedelta) -> None:
        """Return after ``span`` of time awake."""
        await anyio.sleep(span.total_seconds())
