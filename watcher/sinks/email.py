"""Send events as mail; who has a mail is never sent it again.

Sources: RFC 5321 (SMTP), RFC 6531 (SMTPUTF8), RFC 1870 (SIZE).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from functools import partial
from hashlib import sha256

import aiosmtplib
import anyio

from watcher.errors import PermanentError, SinkRejected, SinkUnavailable, TransientError
from watcher.mail import compose, letter, smtp
from watcher.mail.attachments import Downloads, Haul, links
from watcher.mail.mailbox import LONGEST_NAME_BYTES, Mailbox, cut_bytes
from watcher.mail.page import Fate
from watcher.mail.smtp import MailServer
from watcher.mail.tally import Refusals, Tally
from watcher.model import Content, Delivery, Event
from watcher.render import Voice

_MIME = ("mime-", "content-")
# Of the time that is left after the login, downloads get this share; the rest is for the mail.
_SHARE_OF_DOWNLOADS = 0.5
# After so many attempts that ran out of time with files in the mail, it goes without.
_MOST_LATE_WITH_FILES = 2
# However long our own name is, this much of the author's stays.
_SHORTEST_AUTHOR_BYTES = 30


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt to send a mail."""

    delivery: Delivery
    now: datetime
    tally: Tally

    @property
    def event(self) -> Event:
        return self.delivery.event


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
        self._refusals = Refusals()

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Send the mail, within the server's time limit.

        Who was refused for good at an earlier attempt is not asked again, unless a person wants the mail sent again.
        """
        receivers = self._receivers_of(delivery)
        tally = Tally(receivers, self._refused_before(delivery, receivers))
        try:
            await self._hand_over_in_time(_Attempt(delivery, now, tally))
        except (TransientError, PermanentError) as error:
            tally.break_off(error)
        finally:
            if not delivery.receiver:
                self._refusals.remember(delivery.event.id, tally.for_good)
        failure = tally.failure()
        if failure:
            raise failure

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the mail as a reader sees it: headers, text, and how much HTML there is."""
        written = letter.write(event, self._voice, domain=self._addresses.sender.host)
        data = compose.compose(written, self._addressed(written), now=self._local(now), utf8=True)
        message = message_from_bytes(data, policy=policy.default)
        headers = [f"{name}: {value}" for name, value in message.items() if not name.lower().startswith(_MIME)]
        also = self._voice.words.also_html.format(chars=len(written.html))
        return "\n".join((*headers, "", written.text, also))

    def _receivers_of(self, delivery: Delivery) -> list[str]:
        if not delivery.receiver:
            return list(self._receivers)
        if delivery.receiver not in self._receivers:
            raise SinkRejected(f"{delivery.receiver} is no longer among the receivers")
        return [delivery.receiver]

    def _refused_before(
        self, delivery: Delivery, receivers: Sequence[str]
    ) -> dict[str, TransientError | PermanentError]:
        if delivery.replay and not delivery.attempts:
            self._refusals.forget(delivery.event.id)
        return {} if delivery.receiver else self._refusals.of(delivery.event.id, receivers)

    # --- one mail -----------------------------------------------------------------------------------------

    async def _hand_over_in_time(self, attempt: _Attempt) -> None:
        if not attempt.tally.open:
            return
        limit_s = self._server.timeout.total_seconds()
        try:
            with anyio.fail_after(limit_s):
                await self._hand_over(attempt)
        except TimeoutError as error:
            raise SinkUnavailable(f"{self._server} did not take the mail within {limit_s:g} s") from error
        self._late.pop(attempt.event.id, None)

    async def _hand_over(self, attempt: _Attempt) -> None:
        """Send the mail to all who are still to be asked, over one connection."""
        async with self._server.connected() as connection:
            if not connection.supports_extension("smtputf8"):
                self._do_without_utf8(attempt)
            if not attempt.tally.open:
                return
            haul = await self._fetched(attempt.event, now=attempt.now)
            try:
                for receivers in self._transactions(self._open(attempt)):
                    await self._tell(connection, attempt, receivers, haul)
            except anyio.get_cancelled_exc_class():
                if haul.enclosures:
                    self._late[attempt.event.id] += 1
                raise

    def _do_without_utf8(self, attempt: _Attempt) -> None:
        if self._addresses.sender.needs_utf8:
            raise SinkUnavailable(f"{self._server} has no SMTPUTF8: it takes no mail from the address in `from`")
        unreachable = [mailbox.address for mailbox in self._open(attempt) if mailbox.needs_utf8]
        error = SinkRejected(f"{self._server} has no SMTPUTF8: it cannot reach this address")
        attempt.tally.refuse(unreachable, error)

    def _transactions(self, receivers: Sequence[Mailbox]) -> list[list[Mailbox]]:
        """Return who gets the mail in one transaction.

        What goes out with SMTPUTF8 must be passed on so, or bounces (RFC 6531, 3.2): addresses in ASCII are spared it.
        """
        if self._addresses.sender.needs_utf8:
            return [list(receivers)]
        plain = [mailbox for mailbox in receivers if not mailbox.needs_utf8]
        wide = [mailbox for mailbox in receivers if mailbox.needs_utf8]
        return [group for group in (plain, wide) if group]

    async def _tell(
        self, connection: smtp.Connection, attempt: _Attempt, receivers: Sequence[Mailbox], haul: Haul
    ) -> None:
        """Hand over the mail to these receivers; if it is refused, then for those whose addresses were accepted."""
        try:
            await self._transact(connection, attempt, receivers, haul)
        except aiosmtplib.SMTPDataError as error:
            accepted = [mailbox.address for mailbox in self._open(attempt) if mailbox in receivers]
            attempt.tally.refuse(accepted, self._server.meaning(error))

    async def _transact(
        self, connection: smtp.Connection, attempt: _Attempt, receivers: Sequence[Mailbox], haul: Haul
    ) -> None:
        """Offer the mail; a server that refuses it with its files gets it without them."""
        try:
            await self._offer(connection, attempt, receivers, haul)
        except (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPDataError) as error:
            if not (haul.enclosures and smtp.is_about_the_mail(error)):
                raise
            without = _as_links(haul, self._voice.words.refused_by_server)
            still_open = [mailbox for mailbox in self._open(attempt) if mailbox in receivers]
            await self._offer(connection, attempt, still_open, without)

    async def _offer(
        self, connection: smtp.Connection, attempt: _Attempt, receivers: Sequence[Mailbox], haul: Haul
    ) -> None:
        """Make one transaction, and note what comes of it for each receiver."""
        utf8 = any(mailbox.needs_utf8 for mailbox in (*receivers, self._addresses.sender))
        data = await self._compose(attempt, haul, utf8=utf8)
        size = connection.esmtp_extensions.get("size", "")
        if haul.enclosures and size.isdecimal() and 0 < int(size) < len(data):
            without = _as_links(haul, self._voice.words.too_large_for_server)
            data = await self._compose(attempt, without, utf8=utf8)
        addresses = {mailbox.envelope: mailbox.address for mailbox in receivers}

        def refuse(envelope: str, answer: aiosmtplib.SMTPRecipientRefused) -> None:
            attempt.tally.refuse([addresses[envelope]], self._server.refusal(answer))

        await connection.transact(self._addresses.sender.envelope, addresses, data, utf8=utf8, refuse=refuse)
        attempt.tally.tell(each for each in addresses.values() if each not in attempt.tally.refused)

    def _open(self, attempt: _Attempt) -> list[Mailbox]:
        return [self._receivers[address] for address in attempt.tally.open]

    async def _fetched(self, event: Event, *, now: datetime) -> Haul:
        """Download what is to be enclosed: now, with the server waiting, so that one that is down costs nothing."""
        if self._downloads is None or self._voice.content is Content.NONE:
            return Haul()
        if self._late[event.id] >= _MOST_LATE_WITH_FILES:
            return links(event, self._voice.words.too_slow_to_send)
        left_s = anyio.current_effective_deadline() - anyio.current_time()
        within_s = left_s * _SHARE_OF_DOWNLOADS
        return await self._downloads.fetch(event, words=self._voice.words, now=now, within_s=within_s)

    async def _compose(self, attempt: _Attempt, haul: Haul, *, utf8: bool) -> bytes:
        written = letter.write(
            attempt.event,
            self._voice,
            domain=self._addresses.sender.host,
            fates=haul.fates,
            replay=attempt.delivery.replay,
        )
        encode = partial(
            compose.compose,
            written,
            self._addressed(written),
            now=self._local(attempt.now),
            enclosures=haul.enclosures,
            utf8=utf8,
        )
        # Files of many megabytes take a while to be written out, in which others wait for the event loop.
        return await anyio.to_thread.run_sync(encode) if haul.enclosures else encode()

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
