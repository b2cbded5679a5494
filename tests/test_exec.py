"""The sink that runs a program, in front of programs that misbehave."""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes import NOON, delivery, event, note, until
from watcher import envelope
from watcher.config.load import load
from watcher.document import ProblemsFound
from watcher.errors import SinkRejected, SinkUnavailable
from watcher.model import Content
from watcher.outlets import open_outlets
from watcher.sinks.exec import ExecSink, harmless

ENVIRONMENT = {"PATH": os.environ["PATH"]}


def program(folder: Path, text: str) -> str:
    """Write a program into the folder; return its path."""
    path = folder / "hook"
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def sink(folder: Path, text: str = "exit 0", **more: Any) -> ExecSink:
    values: dict[str, Any] = {
        "command": more.pop("command", None) or [program(folder, text)],
        "environment": ENVIRONMENT,
        "secrets": (),
        "content": Content.FULL,
        "timeout": timedelta(seconds=20),
    }
    return ExecSink(name="hook", folder=folder, **(values | more))


async def failure(of: ExecSink, **more: Any) -> str:
    """Return why an event was not taken this time."""
    with pytest.raises(SinkUnavailable) as caught:
        await of.send(delivery(event(), **more), now=NOON)
    return str(caught.value)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits to be noticed does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.fixture(autouse=True)
def _leaves_no_process_behind() -> Iterator[None]:
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


# --- what a program gets ----------------------------------------------------------------------------------


async def test_standard_input_is_the_document_of_a_webhook_and_ends(tmp_path: Path) -> None:
    told = event(note=note(1, text="first\nsecond 请"))
    await sink(tmp_path, "cat >given").send(delivery(told), now=NOON)
    given = (tmp_path / "given").read_bytes()
    assert given == envelope.seal(told, content=Content.FULL, limit=None) + b"\n"
    assert given.count(b"\n") == 1


async def test_arguments_are_no_shell_s(tmp_path: Path) -> None:
    command = [program(tmp_path, 'printf "%s|" "$@" >given'), "a b", "$HOME; touch evil", "*"]
    await sink(tmp_path, command=command).send(delivery(event()), now=NOON)
    assert (tmp_path / "given").read_text() == "a b|$HOME; touch evil|*|"
    assert not (tmp_path / "evil").exists()


async def test_the_environment_is_what_was_written_and_what_the_event_is(tmp_path: Path) -> None:
    hook = sink(tmp_path, "env >given; pwd >where", environment=ENVIRONMENT | {"ROOM": "ops"})
    await hook.send(delivery(event(), attempts=2), now=NOON)
    given = dict(line.split("=", 1) for line in (tmp_path / "given").read_text().splitlines())
    # A shell adds these by itself.
    assert {name: value for name, value in given.items() if name not in {"PWD", "SHLVL", "_", "OLDPWD"}} == {
        **ENVIRONMENT,
        "ROOM": "ops",
        "WATCHER_EVENT_ID": event().id,
        "WATCHER_EVENT_TYPE": "watcher.note.created.v1",
        "WATCHER_SINK": "hook",
        "WATCHER_ATTEMPT": "3",
    }
    assert (tmp_path / "where").read_text().strip().endswith(tmp_path.name)


def test_of_the_daemon_s_environment_only_what_is_harmless_is_handed_on() -> None:
    environ = {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s", "LD_PRELOAD": "x"}
    assert harmless(environ) == {"PATH": "/bin", "LC_ALL": "C", "TZ": "UTC"}


async def test_a_large_event_does_not_block_a_program_that_answers_before_it_reads(tmp_path: Path) -> None:
    told = event(note=note(1, text="x" * 3_000_000))
    text = (
        f"#!{sys.executable}\nimport sys\nsys.stderr.write('y' * 3_000_000)\n"
        "open('n', 'w').write(str(len(sys.stdin.read())))\n"
    )
    await sink(tmp_path, text).send(delivery(told), now=NOON)
    assert int((tmp_path / "n").read_text()) == len(envelope.seal(told, content=Content.FULL, limit=None)) + 1


async def test_who_does_not_read_may_succeed(tmp_path: Path) -> None:
    told = event(note=note(1, text="x" * 1_000_000))
    await sink(tmp_path, "exit 0").send(delivery(told), now=NOON)
    await sink(tmp_path, "exec <&-; sleep 0.1; exit 0").send(delivery(told), now=NOON)


# --- what comes of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [1, 2, 64, 66, 75, 126, 127, 255])
async def test_a_status_that_is_not_zero_is_tried_again(tmp_path: Path, status: int) -> None:
    text = f"echo first >&2; echo 'no room' >&2; echo >&2; exit {status}"
    assert await failure(sink(tmp_path, text)) == f"hook ended with exit status {status}: no room"


async def test_65_means_never(tmp_path: Path) -> None:
    with pytest.raises(SinkRejected, match="exit status 65: not for me"):
        await sink(tmp_path, "echo not for me >&2; exit 65").send(delivery(event()), now=NOON)


async def test_a_signal_is_named(tmp_path: Path) -> None:
    assert await failure(sink(tmp_path, "kill -SEGV $$")) == "hook was ended by SIGSEGV"


async def test_what_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for command, why in ((["/nowhere/hook"], "No such file"), ([str(tmp_path / "text")], "Permission denied")):
        assert f"cannot be started: {why}" in await failure(sink(tmp_path, command=command))
    assert "cannot be started" in await failure(sink(tmp_path, environment={"TOKEN": "a\0b"}))


async def test_what_it_says_is_one_short_line_that_steers_nothing(tmp_path: Path) -> None:
    text = f"#!{sys.executable}\nimport sys\nsys.stderr.buffer.write(b'\\x1b[31m\\xff' + b'x' * 100_000)\nsys.exit(1)\n"
    said = await failure(sink(tmp_path, text))
    assert said.isprintable()
    assert len(said) < 260


@pytest.mark.parametrize("length", [0, 8185, 8190, 8191])
async def test_a_secret_is_said_nowhere_even_where_it_is_cut(tmp_path: Path, length: int) -> None:
    text = f"#!{sys.executable}\nimport os, sys\nsys.stderr.write(os.environ['TOKEN'] + 'x' * {length})\nsys.exit(1)\n"
    said = await failure(sink(tmp_path, text, environment={"TOKEN": "s3cr3t-t0k3n"}, secrets=["s3cr3t-t0k3n", ""]))
    assert not [part for part in ("s3cr", "t0k", "k3n", "3n") if part in said]


# --- what does not end ------------------------------------------------------------------------------------

STUBBORN = (
    "trap '' TERM; (trap '' TERM; echo $$ >leader; sh -c 'echo $PPID >child; exec sleep 600') & echo $! >job; wait"
)


async def test_past_its_time_it_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    text = "sleep 600 & echo $! >child; echo $$ >leader; sleep 600"
    assert await failure(sink(tmp_path, text, timeout=timedelta(seconds=0.3))) == "hook did not end within 0.3 s"
    pids = [int((tmp_path / name).read_text()) for name in ("leader", "child")]
    await until(lambda: not any(map(is_running, pids)))


async def test_who_ignores_the_request_to_end_is_ended(tmp_path: Path) -> None:
    text = (
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ >child; while :; do sleep 1; done' & echo $$ >leader; wait; wait"
    )
    began = anyio.current_time()
    assert "did not end" in await failure(sink(tmp_path, text, timeout=timedelta(seconds=0.3)))
    assert 2 < anyio.current_time() - began < 10
    pids = [int((tmp_path / name).read_text()) for name in ("leader", "child")]
    await until(lambda: not any(map(is_running, pids)))


async def test_when_cancelled_it_is_ended(tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: sink(tmp_path, "echo $$ >leader; exec sleep 600").send(delivery(event()), now=NOON))
        await until(lambda: (tmp_path / "leader").exists() and bool((tmp_path / "leader").read_text()))
        tasks.cancel_scope.cancel()
    assert not is_running(int((tmp_path / "leader").read_text()))


async def test_who_inherits_its_pipes_is_not_waited_for(tmp_path: Path) -> None:
    """A program may leave something behind: it is done when it says so."""
    text = "sleep 600 & echo $! >child; echo said >&2; exit 3"
    with anyio.fail_after(10):
        assert await failure(sink(tmp_path, text)) == "hook ended with exit status 3: said"
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_two_hundred_runs_leave_nothing_behind(tmp_path: Path) -> None:
    hook = sink(tmp_path, "exit 0")
    await hook.send(delivery(event()), now=NOON)
    await until(lambda: not [each for each in threading.enumerate() if each.name.startswith("waitpid")])
    before = open_files()
    for _ in range(200):
        await hook.send(delivery(event()), now=NOON)
    await until(lambda: open_files() <= before)


# --- watcher.yaml -----------------------------------------------------------------------------------------


def written(folder: Path, sink_text: str) -> Path:
    path = folder / "watcher.yaml"
    path.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks: {{me: {{type: exec, {sink_text}}}}}\n")
    return path


async def test_a_relative_program_stands_beside_the_file_and_runs_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hooks").mkdir()
    program(tmp_path / "hooks", 'cat >given; echo "$TOKEN" >&2; exit 1')
    monkeypatch.chdir(tmp_path.parent)
    path = written(tmp_path, "command: hooks/hook, env: {TOKEN: {env: HOOK_TOKEN}}").relative_to(tmp_path.parent)
    async with open_outlets(load(path, ENVIRONMENT | {"HOOK_TOKEN": "s3cr3t"})) as outlets:
        me = outlets.build("me")
        with pytest.raises(SinkUnavailable) as caught:
            await me.send(delivery(event()), now=datetime.now(UTC))
    assert str(caught.value) == "hook ended with exit status 1: …"
    assert json.loads((tmp_path / "given").read_text())["id"] == event().id


async def test_a_bare_name_is_looked_for_in_the_path(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "cat >given")
    environ = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    async with open_outlets(load(written(tmp_path, "command: [hook]"), environ)) as outlets:
        await outlets.build("me").send(delivery(event()), now=datetime.now(UTC))
    assert (tmp_path / "given").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("command: []", "must hold at least one entry"),
        ("command: x, env: {1A: x}", "`1A` is not a name of an environment variable"),
        ("command: x, env: {WATCHER_SINK: x}", "`WATCHER_SINK` is set by the watcher itself"),
        ('command: ["x", "a\\0b"]', "NUL"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProblemsFound, match=words):
        load(written(tmp_path, text), {})


async def test_a_preview_names_the_program_and_none_of_its_arguments(tmp_path: Path) -> None:
    shown = sink(tmp_path, command=["/opt/hooks/page", "--key", "k3y"]).preview(event(), now=NOON)
    assert shown.startswith("| page\n\n{")
    assert "k3y" not in shown
    assert event().id in shown
