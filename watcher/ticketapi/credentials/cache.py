"""Credentials that are fetched once and renewed in time."""

from datetime import datetime, timedelta

import anyio
import structlog

from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.ports import Clock
from watcher.ticketapi.credentials.contract import Credentials, Provider

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: How long before the end they are renewed, as the vendor's package does.
MARGIN = timedelta(minutes=15)
#: How long a failed renewal rests while the old ones serve, so that not every call waits for a dead service.
PAUSE = timedelta(minutes=1)


class CachedCredentials:
    """The credentials in use: shared by all callers, renewed before they end, read again when refused."""

    def __init__(self, provider: Provider, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._lock = anyio.Lock()
        self._held: Credentials | None = None
        #: When to ask the source again; None for never.
        self._renew_at: datetime | None = None
        self._failure: ApiUnavailable | CredentialsRejected | None = None
        #: Renewals that failed in a row while the old ones served.
        self._missed = 0
        #: Fetches that came to an end.
        self._fetches = 0

    async def get(self) -> Credentials:
        """Return credentials, from the source if need be.

        Callers that arrive during a fetch share its result, also when it fails.
        """
        if (held := self._fresh()) is not None:
            return held
        seen = self._fetches
        async with self._lock:
            if (held := self._fresh()) is not None:
                return held
            if self._fetches != seen:
                if self._failure is not None:
                    raise self._failure.with_traceback(None)
                if self._held is not None:
                    return self._held
            return await self._fetch()

    def invalidate(self, rejected: Credentials) -> None:
        """Forget ``rejected``, which the gateway refused, unless others have replaced them since."""
        # Identity, not equality: the same key, read again, is a newer answer than the one that was refused.
        if self._held is rejected:
            self._held = None

    def _fresh(self) -> Credentials | None:
        if self._held is None or (self._renew_at is not None and self._clock.now() >= self._renew_at):
            return None
        return self._held

    async def _fetch(self) -> Credentials:
        try:
            fetched = await self._provider.fetch()
        except (ApiUnavailable, CredentialsRejected) as error:
            self._fetches += 1
            # Looked up now: they may have been refused, or have ended, in the meantime.
            if (old := self._serviceable()) is not None:
                self._renewal_failed(old, error)
                return old
            self._failure = error
            raise
        self._fetches += 1
        self._hold(fetched)
        return fetched

    def _serviceable(self) -> Credentials | None:
        held = self._held
        if held is None or held.expires_at is None or held.expires_at <= self._clock.now():
            return None
        return held

    def _hold(self, fetched: Credentials) -> None:
        if self._missed:
            log.info("the credentials are renewed again", source=fetched.source, failures=self._missed)
        self._held, self._failure, self._missed = fetched, None, 0
        self._renew_at = None
        if fetched.expires_at is not None:
            left = fetched.expires_at - self._clock.now()
            self._renew_at = fetched.expires_at - min(MARGIN, left / 2)

    def _renewal_failed(self, old: Credentials, error: Exception) -> None:
        if not self._missed:
            log.warning(
                "the credentials cannot be renewed; the old ones serve until they expire",
                source=old.source,
                expires_at=str(old.expires_at),
                error=str(error),
            )
        self._missed += 1
        rested = self._clock.now() + PAUSE
        self._renew_at = min(rested, old.expires_at) if old.expires_at else rested
