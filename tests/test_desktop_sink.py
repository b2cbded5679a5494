"""The daemon's side: the sink, its receivers, and the socket that desktops connect to."""

import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import aiohttp
import anyio
import pytest
from structlog.testing import capture_logs

from tests.dbus import PrivateBus, needs_bus, open_bus, open_server
from tests.fakes import NOON, at, delivery, event, ticket, until
from watcher.config.load import Config, load
from watcher.detect import digest
from watcher.errors import ConfigError, SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import Delivery
from watcher.outlets import open_outlets
from watcher.popup import Close, Failed, LockScreen, Popup, Ready, Remind, Show, Shown, decode_to_desk, encode
from watcher.render import Voice
from watcher.session.desk import Desk
from watcher.sinks.desktop import DesktopSink
from watcher.web.desks import DESK_URL, Desks
from watcher.web.peers import own_user

ME = own_user()
LOGIN = pwd.getpwuid(os.geteuid()).pw_name
SOON = timedelta(seconds=0.5)


@dataclass
class FakeDesk:
    """A connected desktop that does what it is told."""

    web_socket: aiohttp.ClientWebSocketResponse
    shown: list[Popup] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    reason: str = ""
    is_silent: bool = False

    def fails(self, reason: str) -> None:
        """Show nothing from now on."""
        self.reason = reason

    def hangs(self) -> None:
        """Answer nothing from now on."""
        self.is_silent = True

    async def says(self, message: Ready | Remind | Shown) -> None:
        await self.web_socket.send_str(encode(message))

    async def run(self) -> None:
        async for frame in self.web_socket:
            match decode_to_desk(frame.data):
                case Show(number, popup):
                    if not self.reason and not self.is_silent:
                        self.shown.append(popup)
                    if not self.is_silent:
                        answer = Failed(number, self.reason) if self.reason else Shown(number)
                        await self.web_socket.send_str(encode(answer))
                case Close(ticket):
                    self.closed.append(ticket)


@asynccontextmanager
async def a_desk(path: Path) -> AsyncIterator[FakeDesk]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.ws_connect(f"http://watcher{DESK_URL}") as web_socket,
        anyio.create_task_group() as group,
    ):
        desk = FakeDesk(web_socket)
        group.start_soon(desk.run)
        yield desk
        await web_socket.close()


@dataclass
class Daemon:
    """What a daemon has of desktops."""

    sink: DesktopSink
    desks: Desks
    path: Path
    ready: int = 0
    reminded: list[tuple[str, str]] = field(default_factory=list)

    async def has(self, user: str = ME) -> None:
        await until(lambda: self.desks.is_connected(user))

    def count(self) -> None:
        self.ready += 1

    async def note(self, event: str, receiver: str) -> None:
        self.reminded.append((event, receiver))

    async def send(self, of: Delivery | None = None) -> None:
        await self.sink.send(of or delivery(), now=NOON)


def a_sink(desks: Desks, users: list[str], environ: dict[str, str] | None = None) -> DesktopSink:
    async def ready() -> None: ...

    async def remind(popup: Popup) -> None: ...

    sink = DesktopSink(
        name="desk",
        users=users,
        own_user=ME,
        desks=desks,
        local=lambda _sink: Desk(environ or {}, on_remind=remind, on_ready=ready),
        voice=Voice(),
        lock_screen=LockScreen.TITLE,
    )
    desks.admit(sink)
    return sink


@asynccontextmanager
async def a_daemon(
    path: Path, *users: str, environ: dict[str, str] | None = None, patience: timedelta = SOON
) -> AsyncIterator[Daemon]:
    desks = Desks(patience=patience)
    daemon = Daemon(a_sink(desks, list(users), environ), desks, path)
    daemon.sink.on_ready, daemon.sink.on_remind = daemon.count, daemon.note
    async with anyio.create_task_group() as group:
        group.start_soon(desks.serve, path)
        group.start_soon(daemon.sink.run)
        await until(path.is_socket)
        try:
            yield daemon
        finally:
            daemon.sink.disconnect()
            group.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desktop.sock"


# --- one user ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [ME, LOGIN])
async def test_a_connected_desktop_shows_the_event(path: Path, name: str) -> None:
    async with a_daemon(path, name) as daemon, a_desk(path) as desk:
        await daemon.has()
        await daemon.send()
        assert [popup.summary for popup in desk.shown] == ["agent 1024 replied: Why ECS renewal failed?"]
        assert desk.shown[0].event == event().id


async def test_every_session_of_a_user_shows_it(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as first, a_desk(path) as second:
        await until(lambda: daemon.ready == 2)
        await daemon.send()
        assert len(first.shown) == len(second.shown) == 1


async def test_one_session_that_has_shown_it_is_enough(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as first, a_desk(path) as second, a_desk(path) as third:
        await until(lambda: daemon.ready == 3)
        first.fails("the screen is locked")
        third.hangs()
        await daemon.send()
        assert len(second.shown) == 1


async def test_without_a_connected_desktop_it_is_unavailable(path: Path) -> None:
    async with a_daemon(path, "alice") as daemon:
        with pytest.raises(SinkUnavailable, match=r"^alice has no desktop connected$"):
            await daemon.send()


async def test_what_the_desktop_says_is_the_reason(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        desk.fails("the screen is locked")
        with pytest.raises(SinkUnavailable, match=r"^the screen is locked$"):
            await daemon.send()


async def test_a_desktop_that_does_not_answer_costs_no_more_than_the_time_limit(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        desk.hangs()
        with pytest.raises(SinkUnavailable, match=r"the desktop did not answer within 0.5 s"):
            await daemon.send()


async def test_a_desktop_that_leaves_in_the_middle_is_unavailable_at_once(path: Path) -> None:
    async with a_daemon(path, ME, patience=timedelta(hours=1)) as daemon, a_desk(path) as desk:
        await daemon.has()
        desk.hangs()
        async with anyio.create_task_group() as group:

            async def leave() -> None:
                await until(lambda: bool(daemon.desks._connections[0]._calls))
                await desk.web_socket.close()

            group.start_soon(leave)
            with pytest.raises(SinkUnavailable, match="disconnected"):
                await daemon.send()


async def test_a_late_or_wrong_answer_means_nothing(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        desk.hangs()
        await desk.says(Shown(99))
        with pytest.raises(SinkUnavailable):
            await daemon.send()
        await desk.says(Shown(1))
        desk.is_silent = False
        await daemon.send()
        assert len(desk.shown) == 1


# --- several users ----------------------------------------------------------------------------------------


async def test_who_has_no_desktop_is_left_over_and_the_others_have_it(path: Path) -> None:
    async with a_daemon(path, "alice", ME, "bob") as daemon, a_desk(path) as desk:
        await daemon.has()
        with pytest.raises(SinkPartly) as caught:
            await daemon.send()
        assert {user: str(error) for user, error in caught.value.left.items()} == {
            "alice": "alice has no desktop connected",
            "bob": "bob has no desktop connected",
        }
        assert len(desk.shown) == 1


async def test_a_delivery_for_one_goes_to_nobody_else(path: Path) -> None:
    async with a_daemon(path, "alice", ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        with pytest.raises(SinkUnavailable, match="alice"):
            await daemon.send(delivery(receiver="alice"))
        assert desk.shown == []
        await daemon.send(delivery(receiver=ME))
        assert len(desk.shown) == 1


async def test_a_receiver_that_is_no_longer_configured_is_refused(path: Path) -> None:
    async with a_daemon(path, "alice") as daemon:
        with pytest.raises(SinkRejected, match="carol is no longer among the receivers"):
            await daemon.send(delivery(receiver="carol"))


def test_another_list_of_users_is_another_target() -> None:
    assert a_sink(Desks(), ["alice"]).target != a_sink(Desks(), ["alice", "bob"]).target


# --- without users ----------------------------------------------------------------------------------------


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[PrivateBus]:
    async with open_bus(tmp_path) as opened:
        yield opened


@needs_bus
async def test_without_users_it_is_shown_in_the_daemons_own_session(path: Path, bus: PrivateBus) -> None:
    async with open_server(bus) as server, a_daemon(path, environ=bus.environ()) as daemon:
        await daemon.send()
        assert len(server.notified) == 1
        daemon.sink.was_read("prod/0005PYGCW")
        await until(lambda: server.closed == [1])


@needs_bus
async def test_a_connected_desktop_of_the_daemons_user_comes_first(path: Path, bus: PrivateBus) -> None:
    async with open_server(bus) as server, a_daemon(path, environ=bus.environ()) as daemon, a_desk(path) as desk:
        await daemon.has()
        await daemon.send()
        assert len(desk.shown) == 1
        assert server.notified == []


async def test_without_users_and_session_both_ways_out_are_named(path: Path) -> None:
    async with a_daemon(path) as daemon:
        with pytest.raises(SinkUnavailable, match=r"no session bus.*`watcher desktop`.*`users`"):
            await daemon.send()


# --- what waited too long ---------------------------------------------------------------------------------


async def test_what_was_not_shown_within_three_days_is_refused(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        with pytest.raises(SinkRejected, match=r"^not shown within 3 days$"):
            await daemon.sink.send(delivery(), now=at(60 * 24 * 3 + 2))
        await daemon.sink.send(delivery(), now=at(60 * 24 * 3 - 2))
        assert len(desk.shown) == 1


async def test_what_somebody_asked_for_again_is_never_too_old(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        await daemon.sink.send(delivery(replay=True), now=at(60 * 24 * 30))
        assert len(desk.shown) == 1


async def test_a_digest_is_as_old_as_its_newest_event(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await daemon.has()
        old, new = event(1), event(2, minutes=60 * 48, ticket=ticket("B"))
        await daemon.sink.send(delivery(digest([old, new], sink="desk", now=NOON)), now=at(60 * 24 * 4))
        assert len(desk.shown) == 1
        with pytest.raises(SinkRejected):
            await daemon.sink.send(delivery(digest([old], sink="desk", now=at(60 * 24 * 4))), now=at(60 * 24 * 4))


# --- what desktops say ------------------------------------------------------------------------------------


async def test_a_desktop_that_connects_or_is_ready_again_has_what_waits_delivered(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await until(lambda: daemon.ready == 1)
        await desk.says(Ready())
        await until(lambda: daemon.ready == 2)


async def test_remind_me_later_names_event_and_user(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as desk:
        await desk.says(Remind("msg_1", "another"))
        await desk.says(Remind("msg_1", "desk"))
        await until(lambda: bool(daemon.reminded))
        assert daemon.reminded == [("msg_1", ME)]


async def test_what_nobody_understands_ends_the_connection_and_nothing_else(path: Path) -> None:
    async with a_daemon(path, ME) as daemon, a_desk(path) as other:
        async with a_desk(path) as desk:
            await until(lambda: daemon.ready == 2)
            await desk.web_socket.send_str("{")
            await until(lambda: desk.web_socket.closed)
        async with a_desk(path) as desk:
            await desk.web_socket.send_str("x" * 100_000)
            await until(lambda: desk.web_socket.closed)
        await daemon.send()
        assert len(other.shown) == 1


async def test_what_was_read_is_closed_also_on_a_desktop_that_was_away(path: Path) -> None:
    async with a_daemon(path, ME) as daemon:
        async with a_desk(path) as desk:
            await daemon.has()
            daemon.sink.was_read("prod/A")
            await until(lambda: desk.closed == ["prod/A"])
        async with a_desk(path) as desk:
            await until(lambda: desk.closed == ["prod/A"])


async def test_what_is_shown_again_is_not_closed_as_read_before(path: Path) -> None:
    async with a_daemon(path, ME) as daemon:
        async with a_desk(path) as desk:
            await daemon.has()
            daemon.sink.was_read("prod/0005PYGCW")
            await until(lambda: len(desk.closed) == 1)
            await daemon.send()
        async with a_desk(path) as desk:
            await until(lambda: daemon.ready == 2)
            daemon.sink.was_read("prod/B")
            await until(lambda: desk.closed == ["prod/B"])


# --- from the configuration -------------------------------------------------------------------------------


def configured(folder: Path, sink: str) -> Config:
    file = folder / "watcher.yaml"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  desk: {{type: desktop{sink}}}\n")
    return load(file, {})


async def test_an_unknown_user_is_said_and_may_be_known_later(tmp_path: Path) -> None:
    config = configured(tmp_path, f", users: [{LOGIN}, no-such-user-here]")
    with capture_logs() as logs:
        async with open_outlets(config) as outlets:
            sink = outlets.build("desk")
    assert isinstance(sink, DesktopSink)
    assert sink.users == (LOGIN, "no-such-user-here")
    [warning] = logs
    assert (warning["event"], warning["user"]) == ("unknown user", "no-such-user-here")
    assert "watcher.yaml:4:" in warning["place"]


async def test_a_sink_without_users_is_its_own_users(tmp_path: Path) -> None:
    async with open_outlets(configured(tmp_path, ", lock_screen: none")) as outlets:
        sink = outlets.build("desk")
        assert isinstance(sink, DesktopSink)
        assert sink.users == (ME,)
        assert outlets.desktops == [sink]
        with pytest.raises(SinkUnavailable, match="no session bus"):
            await sink.send(delivery(), now=NOON)


def test_only_three_things_can_be_done_at_the_lock_screen(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"desk\.lock_screen"):
        configured(tmp_path, ", lock_screen: half")
