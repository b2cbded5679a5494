"""Every statement that the store runs, built once. Pure: no connection here."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from watcher.model import DeliveryState, Kind
from watcher.store.schema import delivery, event, note, sink, ticket, watch

_OPEN = (DeliveryState.DUE.value, DeliveryState.HELD.value)

# --- watches and tickets ----------------------------------------------------------------------------------

watch_start = insert(watch).on_conflict_do_nothing()
watch_since = sa.select(watch.c.since_ms).where(watch.c.name == sa.bindparam("name"))


def _upsert(table: sa.Table, *columns: str) -> Any:
    """Return an insert that, where the row exists, overwrites ``columns``."""
    statement = insert(table)
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: statement.excluded[name] for name in columns},
    )


_described = insert(ticket)
#: What is not known this time does not overwrite what was known.
ticket_describe = _described.on_conflict_do_update(
    index_elements=[ticket.c.account, ticket.c.ticket],
    set_={
        "uid": _described.excluded.uid,
        "watch": _described.excluded.watch,
        "title": sa.func.coalesce(sa.func.nullif(_described.excluded.title, ""), ticket.c.title),
        "status": sa.func.coalesce(sa.func.nullif(_described.excluded.status, "unknown"), ticket.c.status),
    },
)
_listed = insert(ticket)
#: The first time counts, also of a ticket that was discovered before.
ticket_list = _listed.on_conflict_do_update(
    index_elements=[ticket.c.account, ticket.c.ticket],
    set_={"since_ms": sa.func.coalesce(ticket.c.since_ms, _listed.excluded.since_ms)},
)
ticket_since = sa.select(ticket.c.ticket, ticket.c.since_ms).where(
    ticket.c.account == sa.bindparam("account"), ticket.c.since_ms.is_not(None)
)
ticket_look = (
    sa.update(ticket)
    .where(ticket.c.account == sa.bindparam("b_account"), ticket.c.ticket == sa.bindparam("b_ticket"))
    .values(
        looked_at_ms=sa.func.coalesce(ticket.c.looked_at_ms, sa.bindparam("at_ms")),
        last_poll_at_ms=sa.bindparam("at_ms"),
        error=None,
    )
)
ticket_polled = (
    sa.update(ticket)
    .where(ticket.c.account == sa.bindparam("b_account"), ticket.c.ticket == sa.bindparam("b_ticket"))
    .values(last_poll_at_ms=sa.bindparam("at_ms"), error=sa.bindparam("b_error"))
)
ticket_looked_at = sa.select(ticket.c.looked_at_ms).where(
    ticket.c.account == sa.bindparam("account"), ticket.c.ticket == sa.bindparam("ticket")
)
_of_ticket = sa.and_(note.c.account == ticket.c.account, note.c.ticket == ticket.c.ticket)
tickets = (
    sa.select(
        ticket,
        sa.func.count(note.c.note).label("notes"),
        sa.func.max(note.c.created_at_ms).label("last_note_at_ms"),
        sa.func.count(note.c.note).filter(note.c.read == "unread", note.c.role != "customer").label("unread"),
    )
    .select_from(ticket.outerjoin(note, _of_ticket))
    .group_by(ticket.c.account, ticket.c.ticket)
    .order_by(ticket.c.account, ticket.c.ticket)
)

# --- notes ------------------------------------------------------------------------------------------------

known_notes = sa.select(note.c.note, note.c.read).where(
    note.c.account == sa.bindparam("account"), note.c.ticket == sa.bindparam("ticket")
)
note_insert = insert(note).on_conflict_do_nothing()
note_read = (
    sa.update(note)
    .where(
        note.c.account == sa.bindparam("b_account"),
        note.c.ticket == sa.bindparam("b_ticket"),
        note.c.note == sa.bindparam("b_note"),
    )
    .values(read=sa.bindparam("b_read"))
)
conversation = (
    sa.select(note)
    .where(note.c.account == sa.bindparam("account"), note.c.ticket == sa.bindparam("ticket"))
    .order_by(note.c.created_at_ms, note.c.seen_at_ms, note.c.note)
)

# --- events and deliveries --------------------------------------------------------------------------------

event_insert = insert(event).on_conflict_do_nothing().returning(event.c.id)
delivery_insert = insert(delivery).on_conflict_do_nothing()

_with_event = sa.select(delivery, event.c.document).join(event, event.c.id == delivery.c.event)
_earlier = delivery.alias("earlier")

#: What is still to be told: by itself, or by a digest that is under way.
_is_open = sa.and_(
    _earlier.c.state.in_(_OPEN),
    sa.or_(_earlier.c.state == DeliveryState.DUE.value, _earlier.c.digest.is_not(None)),
)
_comes_before = sa.and_(
    _earlier.c.sink == delivery.c.sink,
    _earlier.c.lane == delivery.c.lane,
    ~_earlier.c.replay,
    sa.tuple_(_earlier.c.position, _earlier.c.event) < sa.tuple_(delivery.c.position, delivery.c.event),
)
#: The oldest due delivery of each lane, whenever its time comes: order within a ticket is kept. What a person asked
#: to be sent again neither waits in that order nor holds it up.
_next_of_lane = sa.and_(
    delivery.c.sink == sa.bindparam("sink"),
    delivery.c.state == DeliveryState.DUE.value,
    delivery.c.lane.not_in(sa.bindparam("busy", expanding=True)),
    sa.or_(delivery.c.replay, ~sa.exists().where(_comes_before, _is_open)),
)
due = (
    _with_event.where(_next_of_lane, delivery.c.due_at_ms <= sa.bindparam("now_ms"))
    .order_by(delivery.c.due_at_ms, delivery.c.position)
    .limit(sa.bindparam("most"))
)
#: A receiver that lacks what the others have says nothing of the sink.
due_again = due.where(delivery.c.attempts > 0, delivery.c.receiver == "")
_must_wait = sa.or_(_earlier.c.state == DeliveryState.HELD.value, _earlier.c.due_at_ms > sa.bindparam("now_ms"))
#: What may be told together: all that is due, but for digests, tests, what a person asked for, and what comes behind
#: something that is not due yet.
mergeable = (
    _with_event.where(
        delivery.c.sink == sa.bindparam("sink"),
        delivery.c.state == DeliveryState.DUE.value,
        delivery.c.due_at_ms <= sa.bindparam("now_ms"),
        ~delivery.c.replay,
        event.c.kind.not_in((Kind.DIGEST.value, Kind.TEST.value)),
        ~sa.exists().where(_comes_before, _is_open, _must_wait),
    )
    .order_by(delivery.c.receiver, delivery.c.position)
    .limit(sa.bindparam("most"))
)
next_due = sa.select(delivery.c.due_at_ms).where(_next_of_lane).order_by(delivery.c.due_at_ms).limit(1)
held = _with_event.where(
    delivery.c.state == DeliveryState.HELD.value,
    delivery.c.digest.is_(None),
    delivery.c.due_at_ms <= sa.bindparam("until_ms"),
).order_by(delivery.c.sink, delivery.c.position)
_this = sa.and_(
    delivery.c.event == sa.bindparam("b_event"),
    delivery.c.sink == sa.bindparam("b_sink"),
    delivery.c.receiver == sa.bindparam("b_receiver"),
)
release = sa.update(delivery).where(_this).values(state=DeliveryState.DUE.value, due_at_ms=sa.bindparam("b_now_ms"))
_digest = delivery.alias("digest_delivery")
join_digest = (
    sa.update(delivery)
    .where(
        _this,
        # Nobody is told by a digest that is not there.
        sa.exists().where(_digest.c.event == sa.bindparam("b_digest"), _digest.c.sink == delivery.c.sink),
    )
    .values(state=DeliveryState.HELD.value, digest=sa.bindparam("b_digest"))
)
#: Settles a delivery, and with a digest those that it tells.
settle = (
    sa.update(delivery)
    .where(
        delivery.c.sink == sa.bindparam("b_sink"),
        delivery.c.receiver == sa.bindparam("b_receiver"),
        sa.or_(delivery.c.event == sa.bindparam("b_event"), delivery.c.digest == sa.bindparam("b_event")),
        # What a receiver has, it has, also if it was given up in the meantime.
        sa.or_(
            delivery.c.state.in_(_OPEN),
            sa.and_(
                delivery.c.state == DeliveryState.DEAD.value,
                sa.bindparam("b_state") == DeliveryState.DELIVERED.value,
            ),
        ),
    )
    .values(
        state=sa.bindparam("b_state"),
        attempts=delivery.c.attempts + 1,
        due_at_ms=sa.bindparam("b_due_ms"),
        delivered_at_ms=sa.bindparam("b_delivered_ms"),
        error=sa.bindparam("b_error"),
        replay=False,
    )
)
#: As above for an attempt that is to be made again: those that a digest tells stay held.
postpone = (
    sa.update(delivery)
    .where(_this, delivery.c.state == DeliveryState.DUE.value)
    .values(attempts=delivery.c.attempts + 1, due_at_ms=sa.bindparam("b_due_ms"), error=sa.bindparam("b_error"))
)
#: What one receiver still lacks while the others have the event, and what is to be told again.
again = _upsert(delivery, "state", "attempts", "hastened", "due_at_ms", "delivered_at_ms", "error", "digest", "replay")
hasten = (
    sa.update(delivery)
    .where(
        delivery.c.sink == sa.bindparam("b_sink"),
        delivery.c.state == DeliveryState.DUE.value,
        # What was never tried is not late: it is meant for later.
        delivery.c.attempts > 0,
        delivery.c.due_at_ms > sa.bindparam("b_now_ms"),
    )
    .values(due_at_ms=sa.bindparam("b_now_ms"), hastened=delivery.c.hastened + 1)
)
#: After the sink worked again: what a single receiver lacks has reasons of its own.
hasten_all_receivers = hasten.where(delivery.c.receiver == "")
#: News of a ticket is a fresh occasion for what is still open of it, behind which the news would have to wait.
_told_by = sa.select(_earlier.c.digest).where(
    _earlier.c.sink == sa.bindparam("b_sink"),
    _earlier.c.lane == sa.bindparam("b_lane"),
    _earlier.c.state == DeliveryState.HELD.value,
    _earlier.c.digest.is_not(None),
)
hasten_lane = hasten.where(sa.or_(delivery.c.lane == sa.bindparam("b_lane"), delivery.c.event.in_(_told_by)))
bury = (
    sa.update(delivery)
    .where(delivery.c.sink == sa.bindparam("b_sink"), delivery.c.state.in_(_OPEN))
    .values(state=DeliveryState.DEAD.value, error=sa.bindparam("b_error"))
)
#: As above, unless somebody has switched the sink on again in the meantime.
bury_of_disabled = bury.where(sa.exists().where(sink.c.name == sa.bindparam("b_sink")))
#: Those that a digest told share its fate again.
replay_members = (
    sa.update(delivery)
    .where(
        delivery.c.digest == sa.bindparam("b_event"),
        delivery.c.sink == sa.bindparam("b_sink"),
        delivery.c.receiver == sa.bindparam("b_receiver"),
        delivery.c.state == DeliveryState.DEAD.value,
    )
    .values(state=DeliveryState.HELD.value)
)
#: What a person wanted to be told again later, and has read meanwhile: they were told once.
forget_reminders = (
    sa.update(delivery)
    .where(
        delivery.c.state == DeliveryState.DUE.value,
        delivery.c.replay,
        delivery.c.attempts == 0,
        delivery.c.due_at_ms > sa.bindparam("b_now_ms"),
        delivery.c.event.in_(
            sa.select(event.c.id).where(
                event.c.account == sa.bindparam("b_account"), event.c.ticket == sa.bindparam("b_ticket")
            )
        ),
    )
    .values(
        state=DeliveryState.DELIVERED.value,
        replay=False,
        due_at_ms=sa.bindparam("b_now_ms"),
        delivered_at_ms=sa.bindparam("b_now_ms"),
    )
)
of_event = (
    sa.select(delivery.c.sink, delivery.c.receiver, delivery.c.state, delivery.c.digest)
    .where(delivery.c.event == sa.bindparam("event"))
    .order_by(delivery.c.sink, delivery.c.receiver)
)
event_document = sa.select(event.c.document).where(event.c.id == sa.bindparam("event"))
open_sinks = (
    sa.select(delivery.c.sink, sa.func.count().label("open"))
    .where(delivery.c.state.in_(_OPEN))
    .group_by(delivery.c.sink)
)
#: A parameter that is null does not narrow the list.
history = (
    sa.select(delivery, event.c.kind, event.c.account, event.c.ticket, event.c.note)
    .join(event, event.c.id == delivery.c.event)
    .where(
        *(
            sa.or_(sa.bindparam(name, type_=sa.Text).is_(None), column == sa.bindparam(name, type_=sa.Text))
            for name, column in {
                "event": delivery.c.event,
                "sink": delivery.c.sink,
                "state": delivery.c.state,
                "ticket": event.c.ticket,
            }.items()
        )
    )
    .limit(sa.bindparam("most"))
    .order_by(
        delivery.c.created_at_ms.desc(),
        delivery.c.position.desc(),
        delivery.c.event,
        delivery.c.sink,
        delivery.c.receiver,
    )
)

# --- switched-off sinks -----------------------------------------------------------------------------------

sink_disable = _upsert(sink, "target", "disabled_at_ms", "error")
sink_enable = sa.delete(sink).where(sink.c.name == sa.bindparam("b_name"))
sinks_disabled = sa.select(sink)

# --- getting rid of what is old ---------------------------------------------------------------------------

_has_open = sa.exists().where(delivery.c.event == event.c.id, delivery.c.state.in_(_OPEN))
old_events = sa.select(event.c.id).where(event.c.created_at_ms < sa.bindparam("before_ms"), ~_has_open).limit(500)
deliveries_delete = sa.delete(delivery).where(delivery.c.event.in_(sa.bindparam("events", expanding=True)))
events_delete = sa.delete(event).where(event.c.id.in_(sa.bindparam("events", expanding=True)))
notes_empty = (
    sa.update(note).where(note.c.seen_at_ms < sa.bindparam("before_ms"), note.c.document != "").values(document="")
)
