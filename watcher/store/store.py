"""The store: what is known, and the outbox. Each method is one transaction.

The outbox is the memory: a note's row, its event and its deliveries are written together, so that no second
"seen" state can disagree with what was announced.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
from sqlalchemy.ext.asyncio import AsyncConnection

from watcher.duration import milliseconds
from watcher.errors import StoreError
from watcher.model import (
    Dead,
    Delivered,
    Delivery,
    DeliveryState,
    Event,
    Findings,
    Known,
    Note,
    Read,
    Retry,
    Snapshot,
    Verdict,
)
from watcher.store import database
from watcher.store import statements as sql
from watcher.store.rows import (
    HistoryRow,
    TicketRow,
    again_row,
    delivery_row,
    end_of,
    event_row,
    from_ms,
    left_over_row,
    note_row,
    read_delivery,
    read_event,
    read_history,
    read_note,
    read_ticket,
    ticket_row,
)


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator["Store"]:
    """Open the database at ``path``, made or migrated if need be; raises ``StoreError``."""
    database.prepare(path)
    write, read = (database.open_engine(path, writes=writes) for writes in (True, False))
    try:
        yield Store(path, write, read)
    finally:
        # Also while being cancelled: each connection has a thread, which ends with it.
        with anyio.CancelScope(shield=True):
            await write.dispose()
            await read.dispose()


class Store:
    """See the module. Raises ``StoreError`` and ``StoreUnavailable``."""

    def __init__(self, path: Path, write: Any, read: Any) -> None:
        self.path = path
        self._write_engine = write
        self._read_engine = read
        self._writing = anyio.Semaphore(database.WRITERS)
        self._reading = anyio.Semaphore(database.READERS)
        self._inode = path.stat().st_ino

    # A transaction that was begun is ended, also while being cancelled: a connection that is given up in the middle
    # of a call goes on holding the lock. Waiting for one's turn may be cancelled.

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        async with self._writing, database.translated(self.path):
            self._refuse_another_file()
            with anyio.CancelScope(shield=True):
                async with self._write_engine.begin() as connection:
                    yield connection

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        async with self._reading, database.translated(self.path):
            with anyio.CancelScope(shield=True):
                async with self._read_engine.connect() as connection:
                    yield connection

    def _refuse_another_file(self) -> None:
        """Notice that the file was replaced or removed under us: what is written now would be lost."""
        if self.path.stat().st_ino != self._inode:
            raise StoreError(f"{self.path} was replaced while in use; start again to use the new file")

    # --- what is known ------------------------------------------------------------------------------------

    async def watch_since(self, name: str, *, now: datetime) -> datetime:
        """Return when the watch was first started; that is now, if it never was."""
        async with self._write() as connection:
            await connection.execute(sql.watch_start, {"name": name, "since_ms": milliseconds(now)})
            since = await connection.scalar(sql.watch_since, {"name": name})
        return from_ms(since)

    async def listed_since(self, account: str, tickets: Collection[str], *, now: datetime) -> dict[str, datetime]:
        """Return when each of these tickets was first listed by hand; that is now for those that never were."""
        if not tickets:
            return {}
        rows = [{"account": account, "ticket": ticket, "since_ms": milliseconds(now)} for ticket in tickets]
        async with self._write() as connection:
            await connection.execute(sql.ticket_list, rows)
            found = await connection.execute(sql.ticket_since, {"account": account})
            return {row.ticket: from_ms(row.since_ms) for row in found}

    async def known(self, account: str, ticket: str) -> Known:
        """Return what is remembered of a ticket."""
        key = {"account": account, "ticket": ticket}
        async with self._read() as connection:
            looked_at = await connection.scalar(sql.ticket_looked_at, key)
            rows = await connection.execute(sql.known_notes, key)
            return Known(is_looked_at=looked_at is not None, notes={row.note: Read(row.read) for row in rows})

    async def describe(self, snapshots: Iterable[Snapshot], *, watch: str) -> None:
        """Write down title, status and watch of tickets; their notes are not touched."""
        rows = [ticket_row(snapshot, watch) for snapshot in snapshots]
        if rows:
            async with self._write() as connection:
                await connection.execute(sql.ticket_describe, rows)

    async def polled(self, outcomes: Iterable[tuple[str, str, datetime, str | None]]) -> None:
        """Write down when tickets were last polled, and with what error: (account, ticket, instant, error)."""
        rows = [
            {"b_account": account, "b_ticket": ticket, "at_ms": milliseconds(at), "b_error": error}
            for account, ticket, at, error in outcomes
        ]
        if rows:
            async with self._write() as connection:
                await connection.execute(sql.ticket_polled, rows)

    async def record(
        self, snapshot: Snapshot, findings: Findings, deliveries: Sequence[Delivery], *, watch: str
    ) -> None:
        """Write what a look found: notes, events and their deliveries, all or nothing.

        May be repeated with the same findings: what stands there already stays as it is. An earlier delivery of the
        ticket that waits for its next attempt becomes due, because the new one must not overtake it.
        """
        key = {"b_account": snapshot.account.name, "b_ticket": snapshot.ticket.id}
        async with self._write() as connection:
            await connection.execute(sql.ticket_describe, [ticket_row(snapshot, watch)])
            await connection.execute(sql.ticket_look, key | {"at_ms": milliseconds(snapshot.taken_at)})
            if findings.new_notes:
                rows = [note_row(note, snapshot) for note in findings.new_notes]
                await connection.execute(sql.note_insert, rows)
            if findings.changed_notes:
                changes = [key | {"b_note": n.id, "b_read": n.read.value} for n in findings.changed_notes]
                await connection.execute(sql.note_read, changes)
            await _add(connection, findings.events, deliveries)
            for delivery in deliveries:
                lane = {
                    "b_sink": delivery.sink,
                    "b_lane": delivery.event.lane,
                    "b_now_ms": milliseconds(delivery.created_at),
                }
                await connection.execute(sql.hasten_lane, lane)

    # --- the outbox ---------------------------------------------------------------------------------------

    async def add(self, event: Event, deliveries: Sequence[Delivery]) -> None:
        """Write down an event that no look at a ticket found, unless it is there already."""
        async with self._write() as connection:
            await _add(connection, [event], deliveries)

    async def held(self, *, until: datetime) -> list[Delivery]:
        """Return what is held no longer than ``until``, by sink, oldest first."""
        async with self._read() as connection:
            return [read_delivery(row) for row in await connection.execute(sql.held, {"until_ms": milliseconds(until)})]

    async def release(self, delivery: Delivery, *, now: datetime) -> None:
        """Make a held delivery due."""
        async with self._write() as connection:
            await connection.execute(sql.release, _key(delivery) | {"b_now_ms": milliseconds(now)})

    async def fold(self, digest: Delivery, members: Sequence[Delivery]) -> None:
        """Let a digest tell ``members``: they share its fate."""
        rows = [_key(member) | {"b_digest": digest.event.id} for member in members]
        async with self._write() as connection:
            await _add(connection, [digest.event], [digest])
            await connection.execute(sql.join_digest, rows)

    async def due(
        self, sink: str, *, now: datetime, most: int, busy: Collection[str] = (), only_tried: bool = False
    ) -> list[Delivery]:
        """Return up to ``most`` deliveries whose time has come, one per lane; lanes in ``busy`` are left out.

        ``only_tried`` leaves out those that were never attempted.
        """
        statement = sql.due_again if only_tried else sql.due
        params = {"sink": sink, "now_ms": milliseconds(now), "most": most, "busy": list(busy)}
        async with self._read() as connection:
            found = [read_delivery(row) for row in await connection.execute(statement, params)]
        # What is sent again on request stands beside the order of its lane, but does not go out at the same time.
        first_of_lane: dict[str, Delivery] = {}
        for delivery in found:
            first_of_lane.setdefault(delivery.lane, delivery)
        return list(first_of_lane.values())

    async def mergeable(self, sink: str, *, now: datetime, most: int) -> list[Delivery]:
        """Return up to ``most`` due deliveries that may be told together, by receiver, oldest first."""
        params = {"sink": sink, "now_ms": milliseconds(now), "most": most}
        async with self._read() as connection:
            return [read_delivery(row) for row in await connection.execute(sql.mergeable, params)]

    async def next_due(self, sink: str, *, busy: Collection[str] = ()) -> datetime | None:
        """Return when ``due`` will have something to return."""
        async with self._read() as connection:
            value = await connection.scalar(sql.next_due, {"sink": sink, "busy": list(busy)})
        return None if value is None else from_ms(value)

    async def settle(self, delivery: Delivery, verdict: Verdict) -> None:
        """Write down what came of an attempt."""
        async with self._write() as connection:
            await _settle(connection, delivery, verdict)

    async def settle_parts(self, delivery: Delivery, *, at: datetime, left: Mapping[str, Verdict]) -> None:
        """Write down that the sink's receivers have the event, but for those in ``left``: each gets its own row."""
        rows = [left_over_row(delivery, receiver, verdict) for receiver, verdict in left.items()]
        async with self._write() as connection:
            await _settle(connection, delivery, Delivered(at))
            await connection.execute(sql.again, rows)

    async def hasten(self, sink: str, *, now: datetime, every_receiver: bool = False) -> None:
        """Make everything that waits for another attempt due now: the sink works again.

        What single receivers lack keeps its time, unless ``every_receiver`` is set.
        """
        statement = sql.hasten if every_receiver else sql.hasten_all_receivers
        async with self._write() as connection:
            await connection.execute(statement, {"b_sink": sink, "b_now_ms": milliseconds(now)})

    async def bury(self, sink: str, *, reason: str, only_if_disabled: bool = False) -> int:
        """Give up everything that waits for ``sink``; return how many deliveries that were."""
        statement = sql.bury_of_disabled if only_if_disabled else sql.bury
        async with self._write() as connection:
            result = await connection.execute(statement, {"b_sink": sink, "b_error": reason})
        return int(result.rowcount)

    async def waiting(self) -> dict[str, int]:
        """Return how many deliveries each sink has open, sinks that are no longer configured included."""
        async with self._read() as connection:
            rows = await connection.execute(sql.open_sinks)
            return {row.sink: row.open for row in rows}

    async def replay(self, event: str, *, sinks: Collection[str], now: datetime) -> list[str]:
        """Make an event due again for those of ``sinks`` (all, if empty) it once went to; return their names.

        Where some receivers of a sink lack the event, it goes to them alone. Raises ``KeyError`` if there is no such
        event.
        """
        async with self._write() as connection:
            document = await connection.scalar(sql.event_document, {"event": event})
            if document is None:
                raise KeyError(event)
            told = list(await connection.execute(sql.of_event, {"event": event}))
            chosen = list(dict.fromkeys(row.sink for row in told if not sinks or row.sink in sinks))
            for sink in chosen:
                for receiver in await _lacking(connection, [row for row in told if row.sink == sink]) or [""]:
                    row = again_row(read_event(document), sink=sink, receiver=receiver, now=now, at=now)
                    await connection.execute(sql.again, [row])
                    key = {"b_event": event, "b_sink": sink, "b_receiver": receiver}
                    await connection.execute(sql.replay_members, key)
                await connection.execute(sql.sink_enable, {"b_name": sink})
        return chosen

    async def remind(self, event: str, *, sink: str, receiver: str, now: datetime, at: datetime) -> bool:
        """Make an event due again at ``at`` for one receiver ("": for all); return whether the sink ever had it."""
        async with self._write() as connection:
            told = [row for row in await connection.execute(sql.of_event, {"event": event}) if row.sink == sink]
            document = await connection.scalar(sql.event_document, {"event": event})
            if not told or document is None:
                return False
            await connection.execute(
                sql.again, [again_row(read_event(document), sink=sink, receiver=receiver, now=now, at=at)]
            )
        return True

    async def forget_reminders(self, account: str, ticket: str, *, now: datetime) -> None:
        """Let nobody be reminded of what was told of a ticket: it was read."""
        key = {"b_account": account, "b_ticket": ticket, "b_now_ms": milliseconds(now)}
        async with self._write() as connection:
            await connection.execute(sql.forget_reminders, key)

    async def event(self, event: str) -> Event | None:
        """Return an event that is kept."""
        async with self._read() as connection:
            document = await connection.scalar(sql.event_document, {"event": event})
        return None if document is None else read_event(document)

    # --- switched-off sinks -------------------------------------------------------------------------------

    async def disable(self, sink: str, *, target: str, reason: str, now: datetime) -> None:
        """Remember that the receiver at ``target`` wants no more calls."""
        row = {"name": sink, "target": target, "disabled_at_ms": milliseconds(now), "error": reason}
        async with self._write() as connection:
            await connection.execute(sql.sink_disable, row)

    async def disabled(self) -> dict[str, tuple[str, str]]:
        """Return (target, reason) of each switched-off sink."""
        async with self._read() as connection:
            return {row.name: (row.target, row.error) for row in await connection.execute(sql.sinks_disabled)}

    async def enable(self, sink: str) -> None:
        """Forget that the sink was switched off."""
        async with self._write() as connection:
            await connection.execute(sql.sink_enable, {"b_name": sink})

    # --- for people ---------------------------------------------------------------------------------------

    async def tickets(self) -> list[TicketRow]:
        """Return every ticket, by account and number."""
        async with self._read() as connection:
            return [read_ticket(row) for row in await connection.execute(sql.tickets)]

    async def conversation(self, account: str, ticket: str) -> list[tuple[Note | None, Any]]:
        """Return the notes of a ticket, oldest first, each with its row; None where the text is gone by age."""
        async with self._read() as connection:
            found = await connection.execute(sql.conversation, {"account": account, "ticket": ticket})
            return [(read_note(row), row) for row in found]

    async def history(
        self,
        *,
        most: int,
        event: str | None = None,
        sink: str | None = None,
        state: DeliveryState | None = None,
        ticket: str | None = None,
    ) -> list[HistoryRow]:
        """Return the latest deliveries, newest first; of one event, sink, state or ticket where one is given."""
        params = {"most": most, "event": event, "sink": sink, "state": state and state.value, "ticket": ticket}
        async with self._read() as connection:
            return [read_history(row) for row in await connection.execute(sql.history, params)]

    async def prune(self, *, before: datetime) -> int:
        """Remove what was settled before ``before``; return how many events went.

        The rows of notes stay, without their text: an old note must never look new.
        """
        removed = 0
        async with self._write() as connection:
            await connection.execute(sql.notes_empty, {"before_ms": milliseconds(before)})
        while True:
            async with self._write() as connection:
                events = list(await connection.scalars(sql.old_events, {"before_ms": milliseconds(before)}))
                if not events:
                    return removed
                await connection.execute(sql.deliveries_delete, {"events": events})
                await connection.execute(sql.events_delete, {"events": events})
            removed += len(events)


def _key(delivery: Delivery) -> dict[str, Any]:
    return {"b_event": delivery.event.id, "b_sink": delivery.sink, "b_receiver": delivery.receiver}


async def _lacking(connection: AsyncConnection, told: Sequence[Any]) -> list[str]:
    """Return which receivers of a sink lack what its other receivers have, from the rows of one event and sink."""
    lacking = [row.receiver for row in told if row.receiver and row.state != DeliveryState.DELIVERED.value]
    digest = next((row.digest for row in told if not row.receiver and row.digest), None)
    if lacking or digest is None:
        return lacking
    of_digest = await connection.execute(sql.of_event, {"event": digest})
    return await _lacking(connection, [row for row in of_digest if row.sink == told[0].sink])


async def _settle(connection: AsyncConnection, delivery: Delivery, verdict: Verdict) -> None:
    match verdict:
        case Retry(due_at, error):
            await connection.execute(
                sql.postpone, _key(delivery) | {"b_due_ms": milliseconds(due_at), "b_error": error}
            )
        case Delivered(at):
            await connection.execute(sql.settle, _key(delivery) | end_of(DeliveryState.DELIVERED, at, None))
        case Dead(at, error):
            await connection.execute(sql.settle, _key(delivery) | end_of(DeliveryState.DEAD, at, error))


async def _add(connection: AsyncConnection, events: Iterable[Event], deliveries: Iterable[Delivery]) -> None:
    """Add events that do not exist yet, and the deliveries of those."""
    new = set()
    for event in events:
        if await connection.scalar(sql.event_insert, event_row(event)):
            new.add(event.id)
    rows = [delivery_row(delivery) for delivery in deliveries if delivery.event.id in new]
    if rows:
        await connection.execute(sql.delivery_insert, rows)
