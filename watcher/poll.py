"""Stage one: due tickets -> snapshot -> detect -> one transaction. One poller for each account."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import anyio
import structlog

from watcher import schedule
from watcher.bell import Bell
from watcher.details import Details
from watcher.detect import detect, was_read
from watcher.errors import (
    ApiThrottled,
    CredentialsRejected,
    PermanentError,
    StoreUnavailable,
    TransientError,
    WatcherError,
)
from watcher.log import Edges
from watcher.model import DeliveryState, Event, Findings, Read, Reading, Role, Snapshot
from watcher.pacer import Pacer
from watcher.ports import Answer, Clock, TicketApi
from watcher.route import Routing, route
from watcher.store import Store
from watcher.watched import Watched

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MOST_IN_FLIGHT = 64
_LONGEST_NAP_S = 5.0
# While the key itself is refused, one ticket asks now and then whether it is accepted again.
_REJECTED_PAUSE = timedelta(minutes=1)
_THROTTLED_TRIES = 5
_THROTTLE_IS_OVER_AFTER_S = 60.0
# A ticket that no list shows is asked for its title and status at every so many looks.
_DETAILS_EVERY = 10


class OnRecorded(Protocol):
    """Called after events were recorded with their deliveries."""

    def __call__(self, *, is_any_held: bool) -> None:
        """Wake whoever has something to do now."""


class OnRead(Protocol):
    """Called after the last unread answer of a ticket was seen to be read."""

    async def __call__(self, account: str, ticket: str, /) -> None:
        """Take back what still asks people to read it."""


async def _nobody_cares(_account: str, _ticket: str) -> None:
    pass


@dataclass(kw_only=True)
class Poller:
    """One account's tickets: ``run`` looks at them when they are due, ``look`` at one of them now."""

    account: str
    api: TicketApi
    store: Store
    clock: Clock
    pacer: Pacer
    routing: Routing
    on_recorded: OnRecorded
    on_read: OnRead = _nobody_cares
    #: A reseller's customers; see ``Details``.
    uids: tuple[str, ...] = ()
    details: Details = field(init=False)
    watched: dict[str, Watched] = field(default_factory=dict)
    _agenda: schedule.Agenda = field(default_factory=schedule.Agenda)
    _bell: Bell = field(default_factory=Bell)
    _edges: Edges = field(default_factory=lambda: Edges(log))
    #: While the account's credentials are refused, one ticket at a time asks whether they still are.
    _is_rejected: bool = False

    def __post_init__(self) -> None:
        self.details = Details(account=self.account, api=self.api, pacer=self.pacer, uids=self.uids)

    # --- the list -----------------------------------------------------------------------------------------

    def enlist(self, new: Watched) -> None:
        """Put a ticket on the list, or take over what is new about one that stands there."""
        old = self.watched.get(new.ticket.id)
        if old is None:
            self.watched[new.ticket.id] = new
            self._agenda.put(new.ticket.id, self.clock.elapsed())
            self._bell.ring()
            return
        old.learn(new.ticket)
        if not old.account.uid:
            old.account = new.account
        old.is_in_list |= new.is_in_list
        if new.is_listed and not old.is_listed:
            old.rule, old.cadence, old.is_listed = new.rule, new.cadence, True

    @property
    def is_settled(self) -> bool:
        """Tell whether every ticket was looked at, or tried, at least once."""
        return all(watched.was_tried for watched in self.watched.values())

    # --- the loop -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at tickets as they become due, until cancelled."""
        limiter = anyio.CapacityLimiter(_MOST_IN_FLIGHT)
        async with anyio.create_task_group() as looks:
            while True:
                ticket = self._agenda.take(self.clock.elapsed())
                if ticket is None:
                    due = self._agenda.next_due()
                    nap = _LONGEST_NAP_S if due is None else due - self.clock.elapsed()
                    await self._bell.wait(min(nap, _LONGEST_NAP_S))
                    continue
                await limiter.acquire_on_behalf_of(ticket)
                await self.pacer.turn()
                if self._is_rejected:
                    await self._look_and_release(ticket, limiter)
                else:
                    looks.start_soon(self._look_and_release, ticket, limiter)

    async def _look_and_release(self, ticket: str, limiter: anyio.CapacityLimiter) -> None:
        try:
            await self.look(ticket)
            if self._is_rejected:
                self.pacer.pause(_REJECTED_PAUSE)
        finally:
            limiter.release_on_behalf_of(ticket)
            self._bell.ring()

    async def look_at_all(self) -> None:
        """Look at every ticket once; throttled ones are asked again when the gateway allows."""
        left = list(self.watched)
        for _ in range(_THROTTLED_TRIES):
            left = await self._look_at(left)

    async def _look_at(self, tickets: list[str]) -> list[str]:
        """Look at these tickets, unless the account's credentials are refused; return which were throttled."""
        throttled: list[str] = []
        limiter = anyio.CapacityLimiter(_MOST_IN_FLIGHT)

        async def look(ticket: str) -> None:
            try:
                if await self.look(ticket):
                    throttled.append(ticket)
            finally:
                limiter.release_on_behalf_of(ticket)

        async with anyio.create_task_group() as looks:
            for ticket in tickets:
                await limiter.acquire_on_behalf_of(ticket)
                await self.pacer.turn()
                if self._is_rejected:
                    break
                looks.start_soon(look, ticket)
        if self._is_rejected:
            for watched in filter(None, map(self.watched.get, tickets)):
                watched.failure = watched.failure or "not asked, because the account's credentials are refused"
            return []
        return throttled

    async def look(self, ticket: str) -> bool:
        """Look at one ticket now and put it on the agenda again; return whether it was throttled."""
        watched = self.watched[ticket]
        delay, is_throttled = 0.0, False
        try:
            await self._look(watched)
        except ApiThrottled as error:
            is_throttled = True
            watched.failure = str(error)
            self.pacer.throttled(error.retry_after)
            self._edges.failed("throttled", "account throttled", error=error, account=self.account)
        except CredentialsRejected as error:
            self._rejected(watched, error)
        except (TransientError, StoreUnavailable) as error:
            delay = schedule.after_failure(watched.cadence, key=ticket, failures=watched.failures + 1)
            if isinstance(error, TransientError) and error.retry_after:
                delay = max(delay, error.retry_after.total_seconds())
            self._failed(watched, error, delay)
        except PermanentError as error:
            delay = schedule.after_refusal(watched.cadence)
            self._failed(watched, error, delay)
        else:
            self._worked(watched)
            delay = self._until_next(watched)
        watched.last_poll_at = self.clock.now()
        if not is_throttled:
            await self._save_changes(watched)
        if self._is_over(watched):
            del self.watched[ticket]
            log.debug("no longer watched", account=self.account, ticket=ticket, because="it was closed a while ago")
        else:
            # Last of all: from here on the loop may begin the next look.
            self._agenda.put(ticket, self.clock.elapsed() + delay)
        return is_throttled

    def _is_over(self, watched: Watched) -> bool:
        """Tell whether a discovered ticket need not be watched on; reopened, the list shows it again."""
        if watched.is_listed or watched.failures or not watched.looks:
            return False
        return schedule.is_over(watched.last_note_at, now=self.clock.now(), is_open=watched.ticket.status.is_open)

    def _until_next(self, watched: Watched) -> float:
        age = self.clock.now() - watched.last_note_at if watched.last_note_at else None
        return schedule.after_look(
            watched.cadence,
            key=watched.ticket.id,
            n=watched.looks,
            last_note_age=age,
            is_open=watched.ticket.status.is_open,
        )

    # --- one look -----------------------------------------------------------------------------------------

    async def _look(self, watched: Watched) -> None:
        is_described = False
        if self.details.owner_is_unknown(watched):
            await self.details.find_owner(watched)
            is_described = True
        elif not watched.is_in_list and watched.looks >= watched.details_due:
            is_described = await self.details.refresh(watched)
        if is_described:
            watched.details_due = watched.looks + _DETAILS_EVERY
        answer = await self.api.list_ticket_notes(watched.ticket.id, uid=watched.account.uid)
        self.pacer.succeeded()
        fingerprint = answer.fingerprint
        if fingerprint == watched.fingerprint:
            log.debug("polled", account=self.account, ticket=watched.ticket.id, found="nothing new")
            return
        await self._take_in(watched, answer, is_described=is_described)
        # Only now: what was not recorded must be found again.
        watched.fingerprint = fingerprint

    async def _take_in(self, watched: Watched, answer: Answer, *, is_described: bool) -> None:
        """Decide what an answer that differs from the last one means, and write that down."""
        reading = answer.read()
        known = await self.store.known(self.account, watched.ticket.id)
        findings = detect(self._snapshot(watched, reading), known, watched.rule)
        # A status moves when an agent answers, and no list carries the severity.
        if findings.events and not is_described and await self.details.refresh(watched):
            findings = detect(self._snapshot(watched, reading), known, watched.rule)
        if not findings.is_nothing:
            await self._record(watched, reading, findings)
        self._report_problems(watched, reading)
        watched.last_note_at = max((n.created_at for n in reading.notes if n.created_at), default=None)
        log.debug(
            "polled",
            account=self.account,
            ticket=watched.ticket.id,
            notes=len(reading.notes),
            new=len(findings.new_notes),
            events=len(findings.events),
        )

    def _snapshot(self, watched: Watched, reading: Reading) -> Snapshot:
        return Snapshot(account=watched.account, ticket=watched.ticket, notes=reading.notes, taken_at=self.clock.now())

    async def _record(self, watched: Watched, reading: Reading, findings: Findings) -> None:
        snapshot = self._snapshot(watched, reading)
        deliveries = [
            delivery for event in findings.events for delivery in route(event, self.routing, now=snapshot.taken_at)
        ]
        await self.store.record(snapshot, findings, deliveries, watch=watched.rule.name)
        watched.saved(error=None)
        _log_undocumented(self.account, snapshot, findings)
        for event in findings.events:
            _announce(event)
        if was_read(snapshot, findings):
            log.info("ticket read", account=self.account, ticket=snapshot.ticket.id)
            await self.on_read(self.account, snapshot.ticket.id)
        if deliveries:
            self.on_recorded(is_any_held=any(delivery.state is DeliveryState.HELD for delivery in deliveries))

    # --- how it went --------------------------------------------------------------------------------------

    def _report_problems(self, watched: Watched, reading: Reading) -> None:
        key = f"unreadable {watched.ticket.id}"
        watched.problem = "; ".join(reading.problems) or None
        if watched.problem:
            self._edges.failed(
                key,
                "note unreadable",
                error=watched.problem,
                account=self.account,
                ticket=watched.ticket.id,
                next="the other notes are announced; look at the ticket in the console",
            )
        else:
            self._edges.worked(key, "notes readable", account=self.account, ticket=watched.ticket.id)

    def _worked(self, watched: Watched) -> None:
        watched.looks += 1
        watched.failure = None
        if watched.failures:
            watched.failures = 0
            self._edges.worked(
                f"poll {watched.ticket.id}",
                "poll works again",
                account=self.account,
                ticket=watched.ticket.id,
            )
        if self.clock.elapsed() > self.pacer.pace.paused_until + _THROTTLE_IS_OVER_AFTER_S:
            self._edges.worked("throttled", "account no longer throttled", account=self.account)
        self._accepted()

    def _failed(self, watched: Watched, error: WatcherError, delay: float) -> None:
        if isinstance(error, PermanentError):
            self._accepted()
        watched.failures += 1
        watched.failure = str(error)
        self._edges.failed(
            f"poll {watched.ticket.id}",
            "poll failed",
            error=error,
            account=self.account,
            ticket=watched.ticket.id,
            next=f"asked again in {delay:.0f} s, later if it goes on; nothing is lost meanwhile",
        )

    def _accepted(self) -> None:
        """Note an answer that only accepted credentials get, be it a refusal."""
        self._is_rejected = False
        self._edges.worked("credentials", "credentials accepted", account=self.account)

    def _rejected(self, watched: Watched, error: CredentialsRejected) -> None:
        self._is_rejected = True
        watched.failures += 1
        watched.failure = str(error)
        self._edges.failed(
            "credentials",
            "credentials refused",
            error=error,
            account=self.account,
            next=f"tried again every {_REJECTED_PAUSE.total_seconds():g} s",
        )

    async def _save_changes(self, watched: Watched) -> None:
        """Write down another title or status, the first failure and the recovery; other polls write nothing."""
        if not watched.is_worth_saving:
            return
        try:
            await self.store.describe([self._snapshot(watched, Reading(()))], watch=watched.rule.name)
            await self.store.polled([self._outcome(watched)])
        except StoreUnavailable:
            return
        watched.saved()

    async def save(self) -> None:
        """Write down when each ticket was last polled; done at the end, because a poll alone writes nothing."""
        await self.store.polled(self._outcome(watched) for watched in self.watched.values() if watched.last_poll_at)

    def _outcome(self, watched: Watched) -> tuple[str, str, datetime, str | None]:
        return (self.account, watched.ticket.id, watched.last_poll_at or self.clock.now(), watched.error)


def _log_undocumented(account: str, snapshot: Snapshot, findings: Findings) -> None:
    """Say which values of new notes the vendor's pages do not list: they are kept, and somebody may know them."""
    notes = findings.new_notes
    strange = {
        "role": {n.author.role_code for n in notes if n.author.role is Role.UNKNOWN},
        "type": {n.type_code for n in notes if n.type == "unknown"},
        "status": {n.read_code for n in notes if n.read is Read.UNKNOWN},
    }
    if any(strange.values()):
        found = {name: ",".join(map(str, codes)) for name, codes in strange.items() if codes}
        log.info("undocumented values", account=account, ticket=snapshot.ticket.id, **found)


def _announce(event: Event) -> None:
    log.info(
        "reply found",
        account=event.account.name,
        ticket=event.ticket.id,
        kind=event.kind.value,
        author=event.note.author.name if event.note else None,
        event_id=event.id,
    )
