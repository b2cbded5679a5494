"""Decide which sinks an event goes to, and whether now. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from watcher.detect import digest
from watcher.model import Delivery, DeliveryState, Event, Kind

#: How long the unread notes of a first look wait for one another at the most.
FIRST_LOOK_PATIENCE = timedelta(seconds=60)
#: So many events make one digest at the most: a receiver must be able to take it.
LARGEST_DIGEST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Where events go."""

    #: Every configured sink, or ``defaults.to``.
    sinks: Sequence[str]


def route(event: Event, routing: Routing, *, now: datetime) -> list[Delivery]:
    """Return one delivery for each sink that is to tell ``event``.

    What was unread at a first look is held, to come out as one digest per sink; the rest is due at once.
    """
    held = event.kind is Kind.UNREAD
    return [
        Delivery(
            event=event,
            sink=sink,
            state=DeliveryState.HELD if held else DeliveryState.DUE,
            attempts=0,
            due_at=now + FIRST_LOOK_PATIENCE if held else now,
            created_at=now,
        )
        for sink in routing.sinks
    ]


def digests(held: Iterable[Delivery], *, now: datetime) -> list[tuple[Delivery, list[Delivery]]]:
    """Return what held deliveries come out as: for each sink a digest and those it tells, in portions.

    A delivery that is alone comes out as itself, with nobody to tell.
    """
    by_sink: dict[str, list[Delivery]] = {}
    for delivery in held:
        by_sink.setdefault(delivery.sink, []).append(delivery)
    result: list[tuple[Delivery, list[Delivery]]] = []
    for waiting in by_sink.values():
        for start in range(0, len(waiting), LARGEST_DIGEST):
            members = waiting[start : start + LARGEST_DIGEST]
            result.append((merged(members, now=now), members) if len(members) > 1 else (members[0], []))
    return result


def largest_group(waiting: Iterable[Delivery]) -> list[Delivery]:
    """Return those of the receiver for whom the most waits."""
    by_receiver: dict[str, list[Delivery]] = {}
    for delivery in waiting:
        by_receiver.setdefault(delivery.receiver, []).append(delivery)
    return max(by_receiver.values(), key=len, default=[])


def merged(members: Sequence[Delivery], *, now: datetime) -> Delivery:
    """Return the delivery of one digest that tells all of ``members``, which are of one sink and receiver."""
    first = members[0]
    whole = digest((member.event for member in members), sink=first.sink, receiver=first.receiver, now=now)
    return Delivery(
        event=whole,
        sink=first.sink,
        receiver=first.receiver,
        state=DeliveryState.DUE,
        attempts=0,
        due_at=now,
        created_at=now,
    )
