"""The email sink before a real mail server, with STARTTLS and a login."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from tests.benches import Bench
from tests.mailserver import PASSWORD, USER, open_office, server_at
from watcher.mail.compose import Addresses
from watcher.mail.mailbox import parse_mailbox
from watcher.render import Voice
from watcher.sinks.email import EmailSink


@asynccontextmanager
async def open_bench(*, timeout: timedelta) -> AsyncIterator[Bench]:  # noqa: ASYNC109
    async with open_office(auth=True) as office:
        sink = EmailSink(
            name="hub",
            server=server_at(office, user=USER, password=PASSWORD, timeout=timeout),
            addresses=Addresses(sender=parse_mailbox("watcher@corp.example"), to=[parse_mailbox("ops@corp.example")]),
            voice=Voice(),
        )
        yield Bench(
            sink=sink,
            received=lambda: [mail.message["Message-ID"] for mail in office.received],
            fails=lambda: office.answers("RCPT", "451 try again later"),
            refuses=lambda: office.answers("RCPT", "550 user unknown"),
            hangs=lambda: office.hangs("DATA"),
            secrets=[PASSWORD],
        )
