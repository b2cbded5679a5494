"""The session's side: a real bus, a notification server with verbs, clicks, and everything that may be missing."""

import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from tests.dbus import LOGIND, NOTIFICATIONS, SAVER, PrivateBus, Server, a_popup, needs_bus, open_bus, open_server
from tests.fakes import until
from watcher.errors import SinkUnavailable
from watcher.popup import LockScreen, Popup
from watcher.session.desk import PATIENCE, Desk

pytestmark = needs_bus


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[PrivateBus]:
    async with open_bus(tmp_path) as opened:
        yield opened


@pytest.fixture
async def server(bus: PrivateBus) -> AsyncIterator[Server]:
    async with open_server(bus) as opened:
        yield opened


@dataclass
class Session:
    desk: Desk
    reminded: list[Popup] = field(default_factory=list)
    ready: int = 0


@asynccontextmanager
async def a_session(environ: Mapping[str, str], *, patience: timedelta = PATIENCE) -> AsyncIterator[Session]:
    async def remind(popup: Popup) -> None:
        session.reminded.append(popup)

    async def ready() -> None:
        session.ready += 1

    session = Session(Desk(environ, on_remind=remind, on_ready=ready, patience=patience))
    async with anyio.create_task_group() as group:
        group.start_soon(session.desk.run)
        try:
            yield session
        finally:
            session.desk.disconnect()
            group.cancel_scope.cancel()


HASTY = timedelta(seconds=0.3)


def look_rarely(session: Session) -> None:
    """Let nothing but signals tell that pop-ups can be shown again."""
    session.desk._look_every_s = 3600.0


# --- what is shown ----------------------------------------------------------------------------------------


async def test_a_popup_arrives_as_the_contract_says(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
    [shown] = server.notified
    assert (shown.application, shown.icon, shown.replaces, shown.expires) == (
        "Ticket Watcher",
        "mail-unread-symbolic",
        0,
        -1,
    )
    assert shown.summary == "Agent 1024 replied: Why ECS renewal failed?"
    assert shown.hints == {"urgency": 1, "category": "im.received", "desktop-entry": "watcher"}
    assert shown.actions == [
        *("default", "", "open", "Open ticket"),
        *("remind", "Remind me in 1 hour"),
    ]


async def test_an_urgent_one_is_critical(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup(is_urgent=True))
    assert server.notified[0].hints["urgency"] == 2


async def test_markup_is_escaped_if_and_only_if_the_server_reads_markup(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup(summary="<i>&"))
    server.capabilities = ["body", "actions"]
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup(summary="<i>&"))
    marked, plain = server.notified
    assert marked.body == "0005PYGCW, prod. Use &lt;b&gt; &amp; retry."
    assert plain.body == "0005PYGCW, prod. Use <b> & retry."
    assert marked.summary == plain.summary == "<i>&", "a summary is never markup"


async def test_without_actions_none_are_offered(bus: PrivateBus, server: Server) -> None:
    server.capabilities = ["body"]
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
    assert server.notified[0].actions == []


async def test_the_next_of_a_ticket_replaces_the_last_and_that_of_another_does_not(
    bus: PrivateBus, server: Server
) -> None:
    async with a_session(bus.environ()) as session:
        for number, key in enumerate(["prod/A", "prod/A", "prod/B", "prod/A"]):
            await session.desk.show(a_popup(key=key, tickets=(key,), event=f"msg_{number}"))
    assert [shown.replaces for shown in server.notified] == [0, 1, 0, 1]


async def test_one_that_a_person_has_closed_is_not_replaced(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
        server.dismisses(1)
        await session.desk.show(a_popup(key="prod/B", tickets=("prod/B",)))
        await session.desk.show(a_popup())
    assert [shown.replaces for shown in server.notified] == [0, 0, 0]


async def test_a_ticket_that_was_read_closes_its_popup(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
        await session.desk.close("prod/OTHER")
        assert server.closed == []
        await session.desk.close("prod/0005PYGCW")
        await session.desk.close("prod/0005PYGCW")
    assert server.closed == [1]


async def test_a_digest_is_closed_when_the_last_of_its_tickets_was_read(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup(key="msg_digest", tickets=("prod/A", "prod/B")))
        await session.desk.close("prod/A")
        assert server.closed == []
        await session.desk.close("prod/B")
    assert server.closed == [1]


# --- what is clicked --------------------------------------------------------------------------------------


def a_browser(folder: Path, *, status: int = 0) -> dict[str, str]:
    """Put an xdg-open in the path that writes down its arguments."""
    program = folder / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$#" "$@" >> {folder}/opened\nexit {status}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


@pytest.mark.parametrize("action", ["default", "open"])
async def test_a_click_opens_the_ticket_as_one_argument(
    bus: PrivateBus, server: Server, tmp_path: Path, action: str
) -> None:
    url = "https://console.example/?t=$(reboot)&x='1 2'"
    async with a_session(bus.environ(**a_browser(tmp_path))) as session:
        await session.desk.show(a_popup(url=url))
        server.clicks(action)
        await until((tmp_path / "opened").exists)
        await until(lambda: (tmp_path / "opened").read_text() == f"1|{url}|")


async def test_a_click_after_the_popup_has_gone_still_opens_it(bus: PrivateBus, server: Server, tmp_path: Path) -> None:
    async with a_session(bus.environ(**a_browser(tmp_path))) as session:
        await session.desk.show(a_popup())
        server.dismisses(1)
        server.clicks("open")
        await until((tmp_path / "opened").exists)


async def test_only_web_pages_are_opened(bus: PrivateBus, server: Server, tmp_path: Path) -> None:
    async with a_session(bus.environ(**a_browser(tmp_path))) as session:
        with capture_logs() as logs:
            await session.desk.show(a_popup(url="file:///etc/passwd"))
            server.clicks("open")
            await until(lambda: bool(logs))
    assert "no web page" in logs[0]["error"]
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("trouble", ["missing", "fails"])
async def test_a_browser_that_does_not_open_is_logged(
    bus: PrivateBus, server: Server, tmp_path: Path, trouble: str
) -> None:
    path = {"PATH": str(tmp_path)} if trouble == "missing" else a_browser(tmp_path, status=3)
    async with a_session(bus.environ(**path)) as session:
        with capture_logs() as logs:
            await session.desk.show(a_popup())
            server.clicks("open")
            await until(lambda: bool(logs))
    assert ("xdg-open: No such file" if trouble == "missing" else "status 3") in logs[0]["error"]


async def test_remind_me_later_is_told_and_the_popup_goes(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
        server.clicks("remind")
        await until(lambda: server.closed == [1])
        assert [popup.event for popup in session.reminded] == ["msg_1"]


async def test_a_click_on_what_we_did_not_show_means_nothing(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
        server.notified.append(replace(server.notified[0], number=77))
        server.clicks("remind", 77)
        server.clicks("remind", 1)
        await until(lambda: server.closed == [1])
        assert len(session.reminded) == 1


# --- the lock screen --------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [SAVER, "org.gnome.ScreenSaver", LOGIND])
async def test_while_the_screen_is_locked_only_the_title_is_shown(bus: PrivateBus, who: str) -> None:
    environ = bus.environ(DBUS_SYSTEM_BUS_ADDRESS=bus.address)
    async with open_server(bus, NOTIFICATIONS, who) as server, a_session(environ) as session:
        server.is_locked = True
        await session.desk.show(a_popup())
        await session.desk.show(a_popup(lock_screen=LockScreen.FULL))
        server.is_locked = False
        await session.desk.show(a_popup())
    assert [bool(shown.body) for shown in server.notified] == [False, True, True]
    assert all(shown.summary for shown in server.notified)


async def test_nothing_is_shown_until_it_is_unlocked_if_so_configured(bus: PrivateBus) -> None:
    async with open_server(bus, NOTIFICATIONS, SAVER) as server, a_session(bus.environ()) as session:
        server.locks()
        look_rarely(session)
        with pytest.raises(SinkUnavailable, match="the screen is locked"):
            await session.desk.show(a_popup(lock_screen=LockScreen.NONE))
        asked = len(server.asked)
        server.locks()
        await until(lambda: "GetActive" in server.asked[asked:])
        # It is looked again, and it is still locked.
        with pytest.raises(SinkUnavailable, match="the screen is locked"):
            await session.desk.show(a_popup(lock_screen=LockScreen.NONE))
        assert server.notified == []
        assert session.ready == 0
        server.unlocks()
        await until(lambda: session.ready == 1)
        await session.desk.show(a_popup(lock_screen=LockScreen.NONE))
    assert len(server.notified) == 1


async def test_what_waits_for_the_lock_is_not_forgotten_over_what_does_not(bus: PrivateBus) -> None:
    async with open_server(bus, NOTIFICATIONS, SAVER) as server, a_session(bus.environ()) as session:
        server.locks()
        with pytest.raises(SinkUnavailable, match="the screen is locked"):
            await session.desk.show(a_popup(lock_screen=LockScreen.NONE))
        await session.desk.show(a_popup(sink="another", lock_screen=LockScreen.FULL))
        server.unlocks()
        await until(lambda: session.ready == 1)


async def test_a_desktop_that_says_nothing_of_locks_is_not_locked(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup(lock_screen=LockScreen.NONE))
    assert server.notified[0].body


async def test_a_screen_saver_that_does_not_answer_may_have_locked(bus: PrivateBus) -> None:
    async with open_server(bus, NOTIFICATIONS, SAVER) as server, a_session(bus.environ()) as session:
        server.is_silent = True
        await session.desk.show(a_popup())
    assert not server.notified[0].body


async def test_where_one_does_not_answer_another_one_may_say(bus: PrivateBus) -> None:
    environ = bus.environ(DBUS_SYSTEM_BUS_ADDRESS=bus.address)
    async with open_server(bus, NOTIFICATIONS, SAVER, LOGIND) as server, a_session(environ) as session:
        server.is_silent = True
        await session.desk.show(a_popup())
    assert server.notified[0].body


# --- what may be missing ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "there is no session bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set"),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}, "the session bus cannot be reached: no such file"),
        ({"XDG_RUNTIME_DIR": "/nowhere"}, "the session bus cannot be reached: no such file"),
        ({"DBUS_SESSION_BUS_ADDRESS": "carrier:pigeon"}, "the session bus cannot be reached"),
    ],
)
async def test_without_a_bus_it_is_unavailable_and_says_why(environ: dict[str, str], reason: str) -> None:
    async with a_session(environ) as session:
        with pytest.raises(SinkUnavailable, match=reason):
            await session.desk.show(a_popup())


async def test_the_bus_of_a_user_unit_is_found_without_its_address(bus: PrivateBus, server: Server) -> None:
    folder = Path(bus.address.removeprefix("unix:path=")).parent
    async with a_session({"XDG_RUNTIME_DIR": str(folder)}) as session:
        await session.desk.show(a_popup())
    assert len(server.notified) == 1


async def test_without_a_server_it_is_unavailable_until_one_comes(bus: PrivateBus, server: Server) -> None:
    await server.leaves()
    async with a_session(bus.environ()) as session:
        look_rarely(session)
        with pytest.raises(SinkUnavailable, match="no notification server runs in this session"):
            await session.desk.show(a_popup())
        await server.returns()
        await until(lambda: session.ready == 1)
        await session.desk.show(a_popup())
    assert len(server.notified) == 1


async def test_a_hanging_server_costs_no_more_than_the_time_limit(bus: PrivateBus, server: Server) -> None:
    server.hangs()
    async with a_session(bus.environ()) as session:
        started = time.monotonic()
        with pytest.raises(SinkUnavailable, match="did not answer within 4 s"):
            await session.desk.show(a_popup())
        assert time.monotonic() - started < 5


async def test_what_a_slow_server_shows_after_all_is_replaced_by_its_repeat(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ(), patience=HASTY) as session:
        await session.desk.show(a_popup(key="prod/B", tickets=("prod/B",)))
        server.hangs()
        with pytest.raises(SinkUnavailable):
            await session.desk.show(a_popup())
        server.works()
        await session.desk.show(a_popup())
    assert [shown.replaces for shown in server.notified] == [0, 0, 2]


async def test_a_server_that_refuses_is_unavailable_with_its_own_words(bus: PrivateBus, server: Server) -> None:
    server.fails("too many \x1b[31m notifications")
    async with a_session(bus.environ()) as session:
        with pytest.raises(SinkUnavailable, match="Excess: too many") as caught:
            await session.desk.show(a_popup())
        assert str(caught.value).isprintable()
        await until(lambda: session.ready == 1)


async def test_a_server_that_answers_something_strange_is_unavailable(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        for speaks in ("strangely", "sensibly"):
            server.is_strange = speaks == "strangely"
            if server.is_strange:
                with pytest.raises(SinkUnavailable, match="something strange"):
                    await session.desk.show(a_popup())
            else:
                await session.desk.show(a_popup())
    assert len(server.notified) == 1


async def test_another_server_is_asked_anew_what_it_can_do_and_replaces_nothing(
    bus: PrivateBus, server: Server
) -> None:
    async with a_session(bus.environ()) as session:
        await session.desk.show(a_popup())
        await server.leaves()
        async with open_server(bus) as other:
            other.capabilities = ["body"]
            await session.desk.show(a_popup())
        assert [(shown.replaces, shown.actions, shown.body) for shown in other.notified] == [
            (0, [], "0005PYGCW, prod. Use <b> & retry.")
        ]


async def test_after_the_bus_has_died_another_one_is_found_at_its_place(tmp_path: Path) -> None:
    async with open_bus(tmp_path) as first, open_server(first) as server, a_session(first.environ()) as session:
        await session.desk.show(a_popup())
        assert len(server.notified) == 1
        await first.dies()
        with pytest.raises(SinkUnavailable, match=r"the session bus (is gone|cannot be reached)"):
            await session.desk.show(a_popup())
        (tmp_path / "bus").unlink(missing_ok=True)
        async with open_bus(tmp_path) as second, open_server(second) as other:
            await session.desk.show(a_popup())
            assert [shown.replaces for shown in other.notified] == [0]


async def test_showing_can_be_cancelled_and_works_afterwards(bus: PrivateBus, server: Server) -> None:
    async with a_session(bus.environ()) as session:
        server.hangs()
        with anyio.move_on_after(0.2) as scope:
            await session.desk.show(a_popup())
        assert scope.cancelled_caught
        server.works()
        await session.desk.show(a_popup())
    assert server.notified


@pytest.mark.parametrize(
    ("screen", "is_started"), [({}, False), ({"DISPLAY": ":7"}, True), ({"WAYLAND_DISPLAY": "w"}, True)]
)
async def test_a_server_is_started_where_there_is_a_screen_and_only_there(
    tmp_path: Path,
    screen: dict[str, str],
    is_started: bool,
) -> None:
    # Started without a screen it would end at once, and the bus would refuse its name for two minutes.
    async with (
        open_bus(tmp_path, starts=f"/bin/sh -c 'touch {tmp_path}/started; exit 1'") as bus,
        a_session(bus.environ(**screen)) as session,
    ):
        with pytest.raises(SinkUnavailable, match="no notification server runs in this session"):
            await session.desk.show(a_popup())
    assert (tmp_path / "started").exists() is is_started


async def test_without_the_library_the_remedy_is_named(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['dbus_fast'] = None\n"
        "import importlib.util as u; u.find_spec = lambda name: None\n"
        "from watcher.__main__ import main; sys.argv = ['watcher', 'desktop']; main()"
    )
    done = await anyio.run_process([sys.executable, "-c", program], cwd=tmp_path, check=False)
    assert done.returncode == 78
    assert 'pip install "dbus-fast>=5.2,<6"' in done.stderr.decode()
