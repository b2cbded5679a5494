"""The vendor's JSON, read into our nouns. Pure: bytes in, values out.

The only file, with ``failures``, that knows the names of the fields. Source of every name and type: the vendor's
pages of ListTicketNotes, ListTickets and GetTicket (Workorder, version 2021-06-10). The reading is lenient,
because the pages are: unknown keys are ignored, a number may come as text, null may stand for anything, and an
enum value that is not listed is kept beside "unknown".
"""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from watcher.errors import ApiUnavailable
from watcher.model import (
    Attachment,
    Author,
    Note,
    Read,
    Reading,
    Role,
    Severity,
    Ticket,
    TicketStatus,
)

_ROLES = {2: Role.AGENT, 3: Role.CUSTOMER}
_READS = {1: Read.UNREAD, 2: Read.READ}
_TYPES = {1: "card", 2: "text"}
_SEVERITIES = {"1": Severity.NORMAL, "2": Severity.URGENT}
_STATUSES = {
    "1": TicketStatus.ASSIGNED,
    "2": TicketStatus.DEALING,
    "3": TicketStatus.WAIT_FEEDBACK,
    "4": TicketStatus.FEEDBACK,
    "5": TicketStatus.WAIT_CONFIRM,
    "6": TicketStatus.CONFIRMED,
}

# Ten digits are seconds: milliseconds of that length would lie in 1970.
_SECONDS_BELOW = 10_000_000_000
# What lies outside of the years 2000 to 2099 is no time of a ticket; further out, no library can show it.
_ERA_FROM, _ERA_TO = 946_684_800, 4_102_444_800
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST_ID = 64
# The vendor's type of every code is int32; a larger one is a mistake that not every store could hold.
_LARGEST_CODE = 2**31 - 1
_UNHOLDABLE = re.compile("[\x00\ud800-\udfff]")
_OSS_DATE = "%Y%m%dT%H%M%SZ"


class Unreadable(ApiUnavailable):
    """The body is not JSON, or not of a shape that any answer of this API has."""


# --- the quick look ---------------------------------------------------------------------------------------


class _AttachmentName(msgspec.Struct):
    Name: msgspec.Raw = msgspec.Raw(b"null")


class _RawNote(msgspec.Struct):
    DialogId: msgspec.Raw
    CreateTime: msgspec.Raw
    Status: msgspec.Raw
    Dialog: msgspec.Raw
    User: msgspec.Raw
    Type: msgspec.Raw = msgspec.Raw(b"null")
    Attachments: list[_AttachmentName] | None = None


class _Verdict(msgspec.Struct):
    Success: bool


class _RawAnswer(msgspec.Struct):
    Data: list[_RawNote] | None = None


_verdict = msgspec.json.Decoder(_Verdict)
_raw_answer = msgspec.json.Decoder(_RawAnswer)


def says_success(body: bytes) -> bool:
    """Tell, without reading the rest, whether the answer plainly says that the call succeeded."""
    try:
        return _verdict.decode(body).Success
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


class NotesAnswer:
    """A successful ListTicketNotes answer. It is read in full only when its fingerprint is a new one."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def fingerprint(self) -> bytes:
        """Return 16 bytes that stay the same while the notes do.

        Attachment addresses, RequestId and the order of the list do not count. Values are compared as they are
        spelled: an answer that spells the same differently is read in full, and then found unchanged.
        """
        try:
            notes = _raw_answer.decode(self._body).Data or []
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _digest(_spelling(note) for note in self.read().notes)
        return _digest(
            b"\x1f".join(
                (
                    *(note.DialogId, note.CreateTime, note.Status, note.Type, note.Dialog, note.User),
                    *(attachment.Name for attachment in note.Attachments or ()),
                )
            )
            for note in notes
        )

    def read(self) -> Reading:
        """Return the notes, or raise ``Unreadable``."""
        return read_notes(decode(self._body))


def _spelling(note: Note) -> bytes:
    bare = tuple(Attachment(name=attachment.name) for attachment in note.attachments)
    return repr(replace(note, attachments=bare)).encode()


def _digest(parts: Iterable[bytes]) -> bytes:
    return blake2b(b"\x1e".join(sorted(parts)), digest_size=16).digest()


# --- the full reading -------------------------------------------------------------------------------------


def decode(body: bytes) -> Any:
    """Return the JSON value of ``body``, or raise ``Unreadable``.

    What strict JSON refuses but a careless gateway may send (a byte order mark, a bare control character, a lone
    surrogate, bytes that are not UTF-8) is read nevertheless, with the bad characters replaced. A number of too
    many digits is read as null, so that it spoils one field and not the answer.
    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    try:
        text = body.decode("utf-8-sig", errors="replace")
        return json.loads(text, strict=False, parse_constant=lambda _: None, parse_int=_bounded)
    except (ValueError, RecursionError) as error:
        raise Unreadable("the answer is not JSON") from error


def read_notes(value: Any) -> Reading:
    """Read the ``Data`` of a ListTicketNotes answer.

    A missing or null ``Data`` is no notes. An entry without a usable DialogId cannot be told from another: it
    is left out and reported. Everything else that is wrong with a note leaves that field empty or unknown.
    """
    data = _field(value, "Data")
    if data is None:
        return Reading(())
    if not isinstance(data, list):
        raise Unreadable("Data is not a list of notes")
    notes: dict[str, Note] = {}
    unusable: list[str] = []
    for position, item in enumerate(data, start=1):
        if item is None:
            continue
        note = _read_note(item)
        if note is None:
            unusable.append(str(position))
        else:
            notes.setdefault(note.id, note)
    problems = (f"without a usable DialogId: note {', '.join(unusable)} of the answer",) if unusable else ()
    return Reading(tuple(sorted(notes.values(), key=lambda note: note.order)), problems)


def _read_note(item: Any) -> Note | None:
    note_id = _identifier(_field(item, "DialogId"))
    if not note_id:
        return None
    dialog, user = _field(item, "Dialog"), _field(item, "User")
    role_code = _code(_field(user, "Role"))
    read_code = _code(_field(item, "Status"))
    type_code = _code(_field(item, "Type"))
    return Note(
        id=note_id,
        author=Author(
            role=_ROLES.get(role_code or 0, Role.UNKNOWN),
            role_code=role_code,
            name=_text(_field(user, "Name")),
        ),
        created_at=_instant(_field(item, "CreateTime")),
        read=_READS.get(read_code or 0, Read.UNKNOWN),
        read_code=read_code,
        type=_TYPES.get(type_code or 0, "unknown"),
        type_code=type_code,
        content=_text(_field(dialog, "Content")),
        schema=_unless_null(_field(dialog, "Schema")),
        tip=_unless_null(_field(item, "Tip")),
        attachments=_read_attachments(_field(item, "Attachments")),
    )


def _read_attachments(value: Any) -> tuple[Attachment, ...]:
    items = value if isinstance(value, list) else []
    read = (
        Attachment(name=_text(_field(item, "Name")), url=url, expires_at=url_expiry(url))
        for item in items
        if (url := _text(_field(item, "Url"))) or _field(item, "Name")
    )
    return tuple(read)


def read_tickets(value: Any) -> list[Ticket]:
    """Read one page of a ListTickets answer; entries without a TicketId are left out."""
    data = _field(value, "Data")
    if data is None:
        return []
    if not isinstance(data, list):
        raise Unreadable("Data is not a list of tickets")
    return [ticket for item in data if (ticket := _read_ticket(item))]


def read_ticket(value: Any) -> Ticket:
    """Read a GetTicket answer, whose ``Data`` is one object."""
    ticket = _read_ticket(_field(value, "Data"))
    if ticket is None:
        raise Unreadable("Data is not a ticket")
    return ticket


def _read_ticket(item: Any) -> Ticket | None:
    ticket_id = _identifier(_field(item, "TicketId"))
    if not ticket_id:
        return None
    status, severity = _field(item, "Status"), _field(item, "Severity")
    # Value, not Label: the label is translated, and its language is the account's.
    status_code = _text(_field(status, "Value") if isinstance(status, dict) else status)
    severity_code = _text(_field(severity, "Value") if isinstance(severity, dict) else severity)
    return Ticket(
        id=ticket_id,
        title=_text(_field(item, "Title")),
        status=_STATUSES.get(status_code, TicketStatus.UNKNOWN),
        status_code=status_code,
        severity=_SEVERITIES.get(severity_code, Severity.UNKNOWN),
        severity_code=severity_code,
        created_at=_instant(_field(item, "CreateTime")),
    )


def total_count(value: Any) -> int | None:
    """Return how many tickets all pages of ListTickets hold, if the answer says so."""
    return _integer(_field(value, "TotalCount"))


def url_expiry(url: str) -> datetime | None:
    """Return when a signed OSS address stops working, or None if it does not say.

    Two forms exist: ``Expires=`` in Unix seconds (V1), and ``x-oss-date`` with ``x-oss-expires`` in seconds
    (V4). Source: OSS, "Include a signature in a URL".
    """
    try:
        query = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        if "expires" in query:
            return _instant(query["expires"])
        if "x-oss-expires" in query:
            signed_at = datetime.strptime(query["x-oss-date"], _OSS_DATE).replace(tzinfo=UTC)
            return signed_at + timedelta(seconds=int(query["x-oss-expires"]))
    except (ValueError, OverflowError, OSError, KeyError):
        return None
    return None


# --- single values ----------------------------------------------------------------------------------------


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    """Return ``value`` as text that every store can hold; null and anything composite are no text."""
    if isinstance(value, str):
        return _UNHOLDABLE.sub("\ufffd", value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return str(value)


def _unless_null(value: Any) -> str:
    """Return the text of Tip or Schema, whose absence the vendor prints as the four letters null."""
    text = _text(value)
    return "" if text == "null" else text


def _integer(value: Any) -> int | None:
    """Return a whole number, also where it comes as text or as 2.0."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= _LONGEST_ID:
        value = value.strip()
        return int(value) if re.fullmatch(r"-?[0-9]+", value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def _bounded(digits: str) -> int | None:
    return int(digits) if len(digits) <= _LONGEST_ID else None


def _code(value: Any) -> int | None:
    number = _integer(value)
    return number if number is not None and abs(number) <= _LARGEST_CODE else None


def _identifier(value: Any) -> str:
    """Return an id as text: a number in its plain decimal form, a text as it is, "" for anything else."""
    number = _integer(value)
    if number is not None and not isinstance(value, str):
        text = str(number)
    else:
        text = _text(value).strip() if isinstance(value, str) else ""
    return text if len(text) <= _LONGEST_ID else ""


def _instant(value: Any) -> datetime | None:
    """Return an instant given in milliseconds, or in seconds where it has ten digits; None if it is neither."""
    number = _integer(value)
    if number is None:
        return None
    seconds = number if number < _SECONDS_BELOW else number / 1000
    return _EPOCH + timedelta(seconds=seconds) if _ERA_FROM <= seconds < _ERA_TO else None
