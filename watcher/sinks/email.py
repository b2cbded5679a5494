"""Send events as mail; who has a mail is never sent it again.

Sources: RFC 5321 (SMTP), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from hashlib import sha256

import aiosmtplib
import anyio

from watcher.errors import PermanentError, SinkPartly, SinkRejected, SinkUnavailable, TransientError
from watcher.mail import compose, letter, smtp
from watcher.mail.attachments import Downloads, Haul, links
from watcher.mail.mailbox import LONGEST_NAME_BYTES, Mailbox, cut_bytes
from watcher.mail.page import Fate
from watcher.mail.smtp import MailServer
from watcher.model import Content, Delivery, Event
from watcher.render import Voice

_MIME = ("mime-", "content-")
# Of the time that is left after the login, downloads get this share; the rest is for the mail.
_SHARE_OF_DOWNLOADS = 0.5
# After so many attempts that ran out of time with files in the mail, it goes without.
_MOST_LATE_WITH_FILES = 2
# However long our own name is, this much of the author's stays.
_SHORTEST_AUTHOR_BYTES = 30


class EmailSink:
    """One mail for each event, to all receivers at once; each has its own outcome.

    A repeat has the same Message-ID, and so have the mails to those who lacked the first one.
    """

    parallel = 2
    spacing = timedelta()
    most_at_once = None

    def __init__(
        self,
        *,
        name: str,
        server: MailServer,
        addresses: compose.Addresses,
        bcc: Sequence[Mailbox] = (),
        voice: Voice,
        downloads: Downloads | None = None,
    ) -> None:
        self.name = name
        self._server = server
        self._addresses = addresses
        # A domain may be written in two ways.
        everybody = {mailbox.envelope: mailbox for mailbox in (*addresses.to, *addresses.cc, *bcc)}.values()
        self._receivers = {mailbox.address: mailbox for mailbox in everybody}
        self.target = sha256(f"{server.host}:{server.port} {sorted(self._receivers)}".encode()).hexdigest()
        self._voice = voice
        self._downloads = downloads
        #: How often there was no time for the mail of an event with its files.
        self._late: Counter[str] = Counter()

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Send the mail, within the server's time limit."""
        receivers = self._receivers_of(delivery)
        limit_s = self._server.timeout.total_seconds()
        try:
            with anyio.fail_after(limit_s):
                refused = await self._hand_over(delivery, receivers, now=now)
        except TimeoutError as error:
            raise SinkUnavailable(f"{self._server} did not take the mail within {limit_s:g} s") from error
        self._late.pop(delivery.event.id, None)
        if len(refused) == len(receivers):
            raise _of_all(refused)
        if refused:
            raise SinkPartly(refused)

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the mail as a reader sees it: headers, text, and how much HTML there is."""
        written = letter.write(event, self._voice, domain=self._addresses.sender.host)
        data = compose.compose(written, self._addressed(written), now=self._local(now), utf8=True)
        message = message_from_bytes(data, policy=policy.default)
        headers = [f"{name}: {value}" for name, value in message.items() if not name.lower().startswith(_MIME)]
        also = self._voice.words.also_html.format(chars=len(written.html))
        return "\n".join((*headers, "", written.text, also))

    def _receivers_of(self, delivery: Delivery) -> list[Mailbox]:
        if not delivery.receiver:
            return list(self._receivers.values())
        if delivery.receiver not in self._receivers:
            raise SinkRejected(f"{delivery.receiver} is no longer among the receivers")
        return [self._receivers[delivery.receiver]]

    # --- one mail -----------------------------------------------------------------------------------------

    async def _hand_over(
        self, delivery: Delivery, receivers: Sequence[Mailbox], *, now: datetime
    ) -> dict[str, TransientError | PermanentError]:
        """Send the mail; return who was refused, and why."""
        async with self._server.connected() as connection:
            has_utf8 = connection.supports_extension("smtputf8")
            if self._addresses.sender.needs_utf8 and not has_utf8:
                raise SinkUnavailable(f"{self._server} has no SMTPUTF8: it takes no mail from the address in `from`")
            left: dict[str, TransientError | PermanentError] = {
                mailbox.address: SinkRejected(f"{self._server} has no SMTPUTF8: it cannot reach this address")
                for mailbox in receivers
                if mailbox.needs_utf8 and not has_utf8
            }
            reachable = [mailbox for mailbox in receivers if mailbox.address not in left]
            if reachable:
                left |= await self._transact(connection, delivery, reachable, now=now)
            return left

    async def _transact(
        self, connection: smtp.Connection, delivery: Delivery, receivers: Sequence[Mailbox], *, now: datetime
    ) -> dict[str, TransientError | PermanentError]:
        """Hand over the mail; a server that refuses it with its files gets it without them."""
        haul = await self._fetched(delivery.event, now=now)
        try:
            return await self._offer(connection, delivery, receivers, haul, now=now)
        except anyio.get_cancelled_exc_class():
            if haul.enclosures:
                self._late[delivery.event.id] += 1
            raise
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            is_about_the_mail = isinstance(error, aiosmtplib.SMTPDataError) or error.code == smtp.TOO_LARGE
            if not (haul.enclosures and is_about_the_mail and error.code // 100 == smtp.PERMANENT):
                raise
        without = _as_links(haul, self._voice.words.refused_by_server)
        return await self._offer(connection, delivery, receivers, without, now=now)

    async def _offer(
        self,
        connection: smtp.Connection,
        delivery: Delivery,
        receivers: Sequence[Mailbox],
        haul: Haul,
        *,
        now: datetime,
    ) -> dict[str, TransientError | PermanentError]:
        """Make one transaction; return who was refused, and why."""
        utf8 = any(mailbox.needs_utf8 for mailbox in (*receivers, self._addresses.sender))
        data = self._compose(delivery, haul, now=now, utf8=utf8)
        size = connection.esmtp_extensions.get("size", "")
        if haul.enclosures and size.isdecimal() and 0 < int(size) < len(data):
            without = _as_links(haul, self._voice.words.too_large_for_server)
            data = self._compose(delivery, without, now=now, utf8=utf8)
        by_envelope = {mailbox.envelope: mailbox for mailbox in receivers}
        try:
            refused, _ = await connection.sendmail(
                self._addresses.sender.envelope,
                list(by_envelope),
                data,
                mail_options=["SMTPUTF8", "BODY=8BITMIME"] if utf8 else [],
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            refused = {each.recipient: aiosmtplib.SMTPResponse(each.code, each.message) for each in error.recipients}
        return {by_envelope[envelope].address: self._server.refusal(answer) for envelope, answer in refused.items()}

    async def _fetched(self, event: Event, *, now: datetime) -> Haul:
        """Download what is to be enclosed: now, with the server waiting, so that one that is down costs nothing."""
        if self._downloads is None or self._voice.content is Content.NONE:
            return Haul()
        if self._late[event.id] >= _MOST_LATE_WITH_FILES:
            return links(event, self._voice.words.too_slow_to_send)
        left_s = anyio.current_effective_deadline() - anyio.current_time()
        within_s = left_s * _SHARE_OF_DOWNLOADS
        return await self._downloads.fetch(event, words=self._voice.words, now=now, within_s=within_s)

    def _compose(self, delivery: Delivery, haul: Haul, *, now: datetime, utf8: bool) -> bytes:
        written = letter.write(
            delivery.event,
            self._voice,
            domain=self._addresses.sender.host,
            fates=haul.fates,
            replay=delivery.replay,
        )
        return compose.compose(
            written, self._addressed(written), now=self._local(now), enclosures=haul.enclosures, utf8=utf8
        )

    def _addressed(self, written: letter.Letter) -> compose.Addresses:
        """Return the addresses, with the author in the sender's name: our own address stays, so that DMARC holds."""
        words, sender = self._voice.words, self._addresses.sender
        own_name = sender.name or words.own_name
        if not written.author:
            return replace(self._addresses, sender=replace(sender, name=own_name))
        # A long name must not push ours out: it says that the mail is not the author's own.
        left = LONGEST_NAME_BYTES - len(words.via.format(author="", name=own_name).encode())
        author = cut_bytes(written.author, max(left, _SHORTEST_AUTHOR_BYTES))
        name = words.via.format(author=author, name=own_name)
        return replace(self._addresses, sender=replace(sender, name=name))

    def _local(self, now: datetime) -> datetime:
        return now.astimezone(self._voice.zone)


def _as_links(haul: Haul, reason: str) -> Haul:
    """Return what is told if nothing is enclosed after all."""
    fates = {key: Fate(reason=reason) if fate.enclosed_as else fate for key, fate in haul.fates.items()}
    return Haul(fates=fates)


def _of_all(refused: dict[str, TransientError | PermanentError]) -> TransientError | PermanentError:
    """Return one error for a mail that nobody took; while one may take it later, the event waits for all."""
    text = "; ".join(f"{receiver}: {error}" for receiver, error in refused.items())
    is_for_good = all(isinstance(error, PermanentError) for error in refused.values())
    return SinkRejected(text) if is_for_good else SinkUnavailable(text)
