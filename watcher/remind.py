"""Stage three: what people want to be told again later, and what they have read meanwhile."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from watcher.errors import StoreUnavailable
from watcher.ports import Clock
from watcher.store import Store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: How much later "remind me later" is.
LATER = timedelta(hours=1)


class Closable(Protocol):
    """Something that shows replies for as long as nobody has read them."""

    def was_read(self, ticket: str) -> None:
        """Close what is shown of a ticket (``account/number``)."""
        ...


@dataclass(kw_only=True)
class Reminders:
    """Reminders that people asked for; they are deliveries, so that they survive whatever deliveries survive."""

    store: Store
    clock: Clock
    shown: list[Closable] = field(default_factory=list)

    async def remind(self, sink: str, event: str, receiver: str) -> None:
        """Have an event told again later, to one receiver of a sink or ("") to all."""
        now = self.clock.now()
        facts = {"sink": sink, "event_id": event, "receiver": receiver or None}
        try:
            known = await self.store.remind(event, sink=sink, receiver=receiver, now=now, at=now + LATER)
        except StoreUnavailable as error:
            log.warning("reminder lost", error=str(error), **facts)
            return
        if known:
            log.info("told again later", **facts, next_try=f"{(now + LATER).astimezone():%H:%M:%S}")

    async def was_read(self, account: str, ticket: str) -> None:
        """Close what is shown of a ticket, and remind nobody of it any more."""
        if not self.shown:
            return
        for each in self.shown:
            each.was_read(f"{account}/{ticket}")
        try:
            await self.store.forget_reminders(account, ticket, now=self.clock.now())
        except StoreUnavailable as error:
            log.warning("store unavailable", error=str(error), next="a reminder of what was read may come")
