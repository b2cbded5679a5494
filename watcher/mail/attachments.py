"""Download the files of replies, within limits: of size, number and time, from public addresses, under safe names."""

import mimetypes
import re
import unicodedata
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus

import aiohttp
import anyio

from watcher import http, render
from watcher.mail.compose import Enclosure
from watcher.mail.mailbox import cut_bytes
from watcher.mail.page import Fate, FileKey, link
from watcher.model import Account, Attachment, Event
from watcher.words import Words

_MOST_FILES = 10
_LONGEST_NAME_BYTES = 120
_LONGEST_SUFFIX = 12
# What means something to a shell, to a path on some system, or in the headers of a mail.
_UNSAFE = re.compile(r"[<>:\"|?*%=;'`$&\\/\x00-\x1f\x7f]")
# What Windows takes for a device, whatever stands behind the first full stop.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]) *(?:\.|$)", re.IGNORECASE)
_OPAQUE = "application/octet-stream"
# Types that show what they hold, and neither run nor include anything.
_PASSIVE = re.compile(
    r"image/(?!svg)[a-z0-9.+-]+|audio/[a-z0-9.+-]+|video/[a-z0-9.+-]+|text/(?:plain|csv)|"
    r"application/(?:pdf|zip|gzip|json|vnd\.openxmlformats-officedocument\.[a-z.]+)"
)
_TYPES = mimetypes.MimeTypes()
# What the server has is what is to arrive, not unpacked on the way.
_AS_IT_IS = {"Accept-Encoding": "identity"}
# The time for each file is limited by who asks.
_LONGEST_S = 3600.0
# What OSS answers once an address has expired, or the file is gone.
_STALE = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}

Refresh = Callable[[Event], Awaitable[Sequence[Attachment]]]


@dataclass(frozen=True, slots=True)
class Haul:
    """What could be downloaded, and what became of each file that was asked for."""

    enclosures: tuple[Enclosure, ...] = ()
    fates: Mapping[FileKey, Fate] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloads:
    """How the files of an event are downloaded."""

    #: Which session may call the addresses in an account's replies.
    session_of: Callable[[Account], aiohttp.ClientSession]
    #: Of all files together, in bytes.
    max_size: int
    #: Asks for addresses that have not expired; without it, what has expired stays a link.
    refresh: Refresh | None = None

    async def fetch(self, event: Event, *, words: Words, now: datetime, within_s: float) -> Haul:
        """Return what there is to enclose after at most so many seconds; nothing is raised for a file that fails."""
        give_up_at = anyio.current_time() + within_s
        wanted = _wanted(event)
        attempt = _Attempt(self, words, now)
        for position, file in enumerate(wanted):
            if position >= _MOST_FILES:
                attempt.fates[file.key] = Fate(reason=words.too_many)
                continue
            # Each file gets an equal part of what is left, so that one slow server does not cost the others theirs.
            shares = min(len(wanted), _MOST_FILES) - position
            with anyio.move_on_after((give_up_at - anyio.current_time()) / shares) as scope:
                await attempt.fetch(file)
            if scope.cancelled_caught:
                attempt.fates[file.key] = Fate(reason=words.too_slow, url=attempt.newest(file).url)
        return Haul(tuple(attempt.enclosures), attempt.fates)


def links(event: Event, reason: str) -> Haul:
    """Return what is told of the files of an event if none is to be downloaded."""
    return Haul(fates={file.key: Fate(reason=reason) for file in _wanted(event)})


class _StaysALinkError(Exception):
    """A file is not enclosed; the text says why, to people."""

    def __init__(self, reason: str, *, is_stale: bool = False) -> None:
        super().__init__(reason)
        #: True if a newer address may help.
        self.is_stale = is_stale


@dataclass(frozen=True, slots=True)
class _Wanted:
    event: Event
    position: int
    attachment: Attachment

    @property
    def key(self) -> FileKey:
        return (self.event.id, self.position)


def _wanted(event: Event) -> list[_Wanted]:
    return [
        _Wanted(each, position, attachment)
        for each in event.events or (event,)
        for position, attachment in enumerate(each.note.attachments if each.note else ())
    ]


@dataclass
class _Attempt:
    """The files of one mail, one after the other."""

    downloads: Downloads
    words: Words
    now: datetime
    enclosures: list[Enclosure] = field(default_factory=list)
    fates: dict[FileKey, Fate] = field(default_factory=dict)
    _fresh: dict[str, Sequence[Attachment]] = field(default_factory=dict)

    async def fetch(self, file: _Wanted) -> None:
        """Download one file, or say why not."""
        try:
            content = await self._content(file)
        except _StaysALinkError as error:
            self.fates[file.key] = Fate(reason=str(error), url=self.newest(file).url)
            return
        name = _distinct(safe_name(file.attachment.name), {each.name.casefold() for each in self.enclosures})
        self.enclosures.append(Enclosure(name=name, content_type=safe_type(name), content=content))
        self.fates[file.key] = Fate(enclosed_as=name)

    async def _content(self, file: _Wanted) -> bytes:
        """Return what is in a file; if its address has expired, ask for another one."""
        account = file.event.account
        try:
            return await self._download(file.attachment, account)
        except _StaysALinkError as error:
            if not error.is_stale or not await self._refreshed(file):
                raise
        return await self._download(self.newest(file), account)

    def newest(self, file: _Wanted) -> Attachment:
        """Return the file with the newest address that is known of it."""
        return matching(file.position, file.event, self._fresh.get(file.event.id, ())) or file.attachment

    async def _refreshed(self, file: _Wanted) -> bool:
        """Ask once for the addresses of an event's files; tell whether there is another one for this file."""
        refresh = self.downloads.refresh
        if refresh and file.event.id not in self._fresh:
            self._fresh[file.event.id] = await refresh(file.event)
        return self.newest(file) != file.attachment

    async def _download(self, attachment: Attachment, account: Account) -> bytes:
        if attachment.expires_at and attachment.expires_at <= self.now:
            raise _StaysALinkError(self.words.link_expired, is_stale=True)
        left = self.downloads.max_size - sum(len(each.content) for each in self.enclosures)
        if not link(attachment.url):
            raise _StaysALinkError(self.words.unreachable)
        try:
            reply = await http.fetch(
                self.downloads.session_of(account),
                "GET",
                attachment.url,
                headers=_AS_IT_IS,
                timeout_s=_LONGEST_S,
                limit_bytes=left + 1,
                cut=True,
            )
        except http.HttpFailure as error:
            raise _StaysALinkError(self.words.unreachable) from error
        if reply.status in _STALE:
            raise _StaysALinkError(self.words.link_expired, is_stale=True)
        if reply.status != HTTPStatus.OK:
            raise _StaysALinkError(self.words.unreachable)
        if len(reply.body) > left:
            raise _StaysALinkError(self.words.too_large)
        return reply.body


def matching(position: int, event: Event, fresh: Sequence[Attachment]) -> Attachment | None:
    """Return the fresh counterpart of a stored attachment: the one of its name, by order where several share it."""
    if event.note is None:
        return None
    name = event.note.attachments[position].name
    before = sum(each.name == name for each in event.note.attachments[:position])
    namesakes = [each for each in fresh if each.name == name]
    return namesakes[before] if before < len(namesakes) else None


# --- names and types --------------------------------------------------------------------------------------


def safe_name(name: str) -> str:
    """Return a file name that is one everywhere: no path, nothing hidden, nothing that steers, not too long."""
    base = re.split(r"[/\\]", render.one_line(name))[-1]
    visible = "".join(char for char in base if unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Cn"})
    plain = _UNSAFE.sub("_", unicodedata.normalize("NFC", visible)).strip(". ")
    if _DEVICE.match(plain):
        plain = f"_{plain}"
    stem, dot, suffix = plain.rpartition(".")
    if not dot or len(suffix) > _LONGEST_SUFFIX or not stem:
        return cut_bytes(plain, _LONGEST_NAME_BYTES) or "attachment"
    return f"{cut_bytes(stem, _LONGEST_NAME_BYTES - len(suffix.encode()) - 1)}.{suffix}"


def _distinct(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, with a number if it is taken."""
    stem, dot, suffix = name.rpartition(".")
    stem, suffix = (stem, dot + suffix) if dot else (name, "")
    number, candidate = 1, name
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem} ({number}){suffix}"
    return candidate


def safe_type(name: str) -> str:
    """Return the content type that the name suggests, if a mail program may show such a thing; else an opaque one."""
    guessed, encoding = _TYPES.guess_type(name)
    return guessed if guessed and not encoding and _PASSIVE.fullmatch(guessed) else _OPAQUE
