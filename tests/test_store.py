"""The contract of the store, on real files."""

# ruff: noqa: ASYNC240 - the files are small and stand on this machine

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from tests.fakes import NOON, at, delivery, event, note, snapshot, ticket, until
from watcher.detect import digest
from watcher.errors import StoreError, StoreUnavailable
from watcher.model import (
    Dead,
    Delivered,
    Delivery,
    DeliveryState,
    Event,
    Findings,
    Kind,
    Note,
    Read,
    Retry,
    Role,
    Ticket,
    TicketStatus,
)
from watcher.store import Store, open_store
from watcher.store.database import is_locked, locked

LATER = at(600)
ROOT = Path(__file__).parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


def found(*notes: Note, **more: Any) -> Findings:
    """Return what a look finds that shows these notes for the first time."""
    events = tuple(event(n.id, note=n, **more) for n in notes if n.author.role is not Role.CUSTOMER)
    return Findings(new_notes=notes, events=events, is_first_look=True)


def to(*sinks: str, events: tuple[Event, ...], **more: Any) -> list[Delivery]:
    return [delivery(each, sink=sink, **more) for each in events for sink in sinks]


async def put(store: Store, *events: Event, sink: str = "hub", **more: Any) -> None:
    """Let events stand in the outbox."""
    for each in events:
        assert each.note
        shown = snapshot(each.note, ticket=each.ticket, account=each.account)
        findings = Findings(new_notes=(each.note,), events=(each,))
        await store.record(shown, findings, to(sink, events=(each,), **more), watch="production")


async def states(store: Store, sink: str = "hub") -> dict[str, DeliveryState]:
    return {row.event: row.state for row in await store.history(most=1000) if row.sink == sink}


async def due(store: Store, *, now: float = 600, most: int = 100, busy: tuple[str, ...] = ()) -> list[str]:
    found = await store.due("hub", now=at(now), most=most, busy=busy)
    return [each.event.note.id if each.event.note else "digest" for each in found]


def in_ticket(number: str, *notes: int) -> list[Event]:
    """Return events of one ticket, a minute apart."""
    return [event(f"{n}", minutes=n, ticket=ticket(number)) for n in notes]


# --- record -----------------------------------------------------------------------------------------------


async def test_the_same_findings_twice_make_one_event_and_one_delivery_for_each_sink(path: Path) -> None:
    async with open_store(path) as store:
        findings = found(note(1))
        for _ in range(2):
            deliveries = to("hub", "mail", events=findings.events)
            await store.record(snapshot(note(1)), findings, deliveries, watch="production")
        assert [(row.event, row.sink) for row in await store.history(most=10)] == [
            (findings.events[0].id, "hub"),
            (findings.events[0].id, "mail"),
        ]


async def test_an_event_comes_out_of_the_outbox_as_it_went_in(path: Path) -> None:
    told = event(7, note=note(7, text="请重试 \N{PARTY POPPER}\u202e", minutes=3), labels={"team": "ops"})
    async with open_store(path) as store:
        await put(store, told)
        (taken,) = await store.due("hub", now=LATER, most=1)
    assert taken.event == told
    assert taken == delivery(told)


async def test_a_record_that_fails_half_way_leaves_nothing(path: Path) -> None:
    async with open_store(path) as store:
        findings = found(note(1), note(2))
        # The second delivery has no sink: the last statement of the transaction fails.
        deliveries = [delivery(findings.events[0]), replace(delivery(findings.events[1]), sink=None)]  # type: ignore[arg-type]
        with pytest.raises(StoreError):
            await store.record(snapshot(note(1), note(2)), findings, deliveries, watch="production")
        known = await store.known("prod", "0005PYGCW")
        assert not known.is_looked_at
        assert not known.notes
        assert await store.history(most=10) == []
        assert await store.tickets() == []


async def test_known_notes_keep_their_last_read_state(path: Path) -> None:
    async with open_store(path) as store:
        assert not (await store.known("prod", "0005PYGCW")).is_looked_at
        await store.record(snapshot(note(1), note(2)), found(note(1), note(2)), [], watch="production")
        changed = Findings(changed_notes=(note(1, read=Read.READ),))
        await store.record(snapshot(note(1, read=Read.READ), note(2)), changed, [], watch="production")
        known = await store.known("prod", "0005PYGCW")
    assert known.is_looked_at
    assert known.notes == {"1": Read.READ, "2": Read.UNREAD}


async def test_tickets_of_two_accounts_with_one_number_are_two_tickets(path: Path) -> None:
    async with open_store(path) as store:
        await store.record(snapshot(note(1)), found(note(1)), [], watch="production")
        assert not (await store.known("other", "0005PYGCW")).is_looked_at


async def test_a_watch_keeps_the_instant_of_its_first_start(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.watch_since("production", now=at(0)) == at(0)
    async with open_store(path) as store:
        assert await store.watch_since("production", now=at(90)) == at(0)
        assert await store.watch_since("staging", now=at(90)) == at(90)


# --- what is due ------------------------------------------------------------------------------------------


async def test_of_each_ticket_only_the_oldest_reply_is_due(path: Path) -> None:
    async with open_store(path) as store:
        await put(store, *in_ticket("B", 4, 2), *in_ticket("A", 3, 1))
        assert sorted(await due(store)) == ["1", "2"]


async def test_the_oldest_reply_holds_back_the_others_of_its_ticket_until_it_is_settled(path: Path) -> None:
    first, second = in_ticket("A", 1, 2)
    async with open_store(path) as store:
        await put(store, first, second)
        await store.settle(delivery(first), Retry(at(60), "HTTP 503"))
        assert await due(store, now=59) == []
        assert await due(store, now=61) == ["1"]
        await store.settle(delivery(first), Delivered(at(61)))
        assert await due(store, now=61) == ["2"]


async def test_news_of_a_ticket_is_a_fresh_occasion_for_what_is_still_open_of_it(path: Path) -> None:
    async with open_store(path) as store:
        first, second = in_ticket("A", 1, 2)
        (other,) = in_ticket("B", 3)
        await put(store, first, other)
        for each in (first, other):
            await store.settle(delivery(each), Retry(at(10_000), "HTTP 503"))
        assert await due(store) == []
        await put(store, second)
        assert await due(store) == ["1"]


async def test_across_tickets_what_has_been_due_for_longest_comes_first(path: Path) -> None:
    async with open_store(path) as store:
        for number, (each, minutes) in enumerate(zip("CAB", (3, 1, 2), strict=True)):
            await put(store, event(number, ticket=ticket(each)), due_at=at(minutes))
        assert await due(store) == ["1", "2", "0"]
        assert await due(store, most=1) == ["1"]
        assert await due(store, now=2) == ["1", "2"]


async def test_busy_lanes_are_left_out(path: Path) -> None:
    first, second = in_ticket("A", 1)[0], in_ticket("B", 2)[0]
    async with open_store(path) as store:
        await put(store, first, second)
        assert await due(store, busy=(first.lane,)) == ["2"]
        assert await store.next_due("hub", busy=(first.lane, second.lane)) is None


async def test_the_next_due_time_is_that_of_a_delivery_that_can_start(path: Path) -> None:
    first, second = in_ticket("A", 1, 2)
    async with open_store(path) as store:
        assert await store.next_due("hub") is None
        await put(store, first, second)
        assert await store.next_due("hub") == NOON
        await store.settle(delivery(first), Retry(at(120), "HTTP 503"))
        # The second one's own time has come, but it waits for the first: nothing is to be done before that.
        assert await store.next_due("hub") == at(120)


async def test_one_sink_knows_nothing_of_the_other_ones_deliveries(path: Path) -> None:
    async with open_store(path) as store:
        await put(store, *in_ticket("A", 1), sink="mail")
        assert await due(store) == []
        assert await store.next_due("hub") is None


async def test_what_is_replayed_neither_waits_in_the_order_nor_holds_it_up(path: Path) -> None:
    first, second, third = in_ticket("A", 1, 2, 3)
    async with open_store(path) as store:
        await put(store, first, second, third)
        await store.settle(delivery(first), Delivered(at(1)))
        assert await store.replay(first.id, sinks=(), now=at(2)) == ["hub"]
        # Both may go, but not at the same time: they are of one ticket.
        assert await due(store) in (["1"], ["2"])
        (again,) = [d for d in await store.due("hub", now=at(2), most=9) if d.replay] or [delivery(first, replay=True)]
        await store.settle(again, Retry(at(900), "HTTP 503"))
        assert await due(store) == ["2"]
        # And a replay goes out while an older one of its ticket waits.
        await store.settle(delivery(second), Retry(at(900), "HTTP 503"))
        await store.settle(delivery(third), Dead(at(3), "no"))
        await store.replay(third.id, sinks=["hub"], now=at(4))
        assert await due(store) == ["3"]


async def test_a_replay_starts_with_a_fresh_schedule_and_says_so(path: Path) -> None:
    (told,) = in_ticket("A", 1)
    async with open_store(path) as store:
        await put(store, told)
        await store.settle(delivery(told), Dead(at(1), "HTTP 400"))
        await store.disable("hub", target="t", reason="HTTP 410", now=at(1))
        await store.replay(told.id, sinks=["hub"], now=at(5))
        (again,) = await store.due("hub", now=at(5), most=1)
        assert (again.attempts, again.replay, again.event.id) == (0, True, told.id)
        assert await store.disabled() == {}
        await store.settle(again, Delivered(at(6)))
        (row,) = await store.history(most=1)
        assert (row.state, row.attempts, row.delivered_at, row.error) == (DeliveryState.DELIVERED, 1, at(6), None)


async def test_a_replay_goes_only_where_the_event_went_before(path: Path) -> None:
    (told,) = in_ticket("A", 1)
    async with open_store(path) as store:
        await put(store, told)
        assert await store.replay(told.id, sinks=["mail"], now=at(1)) == []
        with pytest.raises(KeyError):
            await store.replay("msg_unknown", sinks=(), now=at(1))


# --- settling ---------------------------------------------------------------------------------------------


async def test_verdicts_are_written_down(path: Path) -> None:
    gone, tried, dead = in_ticket("A", 1)[0], in_ticket("B", 2)[0], in_ticket("C", 3)[0]
    async with open_store(path) as store:
        await put(store, gone, tried, dead)
        await store.settle(delivery(gone), Delivered(at(10)))
        await store.settle(delivery(tried), Retry(at(20), "HTTP 503"))
        await store.settle(delivery(dead), Dead(at(30), "HTTP 400"))
        rows = {row.event: row for row in await store.history(most=10)}
    assert (rows[gone.id].state, rows[gone.id].delivered_at) == (DeliveryState.DELIVERED, at(10))
    assert (rows[tried.id].state, rows[tried.id].due_at, rows[tried.id].error) == ("due", at(20), "HTTP 503")
    assert (rows[dead.id].state, rows[dead.id].error) == (DeliveryState.DEAD, "HTTP 400")
    assert {row.attempts for row in rows.values()} == {1}


async def test_settling_twice_changes_nothing(path: Path) -> None:
    (told,) = in_ticket("A", 1)
    async with open_store(path) as store:
        await put(store, told)
        await store.settle(delivery(told), Delivered(at(10)))
        await store.settle(delivery(told), Dead(at(11), "late"))
        await store.settle(delivery(told), Retry(at(12), "later"))
        (row,) = await store.history(most=2)
    assert (row.state, row.attempts, row.delivered_at, row.error) == (DeliveryState.DELIVERED, 1, at(10), None)


async def folded(store: Store) -> tuple[Delivery, list[Event]]:
    """Let three held events be told by one digest."""
    members = [event(n, kind=Kind.UNREAD, ticket=ticket(f"T{n}")) for n in (1, 2, 3)]
    await put(store, *members, state=DeliveryState.HELD)
    held = await store.held(until=LATER)
    whole = delivery(digest(members, sink="hub", now=at(1)), due_at=at(1))
    await store.fold(whole, held)
    return whole, members


@pytest.mark.parametrize(("verdict", "state"), [(Delivered(at(2)), "delivered"), (Dead(at(2), "HTTP 400"), "dead")])
async def test_members_share_the_fate_of_their_digest(path: Path, verdict: Delivered | Dead, state: str) -> None:
    async with open_store(path) as store:
        whole, members = await folded(store)
        await store.settle(whole, Retry(at(2), "HTTP 503"))
        assert await states(store) == {m.id: "held" for m in members} | {whole.event.id: "due"}
        await store.settle(whole, verdict)
        assert set((await states(store)).values()) == {state}


async def test_members_of_a_digest_do_not_come_out_alone(path: Path) -> None:
    async with open_store(path) as store:
        await folded(store)
        assert await store.held(until=LATER) == []
        assert await due(store) == ["digest"]


async def test_members_of_a_digest_that_died_are_told_by_its_replay(path: Path) -> None:
    async with open_store(path) as store:
        whole, _ = await folded(store)
        await store.settle(whole, Dead(at(2), "HTTP 400"))
        await store.replay(whole.event.id, sinks=(), now=at(3))
        await store.settle(whole, Delivered(at(4)))
        assert set((await states(store)).values()) == {"delivered"}


async def test_a_held_delivery_comes_out_when_released(path: Path) -> None:
    (told,) = in_ticket("A", 1)
    async with open_store(path) as store:
        await put(store, told, state=DeliveryState.HELD, due_at=at(5))
        assert await store.held(until=at(4)) == []
        (held,) = await store.held(until=at(5))
        assert await due(store) == []
        await store.release(held, now=at(1))
        assert await due(store, now=1) == ["1"]


async def test_hastening_makes_what_waits_due_and_nothing_else(path: Path) -> None:
    waits, held = in_ticket("A", 1)[0], in_ticket("B", 2)[0]
    async with open_store(path) as store:
        await put(store, waits, due_at=at(600))
        await put(store, held, state=DeliveryState.HELD, due_at=at(600))
        await put(store, *in_ticket("C", 3), sink="mail", due_at=at(600))
        await put(store, *in_ticket("D", 4), due_at=at(600))
        await store.settle(delivery(waits), Retry(at(600), "HTTP 503"))
        await store.hasten("hub", now=at(1))
        assert await due(store, now=1) == ["1"]
        assert await store.due("mail", now=at(1), most=1) == []
        assert (await states(store))[held.id] == "held"


async def test_burying_gives_up_what_is_due_or_held_and_keeps_it_listed(path: Path) -> None:
    sent, waits, held = in_ticket("A", 1)[0], in_ticket("B", 2)[0], in_ticket("C", 3)[0]
    async with open_store(path) as store:
        await put(store, sent, waits)
        await put(store, held, state=DeliveryState.HELD)
        await store.settle(delivery(sent), Delivered(at(1)))
        assert await store.waiting() == {"hub": 2}
        assert await store.bury("hub", reason="switched off") == 2
        assert await store.waiting() == {}
        assert await states(store) == {sent.id: "delivered", waits.id: "dead", held.id: "dead"}
        assert {row.error for row in await store.history(most=9)} == {None, "switched off"}


async def test_a_switched_off_sink_stays_so_until_it_is_enabled(path: Path) -> None:
    async with open_store(path) as store:
        await store.disable("hub", target="old", reason="HTTP 410", now=at(0))
        await store.disable("hub", target="new", reason="HTTP 410 again", now=at(1))
    async with open_store(path) as store:
        assert await store.disabled() == {"hub": ("new", "HTTP 410 again")}
        await store.enable("hub")
        assert await store.disabled() == {}


# --- for people -------------------------------------------------------------------------------------------


async def test_a_ticket_row_says_how_much_is_unread_and_since_when_nothing_came(path: Path) -> None:
    notes = (note(1, read=Read.READ), note(2, minutes=5), note(3, by=Role.CUSTOMER, minutes=9))
    async with open_store(path) as store:
        await store.record(snapshot(*notes), found(*notes), [], watch="production")
        (row,) = await store.tickets()
    assert (row.account, row.ticket, row.watch, row.title) == (
        "prod",
        "0005PYGCW",
        "production",
        "Why ECS renewal failed?",
    )
    assert (row.notes, row.unread, row.last_note_at, row.last_poll_at, row.error) == (3, 1, at(9), at(60), None)


async def test_a_title_is_not_overwritten_by_nothing(path: Path) -> None:
    known = Ticket(id="A", title="Disk full", status=TicketStatus.DEALING)
    async with open_store(path) as store:
        await store.describe([snapshot(ticket=known)], watch="production")
        await store.describe([snapshot(ticket=Ticket(id="A"))], watch="other")
        (row,) = await store.tickets()
        assert (row.title, row.status, row.watch) == ("Disk full", "dealing", "other")
        await store.describe([snapshot(ticket=Ticket(id="A", title="New", status=TicketStatus.CONFIRMED))], watch="w")
        (row,) = await store.tickets()
        assert (row.title, row.status) == ("New", "confirmed")


async def test_an_outcome_of_a_ticket_without_a_row_is_no_failure(path: Path) -> None:
    async with open_store(path) as store:
        await store.polled([("prod", "nowhere", at(0), "denied")])
        await store.polled([])
        assert await store.tickets() == []
        await store.describe([snapshot()], watch="production")
        await store.polled([("prod", "0005PYGCW", at(3), "denied")])
        (row,) = await store.tickets()
        assert (row.last_poll_at, row.error) == (at(3), "denied")
        assert not (await store.known("prod", "0005PYGCW")).is_looked_at


async def test_a_conversation_is_told_from_its_oldest_note(path: Path) -> None:
    notes = (note(2, minutes=2), note(1, minutes=1), note(3, minutes=1))
    async with open_store(path) as store:
        await store.record(snapshot(*notes), found(*notes), [], watch="production")
        told = [each for each, _ in await store.conversation("prod", "0005PYGCW")]
    assert told == [note(1, minutes=1), note(3, minutes=1), note(2, minutes=2)]


async def test_pruning_removes_what_was_settled_and_keeps_the_rows_of_notes(path: Path) -> None:
    old, waits = in_ticket("A", 1)[0], in_ticket("B", 2)[0]
    async with open_store(path) as store:
        await put(store, old, waits)
        await store.settle(delivery(old), Delivered(at(5)))
        assert await store.prune(before=at(500)) == 1
        assert await states(store) == {waits.id: "due"}
        assert set((await store.known("prod", "A")).notes) == {"1"}
        ((text, row),) = await store.conversation("prod", "A")
        assert (text, row.note) == (None, "1")
        assert await store.prune(before=at(500)) == 0
        # The same note again, after its event went: a note that is known is not news.
        await put(store, waits)
        assert await states(store) == {waits.id: "due"}


# --- one file ---------------------------------------------------------------------------------------------


def test_the_database_is_for_its_owner_alone(path: Path) -> None:
    async def write() -> list[int]:
        async with open_store(path) as store:
            await put(store, *in_ticket("A", 1))
            return [stat.S_IMODE(each.stat().st_mode) for each in path.parent.glob("watcher.db*")]

    before = os.umask(0)
    try:
        modes = asyncio.run(write())
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert len(modes) == 3  # the file, its log, and the log's index


async def test_what_was_committed_survives_a_power_cut(path: Path) -> None:
    async with open_store(path) as store:
        for engine in (store._write_engine, store._read_engine):
            async with engine.connect() as connection:
                assert await connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
                assert await connection.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL


async def test_a_path_may_hold_any_character(tmp_path: Path) -> None:
    path = tmp_path / "what? 100% #1" / "watcher.db"
    async with open_store(path) as store:
        await put(store, *in_ticket("A", 1))
    assert sorted(each.name for each in path.parent.iterdir()) == ["watcher.db"]


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.test_store import in_ticket, put
from watcher.store import open_store

async def main(path, name):
    async with open_store(Path(path)) as store:
        for number in range(40):
            await put(store, *in_ticket(f"{name}{number}", number), *in_ticket("shared", number))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_two_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    async with open_store(path):
        pass

    async def write(name: str) -> None:
        result = await anyio.run_process([sys.executable, "-c", WRITER, str(path), name], check=False, cwd=ROOT)
        assert result.returncode == 0, result.stderr.decode()

    async with anyio.create_task_group() as group:
        group.start_soon(write, "left")
        group.start_soon(write, "right")
    async with open_store(path) as store:
        rows = await store.history(most=1000)
    # Forty of each alone, and forty that both told at the same time.
    assert len(rows) == 120


async def test_two_engines_that_write_at_once_lose_nothing(path: Path) -> None:
    async with open_store(path) as left, open_store(path) as right, anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(put, (left, right)[number % 2], *in_ticket(f"T{number}", number))
    async with open_store(path) as store:
        assert len(await states(store)) == 50


async def test_a_command_that_reads_and_then_writes_does_not_stumble_over_the_daemon(path: Path) -> None:
    """A transaction that begins with a read may not find later that somebody else has written meanwhile."""
    events = [each for number in range(20) for each in in_ticket(f"T{number}", number)]
    async with open_store(path) as daemon, open_store(path) as command:
        await put(daemon, *events)

        async def replay(told: Event) -> None:
            await command.replay(told.id, sinks=(), now=at(1))

        async with anyio.create_task_group() as group:
            for each in events:
                group.start_soon(replay, each)
                group.start_soon(daemon.settle, delivery(each), Retry(at(2), "HTTP 503"))
        assert len(await states(daemon)) == 20


def test_a_second_daemon_is_refused(path: Path) -> None:
    with locked(path):
        assert is_locked(path)
        with pytest.raises(StoreError, match="in use by another watcher"), locked(path):
            pass
    assert not is_locked(path)


def test_the_lock_of_a_killed_daemon_is_free(path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from watcher.store.database import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        assert is_locked(path)
        process.kill()
    assert not is_locked(path)


# --- files that are refused -------------------------------------------------------------------------------


async def refusal(path: Path) -> str:
    """Return why the file is refused, having seen that it is left as it was."""
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        async with open_store(path) as store:
            await store.tickets()
    assert path.read_bytes() == before
    return str(caught.value)


async def filled(path: Path) -> None:
    async with open_store(path) as store:
        await put(store, *(each for number in range(30) for each in in_ticket(f"T{number}", 1, 2)))


async def test_garbage_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"These are not the bytes of a database.\n" * 200)
    assert "put a backup in its place" in await refusal(path)


async def test_an_empty_file_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"")
    assert "is empty: what it held is lost" in await refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.99])
async def test_a_truncated_database_is_refused_and_left_as_it_is(path: Path, share: float) -> None:
    await filled(path)
    os.truncate(path, int(path.stat().st_size * share))
    assert "put a backup in its place" in await refusal(path)


async def test_the_database_of_another_program_is_refused(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipe (name)")
    connection.close()
    assert "another program" in await refusal(path)


async def test_the_database_of_a_newer_watcher_is_refused(path: Path) -> None:
    await filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "upgrade this one" in await refusal(path)


async def test_a_folder_in_the_place_of_the_database_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(StoreError):
        async with open_store(path):
            pass


async def test_a_crash_while_the_database_is_made_leaves_no_half_of_one(path: Path) -> None:
    path.with_name("watcher.db.new").write_bytes(b"half")
    await filled(path)
    assert not path.with_name("watcher.db.new").exists()


@pytest.mark.parametrize("replacement", ["removed", "another"])
async def test_a_file_that_was_replaced_under_us_takes_nothing_more(path: Path, replacement: str) -> None:
    async with open_store(path) as store:
        await put(store, *in_ticket("A", 1))
        copy = path.with_name("copy")
        shutil.copy(path, copy)
        path.unlink()
        if replacement == "another":
            copy.replace(path)
        with pytest.raises(StoreError) as caught:
            await put(store, *in_ticket("A", 2))
        assert not isinstance(caught.value, StoreUnavailable)


# --- a disk that takes nothing more -----------------------------------------------------------------------


def long_event(number: int) -> Event:
    return event(number, note=note(number, text="x" * 20_000), ticket=ticket(f"T{number}"))


async def fills_up(store: Store) -> int:
    """Write until the disk takes nothing more; return how many events it took."""
    for number in range(10_000):
        try:
            await put(store, long_event(number))
        except StoreUnavailable:
            known = await store.known("prod", f"T{number}")
            assert not known.is_looked_at
            assert not known.notes
            assert len(await states(store)) == number
            return number
    raise AssertionError("the disk took everything")


async def test_a_full_database_takes_nothing_by_halves_and_goes_on_when_there_is_room(path: Path) -> None:
    async with open_store(path) as store:
        async with store._write_engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA max_page_count = 100"))
        number = await fills_up(store)
        async with store._write_engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA max_page_count = 100000"))
        await put(store, long_event(number))
        assert len(await states(store)) == number + 1


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", place], capture_output=True)  # noqa: PLW1510
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_takes_nothing_by_halves_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def fill(place: Path) -> None:
        ballast = place / "ballast"
        ballast.write_bytes(b"x" * 100_000)
        async with open_store(place / "watcher.db") as store:
            number = await fills_up(store)
            ballast.unlink()
            await put(store, long_event(number))
            assert len(await states(store)) == number + 1

    with small_disk(tmp_path / "disk") as place:
        asyncio.run(fill(place))


async def test_a_locked_database_is_unavailable_for_the_moment(path: Path) -> None:
    async with open_store(path) as store:
        async with store._write_engine.connect() as connection:
            await connection.execute(sa.text("PRAGMA busy_timeout = 20"))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked"):
            await put(store, *in_ticket("A", 1))
        other.execute("ROLLBACK")
        other.close()
        await put(store, *in_ticket("A", 1))
        assert len(await states(store)) == 1


# --- being cancelled --------------------------------------------------------------------------------------


async def test_a_transaction_that_is_cancelled_anywhere_is_whole_or_absent_and_the_store_goes_on(path: Path) -> None:
    """Cancel at each turn of the event loop in which a transaction is under way."""
    async with open_store(path) as store:
        for turns in range(80):
            told = in_ticket(f"T{turns}", 1)
            async with anyio.create_task_group() as group:
                group.start_soon(put, store, *told)
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            known = await store.known("prod", f"T{turns}")
            assert bool(known.notes) is known.is_looked_at
            assert (told[0].id in await states(store)) or not known.notes
            await put(store, *in_ticket(f"again{turns}", turns + 2))
        assert len(await store.history(most=1000)) >= 80
        assert store._write_engine.pool.checkedout() == 0
        assert store._read_engine.pool.checkedout() == 0


async def test_closing_while_being_cancelled_closes_every_connection(path: Path) -> None:
    before = threading.active_count()
    stores: list[Store] = []

    async def work() -> None:
        async with open_store(path) as store:
            stores.append(store)
            pools.extend((store._write_engine.pool, store._read_engine.pool))
            for number in range(1000):
                await put(store, *in_ticket(f"T{number}", 1))
                await store.known("prod", "A")

    pools: list[sa.Pool] = []
    for turns in range(20, 200, 20):
        async with anyio.create_task_group() as group:
            group.start_soon(work)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    assert len(stores) == 9
    # A pool whose connections are closed is exchanged for a new one.
    assert not set(pools) & {pool for each in stores for pool in (each._write_engine.pool, each._read_engine.pool)}
    await until(lambda: threading.active_count() <= before)


# --- many -------------------------------------------------------------------------------------------------


async def test_what_is_due_is_found_by_index(path: Path) -> None:
    asked: list[tuple[str, Any]] = []
    async with open_store(path) as store:

        @sa.event.listens_for(store._read_engine.sync_engine, "before_cursor_execute")
        def _note(_connection: object, _cursor: object, text: str, params: Any, *_more: object) -> None:
            asked.append((text, params))

        await due(store, busy=("a",))
        await store.next_due("hub", busy=("a",))
    connection = sqlite3.connect(path)
    assert len(asked) == 2
    for text, params in asked:
        plan = "\n".join(step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {text}", params))
        assert "INDEX delivery_due (sink=? AND state=?" in plan
        assert "INDEX delivery_lane (sink=? AND lane=? AND state=?" in plan
        assert "SCAN" not in plan
        assert "TEMP B-TREE FOR ORDER BY" not in plan
    connection.close()


async def test_ten_thousand_waiting_deliveries_do_not_slow_the_store_down(path: Path) -> None:
    async with open_store(path) as store:
        notes = tuple(note(n, minutes=n / 100) for n in range(10_000))
        one_ticket = tuple(event(n.id, note=n) for n in notes)
        await store.record(
            snapshot(*notes), Findings(new_notes=notes, events=one_ticket), to("hub", events=one_ticket), watch="w"
        )
        # The worst case: all of one ticket, behind a first one that waits for its next attempt.
        await store.settle(delivery(one_ticket[0]), Retry(at(9000), "HTTP 503"))
        with anyio.fail_after(10):
            for _ in range(20):
                assert await due(store) == []
                assert await store.next_due("hub") == at(9000)
            await store.hasten("hub", now=at(1))
            assert await due(store) == ["0"]


async def test_a_ticket_keeps_the_instant_of_its_first_listing(path: Path) -> None:
    async with open_store(path) as store:
        assert await store.listed_since("prod", ["A"], now=at(1)) == {"A": at(1)}
        assert await store.listed_since("prod", ["A", "B"], now=at(9)) == {"A": at(1), "B": at(9)}
        assert await store.listed_since("other", [], now=at(9)) == {}


async def test_the_history_can_be_narrowed_before_it_is_cut(path: Path) -> None:
    async with open_store(path) as store:
        given_up, *others = in_ticket("A", 1, 2, 3, 4, 5, 6)
        await put(store, given_up, *others)
        await put(store, *in_ticket("B", 7), sink="mail")
        await store.settle(delivery(given_up), Dead(at(1), "no"))
        assert [row.note for row in await store.history(most=2, state=DeliveryState.DEAD)] == ["1"]
        assert [row.note for row in await store.history(most=2, sink="mail")] == ["7"]
        assert [row.note for row in await store.history(most=9, ticket="B")] == ["7"]
        assert [row.note for row in await store.history(most=9, event=others[0].id)] == ["2"]
