"""Write an event as a letter: subject, text, HTML, and the names by which mails find one another. Pure.

Sources: RFC 5322 (3.6.4: Message-ID, References), RFC 2919 (List-Id), RFC 3834 (Auto-Submitted),
MS-OXCMAIL 2.2.3.2.14 (X-Auto-Response-Suppress).
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from watcher import render
from watcher.envelope import reason_of
from watcher.mail import page
from watcher.mail.page import Fate, FileKey
from watcher.model import Event, Kind
from watcher.render import Voice

_LONGEST_LABEL = 48
_PLAIN_LABEL = re.compile(r"[A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What a mail says, before it is encoded."""

    subject: str
    #: What stands before our own name in the sender; "" for nothing.
    author: str
    text: str
    html: str
    #: Without angle brackets.
    message_id: str
    #: What the mails of one ticket refer to; "" for a mail that stands alone.
    thread: str
    #: The description and the id of the list.
    list_id: tuple[str, str]
    #: Further headers whose values are one line of text.
    marks: Mapping[str, str]


def write(
    event: Event, voice: Voice, *, domain: str, fates: Mapping[FileKey, Fate] | None = None, replay: bool = False
) -> Letter:
    """Return the letter that tells ``event``; ``domain`` is the sender's, in ASCII.

    ``fates`` says what became of files that were to be enclosed; those not in there are links.
    """
    own_domain = f"watcher.{domain}"
    subject = _subject(event, voice)
    written = page.lay_out(event, voice, fates or {})
    return Letter(
        subject=subject,
        author=render.author(event.note, voice) if event.kind in {Kind.REPLY, Kind.UNREAD} else "",
        text=page.as_text(written),
        html=page.as_html(written, subject),
        message_id=f"{label(event.id)}@{own_domain}",
        thread=_thread(event, own_domain),
        list_id=_list_id(event, voice, own_domain),
        marks=_marks(event, replay=replay),
    )


# --- the names by which mails find one another ------------------------------------------------------------


def label(text: str) -> str:
    """Return ``text`` as one label of a dot-atom; no two texts have the same one.

    Letters and digits stay, ``+`` and two hex digits stand for any other byte; what is long is a hash behind ``~``.
    """
    encoded = "".join(
        char if _PLAIN_LABEL.fullmatch(char) else _escaped(char.encode(errors="surrogatepass")) for char in text
    )
    if 0 < len(encoded) <= _LONGEST_LABEL:
        return encoded
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).digest()
    return "~" + base64.b32encode(digest).decode().lower()[:32]


def _escaped(char: bytes) -> str:
    return "".join(f"+{byte:02X}" for byte in char)


def _thread(event: Event, domain: str) -> str:
    """Return the mail that was never sent, to which all mails of a ticket are answers: no state is needed for it."""
    if event.kind in {Kind.DIGEST, Kind.TEST}:
        return ""
    return f"ticket.{label(event.ticket.id)}.{label(event.account.key)}@{domain}"


def _list_id(event: Event, voice: Voice, domain: str) -> tuple[str, str]:
    names = list(dict.fromkeys(each.account.name for each in event.events or (event,)))
    described = voice.words.list_description.format(account=page.short(", ".join(map(render.one_line, names))))
    return described, f"{label(names[0])}.tickets.{domain}" if len(names) == 1 else f"tickets.{domain}"


def _marks(event: Event, *, replay: bool) -> dict[str, str]:
    marks = {
        "Auto-Submitted": "auto-generated",
        # Not All: that would ask Exchange to withhold bounces, too.
        "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply",
        "X-Watcher-Reason": reason_of(event, replay=replay),
        "X-Watcher-Event-Id": event.id,
    }
    if event.kind is not Kind.DIGEST:
        marks |= {
            "X-Watcher-Ticket": event.ticket.id,
            "X-Watcher-Account": event.account.name,
            "X-Watcher-Severity": event.ticket.severity.value,
        }
    return {name: page.short(render.one_line(value)) for name, value in marks.items()}


def _subject(event: Event, voice: Voice) -> str:
    """Return the subject; within a ticket it never changes, because some mail programs sort threads by it.

    The user's own wording takes the place of the title: what stands before it keeps the thread together.
    """
    if event.kind is Kind.DIGEST:
        return _own_or(render.headline(event, voice), event, voice)
    if event.kind is Kind.TEST:
        marker = voice.words.test_title
        said = _own_or(marker, event, voice)
        return marker if said == marker else f"{marker}: {said}"
    title = _own_or(render.one_line(event.ticket.title), event, voice)
    subject = f"{page.bracket(event, voice)} {title}".rstrip()
    return subject if event.is_first else f"Re: {subject}"


def _own_or(default: str, event: Event, voice: Voice) -> str:
    return page.short(render.one_line(voice.say("subject", event, default)) or default)
