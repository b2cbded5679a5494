"""Stage two: attempts, what follows them, and what is written down of it."""

import io
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import sqlalchemy as sa
import structlog

from tests.fakes import NOON, FakeApi, FakeClock, FakeSink, account, at, delivery, event, note, rule, ticket, until
from tests.test_store import in_ticket, put
from watcher import log
from watcher.clock import SystemClock
from watcher.daemon import Daemon
from watcher.dispatch import Lane, gather
from watcher.errors import SinkGone, SinkRejected, SinkUnavailable, StoreError, StoreUnavailable
from watcher.model import Delivered, Delivery, DeliveryState, Event, Kind
from watcher.pacer import Pacer
from watcher.poll import Poller
from watcher.ports import Clock
from watcher.retry import RetryPolicy
from watcher.route import Routing
from watcher.schedule import Cadence, Pace
from watcher.store import Store, open_store
from watcher.watched import Watched

DOWN = SinkUnavailable("HTTP 503, service unavailable")
THREE_TRIES = RetryPolicy(schedule=(timedelta(seconds=10), timedelta(minutes=10)))


@dataclass
class Bench:
    """A lane with everything it needs."""

    lane: Lane
    sink: FakeSink
    store: Store
    clock: FakeClock

    async def later(self, seconds: float) -> None:
        """Attempt what is due after so many seconds."""
        self.clock.advance(seconds)
        await self.lane.attempt_all()

    async def states(self) -> dict[str, str]:
        return {row.note: row.state.value for row in await self.store.history(most=1000) if row.sink == self.lane.name}

    async def error(self) -> str | None:
        (row,) = await self.store.history(most=2)
        return row.error

    def received(self) -> list[str]:
        return [each.note.id if each.note else "digest" for each in self.sink.received]


def lane_to(
    sink: FakeSink, store: Store, clock: Clock, *, policy: RetryPolicy = THREE_TRIES, disabled: str = ""
) -> Lane:
    return Lane(sink=sink, store=store, clock=clock, policy=policy, disabled=disabled)


@asynccontextmanager
async def bench(folder: Path, *events: Event, parallel: int = 1, **more: Any) -> AsyncIterator[Bench]:
    """Open a lane in whose store these events are due."""
    sink, clock = FakeSink(parallel=parallel), FakeClock(at(30))
    async with open_store(folder / "watcher.db") as store:
        await put(store, *events)
        yield Bench(lane_to(sink, store, clock, **more), sink, store, clock)


@asynccontextmanager
async def running(*lanes: Lane) -> AsyncIterator[None]:
    """Run the lanes until the block ends, then stop them and wait for what is under way."""
    async with anyio.create_task_group() as group:
        for lane in lanes:
            group.start_soon(lane.run)
        yield
        for lane in lanes:
            lane.stop()


@asynccontextmanager
async def locked_by_another(store: Store) -> AsyncIterator[None]:
    """Let the store take nothing meanwhile."""
    async with store._write_engine.connect() as connection:
        await connection.execute(sa.text("PRAGMA busy_timeout = 1"))
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


# --- one attempt ------------------------------------------------------------------------------------------


async def test_what_is_due_is_delivered(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        await b.lane.attempt_all()
        assert b.received() == ["1"]
        assert await b.states() == {"1": "delivered"}


async def test_a_failed_delivery_is_tried_again_by_the_schedule_and_then_given_up(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        b.sink.fails(*[DOWN] * 9)
        await b.lane.attempt_all()
        await b.later(9)
        assert (b.sink.attempts, await b.states()) == (1, {"1": "due"})
        await b.later(3)
        assert b.sink.attempts == 2
        await b.later(590)
        assert b.sink.attempts == 2
        await b.later(80)
        assert (b.sink.attempts, await b.states()) == (3, {"1": "dead"})
        assert await b.error() == f"{DOWN}; given up after 3 attempts"
        await b.later(100_000)
        assert b.sink.attempts == 3


async def test_a_receiver_that_names_a_time_is_not_called_before_it(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        b.sink.fails(SinkUnavailable("HTTP 429", retry_after=timedelta(hours=1)))
        await b.lane.attempt_all()
        await b.later(3599)
        assert b.sink.attempts == 1
        await b.later(2)
        assert await b.states() == {"1": "delivered"}


async def test_a_rejected_event_is_given_up_at_once_and_holds_up_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2)) as b:
        b.sink.fails(SinkRejected("550 no such user"))
        await b.lane.attempt_all()
        await b.later(0)
        assert await b.states() == {"1": "dead", "2": "delivered"}


async def test_a_repeat_carries_the_same_id(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        await b.lane.attempt_all()
        await b.store.replay(b.sink.received[0].id, sinks=(), now=b.clock.now())
        await b.lane.attempt_all()
        first, second = b.sink.received
        assert first == second


async def test_a_mistake_in_a_sink_is_survived_and_said_without_a_traceback(tmp_path: Path) -> None:
    stream = io.StringIO()
    log.set_up(form="text", stream=stream)
    try:
        async with bench(tmp_path, *in_ticket("A", 1), *in_ticket("B", 2)) as b:
            b.sink.fails(RuntimeError("surprise"))
            await b.lane.attempt_all()
            assert sorted((await b.states()).values()) == ["delivered", "due"]
            await b.later(12)
            assert set((await b.states()).values()) == {"delivered"}
    finally:
        structlog.reset_defaults()
    said = stream.getvalue()
    assert "RuntimeError at fakes.py:" in said
    # Its words may hold an address or a key.
    assert "surprise" not in said
    assert "Traceback" not in said


async def test_in_one_round_each_due_delivery_is_attempted_once(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2), *in_ticket("B", 3, 4), *in_ticket("C", 5), parallel=2) as b:
        b.sink.fails(DOWN)
        await b.lane.attempt_all()
        # One of three tickets failed: its later notes wait behind it, all others went out.
        assert b.sink.attempts == len(b.sink.received) + 1
        assert sorted((await b.states()).values()).count("due") in {1, 2}
        assert b.lane.failures == 1


# --- the order of a ticket --------------------------------------------------------------------------------


async def test_the_order_of_a_ticket_is_kept_while_its_first_note_fails(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2, 3), *in_ticket("B", 4)) as b:
        b.sink.fails(DOWN)
        await b.lane.attempt_all()
        assert b.received() == ["4"]
        await b.later(12)
        assert b.received() == ["4", "1", "2", "3"]


@pytest.mark.parametrize("parallel", [1, 4])
async def test_whatever_fails_in_between_each_ticket_is_told_in_order(tmp_path: Path, parallel: int) -> None:
    tickets = [in_ticket(f"T{n}", *range(n * 5, n * 5 + 5)) for n in range(5)]
    often = RetryPolicy(schedule=[timedelta(seconds=10)] * 20)
    async with bench(tmp_path, *(each for events in tickets for each in events), parallel=parallel, policy=often) as b:
        b.sink.fails(*[DOWN, None, None, DOWN, None] * 4)
        async with running(b.lane):
            while len(b.sink.received) < 25:
                b.clock.advance(15)
                b.lane.ring()
                await anyio.sleep(0.002)
        for number in range(5):
            told = [int(each) for each in b.received() if int(each) // 5 == number]
            assert told == sorted(told)
            assert len(told) == 5


async def test_a_success_after_failures_hastens_the_rest(tmp_path: Path) -> None:
    events = [each for n in range(6) for each in in_ticket(f"T{n}", n)]
    async with bench(tmp_path, *events) as b:
        b.sink.fails(*[DOWN] * 12)
        await b.lane.attempt_all()
        await b.later(12)
        # All wait for ten minutes now. One of them is replayed and comes through.
        await b.later(1)
        assert b.sink.attempts == 12
        await b.store.replay(events[0].id, sinks=(), now=b.clock.now())
        await b.later(1)
        await b.later(1)
        assert set((await b.states()).values()) == {"delivered"}


# --- a sink that is switched off --------------------------------------------------------------------------


async def test_a_receiver_that_asks_not_to_be_called_again_is_switched_off(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2), *in_ticket("B", 3)) as b:
        b.sink.fails(SinkGone("HTTP 410"))
        await b.lane.attempt_all()
        assert b.sink.attempts == 1
        assert set((await b.states()).values()) == {"dead"}
        assert await b.store.disabled() == {"hub": (b.sink.target, "HTTP 410")}
        await put(b.store, *in_ticket("C", 4))
        await b.later(10)
        assert b.sink.attempts == 1
        assert (await b.states())["4"] == "dead"


async def test_a_switched_off_sink_is_still_off_after_a_restart_and_on_after_a_replay(tmp_path: Path) -> None:
    told = in_ticket("A", 1)
    async with bench(tmp_path, *told, disabled="the sink is switched off: HTTP 410") as b:
        await b.store.disable("hub", target=b.sink.target, reason="HTTP 410", now=NOON)
        async with running(b.lane):
            await until(lambda: b.lane.failures == 1)
            assert await b.states() == {"1": "dead"}
            assert b.sink.attempts == 0
            await b.store.replay(told[0].id, sinks=(), now=b.clock.now())
            b.lane.ring()
            await until(lambda: b.received() == ["1"])
        assert b.lane.disabled == ""
        assert await b.states() == {"1": "delivered"}


# --- the loop ---------------------------------------------------------------------------------------------


async def test_the_loop_delivers_what_comes_in_while_it_runs(tmp_path: Path) -> None:
    async with bench(tmp_path) as b, running(b.lane):
        await anyio.lowlevel.checkpoint()
        await put(b.store, *in_ticket("A", 1))
        b.lane.ring()
        await until(lambda: b.received() == ["1"], within=4)  # without the bell it would be up to five seconds


async def test_a_ring_that_comes_while_the_lane_is_looking_is_not_lost(tmp_path: Path) -> None:
    async with bench(tmp_path) as b, running(b.lane):
        for number in range(1, 40):
            for _ in range(number % 13):
                await anyio.lowlevel.checkpoint()
            await put(b.store, *in_ticket(f"T{number}", number))
            b.lane.ring()
            await until(lambda: len(b.sink.received) == number, within=4)  # noqa: B023 - awaited at once


async def test_a_lane_that_has_nothing_to_do_is_quiet(tmp_path: Path) -> None:
    """Also with a note behind one that waits, and with every place taken."""
    async with bench(tmp_path, *in_ticket("A", 1, 2), *in_ticket("B", 3), parallel=2) as b:
        b.sink.fails(DOWN)
        looks: list[str] = []
        async with running(b.lane):
            await until(lambda: b.sink.attempts >= 1)
            b.clock.advance(5)
            b.lane.ring()
            await until(lambda: b.received() == ["3"])
            await anyio.sleep(0.05)
            sa.event.listen(
                b.store._read_engine.sync_engine, "before_cursor_execute", lambda *args: looks.append(args[2])
            )
            await anyio.sleep(0.5)
            assert len(looks) <= 4
            b.sink.gate = anyio.Event()
            b.clock.advance(10)
            b.lane.ring()
            await anyio.sleep(0.1)
            looks.clear()
            await anyio.sleep(0.5)
            assert len(looks) <= 4
            b.sink.gate.set()
            await until(lambda: b.received() == ["3", "1", "2"])


async def test_a_sink_that_takes_several_at_once_gets_them(tmp_path: Path) -> None:
    events = [each for n in range(6) for each in in_ticket(f"T{n}", n)]
    async with bench(tmp_path, *events, parallel=4) as b:
        b.sink.gate = anyio.Event()
        async with running(b.lane):
            await until(lambda: b.sink.attempts == 4)
            await anyio.sleep(0.05)
            assert b.sink.attempts == 4
            b.sink.gate.set()
            await until(lambda: len(b.sink.received) == 6)


async def test_a_due_retry_starts_while_another_attempt_hangs(tmp_path: Path) -> None:
    store_path = tmp_path / "watcher.db"
    async with open_store(store_path) as store:
        late = in_ticket("B", 2)[0]
        await put(store, *in_ticket("A", 1))
        await put(store, late, due_at=SystemClock().now() + timedelta(milliseconds=300))
        sink = FakeSink(parallel=2, gate=anyio.Event())
        async with running(lane_to(sink, store, SystemClock())):
            await until(lambda: sink.attempts == 2, within=4)
            assert sink.gate
            sink.gate.set()


async def test_one_sink_that_hangs_delays_no_other(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2)) as b:
        await put(b.store, *in_ticket("A", 1, 2), sink="mail")
        for told in in_ticket("B", 3, 4):
            await put(b.store, told)
        for told in in_ticket("C", 5, 6):
            await put(b.store, told, sink="mail")
        mail = FakeSink(name="mail", gate=anyio.Event())
        async with running(b.lane, lane_to(mail, b.store, b.clock)):
            await until(lambda: len(b.sink.received) == 4)
            assert mail.received == []
            assert mail.gate
            mail.gate.set()
            await until(lambda: len(mail.received) == 2)


async def test_stopping_lets_the_attempt_under_way_end_and_begins_no_other(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1, 2)) as b:
        b.sink.gate = anyio.Event()
        async with running(b.lane):
            await until(lambda: b.sink.attempts == 1)
            b.lane.stop()
            b.sink.gate.set()
        assert await b.states() == {"1": "delivered", "2": "due"}


async def test_an_attempt_that_is_cut_off_is_due_again_as_if_it_had_not_been(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        b.sink.gate = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(b.lane.run)
            await until(lambda: b.sink.attempts == 1)
            group.cancel_scope.cancel()
        (again,) = await b.store.due("hub", now=b.clock.now(), most=1)
        assert again.attempts == 0
        b.sink.gate = None
        await lane_to(b.sink, b.store, b.clock).attempt_all()
        assert await b.states() == {"1": "delivered"}


async def test_what_a_receiver_took_is_written_down_also_while_being_cancelled(tmp_path: Path) -> None:
    class Cancelling(FakeSink):
        """Takes the event in the moment in which everything is cancelled."""

        async def send(self, delivery: Delivery, **_more: Any) -> None:
            self.received.append(delivery.event)
            scope.cancel()

    with anyio.CancelScope() as scope:
        async with open_store(tmp_path / "watcher.db") as store:
            await put(store, *in_ticket("A", 1))
            await lane_to(Cancelling(), store, FakeClock()).run()
    async with open_store(tmp_path / "watcher.db") as store:
        (row,) = await store.history(most=1)
        assert row.state is DeliveryState.DELIVERED


# --- a store that takes nothing ---------------------------------------------------------------------------


async def test_while_the_outcome_cannot_be_written_down_nothing_further_is_sent(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1), *in_ticket("B", 2)) as b:
        async with running(b.lane):
            b.sink.gate = anyio.Event()
            await until(lambda: b.sink.attempts == 1)
            async with locked_by_another(b.store):
                b.sink.gate.set()
                # The fake clock lets its many pauses pass at once.
                await until(lambda: len(b.clock.slept) > 20)
                assert b.sink.attempts == 1
            await until(lambda: len(b.sink.received) == 2)
        assert await b.states() == {"1": "delivered", "2": "delivered"}
        assert b.sink.attempts == 2


@pytest.mark.parametrize("error", [DOWN, SinkGone("HTTP 410"), None])
async def test_the_loop_survives_a_store_that_takes_nothing_at_any_write(
    tmp_path: Path, error: Exception | None
) -> None:
    class Flaky(Store):
        """Fails at every second call that writes."""

        writes = 0

        def _refuse_another_file(self) -> None:
            self.writes += 1
            if self.writes % 2:
                raise StoreUnavailable("database or disk is full")

    async with bench(tmp_path, *in_ticket("A", 1), *in_ticket("B", 2)) as b:
        b.lane.store = Flaky(b.store.path, b.store._write_engine, b.store._read_engine)
        b.sink.fails(DOWN, error)
        async with running(b.lane):
            for _ in range(200):
                b.clock.advance(15)
                b.lane.ring()
                await anyio.sleep(0.002)
                if "due" not in (await b.states()).values():
                    break
        wanted = {"dead"} if isinstance(error, SinkGone) else {"delivered"}
        assert set((await b.states()).values()) == wanted


async def test_in_one_round_an_outcome_that_cannot_be_written_down_is_an_error(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b, locked_by_another(b.store):
        with pytest.raises(ExceptionGroup) as caught:
            await b.lane.attempt_all()
        assert caught.group_contains(StoreUnavailable)
        assert 30 <= sum(b.clock.slept) < 60


async def test_a_store_that_is_beyond_help_ends_the_lane(tmp_path: Path) -> None:
    async with bench(tmp_path, *in_ticket("A", 1)) as b:
        b.store.path.unlink()
        with pytest.raises(ExceptionGroup) as caught:
            await b.lane.run()
        assert caught.group_contains(StoreError)


# --- digests ----------------------------------------------------------------------------------------------


async def hold(store: Store, *numbers: int, sink: str = "hub") -> list[Event]:
    events = [event(n, kind=Kind.UNREAD, ticket=ticket(f"T{n}"), minutes=n) for n in numbers]
    await put(store, *events, sink=sink, state=DeliveryState.HELD, due_at=at(60))
    return events


async def test_what_was_unread_at_the_first_looks_comes_as_one_digest(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await hold(b.store, 3, 1, 2)
        assert await gather(b.store, now=b.clock.now(), all_of_them=False) == 0
        assert await gather(b.store, now=b.clock.now(), all_of_them=True) == 1
        await b.lane.attempt_all()
        (told,) = b.sink.received
        assert [each.note and each.note.id for each in told.events] == ["1", "2", "3"]
        assert set((await b.states()).values()) == {"delivered"}


async def test_one_unread_note_comes_alone(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await hold(b.store, 1)
        await gather(b.store, now=b.clock.now(), all_of_them=True)
        await b.lane.attempt_all()
        assert b.received() == ["1"]


async def test_what_is_held_comes_out_when_its_patience_ends(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await hold(b.store, 1, 2)
        assert await gather(b.store, now=at(61), all_of_them=False) == 1


async def test_gathering_again_after_a_crash_makes_no_second_digest(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await hold(b.store, 1, 2)
        await gather(b.store, now=b.clock.now(), all_of_them=True)
    async with bench(tmp_path) as b:
        assert await gather(b.store, now=b.clock.now(), all_of_them=True) == 0
        await b.lane.attempt_all()
        assert b.received() == ["digest"]


# --- the daemon -------------------------------------------------------------------------------------------


@asynccontextmanager
async def daemon(folder: Path, *sinks: FakeSink, clock: Clock | None = None) -> AsyncIterator[tuple[Daemon, FakeApi]]:
    clock, api = clock or SystemClock(), FakeApi()
    async with open_store(folder / "watcher.db") as store:
        lanes = [lane_to(sink, store, clock) for sink in sinks]
        whole = Daemon(store=store, clock=clock, pollers=[], discoveries=[], lanes=lanes, history=timedelta(days=90))
        pacer = Pacer(clock, Pace(rate=1000.0, is_learnt=False, allowance=1000.0))
        poller = Poller(
            account="prod",
            api=api,
            store=store,
            clock=clock,
            pacer=pacer,
            routing=Routing(sinks=[sink.name for sink in sinks]),
            on_recorded=whole.on_recorded,
        )
        whole.pollers.append(poller)
        yield whole, api


def watch(whole: Daemon, *numbers: str, seconds: float = 0.02) -> None:
    cadence = Cadence(interval=timedelta(seconds=seconds), jitter=0.0)
    for number in numbers:
        whole.pollers[0].enlist(Watched(account=account(), ticket=ticket(number), rule=rule(), cadence=cadence))


@asynccontextmanager
async def at_work(whole: Daemon) -> AsyncIterator[None]:
    """Run the daemon until the block ends, then stop it as SIGTERM does."""
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: whole.run(until=stop))
        yield
        stop.set()


async def test_the_daemon_tells_first_what_is_unread_and_then_what_is_new(tmp_path: Path) -> None:
    sink = FakeSink()
    async with daemon(tmp_path, sink) as (whole, api):
        api.shows("A", note(1))
        api.shows("B", note(2))
        watch(whole, "A", "B")
        async with at_work(whole):
            await until(lambda: len(sink.received) == 1)
            assert sink.received[0].kind is Kind.DIGEST
            api.shows("A", note(1), note(3, minutes=50))
            await until(lambda: len(sink.received) == 2)
            assert sink.received[1].note
            assert sink.received[1].note.id == "3"


async def test_unread_notes_of_a_ticket_found_later_do_not_stay_held(tmp_path: Path) -> None:
    """Whatever is being gathered in the moment in which they are recorded."""
    sink = FakeSink()
    async with daemon(tmp_path, sink) as (whole, api), at_work(whole):
        for number in range(12):
            api.shows(f"T{number}", note(number + 1))
            watch(whole, f"T{number}", seconds=60)
            for _ in range(number):
                await anyio.lowlevel.checkpoint()
        await until(lambda: whole.is_settled)
        await until(lambda: sum(len(each.events) or 1 for each in sink.received) == 12, within=20)


async def test_a_note_recorded_while_digests_are_gathered_is_gathered_next(tmp_path: Path) -> None:
    async with daemon(tmp_path, FakeSink()) as (whole, _):

        class Slow(Store):
            async def held(self, **more: Any) -> Any:
                found = await super().held(**more)
                await hold(self, 2)
                whole.on_recorded(is_any_held=True)
                return found

        whole.store = Slow(whole.store.path, whole.store._write_engine, whole.store._read_engine)
        await whole._gather()
        assert whole._has_held


async def test_the_end_does_not_wait_for_a_sink_that_hangs(tmp_path: Path) -> None:
    sink = FakeSink(gate=anyio.Event())
    async with daemon(tmp_path, sink) as (whole, api):
        api.shows("A", note(1, minutes=50))
        watch(whole, "A")
        whole.stop_within = timedelta(seconds=0.2)
        async with at_work(whole):
            await until(lambda: sink.attempts == 1)
            started = anyio.current_time()
        assert 0.2 <= anyio.current_time() - started < 5
        (row,) = await whole.store.history(most=2)
        assert (row.state, row.attempts) == (DeliveryState.DUE, 0)
        assert (await whole.store.tickets())[0].last_poll_at is not None


async def test_one_round_discovers_looks_and_delivers(tmp_path: Path) -> None:
    hub, mail = FakeSink(), FakeSink(name="mail")
    async with daemon(tmp_path, hub, mail, clock=FakeClock(at(60))) as (whole, api):
        api.shows("A", note(1))
        api.shows("B", note(2, minutes=50))
        watch(whole, "A", "B")
        mail.fails(DOWN)
        assert await whole.once() == [f"sink mail: 1 not delivered; {DOWN}"]
        assert (len(hub.received), len(mail.received)) == (2, 1)
        assert await whole.store.waiting() == {"mail": 1}


async def test_a_daemon_that_is_stopped_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """Stop and start again, each time a little later; at the end everything was told, under one id each."""
    sink = FakeSink(parallel=4)
    notes = tuple(note(n, minutes=40 + n) for n in range(30))
    for turns in range(0, 300, 20):
        async with daemon(tmp_path, sink) as (whole, api):
            api.shows("A", *notes[: turns // 10 + 1])
            watch(whole, "A")
            async with at_work(whole):
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
    async with daemon(tmp_path, sink) as (whole, api):
        api.shows("A", *notes)
        watch(whole, "A")
        async with at_work(whole):
            await until(lambda: len({each.id for each in sink.received}) == 30)
        rows = await whole.store.history(most=99)
    assert {row.state for row in rows} == {DeliveryState.DELIVERED}
    told = [each.note.id for each in sink.received if each.note]
    assert len(told) == 30  # a stop in good order repeats nothing
    assert told == sorted(told, key=int)


# --- a sink in trouble ------------------------------------------------------------------------------------


async def test_no_attempt_begins_after_a_receiver_asked_not_to_be_called_again(tmp_path: Path) -> None:
    events = [event(n, minutes=n, ticket=ticket(f"T{n}")) for n in range(20)]
    async with bench(tmp_path, *events, parallel=4) as b:
        b.sink.fails(SinkGone("HTTP 410"))
        async with running(b.lane):
            await until(lambda: bool(b.lane.disabled))
            await until_settled(b)
        assert b.sink.attempts <= 4
        rows = await b.store.history(most=100, state=DeliveryState.DEAD)
        assert len(rows) + len(b.sink.received) == 20
        assert all("410" in (row.error or "") for row in rows)


async def until_settled(b: Bench) -> None:
    with anyio.fail_after(60):
        # Another task writes: there is nothing to wait on but the rows.
        while await b.store.waiting():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def test_what_a_receiver_took_counts_as_delivered_although_the_sink_was_switched_off_meanwhile(
    tmp_path: Path,
) -> None:
    (taken,) = in_ticket("A", 1)
    async with bench(tmp_path, taken) as b:
        await b.store.disable("hub", target=b.sink.target, reason="HTTP 410", now=NOON)
        await b.store.bury("hub", reason="HTTP 410", only_if_disabled=True)
        await b.store.settle(delivery(taken), Delivered(at(31)))
        assert await b.states() == {"1": "delivered"}


async def test_a_replay_that_comes_between_two_looks_at_a_switched_off_sink_is_not_buried(tmp_path: Path) -> None:
    (told,) = in_ticket("A", 1)
    async with bench(tmp_path, told) as b:
        await b.store.replay(told.id, sinks=[], now=NOON)
        assert await b.store.bury("hub", reason="HTTP 410", only_if_disabled=True) == 0
        assert await b.states() == {"1": "due"}


async def test_while_a_sink_fails_what_waits_is_tried_before_what_is_new(tmp_path: Path) -> None:
    events = [event(n, minutes=n, ticket=ticket(f"T{n}")) for n in range(8)]
    async with bench(tmp_path, *events, parallel=1, policy=RetryPolicy(schedule=(timedelta(seconds=1),) * 5)) as b:
        b.sink.fails(DOWN)
        async with running(b.lane):
            await until(lambda: b.sink.attempts == 1)
            b.clock.advance(1.2)
            b.lane.ring()
            await until(lambda: len(b.sink.received) == 8)
        # The first one again, and only then the others: it shows that the sink works.
        assert b.received()[0] == "0"
        assert b.sink.attempts == 9


async def test_attempts_side_by_side_that_fail_are_one_failure_of_the_sink(tmp_path: Path) -> None:
    events = [event(n, minutes=n, ticket=ticket(f"T{n}")) for n in range(4)]
    async with bench(tmp_path, *events, parallel=4) as b:
        b.sink.fails(*[DOWN] * 4)
        async with running(b.lane):
            await until(lambda: b.lane.failures == 4)
        assert b.lane._failures_in_a_row == 1
