"""Decide what follows an attempt. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from watcher.errors import PermanentError, TransientError
from watcher.jitter import fraction
from watcher.model import Dead, Delivered, Delivery, Kind, Retry, Verdict

#: Waits between the attempts, as the Standard Webhooks specification suggests: 10 attempts over 75 hours.
DEFAULT_SCHEDULE = tuple(
    timedelta(**span)
    for span in (
        {"seconds": 5},
        {"minutes": 5},
        {"minutes": 30},
        {"hours": 2},
        {"hours": 5},
        {"hours": 10},
        {"hours": 14},
        {"hours": 20},
        {"hours": 24},
    )
)
#: A receiver's Retry-After is obeyed up to this.
LONGEST_RETRY_AFTER = timedelta(hours=24)
_JITTER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how long a delivery is tried."""

    schedule: Sequence[timedelta] = DEFAULT_SCHEDULE


def judge(
    delivery: Delivery, error: TransientError | PermanentError | None, *, now: datetime, policy: RetryPolicy
) -> Verdict:
    """Return the verdict on the attempt that just ended with ``error``; None is success.

    An attempt that came before its time takes nothing from the schedule; but what has failed more often than the
    schedule holds, for longer than it lasts, is given up all the same.
    """
    if error is None:
        return Delivered(now)
    if isinstance(error, PermanentError) or delivery.event.kind is Kind.TEST:
        # Who asked for a test waits for what comes of it; nobody wants it in the middle of the night.
        return Dead(now, str(error))
    made = delivery.attempts + 1
    step = max(made - delivery.hastened, 1)
    is_old = made > len(policy.schedule) and now - delivery.created_at > sum(policy.schedule, timedelta())
    if step > len(policy.schedule) or is_old:
        return Dead(now, f"{error}; given up after {made} attempts")
    wait = policy.schedule[step - 1]
    wait += wait * _JITTER * fraction(delivery.event.id, delivery.sink, made)
    if error.retry_after:
        wait = max(wait, min(error.retry_after, LONGEST_RETRY_AFTER))
    return Retry(now + wait, str(error))


def rest(failures: int, error: TransientError, *, wait: timedelta | None = None) -> timedelta:
    """Return how long a whole sink rests after its n-th failure in a row, before the next event tries it.

    Short, because the first success ends the trouble for all that wait, and never longer than the delivery itself
    is to ``wait``; a time that the receiver named is kept.
    """
    if failures <= 0:
        return timedelta()
    own = timedelta(seconds=min(2 ** min(failures - 1, 6), 60))
    if wait is not None:
        own = min(own, wait)
    return max(own, min(error.retry_after or timedelta(), LONGEST_RETRY_AFTER))
