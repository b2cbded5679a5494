"""Open a web page in the browser of this session."""

import subprocess
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

import structlog

from watcher.blocking import in_own_thread

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_PROGRAM = "xdg-open"
# By then it has failed or has become the browser, which goes on.
_PATIENCE = timedelta(seconds=10)


async def open_page(url: str, *, environ: Mapping[str, str]) -> None:
    """Hand an http or https address to xdg-open(1), as an argument and without a shell; a failure is logged."""
    if urlsplit(url).scheme not in {"http", "https"}:
        log.warning("ticket not opened", error="its address is no web page")
        return
    try:
        status = await in_own_thread(_PATIENCE, _run, [_PROGRAM, url], environ)
    except TimeoutError:
        return
    except OSError as error:
        log.warning("ticket not opened", error=f"{_PROGRAM}: {error.strerror}", next="install xdg-utils")
        return
    if status:
        log.warning("ticket not opened", error=f"{_PROGRAM} ended with status {status}")


def _run(command: list[str], environ: Mapping[str, str]) -> int:
    """Run a program apart from us, so that the browser outlives this process; return its exit status."""
    nothing = subprocess.DEVNULL
    with subprocess.Popen(  # noqa: S603 - a fixed program; the address is checked
        command, env=dict(environ), stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    ) as process:
        return process.wait()
