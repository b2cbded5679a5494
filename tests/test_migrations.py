"""The way from nothing, or from an older schema, to the current one."""

import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tests.test_store import in_ticket, put, states
from watcher.errors import StoreError
from watcher.store import database, open_store, schema

ROOT = Path(__file__).parent.parent


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", "watcher.store:migrations")
    return ScriptDirectory.from_config(config)


def test_the_schema_names_the_last_migration() -> None:
    assert scripts().get_heads() == [schema.REVISION]


def test_revisions_sort_as_they_follow_one_another() -> None:
    """The store compares them to tell an older database from a newer one."""
    revisions = [script.revision for script in scripts().walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_a_migrated_database_is_what_the_schema_says(tmp_path: Path) -> None:
    database.prepare(tmp_path / "watcher.db")
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'watcher.db'}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []
    engine.dispose()


def test_primary_keys_and_defaults_are_what_the_schema_says(tmp_path: Path) -> None:
    """Alembic's comparison does not look at the former and takes an empty text for a changed one of the latter."""
    database.prepare(tmp_path / "migrated.db")
    engines = [sa.create_engine(f"sqlite:///{tmp_path / name}") for name in ("migrated.db", "created.db")]
    schema.metadata.create_all(engines[1])
    found: list[list[object]] = []
    for engine in engines:
        inspector = sa.inspect(engine)
        tables = sorted(set(inspector.get_table_names()) - {"alembic_version"})
        found.append([(name, inspector.get_pk_constraint(name), inspector.get_indexes(name)) for name in tables])
        columns = [column | {"type": str(column["type"])} for name in tables for column in inspector.get_columns(name)]
        found[-1].append(columns)
        engine.dispose()
    assert found[0] == found[1]


async def test_migrating_keeps_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    async with open_store(path) as store:
        await put(store, *in_ticket("A", 1, 2))
        before = await states(store)
    for _ in range(2):
        database._migrate(path)
    async with open_store(path) as store:
        assert await states(store) == before


def test_a_migration_that_breaks_off_leaves_everything_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    with closing(sqlite3.connect(path)) as connection:
        # The first migration makes this table last.
        connection.execute("CREATE TABLE sink (other)")
    with pytest.raises(StoreError):
        database._migrate(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("sink",)]


def test_a_current_database_is_opened_without_alembic(tmp_path: Path) -> None:
    path = tmp_path / "watcher.db"
    database.prepare(path)
    script = (
        "import sys; from pathlib import Path; from watcher.store import database\n"
        "database.prepare(Path(sys.argv[1])); sys.exit('alembic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, path], check=True, cwd=ROOT)


def test_the_migrations_are_in_the_wheel_and_work_from_there(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "watcher", tree / "watcher", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tree, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        archive.extractall(tmp_path / "installed")
    migrations = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "watcher" / "store" / "migrations").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert migrations
    assert migrations <= packed
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from watcher.store import database\n"
        "assert database.__file__.startswith(sys.argv[1]), database.__file__\n"
        "database.prepare(Path(sys.argv[2]))"
    )
    made = tmp_path / "made.db"
    subprocess.run([sys.executable, "-c", script, tmp_path / "installed", made], check=True, cwd=tmp_path)
    assert made.stat().st_size
