"""ListTickets -> the tickets of a watch."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from watcher import schedule
from watcher.detect import WatchRule
from watcher.errors import ApiThrottled, CredentialsRejected, PermanentError, TransientError
from watcher.log import Edges
from watcher.model import Account, Ticket, TicketPage, TicketStatus
from watcher.poll import Poller
from watcher.ports import Clock, TicketApi
from watcher.schedule import Cadence
from watcher.store import TicketRow
from watcher.watched import Watched

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Where later is no better: as rarely as after so many failures.
_REFUSED_FAILURES = 8
_THROTTLED_TRIES = 5
_LONGEST_NAP = timedelta(seconds=5)
_MOST_PAGES = 10_000


@dataclass(kw_only=True)
class Discovery:
    """Finds the tickets of one watch in its account's list, again and again."""

    poller: Poller
    api: TicketApi
    clock: Clock
    account: Account
    uids: tuple[str, ...]
    rule: WatchRule
    cadence: Cadence
    statuses: Collection[TicketStatus]
    created_within: timedelta
    every: timedelta
    #: The last failure, for people; None while it works.
    error: str | None = None
    was_tried: bool = False
    _failures: int = 0
    _edges: Edges = field(default_factory=lambda: Edges(log))

    async def run(self) -> None:
        """Discover at every ``every``, sooner after a failure, until cancelled."""
        while True:
            await self.look()
            wait = self.every
            if self._failures:
                seconds = schedule.after_failure(self.cadence, key=self.rule.name, failures=self._failures)
                wait = min(wait, timedelta(seconds=seconds))
            await self._rest(wait)

    async def _rest(self, span: timedelta) -> None:
        """Return after ``span``, the time that the machine sleeps included."""
        until = self.clock.elapsed() + span.total_seconds()
        while (left := until - self.clock.elapsed()) > 0:
            await self.clock.sleep(min(timedelta(seconds=left), _LONGEST_NAP))

    async def look(self) -> None:
        """Read the list of each uid once; a list that fails changes nothing and hides none of the others."""
        found, new = 0, 0
        failures: list[TransientError | PermanentError] = []
        for uid in self.uids:
            try:
                tickets = await self._list(uid)
            except (TransientError, PermanentError) as error:
                failures.append(error)
                if isinstance(error, CredentialsRejected):
                    break
            else:
                found += len(tickets)
                self._strike_out(uid, {ticket.id for ticket in tickets})
                new += sum(self._enlist(uid, ticket) for ticket in tickets)
        self.was_tried = True
        if new:
            log.info("discovered", account=self.account.name, watch=self.rule.name, tickets=found, new=new)
        if failures:
            self._failed(failures)
        else:
            self._worked(found)

    def _strike_out(self, uid: str, shown: set[str]) -> None:
        """Note which tickets the list no longer shows: they are watched on, and asked for their status one by one."""
        for watched in self.poller.watched.values():
            if watched.account.uid == uid:
                watched.is_in_list = watched.ticket.id in shown

    async def _list(self, uid: str) -> list[Ticket]:
        """Return every ticket of the list, each once; one page that fails is the whole list failing.

        The end is where a page holds nothing new, or where as many were seen as there are said to be: how large
        the pages of an answer are is the server's business.
        """
        created_after = self.clock.now() - self.created_within
        tickets: dict[str, Ticket] = {}
        for number in range(1, _MOST_PAGES):
            page = await self._page(number, uid, created_after)
            new = {ticket.id: ticket for ticket in page.tickets if ticket.id not in tickets}
            tickets |= new
            if not new or (page.total is not None and len(tickets) >= page.total):
                break
        return list(tickets.values())

    async def _page(self, number: int, uid: str, created_after: datetime) -> TicketPage:
        """Ask for one page; a throttled call is made again when the account may."""
        for _ in range(_THROTTLED_TRIES - 1):
            await self.poller.pacer.turn()
            try:
                page = await self.api.list_tickets(number, uid=uid, created_after=created_after)
            except ApiThrottled as error:
                self.poller.pacer.throttled(error.retry_after)
            else:
                self.poller.pacer.succeeded()
                return page
        await self.poller.pacer.turn()
        return await self.api.list_tickets(number, uid=uid, created_after=created_after)

    def _enlist(self, uid: str, ticket: Ticket) -> bool:
        """Put a ticket on the poller's list if the watch wants it; return whether it is new there."""
        is_known = ticket.id in self.poller.watched
        # A status that is not published may mean anything: it is watched like an open one.
        is_wanted = ticket.status in self.statuses or ticket.status is TicketStatus.UNKNOWN
        if is_known or is_wanted:
            watched = self._watched(uid, ticket)
            watched.is_in_list = True
            self.poller.enlist(watched)
        return is_wanted and not is_known

    def resume(self, row: TicketRow, *, now: datetime) -> None:
        """Go on with a ticket of an earlier run, which the list may no longer show as open."""
        ticket = Ticket(id=row.ticket, title=row.title, status=TicketStatus(row.status))
        if schedule.is_over(row.last_note_at, now=now, is_open=ticket.status.is_open):
            return
        watched = self._watched(row.uid, ticket)
        watched.saved(error=row.error)
        self.poller.enlist(watched)

    def _watched(self, uid: str, ticket: Ticket) -> Watched:
        account = replace(self.account, uid=uid)
        return Watched(account=account, ticket=ticket, rule=self.rule, cadence=self.cadence)

    def _failed(self, failures: Sequence[TransientError | PermanentError]) -> None:
        self._failures += 1
        self.error = "; ".join(dict.fromkeys(map(str, failures)))
        if not any(isinstance(failure, TransientError) for failure in failures):
            self._failures = max(self._failures, _REFUSED_FAILURES)
        self._edges.failed(
            "list",
            "discovery failed",
            error=self.error,
            account=self.account.name,
            watch=self.rule.name,
            next="tickets known so far are watched on; the list is asked again",
        )

    def _worked(self, found: int) -> None:
        self._failures, self.error = 0, None
        self._edges.worked("list", "discovery works again", watch=self.rule.name)
        log.debug("list read", account=self.account.name, watch=self.rule.name, tickets=found)
