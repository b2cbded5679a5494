"""Which sinks an event goes to, and whether now."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON, at, delivery, event
from watcher.model import Delivery, DeliveryState, Kind
from watcher.route import FIRST_LOOK_PATIENCE, LARGEST_DIGEST, Routing, digests, route


@pytest.mark.parametrize("sinks", [[], ["hub"], ["hub", "mail", "desk"]])
@pytest.mark.parametrize(
    ("kind", "state", "wait"),
    [
        (Kind.REPLY, DeliveryState.DUE, timedelta()),
        (Kind.UNREAD, DeliveryState.HELD, FIRST_LOOK_PATIENCE),
        (Kind.DIGEST, DeliveryState.DUE, timedelta()),
    ],
)
def test_every_sink_gets_one_delivery_and_only_the_unread_wait(
    kind: Kind, state: DeliveryState, wait: timedelta, sinks: list[str]
) -> None:
    told = event(kind=kind)
    routed = route(told, Routing(sinks=sinks), now=NOON)
    assert [each.sink for each in routed] == sinks
    for each in routed:
        assert each.event is told
        assert (each.state, each.due_at, each.created_at) == (state, NOON + wait, NOON)
        assert (each.attempts, each.replay) == (0, False)


def held(*numbers: int, sink: str = "hub") -> list[Delivery]:
    return [
        delivery(event(number, kind=Kind.UNREAD, minutes=number), sink=sink, state=DeliveryState.HELD)
        for number in numbers
    ]


def test_nothing_held_comes_out_as_nothing() -> None:
    assert digests([], now=NOON) == []


def test_one_that_is_alone_comes_out_as_itself() -> None:
    (alone,) = held(1)
    assert digests([alone], now=NOON) == [(alone, [])]


def test_several_come_out_as_one_digest_that_is_due() -> None:
    waiting = held(2, 1, 3)
    ((due, members),) = digests(waiting, now=at(90))
    assert members == waiting
    assert (due.state, due.due_at, due.created_at, due.attempts) == (DeliveryState.DUE, at(90), at(90), 0)
    assert (due.sink, due.event.kind) == ("hub", Kind.DIGEST)
    assert [each.note.id for each in due.event.events if each.note] == ["1", "2", "3"]


def test_each_sink_has_a_digest_of_its_own() -> None:
    hub, mail = digests([*held(1, 2), *held(1, 2, sink="mail")], now=NOON)
    assert (hub[0].sink, mail[0].sink) == ("hub", "mail")
    assert hub[0].event.id != mail[0].event.id
    assert hub[0].event.events == mail[0].event.events


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (LARGEST_DIGEST, [LARGEST_DIGEST]),
        (LARGEST_DIGEST + 1, [LARGEST_DIGEST, 0]),
        (2 * LARGEST_DIGEST + 5, [LARGEST_DIGEST, LARGEST_DIGEST, 5]),
    ],
)
def test_many_come_out_in_portions(count: int, sizes: list[int]) -> None:
    assert [len(members) for _, members in digests(held(*range(count)), now=NOON)] == sizes


numbers = st.lists(st.integers(0, 300), unique=True, max_size=250)


@given(numbers, numbers)
def test_every_held_event_comes_out_exactly_once_at_its_sink(hub: list[int], mail: list[int]) -> None:
    waiting = [*held(*hub), *held(*mail, sink="mail")]
    result = digests(waiting, now=NOON)
    out = [(due.sink, told.id) for due, _ in result for told in due.event.events or (due.event,)]
    assert sorted(out) == sorted((each.sink, each.event.id) for each in waiting)
    assert [member for due, members in result for member in members or [due]] == waiting
    again = digests(waiting, now=at(5))
    assert [due.event.id for due, _ in again] == [due.event.id for due, _ in result]
