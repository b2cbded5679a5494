"""Stage one: what polls find, what they write down, and how they rest."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from tests.fakes import NOON, FakeApi, FakeClock, account, at, note, rule, ticket, until
from watcher.clock import SystemClock
from watcher.detect import event_id
from watcher.errors import (
    ApiDenied,
    ApiRefused,
    ApiThrottled,
    ApiUnavailable,
    CredentialsRejected,
    StoreError,
    StoreUnavailable,
)
from watcher.model import FirstRun, Kind, Read, Role, Severity, TicketStatus
from watcher.pacer import Pacer
from watcher.poll import Poller
from watcher.ports import Clock
from watcher.route import Routing
from watcher.schedule import Cadence, Pace
from watcher.store import Store, open_store
from watcher.watched import Watched

#: Faster than any test needs: these tests are about polls, not about their pace.
FAST = Pace(rate=1000.0, is_learnt=False, allowance=1000.0)
REPLY = event_id("prod", "A", "1")


@dataclass
class Rung:
    """Remembers how it was called."""

    calls: list[bool] = field(default_factory=list)

    def __call__(self, *, is_any_held: bool) -> None:
        self.calls.append(is_any_held)


@asynccontextmanager
async def poller(folder: Path, *, clock: Clock | None = None, **more: Any) -> AsyncIterator[Poller]:
    """Open a poller of one account whose tickets are watched since half past twelve."""
    clock = clock or FakeClock()
    async with open_store(folder / "watcher.db") as store:
        values: dict[str, Any] = {"account": "prod", "api": FakeApi(), "pacer": Pacer(clock, FAST)}
        values |= {"routing": Routing(sinks=("hub", "mail")), "on_recorded": Rung()}
        yield Poller(**(values | {"store": store, "clock": clock} | more))


def watch(poller: Poller, *numbers: str, **more: Any) -> None:
    for number in numbers:
        values: dict[str, Any] = {"account": account(), "ticket": ticket(number, title=""), "rule": rule()}
        values |= {"cadence": Cadence(jitter=0.0), "is_in_list": not more.get("is_listed")}
        poller.enlist(Watched(**(values | more)))


def api_of(poller: Poller) -> FakeApi:
    assert isinstance(poller.api, FakeApi)
    return poller.api


def clock_of(poller: Poller) -> FakeClock:
    assert isinstance(poller.clock, FakeClock)
    return poller.clock


async def told(store: Store) -> list[tuple[str, str, str]]:
    """Return ticket, note and sink of everything in the outbox, oldest first."""
    return sorted((row.ticket, row.note, row.sink) for row in await store.history(most=1000))


@asynccontextmanager
async def counted(store: Store) -> AsyncIterator[list[str]]:
    """Lend a list of the statements that run meanwhile, reads included."""
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        statements.append(statement)

    engines = (store._write_engine.sync_engine, store._read_engine.sync_engine)
    for engine in engines:
        sa.event.listen(engine, "before_cursor_execute", count)
    yield statements
    for engine in engines:
        sa.event.remove(engine, "before_cursor_execute", count)


def delay(poller: Poller) -> float:
    """Return in how many seconds the next ticket is looked at."""
    due = poller._agenda.next_due()
    assert due is not None
    return due - poller.clock.elapsed()


# --- what is found ----------------------------------------------------------------------------------------


async def test_a_new_reply_is_recorded_with_a_delivery_for_each_sink(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, by=Role.CUSTOMER))
        watch(p, "A")
        await p.look("A")
        assert await told(p.store) == []
        api_of(p).shows("A", note(1, by=Role.CUSTOMER), note(2, minutes=40))
        await p.look("A")
        assert await told(p.store) == [("A", "2", "hub"), ("A", "2", "mail")]
        (due,) = await p.store.due("hub", now=at(60), most=9)
        assert (due.event.kind, due.event.watch) == (Kind.REPLY, "production")
        assert p.on_recorded.calls == [False]  # type: ignore[attr-defined]


async def test_what_is_unread_at_the_first_look_is_held_for_a_digest(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1), note(2, read=Read.READ))
        watch(p, "A")
        await p.look("A")
        assert [held.event.note and held.event.note.id for held in await p.store.held(until=at(99))] == ["1", "1"]
        assert p.on_recorded.calls == [True]  # type: ignore[attr-defined]


async def test_a_poll_that_finds_nothing_new_does_not_touch_the_store(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        async with counted(p.store) as statements:
            for _ in range(20):
                await p.look("A")
        assert statements == []
        assert api_of(p).count("notes") == 21


async def test_a_ticket_that_goes_on_failing_is_written_down_once(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        api_of(p).fails("notes", *[ApiUnavailable("HTTP 502")] * 5)
        await p.look("A")
        (row,) = await p.store.tickets()
        assert row.error == "HTTP 502"
        async with counted(p.store) as statements:
            for _ in range(4):
                await p.look("A")
        assert statements == []
        await p.look("A")
        (row,) = await p.store.tickets()
        assert row.error is None


async def test_an_error_of_an_earlier_run_goes_away_with_the_first_good_poll(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        await p.store.polled([("prod", "A", NOON, "HTTP 502")])
        p.watched["A"].is_error_stored = True
        await p.look("A")
        (row,) = await p.store.tickets()
        assert row.error is None


async def test_a_read_state_that_changed_is_remembered_without_an_event(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        api_of(p).shows("A", note(1, minutes=40, read=Read.READ))
        await p.look("A")
        assert (await p.store.known("prod", "A")).notes == {"1": Read.READ}
        assert await told(p.store) == [("A", "1", "hub"), ("A", "1", "mail")]


async def test_whoever_waits_for_it_learns_that_the_last_unread_answer_was_read(tmp_path: Path) -> None:
    read: list[tuple[str, str]] = []

    async def note_it(account: str, ticket: str) -> None:
        read.append((account, ticket))

    async with poller(tmp_path, on_read=note_it) as p:
        watch(p, "A")
        for states in ((Read.UNREAD, Read.UNREAD), (Read.READ, Read.UNREAD), (Read.READ, Read.READ)):
            assert read == []
            api_of(p).shows("A", *(note(n, minutes=40 + n, read=state) for n, state in enumerate(states)))
            await p.look("A")
        assert read == [("prod", "A")]
        await p.look("A")
        assert read == [("prod", "A")], "once"


async def test_an_answer_that_lacks_known_notes_changes_nothing(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        everything = (note(1, minutes=40), note(2, minutes=41))
        watch(p, "A")
        for shown in (everything, (), everything[:1], tuple(reversed(everything)), everything):
            api_of(p).shows("A", *shown)
            await p.look("A")
        assert [number for _, number, sink in await told(p.store) if sink == "hub"] == ["1", "2"]


async def test_unreadable_notes_hide_none_of_the_good_ones_and_stay_reported(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40), problems=["note 2 of 2 has no DialogId"])
        watch(p, "A")
        for _ in range(2):
            await p.look("A")
            assert p.watched["A"].error == "note 2 of 2 has no DialogId"
        assert len(await told(p.store)) == 2
        # A failure in between does not hide what is still wrong.
        api_of(p).fails("notes", ApiUnavailable("HTTP 502"))
        await p.look("A")
        assert p.watched["A"].error == "HTTP 502"
        await p.look("A")
        assert p.watched["A"].error == "note 2 of 2 has no DialogId"
        api_of(p).shows("A", note(1, minutes=40), note(2, minutes=41))
        await p.look("A")
        assert p.watched["A"].error is None
        (row,) = await p.store.tickets()
        assert row.error is None


async def test_an_events_ticket_carries_the_severity_that_only_its_details_tell(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40), severity=Severity.URGENT, severity_code="2", title="Disk full")
        watch(p, "A")
        await p.look("A")
        (due,) = await p.store.due("hub", now=at(60), most=9)
        assert (due.event.ticket.severity, due.event.ticket.title) == (Severity.URGENT, "Disk full")
        await p.look("A")
        assert api_of(p).count("ticket") == 1


@pytest.mark.parametrize(
    "failure", [ApiUnavailable("HTTP 502"), ApiDenied("no"), ApiThrottled("slow down"), CredentialsRejected("no")]
)
async def test_an_event_goes_out_also_when_its_details_cannot_be_had(tmp_path: Path, failure: Exception) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        api_of(p).fails("ticket", failure)
        watch(p, "A")
        assert not await p.look("A")
        assert len(await told(p.store)) == 2


async def test_a_listed_ticket_is_described_now_and_then(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", title="Disk full")
        watch(p, "A", is_listed=True)
        for _ in range(11):
            await p.look("A")
        assert api_of(p).count("ticket") == 2
        (row,) = await p.store.tickets()
        assert row.title == "Disk full"


async def test_a_listed_ticket_of_a_reseller_is_asked_for_under_each_uid_until_one_is_right(tmp_path: Path) -> None:
    async with poller(tmp_path, uids=("11", "22", "33")) as p:
        api_of(p).shows("A", note(1, minutes=40))
        api_of(p).fails("ticket", ApiDenied("another account's"))
        watch(p, "A", is_listed=True)
        await p.look("A")
        assert api_of(p).calls == [("ticket", "A", "11"), ("ticket", "A", "22"), ("notes", "A", "22")]
        (due,) = await p.store.due("hub", now=at(60), most=9)
        assert due.event.id == event_id("22", "A", "1")
        await p.look("A")
        assert api_of(p).calls[3:] == [("notes", "A", "22")]


async def test_a_ticket_that_is_none_of_a_resellers_fails_and_is_found_later(tmp_path: Path) -> None:
    async with poller(tmp_path, uids=("11", "22")) as p:
        api_of(p).shows("A", note(1, minutes=40))
        api_of(p).fails("ticket", ApiDenied("no"), ApiRefused("no"))
        watch(p, "A", is_listed=True)
        await p.look("A")
        assert p.watched["A"].error == "none of the account's uids may see this ticket; check its number and `uids`"
        assert api_of(p).count("notes") == 0
        await p.look("A")
        assert len(await told(p.store)) == 2


async def test_the_list_tells_whose_a_listed_ticket_is(tmp_path: Path) -> None:
    async with poller(tmp_path, uids=("11", "22")) as p:
        watch(p, "A", is_listed=True)
        watch(p, "A", account=account(uid="22"))
        assert p.watched["A"].account.uid == "22"
        assert p.watched["A"].is_listed


# --- nothing is lost --------------------------------------------------------------------------------------


async def test_a_reply_after_the_first_look_is_told_at_once(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=-900))
        watch(p, "A", rule=rule(first_run=FirstRun.NOTHING))
        await p.look("A")
        assert await told(p.store) == []
        # Older than the watch, but not there at the first look: a late note.
        api_of(p).shows("A", note(1, minutes=-900), note(2, minutes=-800))
        await p.look("A")
        assert [(each.event.kind, each.state) for each in await p.store.due("hub", now=at(60), most=9)] == [
            (Kind.REPLY, "due")
        ]


class Crash(BaseException):
    """The end of a process."""


async def test_a_crash_between_look_and_record_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    class Crashing(Store):
        async def record(self, *_args: Any, **_more: Any) -> None:
            raise Crash

    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        p.store = Crashing(p.store.path, p.store._write_engine, p.store._read_engine)
        with pytest.raises(Crash):
            await p.look("A")
    async with poller(tmp_path) as p:
        assert await told(p.store) == []
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        assert await told(p.store) == [("A", "1", "hub"), ("A", "1", "mail")]
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        async with counted(p.store) as statements:
            await p.look("A")
        assert not [each for each in statements if each.startswith("INSERT") and "INTO ticket" not in each]


async def test_a_note_whose_record_failed_is_found_again(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        async with p.store._write_engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA busy_timeout = 20"))
        other = sqlite3.connect(p.store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await p.look("A")
        assert "database is locked" in (p.watched["A"].error or "")
        assert p.watched["A"].failures == 1
        assert await told(p.store) == []
        other.execute("ROLLBACK")
        other.close()
        await p.look("A")
        assert p.watched["A"].error is None
        assert await told(p.store) == [("A", "1", "hub"), ("A", "1", "mail")]


async def test_a_store_that_is_beyond_help_ends_the_poller(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        p.store.path.unlink()
        with pytest.raises(StoreError) as caught:
            await p.look("A")
        assert not isinstance(caught.value, StoreUnavailable)


# --- how it rests -----------------------------------------------------------------------------------------


async def test_after_a_good_look_the_ticket_rests_for_its_interval(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1))
        watch(p, "A")
        await p.look("A")
        assert delay(p) == 60


@pytest.mark.parametrize(
    ("status", "last_note", "seconds"),
    [
        (TicketStatus.DEALING, -10, 60),
        (TicketStatus.DEALING, -60 * 25, 900),
        (TicketStatus.CONFIRMED, -10, 600),
    ],
)
async def test_quiet_and_closed_tickets_are_asked_less_often(
    tmp_path: Path, status: TicketStatus, last_note: float, seconds: float
) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=last_note, by=Role.CUSTOMER))
        cadence = Cadence(idle_interval=timedelta(minutes=15), jitter=0.0)
        watch(p, "A", ticket=ticket("A", status=status, status_code="1"), cadence=cadence)
        await p.look("A")
        assert delay(p) == seconds


async def test_failures_are_tried_again_ever_later(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        api_of(p).fails("notes", *[ApiUnavailable("HTTP 502")] * 9)
        watch(p, "A")
        delays = []
        for _ in range(9):
            assert not await p.look("A")
            delays.append(delay(p))
        assert all(2 ** min(n, 8) <= seconds <= 2 ** (n + 1) for n, seconds in enumerate(delays[:8]))
        assert delays[8] <= 300
        await p.look("A")
        assert (p.watched["A"].error, p.watched["A"].failures, delay(p)) == (None, 0, 60)


async def test_a_ticket_that_the_key_may_not_see_is_asked_for_rarely(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        api_of(p).fails("notes", ApiDenied("not this account's"))
        watch(p, "A")
        await p.look("A")
        assert delay(p) == 600
        assert p.watched["A"].error == "not this account's"
        await p.look("A")
        assert p.watched["A"].error is None


async def test_throttling_pauses_the_account_and_is_no_failure_of_the_ticket(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A", "B")
        api_of(p).shows("B")
        api_of(p).fails("notes/A", ApiThrottled("slow down", retry_after=timedelta(seconds=17)))
        assert await p.look("A")
        assert (p.watched["A"].failures, p.watched["A"].error) == (0, "slow down")
        await p.pacer.turn()
        assert sum(clock_of(p).slept) == pytest.approx(17)
        await p.look("A")
        assert p.watched["A"].error is None


async def test_a_throttled_look_is_forgotten_when_the_next_one_finds_nothing_new(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        api_of(p).fails("notes", ApiThrottled("slow down"))
        assert await p.look("A")
        await p.look("A")
        assert p.watched["A"].error is None
        (row,) = await p.store.tickets()
        assert row.error is None


# --- one round --------------------------------------------------------------------------------------------


async def test_in_one_round_throttled_tickets_are_asked_again(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        for number in "ABCDE":
            api_of(p).shows(number, note(1, minutes=40))
        watch(p, *"ABCDE")
        throttled = ApiThrottled("slow down", retry_after=timedelta(seconds=10))
        api_of(p).fails("notes/A", throttled, throttled)
        api_of(p).fails("notes/C", throttled)
        await p.look_at_all()
        assert len(await told(p.store)) == 10
        assert not any(watched.error for watched in p.watched.values())
        assert api_of(p).count("notes") == 8
        assert sum(clock_of(p).slept) == pytest.approx(30, abs=1)


async def test_in_one_round_a_ticket_that_is_always_throttled_is_reported(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        for number in "AB":
            api_of(p).shows(number, note(1, minutes=40))
        watch(p, *"AB")
        api_of(p).fails("notes/A", *[ApiThrottled("slow down")] * 99)
        await p.look_at_all()
        assert p.watched["A"].error == "slow down"
        assert api_of(p).count("notes", "A") == 5
        assert p.watched["B"].error is None


async def test_after_a_pause_one_round_keeps_to_the_pace(tmp_path: Path) -> None:
    clock = FakeClock()
    async with poller(tmp_path, clock=clock, pacer=Pacer(clock, Pace(rate=2.0, is_learnt=False, at=0))) as p:
        for number in range(30):
            api_of(p).shows(f"T{number}")
        watch(p, *api_of(p).tickets)
        api_of(p).fails("notes/T3", ApiThrottled("slow down", retry_after=timedelta(seconds=30)))
        await p.look_at_all()
        assert api_of(p).count("notes") == 31
        # Five at once at the start, then two a second, and the pause.
        assert sum(clock.slept) == pytest.approx(30 + 26 / 2, abs=2)


async def test_in_one_round_refused_credentials_end_the_looking_at_once(tmp_path: Path) -> None:
    clock = FakeClock()
    async with poller(tmp_path, clock=clock, pacer=Pacer(clock, Pace(rate=2.0, is_learnt=False, at=0))) as p:
        for number in range(100):
            api_of(p).shows(f"T{number}", note(1, minutes=40))
        watch(p, *api_of(p).tickets)
        api_of(p).fails("notes", *[CredentialsRejected("the access key is disabled")] * 100)
        await p.look_at_all()
        assert api_of(p).count("notes") < 10
        assert all(watched.error for watched in p.watched.values())
        assert sum(clock.slept) < 10


# --- the loop ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(p: Poller) -> AsyncIterator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(p.run)
        yield
        group.cancel_scope.cancel()


async def test_a_ticket_that_hangs_delays_no_other(tmp_path: Path) -> None:
    async with poller(tmp_path, clock=SystemClock()) as p:
        for number in "ABC":
            api_of(p).shows(number, note(1, minutes=40))
        api_of(p).hangs("A")
        watch(p, *"ABC", cadence=Cadence(interval=timedelta(milliseconds=20), jitter=0.0))
        async with running(p):
            await until(lambda: min(api_of(p).count("notes", number) for number in "BC") > 5)
        assert api_of(p).count("notes", "A") == 1
        assert [number for number, _, sink in await told(p.store) if sink == "hub"] == ["B", "C"]


async def test_a_ticket_that_is_put_on_the_list_is_looked_at_at_once(tmp_path: Path) -> None:
    async with poller(tmp_path, clock=SystemClock()) as p, running(p):
        await anyio.lowlevel.checkpoint()
        api_of(p).shows("A", note(1))
        watch(p, "A")
        await until(lambda: p.is_settled, within=4)  # without the bell it would be up to five seconds


async def test_refused_credentials_pause_the_account_until_they_are_accepted(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        for number in "ABCDEF":
            api_of(p).shows(number, note(1, minutes=40))
        watch(p, *"ABCDEF")
        api_of(p).fails("notes", *[CredentialsRejected("the access key is disabled")] * 20)
        async with running(p):
            await until(lambda: api_of(p).count("notes") > 20 and all(each.looks for each in p.watched.values()))
        assert sum(clock_of(p).slept) > 300
        assert len(await told(p.store)) == 12


async def test_a_ticket_is_never_looked_at_twice_at_the_same_time(tmp_path: Path) -> None:
    """Whatever the outcome of a look, the next one begins when it has ended, its writing down included."""
    outcomes = [CredentialsRejected("no"), ApiThrottled("slow"), ApiUnavailable("502"), ApiDenied("no")]
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        api_of(p).fails("notes", *outcomes * 5)

        async def pass_time() -> None:
            while True:
                clock_of(p).advance(700)
                p._bell.ring()
                await anyio.sleep(0.001)

        async with running(p), anyio.create_task_group() as group:
            group.start_soon(pass_time)
            await until(lambda: api_of(p).count("notes") > 25)
            group.cancel_scope.cancel()
        assert len(await told(p.store)) == 2


async def test_the_end_of_a_run_writes_down_when_each_ticket_was_polled(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1))
        watch(p, "A")
        watch(p, "never")
        await p.look("A")
        clock_of(p).advance(3600)
        await p.look("A")
        await p.save()
        assert [(row.ticket, row.last_poll_at) for row in await p.store.tickets()] == [("A", at(60))]


# --- a ticket's life --------------------------------------------------------------------------------------


async def test_a_closed_ticket_is_let_go_a_week_after_its_last_note(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        p.watched["A"].ticket = ticket("A", status=TicketStatus.CONFIRMED, status_code="6")
        clock_of(p).advance(timedelta(days=6).total_seconds())
        await p.look("A")
        assert "A" in p.watched
        clock_of(p).advance(timedelta(days=2).total_seconds())
        await p.look("A")
        assert "A" not in p.watched


async def test_a_listed_ticket_is_watched_for_as_long_as_it_is_listed(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40), status=TicketStatus.CONFIRMED, status_code="6")
        watch(p, "A", is_listed=True)
        clock_of(p).advance(timedelta(days=60).total_seconds())
        await p.look("A")
        assert "A" in p.watched


async def test_another_status_is_written_down_although_no_note_is_new(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A")
        await p.look("A")
        p.watched["A"].learn(ticket("A", status=TicketStatus.WAIT_CONFIRM, status_code="5"))
        await p.look("A")
        (row,) = await p.store.tickets()
        assert row.status == "wait_confirm"


async def test_a_ticket_that_no_list_shows_any_more_is_asked_for_its_status(tmp_path: Path) -> None:
    async with poller(tmp_path) as p:
        api_of(p).shows("A", note(1, minutes=40), status=TicketStatus.CONFIRMED, status_code="6")
        watch(p, "A", is_listed=False)
        p.watched["A"].is_in_list = False
        await p.look("A")
        assert p.watched["A"].ticket.status is TicketStatus.CONFIRMED


async def test_the_search_for_an_owner_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async with poller(tmp_path, uids=tuple("1234")) as p:
        api_of(p).shows("A", note(1, minutes=40))
        watch(p, "A", is_listed=True)
        denied = ApiDenied("another's")
        api_of(p).fails("ticket", denied, denied, ApiUnavailable("HTTP 503"), denied, None)
        await p.look("A")
        assert p.watched["A"].error == "HTTP 503"
        await p.look("A")
        assert [uid for call, _, uid in api_of(p).calls if call == "ticket"][:5] == ["1", "2", "3", "3", "4"]
        assert p.watched["A"].account.uid == "4"


async def test_while_credentials_are_refused_one_ticket_at_a_time_asks(tmp_path: Path) -> None:
    clock = FakeClock()
    async with poller(tmp_path, clock=clock) as p, anyio.create_task_group() as group:
        for number in range(20):
            api_of(p).shows(f"T{number}", note(1, minutes=40))
        api_of(p).fails("notes", *[CredentialsRejected("no")] * 20, *[CredentialsRejected("still no")] * 200)
        watch(p, *api_of(p).tickets)
        group.start_soon(p.run)
        await until(lambda: api_of(p).count("notes") >= 25)
        # After the first burst each further call waits for a pause of its own.
        assert sum(span >= 59 for span in clock.slept) >= 3
        group.cancel_scope.cancel()
