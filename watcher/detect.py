"""Decide which notes deserve an event. Pure: a snapshot and what is known in, findings out."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote

from watcher.model import Event, Findings, FirstRun, Kind, Known, Note, Read, Role, Snapshot, Unread

# Part of every id: raise it only together with a way for consumers to tell old from new.
_ID_VERSION = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRule:
    """What a watch wants of a ticket."""

    name: str
    #: When the watch was first started; notes older than that are history on the first look.
    since: datetime
    first_run: FirstRun = FirstRun.UNREAD
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Where a person opens the ticket; ``{ticket_id}`` is replaced.
    ticket_url: str = ""


def detect(snapshot: Snapshot, known: Known, rule: WatchRule) -> Findings:
    """Return what is new in ``snapshot``.

    A note is new if its DialogId is not known. Membership decides, never a "newest seen" mark: notes that share
    a millisecond, come late or out of order cannot slip past, and an answer that lacks known notes changes
    nothing. As long as no note is known, a look is a first one: an empty answer was none. What the customer wrote
    is remembered without an event; a role that is not published is announced.
    """
    new = tuple(note for note in snapshot.notes if note.id not in known.notes)
    changed = tuple(note for note in snapshot.notes if known.notes.get(note.id, note.read) is not note.read)
    events = []
    for note in new:
        if note.author.role is Role.CUSTOMER:
            continue
        kind = Kind.REPLY if known.notes else _kind_at_first_look(note, snapshot.notes, known, rule)
        if kind:
            events.append(_event(kind, note, snapshot, rule))
    return Findings(new_notes=new, changed_notes=changed, events=tuple(events), is_first_look=not known.is_looked_at)


def was_read(snapshot: Snapshot, findings: Findings) -> bool:
    """Tell whether this look saw the last unread answer of the ticket become read."""
    answers = [note for note in findings.changed_notes if note.author.role is not Role.CUSTOMER]
    return any(note.read is Read.READ for note in answers) and not _unread(snapshot)


def _unread(snapshot: Snapshot) -> list[Note]:
    return [note for note in snapshot.notes if note.read is Read.UNREAD and note.author.role is not Role.CUSTOMER]


def _kind_at_first_look(note: Note, conversation: Iterable[Note], known: Known, rule: WatchRule) -> Kind | None:
    """Return what a note that stood there at the first look is: a reply, unread, or history (None)."""
    is_late = note.created_at >= rule.since if note.created_at else known.is_looked_at
    if is_late or rule.first_run is FirstRun.EVERYTHING:
        return Kind.REPLY
    if rule.first_run is FirstRun.UNREAD and _is_open(note, conversation):
        return Kind.UNREAD
    return None


def _is_open(note: Note, conversation: Iterable[Note]) -> bool:
    """Tell whether nobody seems to have read the note.

    Where the status says neither read nor unread, a later note by the customer counts as having read it.
    """
    if note.read is not Read.UNKNOWN:
        return note.read is Read.UNREAD
    return not any(other.author.role is Role.CUSTOMER and other.order > note.order for other in conversation)


def _event(kind: Kind, note: Note, snapshot: Snapshot, rule: WatchRule) -> Event:
    unread = _unread(snapshot)
    return Event(
        id=event_id(snapshot.account.key, snapshot.ticket.id, note.id),
        kind=kind,
        account=snapshot.account,
        ticket=snapshot.ticket,
        note=note,
        recorded_at=snapshot.taken_at,
        watch=rule.name,
        labels=dict(rule.labels),
        is_first=not any(
            other.author.role is not Role.CUSTOMER and other.order < note.order for other in snapshot.notes
        ),
        unread=Unread(in_ticket=len(unread), since=unread[0].created_at if unread else None),
        url=rule.ticket_url.replace("{ticket_id}", quote(snapshot.ticket.id, safe="")),
    )


def digest(events: Iterable[Event], *, sink: str, receiver: str = "", now: datetime) -> Event:
    """Return one event that tells all of ``events``, oldest first.

    Its id follows from theirs and from who is told, so that gathering the same again repeats the same digest.
    """
    members = tuple(sorted(events, key=lambda event: (event.occurred_at, event.id)))
    first = members[0]
    return Event(
        id=_message_id("digest", *filter(None, (sink, receiver)), *(event.id for event in members)),
        kind=Kind.DIGEST,
        account=first.account,
        ticket=first.ticket,
        note=None,
        recorded_at=now,
        watch=first.watch,
        url=first.url,
        events=members,
    )


def event_id(account_key: str, ticket: str, note: str, *, kind: str = "note", n: int = 0) -> str:
    """Return the id under which a note is announced, today and after the store was lost.

    A reply and the same note found unread by a fresh installation are the same news, so both have kind
    ``note``. The form (``msg_`` and no full stop) is what Standard Webhooks asks of a message id.
    """
    return _message_id(account_key, ticket, note, kind, str(n))


def _message_id(*parts: str) -> str:
    # Length before each part: no two lists of parts can give the same text.
    text = "".join(f"{len(part)}:{part}" for part in (_ID_VERSION, *parts))
    return "msg_" + base64.b32encode(hashlib.sha256(text.encode(errors="surrogatepass")).digest()).decode().lower()[:26]
