"""A sink with several receivers: who has an event is not told again, and who lacks it is not forgotten."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from tests.fakes import NOON, delivery, event, until
from tests.test_dispatch import DOWN, Bench, bench, running
from tests.test_store import in_ticket, put
from watcher.errors import SinkGone, SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import DeliveryState, Kind

NO = SinkRejected("no such mailbox")


def calls(of: Bench) -> list[str]:
    """Return for whom each message was that the sink took, "" for everybody."""
    return [each.receiver for each in of.sink.taken]


async def rows(of: Bench) -> dict[str, str]:
    """Return how it stands with each receiver of the one event."""
    return {row.receiver: row.state.value for row in await of.store.history(most=100)}


async def test_who_has_an_event_is_not_told_again(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        assert await rows(opened) == {"": "delivered", "b": "due"}
        await opened.later(60)
        await opened.later(3600)
        assert calls(opened) == ["", "b"]
        assert await rows(opened) == {"": "delivered", "b": "delivered"}


async def test_each_receiver_has_a_schedule_and_an_end_of_its_own(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"a": DOWN, "b": NO, "c": DOWN}))
        await opened.lane.attempt_all()
        assert await rows(opened) == {"": "delivered", "a": "due", "b": "dead", "c": "due"}
        opened.sink.fails(DOWN, None)
        await opened.later(60)
        opened.sink.fails(DOWN)
        await opened.later(3600)
        assert sorted((await rows(opened)).values()) == ["dead", "dead", "delivered", "delivered"]
        assert opened.sink.attempts == 4


async def test_the_first_attempt_counts_for_those_who_lack_the_event(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}), DOWN, DOWN)
        await opened.lane.attempt_all()
        await opened.later(3600)
        await opened.later(3600)
        await opened.later(3600)
        assert opened.sink.attempts == 3
        assert (await rows(opened))["b"] == "dead"


async def test_a_receiver_that_fails_holds_up_neither_its_ticket_nor_the_sink(tmp_path: Path) -> None:
    first, second, third = in_ticket("A", 1, 2, 3)
    async with bench(tmp_path, first) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await put(opened.store, second)
        await opened.lane.attempt_all()
        opened.sink.fails(DOWN)
        await opened.later(60)
        await put(opened.store, third)
        await opened.lane.attempt_all()
        assert opened.received() == ["1", "2", "3"]
        assert calls(opened) == ["", "", ""]


async def test_the_events_that_one_receiver_lacks_are_told_to_it_in_order(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2, 3), parallel=4) as opened:
        opened.sink.fails(*(SinkPartly({"b": DOWN}) for _ in range(3)))
        await opened.lane.attempt_all()
        opened.sink.fails(DOWN)
        await opened.later(60)
        await opened.later(3600)
        await opened.later(3600)
        assert [each.event.note and each.event.note.id for each in opened.sink.taken[3:]] == ["1", "2", "3"]
        assert calls(opened)[3:] == ["b"] * 3


async def test_a_time_that_one_receiver_named_is_that_receiver_s(tmp_path: Path) -> None:
    busy = SinkUnavailable("HTTP 429", retry_after=timedelta(hours=1))
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"a": busy, "b": DOWN}))
        await opened.lane.attempt_all()
        await opened.later(60)
        assert calls(opened) == ["", "b"]
        await opened.later(3600)
        assert calls(opened) == ["", "b", "a"]


async def test_that_the_sink_works_again_makes_no_receiver_s_time_come_sooner(tmp_path: Path) -> None:
    busy = SinkUnavailable("HTTP 429", retry_after=timedelta(hours=1))
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"a": busy}))
        await opened.lane.attempt_all()
        await put(opened.store, *in_ticket("B", 2))
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        await opened.later(60)
        await opened.later(1)
        assert calls(opened) == ["", ""]


async def test_that_one_receiver_is_gone_does_not_switch_off_the_sink(tmp_path: Path) -> None:
    async with bench(tmp_path, event(1), event(2)) as opened:
        opened.sink.fails(SinkPartly({"b": SinkGone("HTTP 410")}))
        await opened.lane.attempt_all()
        assert opened.received() == ["1", "2"]
        assert not opened.lane.disabled


async def test_a_replay_of_what_one_receiver_lacks_goes_to_it_alone(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": NO, "c": NO}))
        await opened.lane.attempt_all()
        assert await opened.store.replay(event().id, sinks=(), now=opened.clock.now()) == ["hub"]
        await opened.later(1)
        assert sorted(calls(opened)) == ["", "b", "c"]
        assert set((await rows(opened)).values()) == {"delivered"}


async def test_a_replay_of_what_everybody_has_goes_to_everybody(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await opened.later(60)
        await opened.store.replay(event().id, sinks=(), now=opened.clock.now())
        opened.sink.fails(SinkPartly({"c": DOWN}))
        await opened.later(1)
        assert await rows(opened) == {"": "delivered", "b": "delivered", "c": "due"}
        await opened.later(60)
        assert calls(opened) == ["", "b", "", "c"]


async def test_a_replay_that_fails_for_the_same_receiver_again_leaves_it_due(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await opened.later(60)
        await opened.store.replay(event().id, sinks=(), now=opened.clock.now())
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.later(1)
        assert (await rows(opened))["b"] == "due"
        await opened.later(60)
        assert set((await rows(opened)).values()) == {"delivered"}


async def test_one_receiver_of_a_digest_can_be_asked_for_again(tmp_path: Path) -> None:
    events = [event(n, kind=Kind.UNREAD) for n in (1, 2)]
    async with bench(tmp_path) as opened:
        await put(opened.store, *events, state=DeliveryState.HELD)
        for message in await opened.store.held(until=opened.clock.now()):
            await opened.store.release(message, now=opened.clock.now())
        opened.sink.most_at_once = 1
        opened.sink.fails(SinkPartly({"b": NO}))
        await opened.lane.attempt_all()
        (digest,) = {row.event for row in await opened.store.history(most=9) if row.kind == Kind.DIGEST}
        await opened.store.replay(digest, sinks=(), now=opened.clock.now())
        await opened.later(1)
        assert [(each.receiver, len(each.event.events)) for each in opened.sink.taken] == [("", 2), ("b", 2)]


async def test_an_event_that_one_receiver_lacks_because_its_digest_was_refused_is_replayed_to_that_one(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, *(event(n) for n in (1, 2))) as opened:
        opened.sink.most_at_once = 1
        opened.sink.fails(SinkPartly({"b": NO}))
        await opened.lane.attempt_all()
        await opened.store.replay(event(1).id, sinks=(), now=opened.clock.now())
        await opened.later(1)
        assert calls(opened) == ["", "b"]


async def test_while_the_sink_fails_what_one_receiver_lacks_is_not_its_probe(tmp_path: Path) -> None:
    """A mailbox that is full for days must not be what a server that works again is tried with."""
    async with bench(tmp_path, event(1)) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await put(opened.store, *in_ticket("B", 2))
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        opened.clock.advance(60)
        async with running(opened.lane):
            await until(lambda: len(opened.sink.taken) == 3)
        assert calls(opened) == ["", "", "b"]


async def test_what_one_receiver_lacks_is_given_up_with_the_sink_that_is_switched_off(tmp_path: Path) -> None:
    async with bench(tmp_path, event(1)) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await put(opened.store, *in_ticket("B", 2))
        opened.sink.fails(SinkGone("HTTP 410"))
        await opened.lane.attempt_all()
        assert await opened.store.waiting() == {}
        assert sorted(row.state.value for row in await opened.store.history(most=9)) == ["dead", "dead", "delivered"]


async def test_an_outcome_in_parts_is_written_down_also_while_being_cancelled(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.gate = anyio.Event()
        opened.sink.fails(SinkPartly({"b": DOWN}))
        async with anyio.create_task_group() as group:
            group.start_soon(opened.lane.attempt_all)
            await until(lambda: opened.sink.attempts == 1)
            opened.sink.gate.set()
            await until(lambda: len(opened.sink.taken) == 1)
            group.cancel_scope.cancel()
        assert await rows(opened) == {"": "delivered", "b": "due"}


async def test_a_delivery_to_one_receiver_that_fails_in_parts_leaves_that_one(tmp_path: Path) -> None:
    async with bench(tmp_path, event()) as opened:
        opened.sink.fails(SinkPartly({"b": DOWN}), SinkPartly({"b": DOWN}))
        await opened.lane.attempt_all()
        await opened.later(60)
        assert await rows(opened) == {"": "delivered", "b": "due"}
        await opened.later(3600)
        assert await rows(opened) == {"": "delivered", "b": "delivered"}


@pytest.mark.parametrize("receiver", ["", "b"])
def test_the_order_of_a_receiver_is_that_of_its_ticket(receiver: str) -> None:
    one, other = (delivery(each, receiver=receiver, due_at=NOON) for each in in_ticket("A", 1, 2))
    assert one.lane == other.lane
