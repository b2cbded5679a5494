"""Between our nouns and the rows of the tables. Pure."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from watcher.duration import milliseconds
from watcher.model import Dead, Delivered, Delivery, DeliveryState, Event, Note, Retry, Snapshot, Verdict

_event = msgspec.json.Decoder(Event)
_note = msgspec.json.Decoder(Note)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRow:
    """What the store knows of a ticket, for people."""

    account: str
    ticket: str
    uid: str
    watch: str
    title: str
    status: str
    unread: int
    notes: int
    last_note_at: datetime | None
    last_poll_at: datetime | None
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One delivery, for people."""

    event: str
    kind: str
    account: str
    ticket: str
    note: str
    sink: str
    receiver: str
    state: DeliveryState
    attempts: int
    created_at: datetime
    due_at: datetime
    delivered_at: datetime | None
    error: str | None


def _position(event: Event) -> str:
    note = event.note.id if event.note else ""
    return f"{milliseconds(event.occurred_at):015d}-{note:0>20}"


def ticket_row(snapshot: Snapshot, watch: str) -> dict[str, Any]:
    """Return the row of a ticket."""
    return {
        "account": snapshot.account.name,
        "ticket": snapshot.ticket.id,
        "uid": snapshot.account.uid,
        "watch": watch,
        "title": snapshot.ticket.title,
        "status": snapshot.ticket.status.value,
    }


def note_row(note: Note, snapshot: Snapshot) -> dict[str, Any]:
    """Return the row of a note."""
    return {
        "account": snapshot.account.name,
        "ticket": snapshot.ticket.id,
        "note": note.id,
        "created_at_ms": note.created_at and milliseconds(note.created_at),
        "role": note.author.role.value,
        "read": note.read.value,
        "seen_at_ms": milliseconds(snapshot.taken_at),
        "document": msgspec.json.encode(note).decode(),
    }


def event_row(event: Event) -> dict[str, Any]:
    """Return the row of an event."""
    return {
        "id": event.id,
        "kind": event.kind.value,
        "account": event.account.name,
        "ticket": "" if event.events else event.ticket.id,
        "note": event.note.id if event.note else "",
        "created_at_ms": milliseconds(event.recorded_at),
        "document": msgspec.json.encode(event).decode(),
    }


def delivery_row(delivery: Delivery) -> dict[str, Any]:
    """Return the row of a new delivery."""
    return {
        "event": delivery.event.id,
        "sink": delivery.sink,
        "receiver": delivery.receiver,
        "lane": delivery.lane,
        "position": _position(delivery.event),
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "hastened": delivery.hastened,
        "due_at_ms": milliseconds(delivery.due_at),
        "created_at_ms": milliseconds(delivery.created_at),
    }


def read_event(document: str) -> Event:
    """Read an event."""
    return _event.decode(document)


def read_delivery(row: sa.Row[Any]) -> Delivery:
    """Read a delivery with its event."""
    return Delivery(
        event=_event.decode(row.document),
        sink=row.sink,
        receiver=row.receiver,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        hastened=row.hastened,
        due_at=from_ms(row.due_at_ms),
        created_at=from_ms(row.created_at_ms),
        replay=row.replay,
    )


def left_over_row(delivery: Delivery, receiver: str, verdict: Verdict) -> dict[str, Any]:
    """Return the row of what one receiver lacks, after the attempt that gave the event to the others."""
    left = replace(delivery, receiver=receiver, attempts=delivery.attempts + 1)
    error: str | None = None
    match verdict:
        case Retry(at, error):
            state = DeliveryState.DUE
        case Dead(at, error):
            state = DeliveryState.DEAD
        case Delivered(at):
            state = DeliveryState.DELIVERED
    outcome = {
        "state": state.value,
        "due_at_ms": milliseconds(at),
        "error": error,
        "delivered_at_ms": None,
        "digest": None,
    }
    return delivery_row(left) | outcome | {"replay": delivery.replay}


def again_row(event: Event, *, sink: str, receiver: str, now: datetime, at: datetime) -> dict[str, Any]:
    """Return the row of what is to be told again at ``at``, to one receiver or ("") to all."""
    again = Delivery(
        event=event,
        sink=sink,
        receiver=receiver,
        state=DeliveryState.DUE,
        attempts=0,
        due_at=at,
        created_at=now,
    )
    return delivery_row(again) | {"error": None, "delivered_at_ms": None, "digest": None, "replay": True}


def end_of(state: DeliveryState, at: datetime, error: str | None) -> dict[str, Any]:
    """Return what a final verdict writes."""
    delivered_ms = milliseconds(at) if state is DeliveryState.DELIVERED else None
    return {"b_state": state.value, "b_due_ms": milliseconds(at), "b_delivered_ms": delivered_ms, "b_error": error}


def read_ticket(row: sa.Row[Any]) -> TicketRow:
    """Read a ticket for people."""
    return TicketRow(
        account=row.account,
        ticket=row.ticket,
        uid=row.uid,
        watch=row.watch,
        title=row.title,
        status=row.status,
        unread=row.unread,
        notes=row.notes,
        last_note_at=from_ms_or_null(row.last_note_at_ms),
        last_poll_at=from_ms_or_null(row.last_poll_at_ms),
        error=row.error,
    )


def read_history(row: sa.Row[Any]) -> HistoryRow:
    """Read a delivery for people."""
    return HistoryRow(
        event=row.event,
        kind=row.kind,
        account=row.account,
        ticket=row.ticket,
        note=row.note,
        sink=row.sink,
        receiver=row.receiver,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        created_at=from_ms(row.created_at_ms),
        due_at=from_ms(row.due_at_ms),
        delivered_at=from_ms_or_null(row.delivered_at_ms),
        error=row.error,
    )


def from_ms(milliseconds: int | None) -> datetime:
    """Return the instant of milliseconds since the epoch."""
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)


def from_ms_or_null(milliseconds: int | None) -> datetime | None:
    """Return the instant, or None for null."""
    return None if milliseconds is None else from_ms(milliseconds)


def read_note(row: sa.Row[Any]) -> Note | None:
    """Read a note as it was seen; None where its text is gone by age."""
    return _note.decode(row.document) if row.document else None
