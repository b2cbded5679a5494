"""The daemon as a process: what it delivers, what it survives, and how it ends."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from anyio.abc import Process

from tests.place import (
    CEILING_S,
    HOUR,
    OTHER,
    SIGNING,
    TICKET,
    Place,
    a_place,
    an_old_conversation,
    until,
)
from watcher.simulator import Account, Fault, Key, World

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@dataclass
class Running:
    """A daemon that runs; what it says goes to files."""

    process: Process
    out: Path
    err: Path

    @property
    def said(self) -> str:
        return self.err.read_text(encoding="utf-8")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()

    async def ends(self, within: float = CEILING_S) -> int:
        with anyio.fail_after(within):
            return await self.process.wait()


@asynccontextmanager
async def a_daemon(place: Place, *args: str) -> AsyncIterator[Running]:
    """Run the daemon; it is killed at the end unless it ended before, and must never show a traceback."""
    number = len(list(place.folder.glob("daemon-*.err")))
    out, err = (place.folder / f"daemon-{number}.{name}" for name in ("out", "err"))
    with out.open("wb") as to_out, err.open("wb") as to_err:
        command = [sys.executable, "-m", "watcher", "run", *args]
        process = await anyio.open_process(
            command, cwd=place.folder, env=place.environ, stdin=None, stdout=to_out, stderr=to_err
        )
    running = Running(process, out, err)
    try:
        yield running
    finally:
        running.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()
            await process.aclose()
    assert "Traceback" not in running.said, running.said


def polls(place: Place, ticket: str = TICKET) -> int:
    return sum(call.action == "ListTicketNotes" and call.ticket_id == ticket for call in place.world.calls)


async def polled_again(place: Place, *tickets: str, times: int = 3) -> None:
    """Wait until each ticket was asked for some more times: what was to be found has been found."""
    goals = {ticket: polls(place, ticket) + times for ticket in tickets or (TICKET,)}
    await until(lambda: all(polls(place, ticket) >= goal for ticket, goal in goals.items()), f"{goals} polls")


async def arrived(place: Place, *notes: int, path: str = "/hub") -> None:
    await until(lambda: {str(note) for note in notes} <= place.receiver.notes(path).keys(), f"{notes} arrive at {path}")


# --- the main job -----------------------------------------------------------------------------------------


async def test_a_reply_that_appears_arrives_once_while_the_daemon_runs(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        assert not place.receiver.got
        started = time.monotonic()
        note = place.world.agent_reply(TICKET, "It works now.")
        await arrived(place, note)
        assert time.monotonic() - started < 10
        place.world.customer_reply(TICKET, "Thanks.")
        place.world.mark_read(TICKET)
        place.world.set_status(TICKET, 5)
        await polled_again(place)
        assert len(place.receiver.got) == 1
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0


async def test_a_ticket_that_is_opened_later_is_discovered_and_its_reply_arrives(place: Place) -> None:
    async with a_daemon(place):
        await until(lambda: place.world.counts["ListTickets"], "the list is read")
        place.world.add_ticket("NEWTICKET")
        note = place.world.agent_reply("NEWTICKET", "Welcome.")
        await arrived(place, note)
        assert place.receiver.got[0].body["type"] == "watcher.note.created.v1"


async def test_the_first_look_at_many_unread_notes_is_one_digest_for_each_sink_and_then_quiet(place: Place) -> None:
    place.configure(sinks=place.webhook() + place.webhook("other"))
    tickets = [f"TICKET{number}" for number in range(5)]
    notes = []
    for ticket in tickets:
        an_old_conversation(place.world, ticket)
        notes += [place.world.agent_reply(ticket, f"Part {n}.", at=time.time() - HOUR) for n in (1, 2)]
    async with a_daemon(place):
        for path in ("/hub", "/other"):
            await arrived(place, *notes, path=path)
        await polled_again(place, *tickets)
        assert len(place.receiver.at("/hub")) == len(place.receiver.at("/other")) == 1
        assert place.receiver.got[0].body["type"] == "watcher.digest.v1"
        assert len(place.receiver.got[0].singles) == 10


async def test_a_reply_right_after_the_first_look_is_its_own_message(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place):
        await until(lambda: polls(place) >= 1, "the first look")
        notes = [place.world.agent_reply(TICKET, f"Part {n}.") for n in range(5)]
        await arrived(place, *notes)
    told = [note for got in place.receiver.got for note in got.notes]
    assert told == [str(note) for note in notes], "in the order of the conversation"


# --- killed -----------------------------------------------------------------------------------------------


def _moments(place: Place, daemon: Running, *, patience: float) -> dict[str, Callable[[], object]]:
    """Return the moments at which a daemon may be killed, each counted from now."""
    calls, got, later = sum(place.world.counts.values()), len(place.receiver.got), time.monotonic() + patience
    return {
        "a call": lambda: sum(place.world.counts.values()) > calls,
        "some calls": lambda: sum(place.world.counts.values()) > calls + 3,
        "after the answer": lambda: len(place.receiver.got) > got,
        "before the answer": lambda: daemon.process.returncode is not None,
        "a while": lambda: time.monotonic() > later,
    }


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_is_lost_when_the_daemon_is_killed_again_and_again(place: Place, seed: int) -> None:
    place.configure(sinks=place.webhook() + "  file: {type: file, path: events.jsonl}\n")
    chance = random.Random(seed)
    tickets = ["TICKET0", "TICKET1", "TICKET2"]
    for ticket in tickets:
        an_old_conversation(place.world, ticket)
    await place.watcher("run", "--once", ends=0)
    notes: list[int] = []
    for _ in range(6):
        async with a_daemon(place) as daemon:
            notes += [place.world.agent_reply(chance.choice(tickets), f"Note {len(notes)}") for _ in range(3)]
            moment = chance.choice(("a call", "some calls", "before the answer", "after the answer", "a while"))
            if moment == "before the answer":
                place.receiver.before_answer = daemon.kill
            has_come = _moments(place, daemon, patience=chance.uniform(0.3, 2))[moment]
            await until(has_come, moment)
            place.receiver.before_answer = lambda: None
            daemon.kill()
            await daemon.ends()
    await place.watcher("run", "--once")
    async with a_daemon(place):
        await arrived(place, *notes)
        await polled_again(place, *tickets)
    found = place.receiver.notes()
    assert found.keys() == {str(note) for note in notes}
    assert {len(ids) for ids in found.values()} == {1}, "a repeat carries the same id"
    done = await place.watcher("history", "--json", ends=0)
    assert {each["state"] for each in done.json} == {"delivered"}


async def test_a_note_that_was_accepted_while_the_daemon_died_is_repeated_under_the_same_id(place: Place) -> None:
    an_old_conversation(place.world)
    await place.watcher("run", "--once", ends=0)
    note = place.world.agent_reply(TICKET, "Here.")
    async with a_daemon(place) as daemon:
        place.receiver.before_answer = daemon.kill
        await arrived(place, note)
        await daemon.ends()
    place.receiver.before_answer = lambda: None
    async with a_daemon(place):
        await until(lambda: len(place.receiver.got) >= 2, "the repeat")
        await polled_again(place)
    assert len(place.receiver.got) == 2
    assert len({got.id for got in place.receiver.got}) == 1


async def test_killed_during_the_first_look_it_is_still_one_first_look(place: Place) -> None:
    for number in range(6):
        an_old_conversation(place.world, f"TICKET{number}")
        place.world.agent_reply(f"TICKET{number}", "Unread.", at=time.time() - HOUR)
    place.world.inject(Fault(kind="hang", action="ListTicketNotes", ticket="TICKET5"))
    async with a_daemon(place) as daemon:
        await until(lambda: all(polls(place, f"TICKET{n}") for n in range(5)), "five are looked at")
        daemon.kill()
        await daemon.ends()
    place.world.clear_faults()
    async with a_daemon(place):
        await until(lambda: len(place.receiver.notes()) == 6, "all six are told")
        await polled_again(place, "TICKET0", "TICKET5")
    assert {len(ids) for ids in place.receiver.notes().values()} == {1}
    assert all("unread" in single["type"] for got in place.receiver.got for single in got.singles)


# --- stopped ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_the_daemon_with_0_at_once(place: Place, number: signal.Signals) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        started = time.monotonic()
        daemon.signal(number)
        assert await daemon.ends() == 0
        assert time.monotonic() - started < 5
    assert "stopped" in daemon.said
    [row] = (await place.watcher("tickets", "--json", ends=0)).json
    assert row["last_poll_at"]


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_while_the_api_and_a_receiver_hang_ends_the_daemon_within_its_bound(
    place: Place, number: signal.Signals
) -> None:
    an_old_conversation(place.world)
    an_old_conversation(place.world, OTHER)
    place.receiver.hanging.add("/hub")
    async with a_daemon(place) as daemon:
        await polled_again(place)
        note = place.world.agent_reply(TICKET, "Here.")
        await until(lambda: place.receiver.open_calls, "the receiver hangs")
        place.world.inject(Fault(kind="hang"))
        started = time.monotonic()
        daemon.signal(number)
        assert await daemon.ends() == 0
        assert time.monotonic() - started < 12
    place.receiver.hanging.clear()
    place.world.clear_faults()
    async with a_daemon(place):
        await until(lambda: len(place.receiver.got) >= 2, "the repeat")
    assert place.receiver.notes().keys() == {str(note)}
    assert len(place.receiver.notes()[str(note)]) == 1


async def test_a_second_signal_ends_the_daemon_at_once(place: Place) -> None:
    an_old_conversation(place.world)
    place.receiver.hanging.add("/hub")
    async with a_daemon(place) as daemon:
        await polled_again(place)
        place.world.agent_reply(TICKET, "Here.")
        await until(lambda: place.receiver.open_calls, "the receiver hangs")
        daemon.signal(signal.SIGTERM)
        await until(lambda: "stopping" in daemon.said, "it says that it stops")
        started = time.monotonic()
        daemon.signal(signal.SIGTERM)
        await daemon.ends()
        assert time.monotonic() - started < 5


async def test_a_signal_right_after_the_start_ends_the_daemon_without_a_traceback(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await until(lambda: "started" in daemon.said, "it says that it started")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0


# --- two of them, and replay ------------------------------------------------------------------------------


async def test_a_second_daemon_on_the_same_store_is_refused(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        for args in (["run"], ["run", "--once"]):
            done = await place.watcher(*args, ends=1)
            assert "state/watcher.db" in done.err
            assert "in use" in done.err
        await place.watcher("run", "--once", "--dry-run", ends=0)
        await place.watcher("tickets", ends=0)
        note = place.world.agent_reply(TICKET, "Here.")
        await arrived(place, note)
        daemon.kill()
        await daemon.ends()
    await place.watcher("run", "--once", ends=0)


async def test_a_running_daemon_sends_a_replay_under_the_same_id(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        note = place.world.agent_reply(TICKET, "Here.")
        await arrived(place, note)
        [first] = place.receiver.got
        await until(lambda: time.time() >= int(first.headers["webhook-timestamp"]) + 1, "a second passes")
        done = await place.watcher("replay", first.id, ends=0)
        assert "delivered" in done.out
        _, second = place.receiver.got
        assert second.id == first.id
        assert int(second.headers["webhook-timestamp"]) > int(first.headers["webhook-timestamp"])
        assert daemon.process.returncode is None


# --- one does not delay the other -------------------------------------------------------------------------


async def test_a_hanging_receiver_delays_no_other_sink(place: Place) -> None:
    place.configure(sinks=place.webhook("slow") + place.webhook() + "  file: {type: file, path: events.jsonl}\n")
    tickets = [f"TICKET{number}" for number in range(8)]
    for ticket in tickets:
        an_old_conversation(place.world, ticket)
    place.receiver.hanging.add("/slow")
    async with a_daemon(place):
        await polled_again(place, *tickets)
        for _ in range(3):
            started = time.monotonic()
            notes = [place.world.agent_reply(ticket, "Here.") for ticket in tickets]
            await arrived(place, *notes)
            assert time.monotonic() - started < 10
            assert place.receiver.open_calls
        await until(lambda: len((place.folder / "events.jsonl").read_bytes().splitlines()) == 24, "24 lines")


async def test_a_failing_account_delays_no_other_account(place: Place) -> None:
    world = place.world
    world.add_account(Account(name="hangs", uid="8", keys=[Key(id="hangs", secret="x")]))
    world.add_account(Account(name="refused", uid="9", keys=[Key(id="refused", secret="x", disabled=True)]))
    for number in range(70):
        world.add_ticket(f"HANGS{number}", uid="8")
        world.inject(Fault(kind="hang", ticket=f"HANGS{number}"))
    place.environ["X"] = "x"
    an_old_conversation(world)
    accounts = "".join(
        f"  {name}: {{endpoint: {place.simulator.url}, quota: 1000/s, "
        f"auth: {{type: access_key, access_key_id: {name}, access_key_secret: {{env: X}}}}}}\n"
        for name in ("hangs", "refused")
    )
    text = (place.folder / "watcher.yaml").read_text()
    text = text.replace("defaults:\n", accounts + "defaults:\n", 1).replace(
        "watches: {everything: {", "watches: {a: {account: hangs}, b: {account: refused}, everything: {account: main, "
    )
    place.write("watcher.yaml", text)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        for _ in range(3):
            started = time.monotonic()
            await arrived(place, world.agent_reply(TICKET, "Here."))
            assert time.monotonic() - started < 10
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0
    assert "account=refused" in daemon.said


async def test_a_hanging_ticket_delays_no_other_ticket(place: Place) -> None:
    an_old_conversation(place.world)
    an_old_conversation(place.world, OTHER)
    place.world.inject(Fault(kind="hang", ticket=OTHER))
    async with a_daemon(place):
        await polled_again(place)
        started = time.monotonic()
        await arrived(place, place.world.agent_reply(TICKET, "Here."))
        assert time.monotonic() - started < 10


# --- a gateway in trouble ---------------------------------------------------------------------------------


async def test_throttling_pauses_the_account_and_it_recovers(place: Place) -> None:
    for number in range(4):
        an_old_conversation(place.world, f"TICKET{number}")
    async with a_daemon(place):
        await polled_again(place, "TICKET0")
        throttled = Fault(
            kind="status",
            status=400,
            code="Throttling.User",
            message="Request was denied due to user flow control.",
            headers={"x-acs-retry-after": "2500"},
            times=4,
        )
        place.world.inject(throttled)
        first = time.time()
        await until(lambda: not place.world.faults, "calls are throttled")
        note = place.world.agent_reply("TICKET1", "Here.")
        await arrived(place, note)
    calls = sorted(call.at for call in place.world.calls)
    after = [at for at in calls if at > first]
    # Calls that were on their way may come; then there is a silence.
    assert max(later - earlier for earlier, later in pairwise([first, *after])) > 2.0


async def test_throttling_again_and_again_is_said_once(place: Place) -> None:
    for number in range(4):
        an_old_conversation(place.world, f"TICKET{number}")
    async with a_daemon(place) as daemon:
        await polled_again(place, "TICKET0")
        place.world.set_quota("simulator", 1.0)
        goal = len(place.world.calls) + 12
        await until(lambda: len(place.world.calls) > goal, "calls are throttled")
        place.world.set_quota("simulator", None)
        await polled_again(place, "TICKET0", times=1)
    assert daemon.said.count("account throttled") == 1


async def test_a_quota_smaller_than_the_work_delivers_all_the_same(place: Place) -> None:
    for number in range(4):
        an_old_conversation(place.world, f"TICKET{number}")
    place.world.set_quota("simulator", 2.0)
    async with a_daemon(place):
        await until(lambda: all(polls(place, f"TICKET{n}") for n in range(4)), "all are looked at")
        await arrived(place, place.world.agent_reply("TICKET3", "Here."))


async def test_a_reply_that_comes_while_the_api_is_away_arrives_when_it_is_back(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        place.world.inject(Fault(kind="status", status=503))
        note = place.world.agent_reply(TICKET, "Here.")
        await polled_again(place, times=4)
        assert not place.receiver.got
        place.world.clear_faults()
        await arrived(place, note)
        await polled_again(place)
    assert len(place.receiver.got) == 1
    assert daemon.said.count("poll failed") == 1, "the same trouble is said once"
    assert "poll works again" in daemon.said


@pytest.mark.parametrize("kind", ["in_band", "drip", "truncated", "reset", "huge", "html", "xml", "not_json"])
async def test_after_every_kind_of_bad_answer_the_reply_arrives_once(place: Place, kind: str) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        place.world.inject(Fault(kind=kind, times=3, code=500 if kind == "in_band" else None, seconds=0.001))  # type: ignore[arg-type]
        note = place.world.agent_reply(TICKET, "Here.")
        await arrived(place, note)
        await polled_again(place)
        assert daemon.process.returncode is None
    assert len(place.receiver.got) == 1


async def test_a_receiver_that_was_away_gets_everything_in_order_when_it_is_back(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place):
        await polled_again(place)
        place.receiver.answers["/hub"] = 503
        notes = [place.world.agent_reply(TICKET, f"Part {n}.") for n in range(3)]
        await until(lambda: len(place.receiver.got) >= 2, "it is tried again")
        place.receiver.answers.clear()
        failed = len(place.receiver.got)
        await until(lambda: len({n for got in place.receiver.got[failed:] for n in got.notes}) == 3, "all arrive")
    order = [note for got in place.receiver.got[failed:] for note in got.notes]
    assert order == [str(note) for note in notes]


async def test_a_database_that_is_replaced_under_the_daemon_ends_it_with_1(place: Place) -> None:
    an_old_conversation(place.world)
    async with a_daemon(place) as daemon:
        await polled_again(place)
        place.database.rename(place.database.with_name("elsewhere.db"))
        place.world.agent_reply(TICKET, "Here.")
        assert await daemon.ends() == 1
    assert "watcher.db" in daemon.said


async def test_the_world_may_be_without_tickets(tmp_path: Path) -> None:
    async with a_place(tmp_path, World()) as place, a_daemon(place) as daemon:
        await until(lambda: place.world.counts["ListTickets"] >= 2, "the list is read")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0
        assert SIGNING not in daemon.said


async def test_a_daemon_whose_output_nobody_reads_delivers_elsewhere_and_ends(place: Place) -> None:
    place.configure(sinks="  out: {type: console, content: full}\n" + place.webhook())
    an_old_conversation(place.world)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "watcher", "run"]
    with (place.folder / "stuck.err").open("wb") as errors:
        process = await anyio.open_process(
            command, cwd=place.folder, env=place.environ, stdin=None, stdout=writer, stderr=errors
        )
    os.close(writer)
    try:
        await polled_again(place)
        # More than a pipe holds.
        note = place.world.agent_reply(TICKET, "x" * 1_000_000)
        await arrived(place, note)
        process.send_signal(signal.SIGTERM)
        with anyio.fail_after(CEILING_S):
            assert await process.wait() == 0
    finally:
        os.close(reader)
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()
            await process.aclose()
    assert b"Traceback" not in (place.folder / "stuck.err").read_bytes()


async def test_the_task_runner_hands_signals_and_exit_status_through(tmp_path: Path) -> None:
    # The environment that runs this test is the one to use: a test must not set up another.
    program = (
        "import dev, pathlib, sys; dev.set_up = lambda: None; dev.BIN = pathlib.Path(sys.executable).parent;"
        "sys.exit(dev.main(['watcher', 'simulator', '--port', '0']))"
    )
    environ = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", program]
    async with await anyio.open_process(command, cwd=tmp_path, env=environ, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        with anyio.fail_after(CEILING_S):
            greeting = await process.stdout.receive()
            assert greeting.startswith(b"Ticket API simulator: http://127.0.0.1:")
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
