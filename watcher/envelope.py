"""Put an event into its envelope: CloudEvents 1.0 and the payload of Standard Webhooks at once. Pure.

Sources: CloudEvents 1.0.2 (specification, JSON format, the documented extensions sequence, partitioning and
severity), Standard Webhooks 1.0.0.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, TypeVar
from urllib.parse import quote

from watcher.duration import milliseconds
from watcher.model import Account, Attachment, Content, Event, Kind, Note, Read

#: Receivers may refuse more than this (Standard Webhooks asks for less than 20 kB): content is cut to fit.
LIMIT_BYTES = 20_000
EXCERPT_CHARS = 500
_LEAN_TITLE_CHARS = 60
_FEW_ATTACHMENTS = 10
# Below this, a text is hardly worth its place.
_UNDERSTANDABLE_CHARS = 80
_HOST = "workorder.aliyuncs.com"
# JavaScript reads every number of so many digits exactly.
_SAFE_DIGITS = 15

_TYPES = {
    Kind.REPLY: "watcher.note.created.v1",
    Kind.UNREAD: "watcher.note.unread.v1",
    Kind.DIGEST: "watcher.digest.v1",
    Kind.TEST: "watcher.test.v1",
}
_REASONS = {Kind.REPLY: "new", Kind.UNREAD: "unread", Kind.DIGEST: "unread", Kind.TEST: "test"}
_READ = {Read.UNREAD: False, Read.READ: True, Read.UNKNOWN: None}

Written = TypeVar("Written", bound=Sized)


def type_of(kind: Kind) -> str:
    """Return the CloudEvents ``type`` of events of this kind."""
    return _TYPES[kind]


def reason_of(event: Event, *, replay: bool) -> str:
    """Return in one word why ``event`` is told."""
    return "replay" if replay else _REASONS[event.kind]


class Detail(IntEnum):
    """How much is told beside the texts, from everything to what names a note."""

    ALL = 4
    #: Attachments by their names; their addresses are long, and expire.
    NO_ADDRESSES = 3
    #: As many attachments as people read.
    FEW_ATTACHMENTS = 2
    #: In a digest, each event with what a person would ask first.
    LEAN = 1
    BRIEF = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How much of an event is told."""

    content: Content
    #: Of each text, in characters; None is all of it.
    longest: int | None = None
    detail: Detail = Detail.ALL


def seal(event: Event, *, content: Content, limit: int | None = LIMIT_BYTES, replay: bool = False) -> bytes:
    """Return the JSON body of ``event``, at most ``limit`` bytes long if shortening can achieve that."""
    return fit(event, lambda cut: as_json(envelope(event, cut=cut, replay=replay)), content=content, limit=limit)


def as_json(value: Any) -> bytes:
    """Return the bytes that are to be signed and sent."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def fit(event: Event, write: Callable[[Cut], Written], *, content: Content, limit: int | None) -> Written:
    """Return what ``write`` makes of the event, cut so that it is at most ``limit`` long if that can be achieved.

    Texts are shortened first; but before they become shorter than what can be understood, details go.
    """
    whole = Cut(content=content, longest={Content.EXCERPT: EXCERPT_CHARS, Content.NONE: 0}.get(content))
    written = write(whole)
    if limit is None or len(written) <= limit:
        return written
    texts = (len(each.note.content) for each in event.events or (event,) if each.note)
    # No character is shorter than a byte.
    wanted = min(limit, max(texts, default=0), limit if whole.longest is None else whole.longest)
    best, most = write(Cut(content=Content.NONE, detail=Detail.BRIEF)), -1
    for detail in (Detail.ALL, Detail.NO_ADDRESSES, Detail.FEW_ATTACHMENTS, Detail.LEAN):
        fitting = _longest_fitting(write, replace(whole, detail=detail), wanted, limit)
        if fitting > most:
            best, most = write(replace(whole, detail=detail, longest=fitting)), fitting
        if fitting >= min(wanted, _UNDERSTANDABLE_CHARS):
            break
    return best


def _longest_fitting(write: Callable[[Cut], Sized], cut: Cut, wanted: int, limit: int) -> int:
    """Return how many characters of each text fit, at most ``wanted``; -1 if not even none do."""
    lengths = range(wanted + 1)
    return bisect_right(lengths, limit, key=lambda longest: len(write(replace(cut, longest=longest)))) - 1


def envelope(event: Event, *, cut: Cut, replay: bool = False) -> dict[str, Any]:
    """Return ``event`` as a CloudEvent, cut as told."""
    if cut.detail <= Detail.LEAN and not event.events:
        return _lean(event, cut, replay=replay)
    severity_text, severity_number = _severity(event)
    occurred_at = rfc3339(event.occurred_at)
    return _present(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": _source(event),
            "type": type_of(event.kind),
            "subject": _subject(event),
            "time": occurred_at,
            "timestamp": occurred_at,
            "recordedtime": rfc3339(event.recorded_at),
            "sequence": _sequence(event),
            "partitionkey": None if event.events else _partition(event),
            "correlationid": None if event.events else quote(event.ticket.id, safe=""),
            "severitytext": severity_text,
            "severitynumber": severity_number,
            "datacontenttype": "application/json",
            "dataschema": f"urn:watcher:event:{type_of(event.kind)}",
            "data": _data(event, cut=cut, replay=replay),
        }
    )


def _lean(event: Event, cut: Cut, *, replay: bool) -> dict[str, Any]:
    """Return an event that says which note there is, who wrote it and, if there is room, what; no more."""
    note: dict[str, Any] = {"id": event.note.id, "truncated": True} if event.note else {}
    if event.note and cut.detail is Detail.LEAN:
        told = _note(event.note, cut)
        note |= {name: told[name] for name in ("author", "read", "content", "content_chars") if name in told}
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": _source(event),
        "type": type_of(event.kind),
        "subject": _subject(event),
        "time": rfc3339(event.occurred_at),
        "timestamp": rfc3339(event.occurred_at),
        "datacontenttype": "application/json",
        "data": {
            "reason": reason_of(event, replay=replay),
            "account": _account(event.account),
            "ticket": {"id": event.ticket.id, "title": excerpt(event.ticket.title, _LEAN_TITLE_CHARS)},
        }
        | ({"note": note} if note else {}),
    }


def _data(event: Event, *, cut: Cut, replay: bool) -> dict[str, Any]:
    reason = reason_of(event, replay=replay)
    if event.events:
        events = [envelope(each, cut=cut, replay=replay) for each in event.events]
        return {"reason": reason, "count": len(events), "events": events}
    return _present(
        {
            "reason": reason,
            "watch": event.watch,
            "labels": event.labels,
            "account": _account(event.account),
            "ticket": {
                "id": event.ticket.id,
                "title": event.ticket.title,
                "status": event.ticket.status.value,
                "status_code": _code(event.ticket.status_code),
                "severity": event.ticket.severity.value,
                "severity_code": _code(event.ticket.severity_code),
                "url": event.url,
            },
            "note": event.note and _note(event.note, cut),
            "unread": {
                "in_ticket": event.unread.in_ticket,
                "since": event.unread.since and rfc3339(event.unread.since),
                "reminder": 0,
            },
        }
    )


def _code(code: str) -> int | str | None:
    """Return a code that the API sends as text as the number that it is, if every reader can hold that number."""
    is_number = code.isdecimal() and code.isascii() and len(code) <= _SAFE_DIGITS
    return int(code) if is_number else code or None


def _account(account: Account) -> dict[str, str]:
    return {"name": account.name, "uid": account.uid, "site": account.site}


def _note(note: Note, cut: Cut) -> dict[str, Any]:
    created = note.created_at
    described: dict[str, Any] = {
        "id": note.id,
        "created_at": created and rfc3339(created),
        "created_at_ms": created and milliseconds(created),
        "type": note.type,
        "author": {
            "name": note.author.name,
            "role": note.author.role.value,
            "role_code": note.author.role_code,
        },
        "read": _READ[note.read],
        "read_status": note.read.value,
        "read_status_code": note.read_code,
        "content_chars": len(note.content),
    }
    if cut.content is not Content.NONE:
        text = note.content if cut.longest is None else excerpt(note.content, cut.longest)
        described |= {
            "content": text,
            "content_format": "text",
            "truncated": cut.content is Content.EXCERPT or text != note.content,
        }
    shown = note.attachments if cut.detail > Detail.FEW_ATTACHMENTS else note.attachments[:_FEW_ATTACHMENTS]
    described["attachments"] = [_attachment(attachment, cut) for attachment in shown]
    return described | ({"attachments_total": len(note.attachments)} if len(shown) < len(note.attachments) else {})


def _attachment(attachment: Attachment, cut: Cut) -> dict[str, Any]:
    # The address is a key to the file: it stays here when the content does.
    if cut.content is Content.NONE or cut.detail < Detail.ALL:
        return {"name": attachment.name}
    expires_at = attachment.expires_at and rfc3339(attachment.expires_at)
    described = {"name": attachment.name, "url": attachment.url, "url_is_temporary": True}
    return _present(described | {"url_expires_at": expires_at})


def excerpt(text: str, longest: int) -> str:
    """Return at most ``longest`` characters of ``text``, with a mark where something is missing."""
    if len(text) <= longest:
        return text
    return text[: longest - 1] + "…" if longest > 0 else ""


def _severity(event: Event) -> tuple[str, int]:
    """Return text and number after OpenTelemetry's scale, which the CloudEvents extension refers to."""
    return ("WARN", 13) if event.is_urgent else ("INFO", 9)


def _source(event: Event) -> str:
    """Return whose tickets the event is about; a digest over several accounts is the host's."""
    keys = {each.account.key for each in event.events or (event,)}
    return f"//{_HOST}/{quote(keys.pop(), safe='')}" if len(keys) == 1 else f"//{_HOST}"


def _subject(event: Event) -> str:
    if event.events:
        return f"digests/{event.id}"
    ticket = f"tickets/{quote(event.ticket.id, safe='')}"
    return f"{ticket}/notes/{quote(event.note.id, safe='')}" if event.note else ticket


def _partition(event: Event) -> str:
    return f"{quote(event.account.key, safe='')}/{quote(event.ticket.id, safe='')}"


def _sequence(event: Event) -> str:
    """Return a text that sorts as the notes of a ticket do."""
    return f"{milliseconds(event.occurred_at):015d}-{event.note.id if event.note else '0':0>12}"


def rfc3339(instant: datetime) -> str:
    """Return ``2021-06-11T07:32:16Z``, with milliseconds where there are any."""
    utc = instant.astimezone(UTC)
    text = utc.strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{utc.microsecond // 1000:03d}Z" if utc.microsecond // 1000 else f"{text}Z"


def _present(value: dict[str, Any]) -> dict[str, Any]:
    return {name: item for name, item in value.items() if item is not None}
