"""Notification servers that people use, on a screen that nobody sees."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.dbus import a_popup, needs_bus, open_bus
from tests.fakes import until
from tests.programs import needs
from watcher.errors import SinkUnavailable
from watcher.popup import Popup
from watcher.session.desk import Desk

XFCE = next(map(str, Path("/usr/lib").glob("*/xfce4/notifyd/xfce4-notifyd")), "xfce4-notifyd")
HOSTILE = "0005PYGCW, prod. <b>bold</b> &amp; <script>alert(1)</script> 您好"
DUNST_CONFIG = """\
[global]
origin = top-left
offset = 0x0
width = 400
markup = {markup}
mouse_left_click = do_action, close_current
format = "<b>%s</b>\\n%b"
"""


pytestmark = [needs_bus, needs("Xvfb")]


@asynccontextmanager
async def a_process(
    *command: str, environ: dict[str, str], out: int = asyncio.subprocess.DEVNULL
) -> AsyncIterator[Any]:
    process = await asyncio.create_subprocess_exec(*command, env=environ, stdout=out, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with anyio.CancelScope(shield=True):
            await process.wait()


@asynccontextmanager
async def a_screen(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Lend the environment of a session with a bus, a screen and a browser that writes down what it opens."""
    browser = folder / "bin" / "xdg-open"
    browser.parent.mkdir()
    browser.write_text(f'#!/bin/sh\necho "$@" >> {folder}/opened\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    command = ("Xvfb", "-displayfd", "1", "-screen", "0", "900x600x24", "-nolisten", "tcp")
    async with (
        open_bus(folder) as bus,
        a_process(*command, environ=dict(os.environ), out=asyncio.subprocess.PIPE) as screen,
    ):
        with anyio.fail_after(60):
            display = f":{int(await screen.stdout.readline())}"
        path = f"{browser.parent}:{os.environ['PATH']}"
        yield bus.environ(DISPLAY=display, PATH=path, HOME=str(folder), XDG_RUNTIME_DIR=str(folder))


@asynccontextmanager
async def a_desk(environ: dict[str, str]) -> AsyncIterator[Desk]:
    """Lend a desk whose notification server is there."""

    async def remind(popup: Popup) -> None: ...

    async def ready() -> None: ...

    desk = Desk(environ, on_remind=remind, on_ready=ready)
    with anyio.fail_after(60):
        while True:
            try:
                await desk._notifications.check()
                break
            except SinkUnavailable:
                await anyio.sleep(0.1)
    async with anyio.create_task_group() as group:
        group.start_soon(desk.run)
        try:
            yield desk
        finally:
            desk.disconnect()
            group.cancel_scope.cancel()


@asynccontextmanager
async def dunst(folder: Path, environ: dict[str, str], *, markup: str = "full") -> AsyncIterator[Desk]:
    config = folder / "dunstrc"
    config.write_text(DUNST_CONFIG.format(markup=markup))
    async with a_process("dunst", "-config", str(config), environ=environ), a_desk(environ) as desk:
        yield desk


async def ask_dunst(environ: dict[str, str], *args: str) -> str:
    return (await anyio.run_process(["dunstctl", *args], env=environ)).stdout.decode()


async def dunst_showed(environ: dict[str, str]) -> list[dict[str, Any]]:
    """Return what dunst has shown, newest first."""
    await ask_dunst(environ, "close-all")
    [rows] = json.loads(await ask_dunst(environ, "history"))["data"]
    return [{name: cell["data"] for name, cell in row.items()} for row in rows]


@needs("dunst", "dunstctl")
@pytest.mark.parametrize("markup", ["full", "no"])
async def test_on_dunst_hostile_text_is_text_whether_it_reads_markup_or_not(tmp_path: Path, markup: str) -> None:
    async with a_screen(tmp_path) as environ, dunst(tmp_path, environ, markup=markup) as desk:
        await desk.show(a_popup(summary="<i>你好</i> & more", body=HOSTILE, is_urgent=True))
        [row] = await dunst_showed(environ)
    # As Pango is to draw it, whoever has escaped it.
    assert row["message"] == f"<b>{_escaped('<i>你好</i> & more')}</b>\n{_escaped(HOSTILE)}"
    assert row["body"] == (_escaped(HOSTILE) if markup == "full" else HOSTILE)
    assert row["appname"] == "Ticket Watcher"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@needs("dunst", "dunstctl")
async def test_on_dunst_the_next_of_a_ticket_replaces_the_last_and_reading_closes_it(tmp_path: Path) -> None:
    async with a_screen(tmp_path) as environ, dunst(tmp_path, environ) as desk:
        for part in (1, 2, 3):
            await desk.show(a_popup(body=f"Part {part}."))
        await desk.show(a_popup(key="prod/B", tickets=("prod/B",), body="Other."))
        assert (await ask_dunst(environ, "count", "displayed")).strip() == "2"
        await desk.close("prod/0005PYGCW")
        assert (await ask_dunst(environ, "count", "displayed")).strip() == "1"
        assert sorted(row["body"] for row in await dunst_showed(environ)) == ["Other.", "Part 3."]


@needs("dunst", "dunstctl", "xdotool")
async def test_on_dunst_a_click_opens_the_ticket(tmp_path: Path) -> None:
    async with a_screen(tmp_path) as environ, dunst(tmp_path, environ) as desk:
        await desk.show(a_popup(is_urgent=True))
        with anyio.fail_after(60):
            while not (tmp_path / "opened").exists():
                # Again until the window is there to be clicked on.
                await anyio.run_process(["xdotool", "mousemove", "60", "30", "click", "1"], env=environ)
                await anyio.sleep(0.2)
        await until(lambda: (tmp_path / "opened").read_text() == "https://console.example/0005PYGCW\n")


@needs(XFCE)
async def test_on_xfce_popups_are_shown_replaced_and_closed(tmp_path: Path) -> None:
    async with a_screen(tmp_path) as environ, a_process(XFCE, environ=environ), a_desk(environ) as desk:
        await desk.show(a_popup(body=HOSTILE))
        first = desk._notifications._memory.on_screen["prod/0005PYGCW"].number
        await desk.show(a_popup(body=HOSTILE, is_urgent=True))
        assert desk._notifications._memory.on_screen["prod/0005PYGCW"].number == first
        await desk.close("prod/0005PYGCW")
        assert desk._notifications._memory.on_screen == {}
