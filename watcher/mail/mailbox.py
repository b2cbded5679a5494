"""Mail addresses: read strictly, and written so that every mail program reads them back. Pure.

Sources: RFC 5322 (3.4), RFC 2047 (encoded words), RFC 6531 and 6532 (addresses beyond ASCII).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.header import Header

from yarl import URL

_LONGEST_LOCAL_BYTES = 64
_LONGEST_DOMAIN = 253
#: Of a display name as it is written.
LONGEST_NAME_BYTES = 90
# Of a line that holds an encoded word; with the space before it, the word has 75 (RFC 2047, 2).
_LONGEST_ENCODED_LINE = 76
# What is left of a line of 78 characters behind the name of a header.
_NAME_LINE_CHARS = 66
_WORD_CHARS = 60
# A local part without quotes, in any script.
_ATOM = r"[^\s\x00-\x20\x7f()<>@,;:\\\".\[\]]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NAMED = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]*)>", re.DOTALL)
# What means something in a list of addresses; mail libraries have lost the quotes around it more than once
# (CVE-2025-1795 and relatives), so it stands in no name.
_SPECIAL = re.compile(r"[()<>@,;:\\\"\[\]]+")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """Whom a mail is from or for."""

    local: str
    #: In lower case, as people write it.
    domain: str
    name: str = ""

    @property
    def address(self) -> str:
        """The bare address; what a delivery's ``receiver`` is called."""
        return f"{self.local}@{self.domain}"

    @property
    def host(self) -> str:
        """The domain as the name service knows it: ASCII (RFC 5891)."""
        return ascii_domain(self.domain)

    @property
    def envelope(self) -> str:
        """The address as servers exchange it; beyond ASCII only in its local part."""
        return f"{self.local}@{self.host}"

    @property
    def needs_utf8(self) -> bool:
        """Tell whether only a server with SMTPUTF8 can take it."""
        return not self.local.isascii()


def parse_mailbox(text: str) -> Mailbox:
    """Return the one address, with or without a name, that ``text`` is; raise ``ValueError`` with what is wrong."""
    text = text.strip()
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a character that no address may hold")
    named = _NAMED.fullmatch(text)
    name, address = (named["name"], named["address"]) if named else ("", text)
    local, at, domain = address.rpartition("@")
    if not at:
        raise ValueError(f"`{text}` is not an address; write `name@example.com` or `A Name <name@example.com>`")
    if not _LOCAL.fullmatch(local) or len(local.encode()) > _LONGEST_LOCAL_BYTES:
        raise ValueError(f"`{text}`: what stands before the @ is not the local part of an address")
    try:
        ascii_domain(domain)
    except ValueError as error:
        raise ValueError(f"`{text}`: what stands behind the @ is not a domain") from error
    return Mailbox(local, domain.lower(), _unquoted(name))


def _unquoted(name: str) -> str:
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return name


def ascii_domain(domain: str) -> str:
    """Return the domain in ASCII, in lower case; raise ``ValueError`` if it cannot be one."""
    host = URL.build(scheme="https", host=domain).raw_host or ""
    # What ends in a number is an address, or tries to be one.
    is_number = host.rpartition(".")[2].isdecimal()
    if not _DOMAIN.fullmatch(host) or len(host) > _LONGEST_DOMAIN or is_number:
        raise ValueError("not a domain")
    return host


def text_header(name: str, text: str) -> str:
    """Return one line of text as the value of a header, encoded and folded.

    What looks like an encoded word is encoded itself: it reads as it was written, and no library decodes it on the
    way (CVE-2024-6923).
    """
    is_plain = text.isascii() and "=?" not in text and all(len(word) <= _WORD_CHARS for word in text.split(" "))
    charset = "us-ascii" if is_plain else "utf-8"
    return Header(text, charset, maxlinelen=_LONGEST_ENCODED_LINE, header_name=name).encode(linesep="\r\n")


def address_header(mailboxes: Iterable[Mailbox]) -> str:
    """Return addresses as the value of a header, one on each line."""
    return ",\r\n ".join(map(_written, mailboxes))


def _written(mailbox: Mailbox) -> str:
    name = phrase_header(mailbox.name)
    if not name:
        return mailbox.envelope
    break_ = "\r\n " if len(name) + len(mailbox.envelope) > _NAME_LINE_CHARS else " "
    return f"{name}{break_}<{mailbox.envelope}>"


def phrase_header(name: str) -> str:
    """Return a display name as it stands before an address or an id, encoded and folded."""
    plain = _phrase(name)
    if not plain.isascii() or "=?" in plain or len(plain) > _WORD_CHARS:
        return Header(plain, "utf-8", maxlinelen=_NAME_LINE_CHARS).encode(linesep="\r\n")
    return f'"{plain}"' if "." in plain else plain


def _phrase(name: str) -> str:
    """Return a display name of a sensible length without anything that has a meaning among addresses."""
    plain = " ".join(_SPECIAL.sub(" ", name).split())
    return cut_bytes(plain, LONGEST_NAME_BYTES)


def cut_bytes(text: str, longest: int) -> str:
    """Return as many whole characters of ``text`` as fit into ``longest`` bytes, with a mark where some are missing."""
    if len(text.encode()) <= longest:
        return text
    return text.encode()[: longest - len("…".encode())].decode(errors="ignore").rstrip() + "…"
