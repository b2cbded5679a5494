"""Who is at the other end of a UNIX socket: the kernel says it (SO_PEERCRED, unix(7)), not the peer."""

import os
import pwd
import socket
import struct
from asyncio.trsock import TransportSocket
from datetime import timedelta
from pathlib import Path

from watcher.blocking import in_own_thread

_NAME_PATIENCE = timedelta(seconds=3)
_CREDENTIALS = struct.Struct("3i")


def listening(path: Path) -> socket.socket:
    """Return a listening socket that every user of this machine may connect to."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)  # noqa: FBT003
        listener.bind(str(path))
        path.chmod(0o666)  # who it is, the kernel says
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def peer(connection: socket.socket | TransportSocket) -> int:
    """Return the user id of whoever is at the other end."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return int(uid)


async def names_of(uid: int) -> frozenset[str]:
    """Return what a user may be called in the configuration: the number, and the login name if there is one."""
    try:
        login = await in_own_thread(_NAME_PATIENCE, _login, uid)
    except (TimeoutError, OSError):
        login = ""
    # A login name that is a number could be taken for another user's.
    return frozenset({str(uid), login} if login and not login.isdecimal() else {str(uid)})


def best_of(names: frozenset[str]) -> str:
    """Return the name that people know."""
    return min(names, key=str.isdecimal)


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def is_user(name: str) -> bool:
    """Tell whether a login name exists, or a number may be one's."""
    try:
        return name.isdecimal() or bool(pwd.getpwnam(name))
    except KeyError:
        return False


def own_user() -> str:
    """Return the user that this process runs as, by number."""
    return str(os.geteuid())
