"""Write an event as an HTTP message, in each of the forms that receivers know. Pure.

Sources: CloudEvents 1.0.2, JSON event format and HTTP protocol binding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

from watcher.envelope import LIMIT_BYTES, Cut, as_json, envelope, fit
from watcher.model import Content, Event

# HTTP protocol binding, 3.1.3.2: printable ASCII stands for itself, but space, double quote and percent do not.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
# Servers refuse long header lines (nginx from 8 kB, some proxies from 4 kB).
_LONGEST_HEADER = 2000
_REQUIRED = {"specversion", "id", "source", "type"}


class Format(StrEnum):
    """How an event is written."""

    #: One JSON document (CloudEvents, structured mode).
    STRUCTURED = "cloudevents"
    #: A JSON array of them; a digest is the array of its single events.
    BATCH = "cloudevents-batch"
    #: The attributes in headers, the data as the body (CloudEvents, binary mode).
    BINARY = "cloudevents-binary"
    #: The document of the structured mode for whoever takes no other JSON than plain JSON.
    PLAIN = "json"


_TYPES = {
    Format.STRUCTURED: "application/cloudevents+json; charset=utf-8",
    Format.BATCH: "application/cloudevents-batch+json; charset=utf-8",
    Format.BINARY: "application/json",
    Format.PLAIN: "application/json",
}


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP message: what the format demands of its headers, and the body."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return how much the receiver has to take, in bytes, headers included."""
        return len(self.body) + sum(len(f"{name}: {value}\r\n") for name, value in self.headers.items())


def pack(
    event: Event, form: Format, *, content: Content, replay: bool = False, limit: int | None = LIMIT_BYTES
) -> Message:
    """Return ``event`` as a message of at most ``limit`` bytes if shortening can achieve that."""
    return fit(event, lambda cut: _write(event, form, cut, replay=replay), content=content, limit=limit)


def _write(event: Event, form: Format, cut: Cut, *, replay: bool) -> Message:
    content_type = {"Content-Type": _TYPES[form]}
    match form:
        case Format.STRUCTURED | Format.PLAIN:
            return Message(as_json(envelope(event, cut=cut, replay=replay)), content_type)
        case Format.BATCH:
            singles = [envelope(each, cut=cut, replay=replay) for each in event.events or (event,)]
            return Message(as_json(singles), content_type)
        case Format.BINARY:
            attributes = envelope(event, cut=cut, replay=replay)
            data = attributes.pop("data")
            return Message(as_json(data), content_type | _headers(attributes))


def _headers(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes as ``ce-`` headers (HTTP protocol binding, 3.1.3); those too long for a header stay out."""
    # `datacontenttype` is the Content-Type (3.1.1).
    values = {name: quote(str(value), safe=_PLAIN) for name, value in attributes.items() if name != "datacontenttype"}
    return {f"ce-{name}": value for name, value in values.items() if name in _REQUIRED or len(value) <= _LONGEST_HEADER}
