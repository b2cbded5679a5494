"""A real program, which keeps what it is given in a file."""

import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from tests.benches import Bench
from watcher.model import Content
from watcher.sinks.exec import ExecSink

TOKEN = "t0k3n-f0r-t3sts"
PROGRAM = """#!/bin/sh
mode=$(cat mode 2>/dev/null)
rm -f mode
case "$mode" in
  fails) echo "no room for $TOKEN" >&2; exit 75 ;;
  refuses) echo "cannot use it with $TOKEN" >&2; exit 65 ;;
  hangs) exec sleep 600 ;;
  *) exec cat >>received ;;
esac
"""


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "take"
        program.write_text(PROGRAM)
        program.chmod(0o700)
        sink = ExecSink(
            name="hook",
            command=[str(program)],
            folder=folder,
            environment={"PATH": os.environ["PATH"], "TOKEN": TOKEN},
            secrets=[TOKEN],
            content=Content.FULL,
            timeout=timeout,
        )

        def received() -> list[str]:
            path = folder / "received"
            return [json.loads(line)["id"] for line in path.read_bytes().split(b"\n") if line] if path.exists() else []

        yield Bench(
            sink=sink,
            received=received,
            fails=lambda: _write(folder, "fails"),
            refuses=lambda: _write(folder, "refuses"),
            hangs=lambda: _write(folder, "hangs"),
            secrets=(TOKEN,),
        )


def _write(folder: Path, mode: str) -> None:
    (folder / "mode").write_text(mode)
