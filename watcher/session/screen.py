"""Whether the screen is locked: asked of whoever may know."""

from contextlib import suppress

import anyio

from watcher.errors import SinkUnavailable
from watcher.session.bus import Bus

#: The name under which each desktop says it; the path and the interface follow from it.
_SAVERS = (
    "org.freedesktop.ScreenSaver",  # KDE and others
    "org.gnome.ScreenSaver",
    "org.cinnamon.ScreenSaver",
    "org.mate.ScreenSaver",
    "org.xfce.ScreenSaver",
)
_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1/session/auto")
# On this machine the answer takes milliseconds.
_PATIENCE_S = 1.0

#: Signals that say that it may have changed.
RULES = tuple(f"type='signal',interface='{saver}',member='ActiveChanged'" for saver in _SAVERS)


def is_about_the_screen(interface: str | None) -> bool:
    """Tell whether a signal of this interface says that the screen was locked or unlocked."""
    return interface in _SAVERS


async def is_locked(session: Bus, system: Bus) -> bool:
    """Ask screen savers and logind, all at once; where there is none, nothing is locked.

    Who is there and does not answer may be busy locking: then it counts as locked, unless another one says.
    """
    answers: list[bool] = []

    async def ask_saver(name: str) -> None:
        with suppress(SinkUnavailable):
            answers.extend(await session.call(name, "/" + name.replace(".", "/"), name, "GetActive"))

    async def ask_logind() -> None:
        with suppress(SinkUnavailable):
            hints = await system.call(
                *_LOGIND,
                "org.freedesktop.DBus.Properties",
                "Get",
                "ss",
                ["org.freedesktop.login1.Session", "LockedHint"],
                starts_service=True,
            )
            answers.extend(hint.value for hint in hints)

    with anyio.move_on_after(_PATIENCE_S) as patience:
        async with anyio.create_task_group() as asked:
            for saver in _SAVERS:
                asked.start_soon(ask_saver, saver)
            asked.start_soon(ask_logind)
    return any(answer is True for answer in answers) or (patience.cancelled_caught and not answers)
