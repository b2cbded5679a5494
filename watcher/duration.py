"""Durations and instants as people, servers and tables write them. Pure."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_LONGEST = timedelta(days=3650)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_duration(text: str) -> timedelta:
    """Return the span that ``text`` says, or raise ``ValueError`` with what to write instead."""
    written = text.replace(" ", "")
    parts = _PART.findall(written)
    if not parts or "".join(number + unit for number, unit in parts) != written:
        raise ValueError(
            f"`{text}` is not a duration; write for example `{_guess(written)}` (units: {' '.join(_UNITS)})"
        )
    try:
        span = sum((float(number) * _UNITS[unit] for number, unit in parts), timedelta())
    except OverflowError:
        span = timedelta.max
    if span > _LONGEST:
        raise ValueError(f"`{text}` is longer than ten years")
    return span


def _guess(written: str) -> str:
    """Return what somebody who wrote ``4hours`` or ``30`` may have meant."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", written.lower())
    if not match:
        return "30s"
    unit = match[2][:1]
    return match[1] + (unit if unit in _UNITS else "s")


def retry_after(value: str, *, now: datetime) -> timedelta | None:
    """Return the span that a ``Retry-After`` header asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return timedelta(seconds=int(value[:9]))
    try:
        span = parsedate_to_datetime(value) - now
    except (ValueError, TypeError):
        return None
    return max(span, timedelta())


def milliseconds(instant: datetime) -> int:
    """Return the whole milliseconds from the epoch to ``instant``; exact, as a float would not be."""
    return (instant - _EPOCH) // timedelta(milliseconds=1)
