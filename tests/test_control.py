"""The daemon's socket."""

import stat
from pathlib import Path

from watcher.web.control import ask, open_control, socket_of


async def test_a_command_is_told_what_the_daemon_knows(tmp_path: Path) -> None:
    store = tmp_path / "watcher.db"
    async with open_control(store, {"tickets": lambda: [{"ticket": "0005PYGCW"}]}):
        assert await ask(store, "tickets") == [{"ticket": "0005PYGCW"}]
        assert await ask(store, "secrets") is None


async def test_only_the_daemons_user_may_ask(tmp_path: Path) -> None:
    store = tmp_path / "watcher.db"
    async with open_control(store, {}):
        assert stat.S_IMODE(socket_of(store).stat().st_mode) == 0o600


async def test_without_a_daemon_there_is_no_answer(tmp_path: Path) -> None:
    store = tmp_path / "watcher.db"
    assert await ask(store, "tickets") is None
    async with open_control(store, {"tickets": list}):
        pass
    assert await ask(store, "tickets") is None
    assert not socket_of(store).exists()


async def test_a_socket_that_a_killed_daemon_left_behind_is_replaced(tmp_path: Path) -> None:
    store = tmp_path / "watcher.db"
    socket_of(store).write_text("left behind")
    assert await ask(store, "tickets") is None
    async with open_control(store, {"tickets": list}):
        assert await ask(store, "tickets") == []


async def test_where_no_socket_can_be_the_daemon_runs_without(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    async with open_control(folder / "watcher.db", {"tickets": list}):
        assert await ask(folder / "watcher.db", "tickets") is None
