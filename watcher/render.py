"""Say an event in words for people. Pure."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Protocol

from watcher.envelope import EXCERPT_CHARS, excerpt
from watcher.model import Content, Event, Kind, Language, Note
from watcher.words import Words, words_in

_LINE_BREAKS = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
# Bidi controls can make a text read as something else; Cf also holds joiners that scripts and emoji need.
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Wording(Protocol):
    """What a user wants a part of a message to say instead of our own words."""

    def render(self, event: Event, voice: "Voice", *, default: str) -> str:
        """Return the text for ``event``; ``default`` is what we would have said."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """How a sink speaks."""

    language: Language = Language.ENGLISH
    #: For times of day; UTC stands beside them.
    zone: tzinfo = UTC
    #: How much of a reply is said.
    content: Content = Content.EXCERPT
    #: The user's own wording of ``subject``, ``text`` or ``html``.
    own: Mapping[str, Wording] = field(default_factory=dict)
    #: What makes an event's foreign texts harmless among the markup of a user's own wording.
    escape: Callable[[Event], Event] = lambda event: event

    @property
    def words(self) -> Words:
        """The texts of the language."""
        return words_in(self.language)

    def say(self, part: str, event: Event, default: str) -> str:
        """Return the user's own wording of a part (``subject``, ``text``, ``html``), else the default."""
        wording = self.own.get(part)
        return wording.render(event, self, default=default) if wording else default


def printable(text: str) -> str:
    """Return ``text`` as one or more lines without anything that steers a terminal or a text's direction."""
    lines = (_BIDI.sub("", line) for line in _LINE_BREAKS.split(text))
    return "\n".join(
        "".join(char if char == "\t" or unicodedata.category(char) not in {"Cc", "Cs"} else "\ufffd" for char in line)
        for line in lines
    )


def one_line(text: str) -> str:
    """Return ``text`` as one printable line, white space folded."""
    return " ".join(printable(text).split())


def headline(event: Event, voice: Voice) -> str:
    """Return one line that says who did what: ``Agent 1024 replied: Why ECS renewal failed?``."""
    words = voice.words
    match event.kind:
        case Kind.DIGEST:
            tickets = len({(each.account, each.ticket.id) for each in event.events})
            if tickets > 1:
                return words.tickets_unread.format(count=tickets)
            if all(each.kind is Kind.UNREAD for each in event.events):
                return words.ticket_unread
            return words.replies_in.format(count=len(event.events), title=title(event.events[0], voice))
        case Kind.UNREAD:
            return words.unread.format(author=author(event.note, voice), title=title(event, voice))
        case Kind.REPLY:
            return words.replied.format(author=author(event.note, voice), title=title(event, voice))
        case Kind.TEST:
            return title(event, voice)


def author(note: Note | None, voice: Voice) -> str:
    """Return who wrote ``note``, as a person would say it."""
    if note is None:
        return voice.words.somebody
    return one_line(note.author.name) or voice.words.roles[note.author.role]


def title(event: Event, voice: Voice) -> str:
    """Return the ticket's title, or its number where the title is not known."""
    return one_line(event.ticket.title) or voice.words.ticket.format(ticket=one_line(event.ticket.id))


def status(event: Event, voice: Voice) -> str:
    """Return the ticket's status in words."""
    return voice.words.statuses[event.ticket.status]


def severity(event: Event, voice: Voice) -> str:
    """Return the ticket's severity in words."""
    return voice.words.severities[event.ticket.severity]


def body(note: Note, voice: Voice) -> str:
    """Return the note's text as far as the voice lets it out; a card without text is named as such."""
    if voice.content is Content.NONE:
        return ""
    text = note.content if voice.content is Content.FULL else excerpt(note.content, EXCERPT_CHARS)
    return printable(text) or (voice.words.card if note.type == "card" else "")


def paragraph(event: Event, voice: Voice, *, chars: int) -> str:
    """Return at most ``chars`` characters of the reply as one line, for where there is little room."""
    return excerpt(one_line(body(event.note, voice)), chars) if event.note else ""


def plain_text(event: Event, voice: Voice) -> str:
    """Return the event as a few lines of text, ending in a line break."""
    lines = [headline(event, voice)]
    for each in event.events or (event,):
        if event.events:
            lines.append(f"  - {headline(each, voice)}")
        lines += [f"  {line}".rstrip() for line in _details(each, voice)]
    return "\n".join(lines) + "\n"


def _details(event: Event, voice: Voice) -> list[str]:
    lines = []
    if event.note:
        lines = [f"> {line}" for line in body(event.note, voice).splitlines()]
        names = (one_line(attachment.name) for attachment in event.note.attachments)
        lines += [voice.words.attached.format(name=name) for name in names]
    return [*lines, " · ".join((*facts(event, voice), *filter(None, (one_line(event.url),))))]


def facts(event: Event, voice: Voice) -> list[str]:
    """Return what a person asks next: ticket, account, severity, status, and when it was written."""
    when = [local(event.occurred_at, voice)] if event.note else []
    known = (one_line(event.ticket.id), one_line(event.account.name), severity(event, voice), status(event, voice))
    return [*filter(None, known), *when]


def local(instant: datetime, voice: Voice) -> str:
    """Return an instant as people of the zone write it, UTC beside: ``2021-06-11 15:32 CST (07:32 UTC)``."""
    there = instant.astimezone(voice.zone)
    return f"{there:%Y-%m-%d %H:%M %Z}{_beside(instant, there, voice)}"


def local_in_words(instant: datetime, voice: Voice) -> str:
    """Return an instant in full: ``Fri 11 Jun 2021 at 15:32 CST (07:32 UTC)``."""
    there = instant.astimezone(voice.zone)
    words = voice.words
    said = words.date.format(
        weekday=words.weekdays[there.weekday()],
        day=there.day,
        month=words.months[there.month - 1],
        year=there.year,
        time=f"{there:%H:%M}",
        zone=f"{there:%Z}",
    )
    return said + _beside(instant, there, voice)


def _beside(instant: datetime, there: datetime, voice: Voice) -> str:
    """Return the same instant in UTC, with its date where that is another one; "" where the zone is UTC."""
    utc = instant.astimezone(UTC)
    if there.utcoffset() == timedelta():
        return ""
    return voice.words.in_utc.format(utc=f"{utc:%H:%M}" if utc.date() == there.date() else f"{utc:%Y-%m-%d %H:%M}")
