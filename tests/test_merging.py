"""What waits for a sink that wants few messages is told as one, in order, and nothing is lost or told twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio

from tests.fakes import FakeSink, at, event, ticket, until
from tests.test_dispatch import DOWN, Bench, bench, running
from tests.test_store import in_ticket, put
from watcher.detect import event_id
from watcher.errors import SinkPartly, SinkRejected
from watcher.model import Event, Kind
from watcher.route import LARGEST_DIGEST


@asynccontextmanager
async def merging(folder: Path, *events: Event, most: int | None = 1, parallel: int = 1) -> AsyncIterator[Bench]:
    """Open a lane whose sink wants more than ``most`` waiting events told as one."""
    async with bench(folder, *events, parallel=parallel) as opened:
        opened.sink.most_at_once = most
        yield opened


def of_many(count: int, *, first: int = 1) -> list[Event]:
    """Return events of as many tickets."""
    return [event(f"{n}", minutes=n, ticket=ticket(f"T{n}")) for n in range(first, first + count)]


def told(sink: FakeSink) -> list[str]:
    """Return the notes that were told, in the order in which a reader sees them."""
    flat = (each for message in sink.received for each in message.events or (message,))
    return [each.note.id for each in flat if each.note]


def messages(sink: FakeSink) -> list[list[str]]:
    return [[each.note.id for each in message.events or (message,) if each.note] for message in sink.received]


async def test_so_many_are_told_one_by_one_and_more_as_one(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3), most=3) as few:
        await few.lane.attempt_all()
        assert messages(few.sink) == [["1"], ["2"], ["3"]]
    (tmp_path / "more").mkdir()
    async with merging(tmp_path / "more", *of_many(4), most=3) as more:
        await more.lane.attempt_all()
        assert messages(more.sink) == [["1", "2", "3", "4"]]
        assert set((await more.states()).values()) == {"delivered"}


async def test_a_sink_that_wants_each_event_gets_each(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(30), most=None) as opened:
        await opened.lane.attempt_all()
        assert messages(opened.sink) == [[f"{n}"] for n in range(1, 31)]


async def test_what_is_too_much_for_one_message_is_told_in_portions_without_a_loss(tmp_path: Path) -> None:
    count = 2 * LARGEST_DIGEST + 1
    async with merging(tmp_path, *of_many(count)) as opened:
        await opened.lane.attempt_all()
        assert [len(each) for each in messages(opened.sink)] == [LARGEST_DIGEST, LARGEST_DIGEST, 1]
        assert told(opened.sink) == [f"{n}" for n in range(1, count + 1)]


async def test_a_digest_that_fails_is_repeated_as_it_was(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3)) as opened:
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        await put(opened.store, *of_many(1, first=4))
        await opened.later(60)
        await opened.later(60)
        assert sorted(told(opened.sink)) == ["1", "2", "3", "4"]
        assert ["1", "2", "3"] in messages(opened.sink)


async def test_a_digest_that_is_refused_can_be_asked_for_again_with_all_that_it_tells(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3)) as opened:
        opened.sink.fails(SinkRejected("no"))
        await opened.lane.attempt_all()
        assert set((await opened.states()).values()) == {"dead"}
        (digest,) = {row.event for row in await opened.store.history(most=9) if row.kind == Kind.DIGEST}
        await opened.store.replay(digest, sinks=(), now=opened.clock.now())
        await opened.later(1)
        assert messages(opened.sink) == [["1", "2", "3"]]
        assert set((await opened.states()).values()) == {"delivered"}


async def test_one_that_a_waiting_digest_tells_can_be_asked_for_alone(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3)) as opened:
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        await opened.store.replay(of_many(3)[1].id, sinks=(), now=opened.clock.now())
        await opened.later(5)
        assert messages(opened.sink)[0] == ["2"]
        await opened.later(60)
        assert set(told(opened.sink)) == {"1", "2", "3"}
        assert set((await opened.states()).values()) == {"delivered"}


async def test_tests_and_what_a_person_asked_for_come_alone(tmp_path: Path) -> None:
    trial = event("9", kind=Kind.TEST, ticket=ticket("TEST"), id=event_id("prod", "TEST", "9", kind="test"))
    async with merging(tmp_path, *of_many(3), trial) as opened:
        await opened.lane.attempt_all()
        assert sorted(messages(opened.sink)) == [["1", "2", "3"], ["9"]]
        await opened.store.replay(of_many(3)[0].id, sinks=(), now=opened.clock.now())
        await opened.store.replay(of_many(3)[1].id, sinks=(), now=opened.clock.now())
        await opened.later(1)
        assert sorted(messages(opened.sink)[2:]) == [["1"], ["2"]]


async def test_while_attempts_are_under_way_nothing_of_theirs_is_told_a_second_time(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(2), most=3, parallel=2) as opened:
        opened.sink.gate = anyio.Event()
        async with running(opened.lane):
            await until(lambda: opened.sink.attempts == 2)
            await put(opened.store, *of_many(5, first=3))
            opened.lane.ring()
            opened.sink.gate.set()
            async with asynccontextmanager(_all_told)(opened, 7):
                pass
        assert sorted(told(opened.sink)) == [f"{n}" for n in range(1, 8)]


async def _all_told(opened: Bench, count: int) -> AsyncIterator[None]:
    await until(lambda: len(told(opened.sink)) >= count)
    yield


async def test_a_lane_that_is_started_again_goes_on_with_the_digest_it_had_made(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3)) as opened:
        opened.sink.gate = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(opened.lane.run)
            await until(lambda: opened.sink.attempts == 1)
            group.cancel_scope.cancel()
        opened.sink.gate = None
        async with bench(tmp_path) as again:
            again.sink.most_at_once = 1
            await again.lane.attempt_all()
            assert messages(again.sink) == [["1", "2", "3"]]
            assert set((await again.states()).values()) == {"delivered"}


async def test_each_receiver_gets_a_digest_of_what_it_lacks(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3), most=None) as opened:
        opened.sink.fails(*(SinkPartly({"a": DOWN, "b": DOWN}) for _ in range(3)))
        await opened.lane.attempt_all()
        opened.sink.most_at_once = 1
        await opened.later(60)
        assert [(each.receiver, len(each.event.events)) for each in opened.sink.taken[3:]] == [("a", 3), ("b", 3)]
        assert len({each.event.id for each in opened.sink.taken[3:]}) == 2
        assert set((await opened.states()).values()) == {"delivered"}


async def test_what_some_lack_of_a_digest_is_sent_to_them_alone(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(3)) as opened:
        opened.sink.fails(SinkPartly({"a": DOWN}))
        await opened.lane.attempt_all()
        await put(opened.store, *of_many(2, first=4))
        await opened.later(60)
        assert [(each.receiver, len(each.event.events)) for each in opened.sink.taken] == [("", 3), ("", 2), ("a", 3)]


async def test_between_two_messages_the_sink_is_left_alone(tmp_path: Path) -> None:
    async with merging(tmp_path, *of_many(LARGEST_DIGEST + 2), most=5) as opened:
        opened.sink.spacing = timedelta(seconds=3)
        await opened.lane.attempt_all()
        assert [len(each) for each in messages(opened.sink)] == [LARGEST_DIGEST, 1, 1]
        assert opened.clock.slept == [3, 3]


async def test_a_digest_overtakes_nothing_that_waits_in_one_of_its_tickets(tmp_path: Path) -> None:
    first, second = in_ticket("A", 1, 2)
    async with merging(tmp_path, first, second) as opened:
        opened.sink.most_at_once = None
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        await put(opened.store, *of_many(2, first=8))
        opened.sink.most_at_once = 1
        await opened.later(2)
        await opened.later(60)
        of_ticket = [each for each in told(opened.sink) if each in {"1", "2"}]
        assert of_ticket == ["1", "2"]


async def test_nothing_overtakes_a_digest_that_tells_of_its_ticket(tmp_path: Path) -> None:
    first, second = in_ticket("A", 1, 2)
    async with merging(tmp_path, first, *of_many(2, first=8)) as opened:
        opened.sink.fails(DOWN)
        await opened.lane.attempt_all()
        await put(opened.store, second)
        await opened.later(2)
        await opened.later(60)
        of_ticket = [each for each in told(opened.sink) if each in {"1", "2"}]
        assert of_ticket == ["1", "2"]


async def test_a_digest_tells_its_events_in_the_order_of_their_tickets(tmp_path: Path) -> None:
    events = [*in_ticket("A", 1, 4), *in_ticket("B", 2, 3)]
    async with merging(tmp_path, *events) as opened:
        await opened.lane.attempt_all()
        assert told(opened.sink) == ["1", "2", "3", "4"]
        assert opened.sink.received[0].occurred_at == at(4)
