"""What can go wrong, sorted by what is to be done about it.

A class exists only because some ``except`` treats it differently. Texts name the cause and the remedy, never a
URL's query, a header, a secret or a body. Causes are chained.
"""

from collections.abc import Mapping
from datetime import timedelta


class WatcherError(Exception):
    """The root of everything this package raises on purpose.

    ``message`` says what is wrong in the same words each time; ``details`` may differ (a request's id), and follow
    it in the text.
    """

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(f"{message} ({details})" if details else message)
        self.message = message


class ConfigError(WatcherError):
    """Somebody must edit a file. The process ends with exit status 78 and is not to be restarted."""


class StoreError(WatcherError):
    """Our own disk failed us. The process ends with exit status 1; a supervisor may start it again."""


class StoreUnavailable(StoreError):
    """The disk is full, or the database locked: the same write may work later, in the same process."""


class TransientError(WatcherError):
    """Later may work: try again, not before ``retry_after`` if the other side named a time."""

    def __init__(self, message: str, *, details: str = "", retry_after: timedelta | None = None) -> None:
        super().__init__(message, details=details)
        self.retry_after = retry_after


class PermanentError(WatcherError):
    """Later is no better: record it and carry on with the rest."""


# --- the Ticket API ---------------------------------------------------------------------------------------


class ApiUnavailable(TransientError):
    """No usable answer: network, time limit, a 5xx, a page of a proxy, half a body."""


class ApiThrottled(TransientError):
    """The account spends more calls than it may: the whole account waits."""


class ApiDenied(PermanentError):
    """The key may not do this, or the ticket is not this account's. Ask again, but rarely."""


class CredentialsRejected(PermanentError):
    """The key itself is refused: unknown, disabled, expired, or the signature does not match."""


class ApiRefused(PermanentError):
    """The gateway does not accept the request as such: a wrong host, or a mistake of ours."""


# --- sinks ------------------------------------------------------------------------------------------------


class SinkUnavailable(TransientError):
    """The receiver could not take it now."""


class SinkRejected(PermanentError):
    """The receiver will never take this event."""


class SinkPartly(WatcherError):
    """Some receivers have it, those in ``left`` do not: each is a delivery of its own from now on."""

    def __init__(self, left: Mapping[str, TransientError | PermanentError]) -> None:
        super().__init__("; ".join(f"{receiver}: {error}" for receiver, error in left.items()))
        self.left = dict(left)


class SinkGone(PermanentError):
    """The receiver asks not to be called again (HTTP 410): the sink is switched off."""
