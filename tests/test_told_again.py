"""What a person asked to be told again in an hour, from the click to the second pop-up."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes import FakeClock, FakeSink, at, event, ticket
from tests.test_dispatch import lane_to
from tests.test_store import in_ticket, put
from watcher.dispatch import Lane
from watcher.errors import SinkUnavailable
from watcher.store import Store, open_store

HOUR = 3600.0


@dataclass
class Bench:
    store: Store
    clock: FakeClock
    sink: FakeSink
    lane: Lane

    async def remind(self, event: str, receiver: str = "") -> bool:
        now = self.clock.now()
        return await self.store.remind(event, sink="hub", receiver=receiver, now=now, at=now + timedelta(hours=1))

    async def later(self, seconds: float) -> list[tuple[str, str]]:
        """Return which events were told to whom after so many seconds."""
        self.clock.advance(seconds)
        self.sink.taken.clear()
        await self.lane.attempt_all()
        return [(each.event.note.id if each.event.note else "digest", each.receiver) for each in self.sink.taken]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    sink, clock = FakeSink(most_at_once=2), FakeClock(at(30))
    async with open_store(tmp_path / "watcher.db") as store:
        bench = Bench(store, clock, sink, lane_to(sink, store, clock))
        await put(store, event(1))
        assert await bench.later(0) == [("1", "")]
        yield bench


async def test_it_is_told_again_after_an_hour_and_not_before(bench: Bench) -> None:
    assert await bench.remind(event(1).id)
    assert await bench.later(HOUR - 1) == []
    assert await bench.later(2) == [("1", "")]
    assert await bench.later(10 * HOUR) == []


async def test_only_who_asked_is_told_again(bench: Bench) -> None:
    assert await bench.remind(event(1).id, "alice")
    assert await bench.later(HOUR) == [("1", "alice")]
    assert {(row.receiver, row.state) for row in await bench.store.history(most=9)} == {
        ("", "delivered"),
        ("alice", "delivered"),
    }


async def test_it_can_be_put_off_again_and_again(bench: Bench) -> None:
    for _ in range(3):
        await bench.remind(event(1).id, "alice")
        await bench.later(HOUR / 2)
        await bench.remind(event(1).id, "alice")
        assert await bench.later(HOUR / 2) == []
        assert await bench.later(HOUR / 2) == [("1", "alice")]


async def test_it_neither_waits_for_news_of_the_ticket_nor_holds_them_up(bench: Bench) -> None:
    await bench.remind(event(1).id)
    await put(bench.store, *in_ticket("0005PYGCW", 2))
    assert await bench.later(1) == [("2", "")]
    assert await bench.later(HOUR) == [("1", "")]


async def test_a_sink_that_recovers_does_not_hasten_it(bench: Bench) -> None:
    await bench.remind(event(1).id)
    await put(bench.store, *in_ticket("B", 2))
    bench.sink.fails(SinkUnavailable("nobody is there"))
    assert await bench.later(1) == []
    bench.lane.recover()
    await bench.lane.attempt_all()
    assert await bench.later(0) == [("2", "")]


async def test_reading_the_ticket_takes_it_back(bench: Bench) -> None:
    await bench.remind(event(1).id, "alice")
    await bench.store.forget_reminders("prod", "OTHER", now=bench.clock.now())
    await bench.store.forget_reminders("other", "0005PYGCW", now=bench.clock.now())
    rows = {row.receiver: row.state for row in await bench.store.history(most=9)}
    assert rows == {"": "delivered", "alice": "due"}
    await bench.store.forget_reminders("prod", "0005PYGCW", now=bench.clock.now())
    assert await bench.later(2 * HOUR) == []


async def test_reading_takes_back_nothing_that_was_never_told(bench: Bench) -> None:
    told = event(2, minutes=2, ticket=ticket("0005PYGCW"))
    await put(bench.store, told)
    await bench.store.forget_reminders("prod", "0005PYGCW", now=bench.clock.now())
    assert await bench.later(0) == [("2", "")]


async def test_what_the_sink_never_had_is_nobodys_to_be_reminded_of(bench: Bench) -> None:
    assert not await bench.remind("msg_unknown")
    assert not await bench.store.remind(event(1).id, sink="mail", receiver="", now=at(0), at=at(60))
    assert await bench.later(2 * HOUR) == []
