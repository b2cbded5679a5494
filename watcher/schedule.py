"""Decide when a ticket is looked at next, and how fast an account may be asked. Pure: `now` is an argument.

Times are seconds of ``Clock.elapsed``.
"""

import heapq
import itertools
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from watcher.jitter import fraction

#: A ticket whose last note is older than this is asked at ``idle_interval``, where one is configured.
IDLE_AFTER = timedelta(days=1)
#: A closed ticket may still get a last note: it is asked at this many intervals, for so long after its last one.
_CLOSED_FACTOR = 10
CLOSED_WATCHED_FOR = timedelta(days=7)

# --- how fast: one pace per account -----------------------------------------------------------------------

_LEARNT_FROM = 1.0
_LEARNT_TO = 10.0
_SLOWEST = 0.1
_BURST_S = 2.0
_SMALLEST_BURST = 5.0
_THROTTLE_PAUSE_S = 5.0
_GROWTH_AFTER_THROTTLE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How many calls a second an account spends, and how many it may spend at this moment.

    A configured quota is kept as it is but for pauses. A learnt one starts at one call a second, doubles with
    every second of success until the gateway throttles for the first time, then halves, and grows slowly.
    """

    rate: float = _LEARNT_FROM
    is_learnt: bool = True
    was_throttled: bool = False
    #: Calls that may start at once at the time ``at``, which may lie ahead; below zero they are spent in advance.
    allowance: float = _SMALLEST_BURST
    at: float = 0.0
    paused_until: float = float("-inf")

    @property
    def burst(self) -> float:
        """Return how many unspent calls are kept for later."""
        return max(_SMALLEST_BURST, self.rate * _BURST_S)


def spend(pace: Pace, *, now: float) -> tuple[Pace, float]:
    """Take one call from the pace; return what is left and how many seconds to wait before making the call.

    Those who ask during a pause queue up behind its end.
    """
    allowance = _saved(pace, now=now) - 1
    start = max(now, pace.at, pace.paused_until)
    wait = start - now + max(0.0, -allowance / pace.rate)
    return replace(pace, allowance=allowance, at=start), wait


def _saved(pace: Pace, *, now: float) -> float:
    return min(pace.burst, pace.allowance + max(0.0, now - pace.at) * pace.rate)


def succeeded(pace: Pace) -> Pace:
    """Return the pace after a call that was not throttled."""
    if not pace.is_learnt or pace.rate >= _LEARNT_TO:
        return pace
    # One call in `rate` a second: growing by a share of itself per call doubles the rate each second.
    growth = _GROWTH_AFTER_THROTTLE / pace.rate if pace.was_throttled else 1.0
    return replace(pace, rate=min(_LEARNT_TO, pace.rate + growth))


def throttled(pace: Pace, *, now: float, retry_after: timedelta | None) -> Pace:
    """Return the pace after the gateway said that the account spends too much: the whole account pauses."""
    pause = retry_after.total_seconds() if retry_after else _THROTTLE_PAUSE_S
    until = max(pace.paused_until, now + pause)
    # The pause saves up nothing: one call is free at its end. What is spent in advance stays spent.
    left = min(1.0, _saved(pace, now=now))
    if now < pace.paused_until or not pace.is_learnt:
        # Calls that were under way when the pause began say nothing new.
        return replace(pace, paused_until=until, allowance=left, at=until)
    slower = max(_SLOWEST, pace.rate / 2)
    return replace(pace, rate=slower, was_throttled=True, paused_until=until, allowance=left, at=until)


# --- when: one due time per ticket ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often a watch wants its tickets looked at."""

    interval: timedelta = timedelta(seconds=60)
    #: For tickets without a note for a day; None asks them like the others.
    idle_interval: timedelta | None = None
    #: Share of the interval by which a look may be earlier or later.
    jitter: float = 0.1


_FIRST_BACKOFF_S = 2.0
_LONGEST_BACKOFF_S = 300.0
_REFUSED_INTERVAL_S = 600.0


def after_look(cadence: Cadence, *, key: str, n: int, last_note_age: timedelta | None, is_open: bool) -> float:
    """Return the seconds until the next look after the n-th good one."""
    interval = cadence.interval
    if cadence.idle_interval and last_note_age and last_note_age > IDLE_AFTER:
        interval = max(interval, cadence.idle_interval)
    if not is_open:
        interval = max(interval, cadence.interval * _CLOSED_FACTOR)
    return interval.total_seconds() * (1 + cadence.jitter * (2 * fraction(key, n) - 1))


def after_failure(cadence: Cadence, *, key: str, failures: int) -> float:
    """Return the seconds until the next look after the n-th failed one in a row: doubling, half of it jitter."""
    ceiling = min(_LONGEST_BACKOFF_S, max(5 * cadence.interval.total_seconds(), _FIRST_BACKOFF_S))
    span: float = min(ceiling, _FIRST_BACKOFF_S * 2 ** min(failures - 1, 12))
    return span * (0.5 + 0.5 * fraction(key, failures))


def after_refusal(cadence: Cadence) -> float:
    """Return the seconds until a ticket is tried again that the API will not show."""
    return max(_REFUSED_INTERVAL_S, cadence.interval.total_seconds())


def is_over(last_note_at: datetime | None, *, now: datetime, is_open: bool) -> bool:
    """Tell whether a ticket was closed so long ago that no last note is expected any more."""
    return not is_open and (last_note_at is None or now - last_note_at > CLOSED_WATCHED_FOR)


class Agenda:
    """Tickets in the order of their due times; O(log n) for each change."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._entry: dict[str, int] = {}
        self._entries = itertools.count()

    def put(self, key: str, due: float) -> None:
        """Set when ``key`` is due; an earlier entry of it no longer counts."""
        self._entry[key] = entry = next(self._entries)
        heapq.heappush(self._heap, (due, entry, key))

    def drop(self, key: str) -> None:
        """Forget ``key``."""
        self._entry.pop(key, None)

    def next_due(self) -> float | None:
        """Return when the first entry is due."""
        while self._heap and self._entry.get(self._heap[0][2]) != self._heap[0][1]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take(self, now: float) -> str | None:
        """Remove and return the first entry if it is due."""
        due = self.next_due()
        if due is None or due > now:
            return None
        key = heapq.heappop(self._heap)[2]
        self.drop(key)
        return key
