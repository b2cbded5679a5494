"""What the gateway remembers of earlier calls: the quota spent, and the nonces seen."""

from collections import OrderedDict

#: Twice the date window: a request older than that is refused by its date.
_NONCE_SECONDS = 30 * 60
_NONCE_LIMIT = 200_000


class Quota:
    """A token bucket: ``per_second`` calls on average, and at most one second's worth at once."""

    def __init__(self, per_second: float, now: float) -> None:
        if not 0 <= per_second < float("inf"):
            raise ValueError(f"a quota is calls per second, zero or more, not {per_second:g}")
        self.per_second = per_second
        self._capacity = max(1.0, per_second) if per_second else 0.0
        self._tokens = self._capacity
        self._filled_at = now

    def spend(self, now: float) -> float:
        """Take one call; return 0, or the seconds after which one will be free."""
        # A clock set back must not empty the bucket.
        elapsed = max(0.0, now - self._filled_at)
        self._tokens = min(self._capacity, self._tokens + elapsed * self.per_second)
        self._filled_at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.per_second if self.per_second else 1.0


class Nonces:
    """The nonces of the last half hour, bounded: beyond the limit the oldest is forgotten."""

    def __init__(self, limit: int = _NONCE_LIMIT) -> None:
        self._limit = limit
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, key_id: str, nonce: str, now: float) -> bool:
        """Remember a nonce; return False if it was used before."""
        while self._seen:
            oldest = next(iter(self._seen))
            if len(self._seen) < self._limit and now - self._seen[oldest] < _NONCE_SECONDS:
                break
            del self._seen[oldest]
        if (key_id, nonce) in self._seen:
            return False
        self._seen[key_id, nonce] = now
        return True
