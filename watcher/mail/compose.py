"""Turn a letter into the bytes of a mail: MIME parts and header lines. Pure.

The same letter gives the same bytes, but for the date. Header lines are encoded here and handed to the library as they
are to be written: what it makes of hostile text differs from one Python to the next (CVE-2024-6923, CVE-2025-1795).
Sources: RFC 5322, RFC 2045 to 2047, RFC 2183, RFC 6532.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP, EmailPolicy
from email.utils import format_datetime
from typing import Any

from watcher.mail.letter import Letter
from watcher.mail.mailbox import Mailbox, address_header, phrase_header, text_header

# Above this share of characters beyond ASCII, base64 is the shorter encoding.
_MOST_QUOTED = 6

# An empty group (RFC 5322, 3.4): filters take a mail without `To` for spam, and some servers write one of their own.
_NOBODY_NAMED = "undisclosed-recipients:;"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """A file as it travels in a mail."""

    name: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Whom a mail is from and for, as its readers see it."""

    sender: Mailbox
    to: Sequence[Mailbox]
    cc: Sequence[Mailbox] = ()
    reply_to: Mailbox | None = None


class _WrittenHeaders(EmailPolicy):
    """Takes the header lines of the mail as they are to be written; those of its parts are the library's."""

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        if name.lower().startswith("content-"):
            return super().header_store_parse(name, value)
        return (name, value)


_POLICY = _WrittenHeaders(linesep=SMTP.linesep, refold_source="none", cte_type="7bit")


def compose(
    letter: Letter, addresses: Addresses, *, now: datetime, enclosures: Iterable[Enclosure] = (), utf8: bool = False
) -> bytes:
    """Return the mail, in lines of at most 998 bytes.

    Only with ``utf8`` (for receivers whose addresses need SMTPUTF8) is there a byte beyond ASCII in it; without, such
    addresses are not named.
    """
    message = EmailMessage(policy=_POLICY.clone(utf8=utf8))
    for name, value in _headers(letter, addresses, now=now, utf8=utf8):
        message[name] = value
    message.set_content(letter.text, cte=_encoding(letter.text))
    message.add_alternative(letter.html, subtype="html", cte=_encoding(letter.html))
    for enclosure in enclosures:
        kind, _, subtype = enclosure.content_type.partition("/")
        message.add_attachment(enclosure.content, kind, subtype, filename=enclosure.name)
    multiparts = (part for part in message.walk() if part.is_multipart())
    for number, part in enumerate(multiparts):
        part.set_boundary(_boundary(letter.message_id, number))
    return message.as_bytes()


def _headers(letter: Letter, addresses: Addresses, *, now: datetime, utf8: bool) -> Iterable[tuple[str, str]]:
    yield "Subject", text_header("Subject", letter.subject)
    yield "From", address_header([addresses.sender])
    for name, mailboxes in (("To", addresses.to), ("Cc", addresses.cc)):
        shown = [mailbox for mailbox in mailboxes if utf8 or not mailbox.needs_utf8]
        if shown:
            yield name, address_header(shown)
        elif name == "To" and mailboxes:
            yield name, _NOBODY_NAMED
    if addresses.reply_to and (utf8 or not addresses.reply_to.needs_utf8):
        yield "Reply-To", address_header([addresses.reply_to])
    yield "Date", format_datetime(now)
    yield "Message-ID", f"<{letter.message_id}>"
    if letter.thread:
        yield "In-Reply-To", f"<{letter.thread}>"
        yield "References", f"<{letter.thread}>"
    described, list_id = letter.list_id
    yield "List-Id", f"{phrase_header(described)}\r\n <{list_id}>"
    for name, value in letter.marks.items():
        yield name, text_header(name, value)


def _encoding(text: str) -> str:
    """Return an encoding that every server takes, and in which no line can look like a boundary."""
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    return "base64" if beyond_ascii * _MOST_QUOTED > len(text) else "quoted-printable"


def _boundary(message_id: str, number: int) -> str:
    # Neither quoted-printable nor base64 can hold `=_` (RFC 2045, 6.7).
    digest = hashlib.sha256(f"{message_id} {number}".encode()).digest()
    return "=_" + base64.b32encode(digest).decode().lower()[:24]
