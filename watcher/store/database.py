"""The SQLite file: found or made, locked, migrated, and its errors in our words."""

import contextlib
import fcntl
import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from watcher.errors import StoreError, StoreUnavailable
from watcher.store import schema

#: Connections of a process. SQLite lets one write at a time.
WRITERS, READERS = 1, 4
_BUSY_TIMEOUT_MS = 10_000
# What goes away by itself or with a hand of the operator, without our opening the file again.
_PASSING = ("database is locked", "disk is full", "readonly database", "disk i/o error", "unable to open")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock that says "one daemon per store" for life; the kernel frees it when the process dies."""
    with _in_our_words(path), contextlib.ExitStack() as stack:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        stack.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(f"{path} is in use by another watcher; stop that one first") from error
        # From here on, errors are the caller's own and are not to be put into words here.
        held = stack.pop_all()
    with held:
        yield


def is_locked(path: Path) -> bool:
    """Tell whether a daemon holds the store at this moment."""
    try:
        with locked(path):
            return False
    except StoreError:
        return True


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Lend a copy of the database, or an empty place if there is none; what is written there is thrown away."""
    with tempfile.TemporaryDirectory(prefix="watcher-") as folder:
        copy = Path(folder) / path.name
        if path.exists():
            # Without a log of changes nothing is under way: then even the reader's own helper files can be avoided.
            mode = "mode=ro" if path.with_name(path.name + "-wal").exists() else "immutable=1"
            with (
                _in_our_words(path),
                contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                _revision(path, source)
                source.backup(target)
        yield copy


def prepare(path: Path) -> None:
    """Make ``path`` a database of the current schema; a file that cannot be read is refused, never replaced."""
    with _in_our_words(path):
        if not path.exists():
            _create(path)
            return
        with contextlib.closing(sqlite3.connect(path)) as connection:
            revision = _revision(path, connection)
    if revision != schema.REVISION:
        _migrate(path)


def _create(path: Path) -> None:
    """Make a whole new database beside ``path`` and move it there, so that ``path`` is never half a database."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.closing(sqlite3.connect(new)) as connection:
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    _migrate(new)
    _sync(new)
    new.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _revision(path: Path, connection: sqlite3.Connection) -> str:
    """Return the schema revision of an existing file, or refuse the file."""
    if path.stat().st_size == 0:
        raise StoreError(
            f"{path} is empty: what it held is lost. Put a backup in its place, or remove the file to start anew "
            "(then only what is unread is announced)"
        )
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id != schema.APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program; set another `storage.path`")
    (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if not isinstance(revision, str) or revision > schema.REVISION:
        raise StoreError(f"{path} was written by a newer watcher (schema {revision}); upgrade this one")
    return revision


def _migrate(path: Path) -> None:
    """Bring the schema up to date. Alembic is imported only here, because most starts need none of it."""
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "watcher.store:migrations")
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(path)), poolclass=sa.NullPool)
    _begin_at_once(engine)
    with _in_our_words(path), engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def open_engine(path: Path, *, writes: bool) -> AsyncEngine:
    """Return an engine: one for writes, in transactions that lock at once, or one for reads, without any."""
    engine = create_async_engine(
        sa.URL.create("sqlite+aiosqlite", database=str(path)),
        poolclass=AsyncAdaptedQueuePool,
        pool_size=WRITERS if writes else READERS,
        max_overflow=0,
        pool_timeout=60,
    )

    @sa.event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # The time limit first: changing the journal mode may have to wait too.
        for pragma in (f"busy_timeout={_BUSY_TIMEOUT_MS}", "journal_mode=WAL", "synchronous=FULL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    if writes:
        _begin_at_once(engine.sync_engine)
    return engine


def _begin_at_once(engine: sa.Engine) -> None:
    """Let transactions begin, and lock, where they say so.

    The driver's own way of beginning one only at the first insert or update loses updates between two processes,
    and leaves half a schema where a migration breaks off.
    """

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@asynccontextmanager
async def translated(path: Path) -> AsyncIterator[None]:
    """Let database errors leave as ours, with the file and what to do."""
    with _in_our_words(path):
        yield


@contextmanager
def _in_our_words(path: Path) -> Iterator[None]:
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.Error, OSError) as error:
        cause = str(getattr(error, "orig", None) or getattr(error, "strerror", None) or error)
        if any(words in cause.lower() for words in _PASSING):
            raise StoreUnavailable(f"{path}: {cause}") from error
        if isinstance(error, OSError):
            raise StoreError(f"{path}: {cause}") from error
        raise StoreError(
            f"{path} cannot be read ({cause}). It is left as it is: put a backup in its place, or move it away "
            "to start anew (then only what is unread is announced)"
        ) from error
    except sa.exc.TimeoutError as error:
        raise StoreUnavailable(f"{path}: the database does not answer") from error
