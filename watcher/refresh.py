"""Ask for the attachments of a note again: the addresses that the API gives are temporary."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from watcher.errors import PermanentError, TransientError
from watcher.model import Attachment, Event
from watcher.pacer import Pacer
from watcher.ports import TicketApi

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class FreshAttachments:
    """Asks the account's API, at the account's pace."""

    #: By the account's name.
    sources: dict[str, tuple[TicketApi, Pacer]] = field(default_factory=dict)

    async def __call__(self, event: Event) -> Sequence[Attachment]:
        """Return the attachments of the event's note with addresses that work now; none if they cannot be had."""
        if event.note is None or event.account.name not in self.sources:
            return ()
        api, pacer = self.sources[event.account.name]
        await pacer.turn()
        try:
            answer = await api.list_ticket_notes(event.ticket.id, uid=event.account.uid)
            notes = answer.read().notes
        except (TransientError, PermanentError) as error:
            log.warning("no fresh attachments", ticket=event.ticket.id, error=str(error), next="they stay links")
            return ()
        return next((note.attachments for note in notes if note.id == event.note.id), ())
