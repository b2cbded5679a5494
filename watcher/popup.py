"""Turn an event into a desktop pop-up, as plain text; and what a daemon and a desktop say to one another. Pure.

Who shows it escapes the body if the notification server reads markup: only there is known whether it does.
"""

from enum import StrEnum

import msgspec

from watcher.envelope import excerpt
from watcher.model import Event, Kind
from watcher.render import Voice, author, headline, one_line, paragraph, printable, title

_SUMMARY_CHARS = 200
_PARAGRAPH_CHARS = 200
#: Of a text that the user's own template made.
_BODY_CHARS = 1000
_TICKETS_IN_DIGEST = 5
_SCHEMES = ("http://", "https://")
#: A message is hardly larger than a pop-up, whose texts are bounded above.
LARGEST_MESSAGE_BYTES = 65_536
_LONGEST_REASON_CHARS = 300


class LockScreen(StrEnum):
    """What is shown while the session is locked."""

    TITLE = "title"
    FULL = "full"
    #: Nothing, until it is unlocked.
    NONE = "none"


class Popup(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown on a desktop; texts are plain, not markup."""

    #: The next pop-up with the same key replaces this one.
    key: str
    #: The event's id, and the sink that tells it: what "remind me later" is said of.
    event: str
    sink: str
    #: The tickets that it tells of (``account/number``): when the last of them was read, it is closed.
    tickets: tuple[str, ...]
    summary: str
    body: str
    is_urgent: bool = False
    #: Where a click leads; "" for nowhere.
    url: str = ""
    open_label: str = ""
    #: "" where there is nothing to be reminded of.
    remind_label: str = ""
    lock_screen: LockScreen = LockScreen.TITLE


def popup(event: Event, voice: Voice, *, sink: str, lock_screen: LockScreen) -> Popup:
    """Return the pop-up that tells ``event``."""
    tickets = tuple(dict.fromkeys(each.lane for each in event.events or (event,)))
    url = event.url if event.url.lower().startswith(_SCHEMES) and event.url.isprintable() else ""
    return Popup(
        key=tickets[0] if len(tickets) == 1 else event.id,
        event=event.id,
        sink=sink,
        tickets=tickets,
        summary=excerpt(one_line(voice.say("subject", event, headline(event, voice))), _SUMMARY_CHARS),
        body=excerpt(printable(voice.say("text", event, _body(event, voice))).strip(), _BODY_CHARS),
        is_urgent=event.is_urgent,
        url=url,
        open_label=voice.words.open_ticket if url else "",
        remind_label="" if event.kind is Kind.TEST else voice.words.remind_later,
        lock_screen=lock_screen,
    )


def _body(event: Event, voice: Voice) -> str:
    by_ticket = {each.lane: each for each in event.events or (event,)}
    if len(by_ticket) == 1:
        [latest] = by_ticket.values()
        return _place(latest, voice) + paragraph(latest, voice, chars=_PARAGRAPH_CHARS)
    lines = [_line(each, voice) for each in by_ticket.values()]
    hidden = len(lines) - _TICKETS_IN_DIGEST
    return "\n".join(lines[:_TICKETS_IN_DIGEST] + ([voice.words.more.format(count=hidden)] if hidden > 0 else []))


def _place(event: Event, voice: Voice) -> str:
    """Return which ticket it is, in a form that text may follow."""
    return voice.words.place.format(ticket=one_line(event.ticket.id), account=one_line(event.account.name))


def _line(event: Event, voice: Voice) -> str:
    """Return a ticket of a digest: its number, title, and who replied."""
    return excerpt(f"{one_line(event.ticket.id)}  {title(event, voice)} ({author(event.note, voice)})", 100)


def plain(shown: Popup) -> str:
    """Return the pop-up as lines of text, for previews."""
    buttons = "  ".join(f"[{label}]" for label in (shown.open_label, shown.remind_label) if label)
    return "\n".join(filter(None, (shown.summary, shown.body, buttons))) + "\n"


# --- what daemon and desktop say to one another -----------------------------------------------------------


class Show(msgspec.Struct, frozen=True, tag="show"):
    """Daemon: show this; answered by ``Shown`` or ``Failed`` with the same number."""

    number: int
    popup: Popup


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Daemon: this ticket was read."""

    ticket: str


class Shown(msgspec.Struct, frozen=True, tag="shown"):
    """Desktop: the notification server has it."""

    number: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """Desktop: it could not be shown now."""

    number: int
    reason: str


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Desktop: what kept pop-ups from being shown is over."""


class Remind(msgspec.Struct, frozen=True, tag="remind"):
    """Desktop: the person wants to be told again later."""

    event: str
    sink: str


ToDesk = Show | Close
FromDesk = Shown | Failed | Ready | Remind

_to_desk: msgspec.json.Decoder[ToDesk] = msgspec.json.Decoder(ToDesk)
_from_desk: msgspec.json.Decoder[FromDesk] = msgspec.json.Decoder(FromDesk)
_encoder = msgspec.json.Encoder()


def encode(message: ToDesk | FromDesk) -> str:
    """Return a message as JSON."""
    return _encoder.encode(message).decode()


def decode_to_desk(text: str) -> ToDesk:
    """Return what a daemon says; raises ``ValueError``."""
    return _to_desk.decode(text)


def decode_from_desk(text: str) -> FromDesk:
    """Return what a desktop says; raises ``ValueError``. Its reasons are made fit for a log line."""
    message = _from_desk.decode(text)
    if isinstance(message, Failed):
        return Failed(message.number, excerpt(one_line(message.reason), _LONGEST_REASON_CHARS))
    return message
