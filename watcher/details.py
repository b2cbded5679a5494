"""What a ticket is, apart from its notes: title, status, severity, and for a reseller whose it is."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import anyio
import structlog

from watcher.errors import (
    ApiDenied,
    ApiRefused,
    ApiThrottled,
    CredentialsRejected,
    PermanentError,
    TransientError,
    WatcherError,
)
from watcher.log import Edges
from watcher.model import Ticket
from watcher.pacer import Pacer
from watcher.ports import TicketApi
from watcher.watched import Watched

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: An event waits so long for its details at the most.
TIMEOUT = timedelta(seconds=5)


@dataclass(kw_only=True)
class Details:
    """Asks one account's GetTicket."""

    account: str
    api: TicketApi
    pacer: Pacer
    #: A reseller's customers: a ticket listed by hand is some one of theirs.
    uids: tuple[str, ...] = ()
    _edges: Edges = field(default_factory=lambda: Edges(log))

    async def refresh(self, watched: Watched) -> bool:
        """Bring title, status and severity up to date; return whether that worked.

        Without them the event goes out all the same, so a failure is only reported.
        """
        key = watched.ticket.id
        try:
            with anyio.fail_after(TIMEOUT.total_seconds()):
                await self.pacer.turn(is_urgent=True)
                ticket = await self.api.get_ticket(watched.ticket.id, uid=watched.account.uid)
        except ApiThrottled as error:
            self.pacer.throttled(error.retry_after)
            return False
        except (TimeoutError, TransientError, PermanentError) as error:
            self._edges.failed(
                key,
                "details unknown",
                error=error if isinstance(error, WatcherError) else f"no answer in {TIMEOUT.total_seconds():g} s",
                account=self.account,
                ticket=watched.ticket.id,
                next="notes are watched all the same",
            )
            return False
        self._edges.worked(key, "details known", account=self.account, ticket=watched.ticket.id)
        watched.learn(ticket)
        return True

    def owner_is_unknown(self, watched: Watched) -> bool:
        """Tell whether it has yet to be found out which customer the ticket is of."""
        return bool(self.uids) and not watched.account.uid

    async def find_owner(self, watched: Watched) -> None:
        """Ask under each uid until one shows the ticket; what breaks off goes on where it was.

        Raises ``ApiDenied`` when none does, and whatever else a call raises.
        """
        while watched.uids_tried < len(self.uids):
            uid = self.uids[watched.uids_tried]
            await self.pacer.turn()
            try:
                ticket = await self.api.get_ticket(watched.ticket.id, uid=uid)
            except CredentialsRejected:
                raise
            except (ApiDenied, ApiRefused):
                watched.uids_tried += 1
            else:
                self._take_over(watched, uid, ticket)
                return
        watched.uids_tried = 0
        raise ApiDenied("none of the account's uids may see this ticket; check its number and `uids`")

    def _take_over(self, watched: Watched, uid: str, ticket: Ticket) -> None:
        watched.account = replace(watched.account, uid=uid)
        watched.learn(ticket)
