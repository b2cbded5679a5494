"""Say an event in words for people. Pure."""

import re
import unicodedata
from datetime import datetime, tzinfo

from watcher.envelope import EXCERPT_CHARS, excerpt
from watcher.model import Content, Event, Kind, Note, Role, TicketStatus

_ROLE_WORDS = {Role.AGENT: "Agent", Role.CUSTOMER: "Customer", Role.UNKNOWN: "Unknown sender"}
_STATUS_WORDS = {
    TicketStatus.ASSIGNED: "pending response",
    TicketStatus.DEALING: "processing",
    TicketStatus.WAIT_FEEDBACK: "waiting for your feedback",
    TicketStatus.FEEDBACK: "feedback given",
    TicketStatus.WAIT_CONFIRM: "waiting for your confirmation",
    TicketStatus.CONFIRMED: "completed",
    TicketStatus.UNKNOWN: "unknown",
}
_LINE_BREAKS = re.compile(r"\r\n|[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
# Bidi controls can make a text read as something else; Cf also holds joiners that scripts and emoji need.
_BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


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


def headline(event: Event) -> str:
    """Return one line that says who did what: ``Agent 1024 replied: Why ECS renewal failed?``."""
    match event.kind:
        case Kind.DIGEST:
            tickets = len({(each.account, each.ticket.id) for each in event.events})
            return f"{tickets} tickets have unread replies" if tickets > 1 else "1 ticket has unread replies"
        case Kind.UNREAD:
            return f"Unread reply of {author(event.note)}: {title(event)}"
        case Kind.REPLY:
            return f"{author(event.note)} replied: {title(event)}"


def author(note: Note | None) -> str:
    """Return who wrote ``note``, as a person would say it."""
    if note is None:
        return "Somebody"
    return one_line(note.author.name) or _ROLE_WORDS[note.author.role]


def title(event: Event) -> str:
    """Return the ticket's title, or its number where the title is not known."""
    return one_line(event.ticket.title) or f"ticket {one_line(event.ticket.id)}"


def status(event: Event) -> str:
    """Return the ticket's status in words."""
    return _STATUS_WORDS[event.ticket.status]


def body(note: Note, content: Content) -> str:
    """Return the note's text as far as ``content`` lets it out; a card without text is named as such."""
    if content is Content.NONE:
        return ""
    text = note.content if content is Content.FULL else excerpt(note.content, EXCERPT_CHARS)
    return printable(text) or ("[card]" if note.type == "card" else "")


def plain_text(event: Event, *, content: Content, zone: tzinfo) -> str:
    """Return the event as a few lines of text, ending in a line break."""
    lines = [headline(event)]
    for each in event.events or (event,):
        if event.events:
            lines.append(f"  - {headline(each)}")
        lines += [f"  {line}".rstrip() for line in _details(each, content=content, zone=zone)]
    return "\n".join(lines) + "\n"


def _details(event: Event, *, content: Content, zone: tzinfo) -> list[str]:
    facts = [
        one_line(event.ticket.id),
        one_line(event.account.name),
        event.ticket.severity.value,
        status(event),
    ]
    lines = []
    if event.note:
        facts.append(local(event.occurred_at, zone))
        lines = [f"> {line}" for line in body(event.note, content).splitlines()]
        lines += [f"attached: {one_line(attachment.name)}" for attachment in event.note.attachments]
    facts.append(one_line(event.url))
    return [*lines, " · ".join(filter(None, facts))]


def local(instant: datetime, zone: tzinfo) -> str:
    """Return an instant as people of ``zone`` write it: ``2021-06-11 15:32 CST``."""
    return instant.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
