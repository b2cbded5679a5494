"""What the daemon says of itself: to a terminal, to journald, or as JSON; always on standard error.

Events are words for the operator, the rest are keys. Values from outside are escaped, so that one event is one
line and nothing in it can steer a terminal.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from datetime import datetime
from functools import partial
from typing import Any, TextIO

import structlog

from watcher.errors import WatcherError

_JOURNAL_LEVELS = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}
_EVENT_WIDTH = 21
# What is routine steps back, what needs somebody steps forward.
_COLOURS = {"debug": "\x1b[2m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_LEVEL_WORDS = {"debug": "", "info": "", "warning": "warning: ", "error": "ERROR: ", "critical": "ERROR: "}


def set_up(*, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Configure structlog for the whole process."""
    stream = stream or sys.stderr
    if form == "auto":
        form = "journald" if _is_journal(stream) else "text"
    renderer: Any = {
        "text": partial(_as_text, _COLOURS if _likes_colour(stream) else {}),
        "journald": _for_journald,
        "json": structlog.processors.JSONRenderer(default=str),
    }[form]
    processors: list[Any] = [structlog.processors.add_log_level, structlog.contextvars.merge_contextvars]
    if form == "json":
        processors.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    processors += [structlog.processors.format_exc_info, renderer]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # One write a line: another writer on the same terminal must not come between.
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )


def _is_journal(stream: TextIO) -> bool:
    """Tell whether the stream is the journal's own socket (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _likes_colour(stream: TextIO) -> bool:
    """Tell whether somebody looks who has not asked for plain text (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _as_text(colours: dict[str, str], _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    level, words = event.pop("level", "info"), str(event.pop("event"))
    exception = event.pop("exception", "")
    line = f"{datetime.now().astimezone():%H:%M:%S}  {_LEVEL_WORDS[level]}{words:<{_EVENT_WIDTH}}  {_pairs(event)}"
    text = f"{line.rstrip()}\n{exception}".rstrip()
    return f"{colours[level]}{text}\x1b[0m" if level in colours else text


def _for_journald(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
    """Return one line with the level as journald reads it (sd-daemon(3))."""
    prefix = _JOURNAL_LEVELS[event.pop("level", "info")]
    words, exception = str(event.pop("event")), event.pop("exception", "")
    if exception:
        event["exception"] = exception
    return f"{prefix}{words}: {_pairs(event)}" if event else prefix + words


def _pairs(event: MutableMapping[str, Any]) -> str:
    return " ".join(f"{key}={_plain(value)}" for key, value in event.items() if value is not None)


def _plain(value: Any) -> str:
    """Return a value as one word or in quotes, with whatever is not printable escaped."""
    text = value if isinstance(value, str) else str(value)
    if text and all(char.isprintable() and char not in ' "=' for char in text):
        return text
    escaped = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return '"' + escaped.replace('"', "'") + '"'


class Edges:
    """Says when something starts to fail and when it works again, and is silent in between."""

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._failing: dict[str, tuple[str, int]] = {}

    def failed(self, key: str, words: str, *, error: WatcherError | str, **more: object) -> None:
        """Report a failure, unless one with the same message was the last thing reported of ``key``."""
        before, count = self._failing.get(key, ("", 0))
        message = error.message if isinstance(error, WatcherError) else error
        self._failing[key] = (message, count + 1)
        if before != message:
            self._log.warning(words, error=str(error), **more)

    def worked(self, key: str, words: str, **more: object) -> None:
        """Report a recovery, if there was a failure."""
        failure = self._failing.pop(key, None)
        if failure:
            self._log.info(words, failures=failure[1], **more)

    def is_failing(self, key: str) -> bool:
        """Tell whether the last report of ``key`` was a failure."""
        return key in self._failing
