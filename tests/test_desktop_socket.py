"""The socket that desktops connect to: who is served, who is refused, and what nobody can do to the daemon."""

import os
import pwd
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import anyio
import pytest
from structlog.testing import capture_logs

from tests.fakes import until
from tests.test_desktop_sink import LOGIN, ME, a_daemon, a_desk
from watcher.web.desks import DESK_URL, Desks, socket_beside
from watcher.web.peers import is_user

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a moment")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desktop.sock"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Lend a folder into which everybody may look."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


async def test_everybody_may_connect_and_a_stranger_is_refused_once_in_the_log(path: Path) -> None:
    with capture_logs() as logs:
        async with a_daemon(path, "somebody-else"):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o666  # noqa: PTH116
            for _ in range(3):
                with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                    async with a_desk(path):
                        pass
                assert caught.value.status == 403
    refused = [each for each in logs if each["event"] == "desktop refused"]
    assert [each["user"] for each in refused] == [LOGIN]


@needs_root
async def test_the_kernel_says_who_it_is_not_the_client(open_folder: Path) -> None:
    path = open_folder / "desktop.sock"
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        f"s.sendall(b'GET {DESK_URL} HTTP/1.1\\r\\nHost: watcher\\r\\nUser: root\\r\\nConnection: Upgrade\\r\\n"
        "Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n');"
        "print(s.recv(20).decode())"
    )
    command = ["/usr/bin/env", "python3", "-c", program, str(path)]
    nobody = pwd.getpwnam("nobody")
    for users, status in (([ME], "403"), (["nobody"], "101"), ([str(nobody.pw_uid)], "101")):
        async with a_daemon(path, *users):
            done = await anyio.run_process(command, user=nobody.pw_uid, env={"PATH": "/usr/bin:/bin"}, cwd="/")
            assert f"HTTP/1.1 {status}" in done.stdout.decode()


async def test_nobody_can_use_up_our_connections(path: Path) -> None:
    async with a_daemon(path, ME) as daemon:
        idle: list[socket.socket] = []
        for _ in range(50):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(path))
            idle.append(connection)
        await until(lambda: sum(_is_ended(each) for each in idle) == 42)
        for each in idle:
            each.close()
        async with a_desk(path) as desk:
            await daemon.has()
            await daemon.send()
            assert len(desk.shown) == 1


def _is_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def left_behind(path: Path) -> Iterator[Path]:
    path.write_text("left behind")
    yield path
    assert not path.exists()


async def test_a_socket_that_a_killed_daemon_left_behind_is_replaced_and_gone_at_the_end(left_behind: Path) -> None:
    async with a_daemon(left_behind, ME) as daemon, a_desk(left_behind):
        await daemon.has()


async def test_where_no_socket_can_be_the_daemon_says_so_and_goes_on(tmp_path: Path) -> None:
    with capture_logs() as logs:
        await Desks().serve(tmp_path / ("long" * 40) / "desktop.sock")
    assert [each["event"] for each in logs] == ["no desktop socket"]


def test_the_socket_is_in_the_runtime_directory_else_beside_the_store() -> None:
    store = Path("/var/lib/watcher/watcher.db")
    assert socket_beside(store, "/run/watcher:/run/other") == Path("/run/watcher/desktop.sock")
    assert socket_beside(store, None) == Path("/var/lib/watcher/watcher.db.desktop.sock")


def test_a_login_name_is_known_or_not() -> None:
    assert is_user(LOGIN)
    assert is_user("12345")
    assert not is_user("no-such-user-here")
