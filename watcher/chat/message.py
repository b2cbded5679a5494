"""Say an event in a chat: a headline, the reply in a quote, the facts and a link. Pure."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from watcher import render
from watcher.chat.markup import Markup, clip, cut, escaped, link_target
from watcher.model import Event, Note, Severity
from watcher.render import Voice, one_line

#: No chat takes a longer reply.
_LONGEST_CHARS = 20_000
_IN_DIGEST_CHARS = 200
_TITLE_CHARS = 120
_SHORT_TITLE_CHARS = 40
_FACT_CHARS = 60
_FEW_ATTACHMENTS = 3
_BETWEEN_EVENTS = "\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One event, in lines without markup."""

    headline: str
    quoted: str
    #: The ticket first.
    facts: tuple[str, ...]
    #: Where the ticket can be opened; "" for nowhere.
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is said, in lines without markup."""

    title: str
    parts: tuple[Part, ...]
    #: True for a digest, whose parts have headlines of their own.
    is_digest: bool
    #: What the link is called.
    open: str
    #: How it is said that there are so many more.
    more: str
    left_out: int = 0

    def within(self, room: "Room") -> "Message":
        """Return the message as far as there is room for it."""
        told = self.parts[: room.parts]
        return replace(
            self,
            title=clip(self.title, room.title),
            left_out=len(self.parts) - len(told),
            parts=tuple(
                replace(
                    part,
                    headline=clip(part.headline, room.title),
                    quoted=clip(part.quoted, room.quoted),
                    facts=part.facts if room.has_facts else part.facts[:1],
                )
                for part in told
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How long each piece of a message may be, in characters."""

    quoted: int = 0
    title: int = _TITLE_CHARS
    has_facts: bool = True
    parts: int | None = None


_SMALLEST = Room(title=_SHORT_TITLE_CHARS, has_facts=False)


def draft(event: Event, voice: Voice, *, now: datetime) -> Message:
    """Return all that would be said if there were room for it."""
    members = event.events or (event,)
    headline = render.headline(event, voice)
    chars = _IN_DIGEST_CHARS if event.events else _LONGEST_CHARS
    return Message(
        title=one_line(voice.say("subject", event, headline)) or headline,
        parts=tuple(
            Part(
                headline=render.headline(each, voice),
                quoted=render.paragraph(each, voice, chars=chars),
                facts=_facts(each, voice, now=now),
                url=link_target(one_line(each.url)),
            )
            for each in members
        ),
        is_digest=bool(event.events),
        open=voice.words.open,
        more=voice.words.more,
    )


def _facts(event: Event, voice: Voice, *, now: datetime) -> tuple[str, ...]:
    known = [one_line(event.ticket.id), one_line(event.account.name)]
    if event.ticket.severity is not Severity.UNKNOWN:
        known.append(render.severity(event, voice))
    if event.note:
        known.append(_moment(event.occurred_at, voice, now=now))
        known += _attached(event.note, voice)
    return tuple(clip(fact, _FACT_CHARS) for fact in known if fact)


def _moment(instant: datetime, voice: Voice, *, now: datetime) -> str:
    """Return an instant, UTC beside, without its date where that is today's: ``15:32 CST (07:32 UTC)``."""
    there, today = instant.astimezone(voice.zone), now.astimezone(voice.zone)
    said = render.local(instant, voice)
    return said.removeprefix(f"{there:%Y-%m-%d} ") if there.date() == today.date() else said


def _attached(note: Note, voice: Voice) -> list[str]:
    said = [voice.words.attached.format(name=one_line(each.name)) for each in note.attachments[:_FEW_ATTACHMENTS]]
    more = len(note.attachments) - len(said)
    return [*said, voice.words.more.format(count=more)] if more else said


def fit(message: Message, fits: Callable[[Message], bool]) -> Message:
    """Return as much of the message as fits.

    The quoted replies are shortened first, then headlines; then the facts go except for the ticket and the link,
    and last whole events, whose number is told.
    """
    longest = max((len(part.quoted) for part in message.parts), default=0)
    for room in (Room(), Room(title=_SHORT_TITLE_CHARS), _SMALLEST):
        smaller = _largest(range(longest + 1), partial(_quoting, message, room), fits)
        if smaller:
            return smaller
    numbers = range(1, len(message.parts) + 1)
    return _largest(numbers, partial(_telling, message), fits) or _telling(message, 1)


def _quoting(message: Message, room: Room, chars: int) -> Message:
    return message.within(replace(room, quoted=chars))


def _telling(message: Message, parts: int) -> Message:
    return message.within(replace(_SMALLEST, parts=parts))


def _largest(sizes: range, shrink: Callable[[int], Message], fits: Callable[[Message], bool]) -> Message | None:
    """Return the message of the largest size that fits."""
    fitting = bisect_right(sizes, False, key=lambda size: not fits(shrink(size)))  # noqa: FBT003
    return shrink(sizes[fitting - 1]) if fitting else None


def write(message: Message, markup: Markup) -> str:
    """Return the message in a markup language."""
    blocks = [markup.heading(markup.escape(message.title))]
    blocks += (markup.gap.join(_lines(part, message, markup)) for part in message.parts)
    if message.left_out:
        blocks.append(message.more.format(count=message.left_out))
    return (_BETWEEN_EVENTS if message.is_digest else markup.gap).join(filter(None, blocks))


def _lines(part: Part, message: Message, markup: Markup) -> Iterator[str]:
    if message.is_digest:
        yield markup.strong(markup.escape(part.headline))
    if part.quoted:
        yield markup.quote(markup.escape(part.quoted))
    link = markup.link(message.open, part.url) if part.url else ""
    yield " · ".join(filter(None, (*map(markup.escape, part.facts), link)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A title without markup, and a text in it."""

    title: str
    text: str
    #: True when the text is what the user's template made, and lacks its end.
    is_torn: bool = False


def say(event: Event, voice: Voice, markup: Markup, *, now: datetime, fits: Callable[[str, str], bool]) -> Said:
    """Return title and text: the user's own if there is a template, and not more than fits.

    ``fits`` is asked about a title and a text. A template's markup is used as it is; what it puts in of the event
    is escaped, so that no reply can mention anybody or disguise a link.
    """
    message = fit(draft(event, voice, now=now), lambda part: fits(part.title, write(part, markup)))
    default = write(message, markup)
    if "text" not in voice.own:
        return Said(title=message.title, text=default)
    escaping = replace(voice, escape=partial(escaped, markup=markup))
    own = render.printable(escaping.say("text", event, default)).strip("\n") or default
    text = cut(own, lambda part: fits(message.title, part))
    return Said(title=message.title, text=text, is_torn=text != own)


def with_keyword(text: str, keyword: str) -> str:
    """Return the text with a word that a robot insists on: added where it is missing."""
    return text if not keyword or keyword in text else f"{text}\n\n{keyword}"
