"""The real daemon, the real `watcher desktop`, and a notification server between them and a person."""

import json
import os
import signal
import stat
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.dbus import PrivateBus, Server, needs_bus, open_bus, open_server
from tests.place import CEILING_S, HOUR, OTHER, TICKET, Place, a_place, an_old_conversation, until
from tests.test_process import Running, a_daemon, arrived, polled_again
from watcher.web.peers import own_user

pytestmark = needs_bus

ME = own_user()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Lend a folder with a short name: the path of a socket has 107 bytes at the most."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@pytest.fixture
async def place(tmp_path: Path, folder: Path) -> AsyncIterator[Place]:
    async with a_place(tmp_path) as made:
        made.environ["RUNTIME_DIRECTORY"] = str(folder)
        made.configure(sinks=f"  desk: {{type: desktop, users: ['{ME}']}}\n")
        an_old_conversation(made.world)
        yield made


@pytest.fixture
async def bus(folder: Path) -> AsyncIterator[PrivateBus]:
    async with open_bus(folder) as opened:
        yield opened


@pytest.fixture
async def server(bus: PrivateBus) -> AsyncIterator[Server]:
    async with open_server(bus) as opened:
        yield opened


@asynccontextmanager
async def a_desktop(place: Place, bus: PrivateBus, *args: str, **environ: str) -> AsyncIterator[Running]:
    """Run `watcher desktop` in the session of the bus; it must never show a traceback."""
    number = len(list(place.folder.glob("desktop-*.err")))
    out, err = (place.folder / f"desktop-{number}.{name}" for name in ("out", "err"))
    arguments = args or ("--socket", f"{place.environ['RUNTIME_DIRECTORY']}/desktop.sock")
    with out.open("wb") as to_out, err.open("wb") as to_err:
        process = await anyio.open_process(
            [sys.executable, "-m", "watcher", "desktop", *arguments],
            cwd=place.folder,
            env=place.environ | bus.environ(**environ),
            stdin=None,
            stdout=to_out,
            stderr=to_err,
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


async def connected(desktop: Running, times: int = 1) -> None:
    await until(lambda: desktop.said.count("connected  ") >= times, f"it connects: {desktop.said}")


async def shown(server: Server, count: int) -> None:
    await until(lambda: len(server.notified) >= count, f"{count} pop-ups")


# --- the main job -----------------------------------------------------------------------------------------


async def test_a_reply_is_shown_the_next_takes_its_place_and_reading_closes_it(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    async with a_daemon(place), a_desktop(place, bus) as desktop:
        await connected(desktop)
        await polled_again(place)
        place.world.agent_reply(TICKET, "It <b>works</b> now.")
        await shown(server, 1)
        place.world.agent_reply(TICKET, "Does it?")
        await shown(server, 2)
        place.world.mark_read(TICKET)
        await until(lambda: server.closed, "it is closed")
        await polled_again(place)
        desktop.signal(signal.SIGTERM)
        assert await desktop.ends() == 0
    first, second = server.notified
    assert first.summary.endswith("replied: Why ECS renewal failed?")
    assert first.body == f"{TICKET}, main. It &lt;b&gt;works&lt;/b&gt; now."
    assert (first.replaces, second.replaces) == (0, first.number)
    assert server.closed == [first.number]


async def test_what_waited_for_a_desktop_comes_as_one_popup(place: Place, bus: PrivateBus, server: Server) -> None:
    tickets = [TICKET, OTHER, "0099ZZZZZZ"]
    for ticket in tickets[1:]:
        an_old_conversation(place.world, ticket)
    async with a_daemon(place) as daemon:
        await polled_again(place, *tickets)
        for ticket in tickets:
            place.world.agent_reply(ticket, "Here.")
        await until(lambda: "has no desktop connected" in daemon.said, "nobody is there")
        await polled_again(place, *tickets)
        async with a_desktop(place, bus):
            await shown(server, 1)
            await polled_again(place, *tickets)
    assert [popup.summary for popup in server.notified] == ["3 tickets have unread replies"]


async def test_after_a_restart_of_the_daemon_the_desktop_is_there_again(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    async with a_desktop(place, bus) as desktop:
        async with a_daemon(place) as daemon:
            await connected(desktop)
            await polled_again(place)
            place.world.agent_reply(TICKET, "Part 1.")
            await shown(server, 1)
            # Killed before it knows, it would show it again, in the same place.
            await until(lambda: "delivered" in daemon.said, "it is written down")
            daemon.kill()
            await daemon.ends()
        await until(lambda: "daemon gone" in desktop.said, "it notices")
        place.world.agent_reply(TICKET, "Part 2.")
        async with a_daemon(place):
            await shown(server, 2)
            place.world.mark_read(TICKET)
            await until(lambda: server.closed, "it is closed")
        desktop.signal(signal.SIGINT)
        assert await desktop.ends() == 0
    assert [popup.replaces for popup in server.notified] == [0, 1]


async def test_what_was_read_while_the_desktop_was_away_is_closed_when_it_is_back(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    async with a_desktop(place, bus) as desktop:
        async with a_daemon(place) as daemon:
            await connected(desktop)
            await polled_again(place)
            place.world.agent_reply(TICKET, "Here.")
            await shown(server, 1)
            daemon.signal(signal.SIGTERM)
            assert await daemon.ends() == 0
        place.world.mark_read(TICKET)
        async with a_daemon(place):
            await until(lambda: server.closed == [1], "it is closed")


# --- clicks -----------------------------------------------------------------------------------------------


async def test_a_click_opens_the_ticket_in_the_browser(place: Place, bus: PrivateBus, server: Server) -> None:
    program = place.write("bin/xdg-open", f'#!/bin/sh\necho "$@" > {place.folder}/opened\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    async with a_daemon(place), a_desktop(place, bus, **path) as desktop:
        await connected(desktop)
        await polled_again(place)
        place.world.agent_reply(TICKET, "Here.")
        await shown(server, 1)
        server.clicks("open")
        opened = place.folder / "opened"
        await until(lambda: opened.exists() and opened.read_text(), "the browser opens")
        assert opened.read_text().startswith("https://workorder.console.aliyun.com/")


async def test_remind_me_later_makes_it_due_in_an_hour_for_that_user_and_reading_takes_it_back(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    async with a_desktop(place, bus) as desktop:
        async with a_daemon(place) as daemon:
            await connected(desktop)
            await polled_again(place)
            place.world.agent_reply(TICKET, "Here.")
            await shown(server, 1)
            server.clicks("remind")
            await until(lambda: server.closed == [1], "the pop-up goes")
            await until(lambda: "told again later" in daemon.said, "the daemon knows")
            await until(lambda: "delivered" in daemon.said, "it is written down")
            daemon.kill()
            await daemon.ends()
        rows = await deliveries(place)
        assert {(row["receiver"], row["state"]) for row in rows} == {(None, "delivered"), (ME, "due")}
        [due] = [row for row in rows if row["state"] == "due"]
        late = datetime.fromisoformat(due["due_at"]) - datetime.now(UTC)
        assert timedelta(minutes=58) < late <= timedelta(minutes=60)
        async with a_daemon(place) as daemon:
            await polled_again(place)
            assert len(server.notified) == 1
            place.world.mark_read(TICKET)
            await until(lambda: "ticket read" in daemon.said, "it is read")
            await polled_again(place)
        assert {row["state"] for row in await deliveries(place)} == {"delivered"}


async def deliveries(place: Place) -> list[dict[str, Any]]:
    done = await place.watcher("history", "--json", ends=0)
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


# --- what may be missing ----------------------------------------------------------------------------------


async def test_who_is_not_among_the_users_is_refused_and_told_what_to_do(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    place.configure(sinks="  desk: {type: desktop, users: [nobody]}\n")
    async with a_daemon(place) as daemon, a_desktop(place, bus) as desktop:
        await until(lambda: "does not serve this user" in desktop.said, "it is told")
        await polled_again(place)
        place.world.agent_reply(TICKET, "Here.")
        await until(lambda: "nobody has no desktop connected" in daemon.said, "it is not shown")
        await until(lambda: "desktop refused" in daemon.said, "the daemon says so")
    assert server.notified == []
    assert desktop.said.count("does not serve this user") == 1


async def test_a_hanging_notification_server_delays_nobody_else(place: Place, bus: PrivateBus, server: Server) -> None:
    place.configure(sinks=f"  desk: {{type: desktop, users: ['{ME}']}}\n" + place.webhook())
    server.hangs()
    async with a_daemon(place) as daemon, a_desktop(place, bus) as desktop:
        await connected(desktop)
        await polled_again(place)
        started = time.monotonic()
        await arrived(place, place.world.agent_reply(TICKET, "Part 1."))
        await until(lambda: "did not answer within 4 s" in daemon.said, "it is postponed")
        assert time.monotonic() - started < 10
        await arrived(place, place.world.agent_reply(TICKET, "Part 2."))
        server.works()
        await until(lambda: any("Part 2" in popup.body for popup in server.notified), "it is shown at last")


async def test_a_stopped_desktop_is_unavailable_within_the_time_limit(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    async with a_daemon(place) as daemon, a_desktop(place, bus) as desktop:
        await connected(desktop)
        await polled_again(place)
        desktop.signal(signal.SIGSTOP)
        place.world.agent_reply(TICKET, "Here.")
        await until(lambda: "the desktop did not answer within 5 s" in daemon.said, "it is postponed")
        desktop.signal(signal.SIGCONT)
        await shown(server, 1)


async def test_without_users_the_daemon_shows_it_in_its_own_session(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    place.configure(sinks="  desk: {type: desktop}\n")
    place.environ.update(bus.environ())
    async with a_daemon(place) as daemon:
        await polled_again(place)
        place.world.agent_reply(TICKET, "Here.")
        await shown(server, 1)
        server.clicks("remind")
        await until(lambda: "told again later" in daemon.said, "it is put off")
        daemon.signal(signal.SIGTERM)
        assert await daemon.ends() == 0
    assert {row["state"] for row in await deliveries(place)} == {"due"}


async def test_one_round_shows_it_in_the_session_as_well(place: Place, bus: PrivateBus, server: Server) -> None:
    place.configure(sinks="  desk: {type: desktop}\n")
    place.environ.update(bus.environ())
    place.world.agent_reply(TICKET, "Unread.", at=time.time() - HOUR)
    await place.watcher("run", "--once", ends=0)
    assert len(server.notified) == 1


async def test_a_dry_run_and_a_preview_show_nothing(place: Place, bus: PrivateBus, server: Server) -> None:
    place.configure(sinks="  desk: {type: desktop}\n")
    place.environ.update(bus.environ())
    place.world.agent_reply(TICKET, "Unread.", at=time.time() - HOUR)
    await place.watcher("run", "--once", "--dry-run", ends=0)
    done = await place.watcher("preview", "--sink", "desk", ends=0)
    assert "[Open ticket]  [Remind me in 1 hour]" in done.out
    assert server.asked == []


async def test_a_desktop_finds_the_socket_of_the_configuration_at_hand(
    place: Place, bus: PrivateBus, server: Server
) -> None:
    del place.environ["RUNTIME_DIRECTORY"]
    text = (place.folder / "watcher.yaml").read_text(encoding="utf-8")
    folder = bus.address.removeprefix("unix:path=").removesuffix("/bus")
    place.write("watcher.yaml", text.replace("state/watcher.db", f"{folder}/watcher.db"))
    # Neither does it need the secrets that the configuration names.
    async with a_daemon(place), a_desktop(place, bus, "--socket", f"{folder}/watcher.db.desktop.sock", KEY_SECRET=""):
        await polled_again(place)
        place.world.agent_reply(TICKET, "Here.")
        await shown(server, 1)
    command = [sys.executable, "-c", "from watcher.desktop import Places; print(*Places(None), sep='\\n')"]
    environ = place.environ | {"XDG_RUNTIME_DIR": "/run/user/7", "KEY_SECRET": ""}
    done = await anyio.run_process(command, cwd=place.folder, env=environ)
    assert done.stdout.decode().splitlines() == [
        "/run/watcher/desktop.sock",
        "/var/lib/watcher/watcher.db.desktop.sock",
        "/run/user/7/watcher/desktop.sock",
        f"{folder}/watcher.db.desktop.sock",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_without_a_daemon_it_waits_says_so_once_and_ends_with_0(
    place: Place, bus: PrivateBus, number: signal.Signals
) -> None:
    async with a_desktop(place, bus) as desktop:
        await until(lambda: "no daemon" in desktop.said, "it says so")
        desktop.signal(number)
        assert await desktop.ends(CEILING_S) == 0
    assert desktop.said.count("no daemon") == 1
