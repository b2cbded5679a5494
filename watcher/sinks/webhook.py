"""Post events to a program, as CloudEvents 1.0 signed by Standard Webhooks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from http import HTTPStatus

import aiohttp
from standardwebhooks.webhooks import Webhook

from watcher import envelope, http
from watcher.errors import SinkGone, SinkUnavailable
from watcher.model import Content, Delivery, Event

_CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
_ANSWER_LIMIT_BYTES = 20_000
_SUCCESSES = range(200, 300)
_MEANINGS = {
    301: "a redirect, which is not followed; write the new address into the file",
    302: "a redirect, which is not followed",
    307: "a redirect, which is not followed",
    308: "a redirect, which is not followed; write the new address into the file",
}


class WebhookSink:
    """One POST for each event; a repeat carries the same ``webhook-id``.

    ``secrets`` are Standard Webhooks secrets (``whsec_...``); with several, each signs, so that a receiver
    may change from one to the next. Sources: Standard Webhooks 1.0.0; CloudEvents HTTP webhook binding 1.0.2.
    """

    parallel = 4
    spacing = timedelta()
    most_at_once = None

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        name: str,
        url: str,
        secrets: Sequence[str],
        headers: Mapping[str, str],
        content: Content,
        timeout: timedelta,
        proxy: str | None = None,
    ) -> None:
        self.name = name
        # The address may hold a key: it is compared, but never stored or shown.
        self.target = sha256(url.encode()).hexdigest()
        self._session = session
        self._url = url
        self._signers = [Webhook(secret) for secret in secrets]
        self._headers = dict(headers)
        self._content = content
        self._timeout_s = timeout.total_seconds()
        self._proxy = http.proxy_for(url, proxy)

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only a 2xx counts as taken."""
        event = delivery.event
        body = envelope.seal(event, content=self._content, replay=delivery.replay)
        try:
            reply = await http.fetch(
                self._session,
                "POST",
                self._url,
                headers=self._headers | self._signed(event.id, body, now=now),
                body=body,
                timeout_s=self._timeout_s,
                limit_bytes=_ANSWER_LIMIT_BYTES,
                cut=True,
                proxy=self._proxy,
            )
        except http.HttpFailure as error:
            raise SinkUnavailable(str(error)) from error
        if reply.status not in _SUCCESSES:
            self._refuse(reply, now=now)

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return headers and body."""
        body = envelope.seal(event, content=self._content)
        headers = self._signed(event.id, body, now=now)
        return "\n".join((*(f"{name}: {value}" for name, value in headers.items()), "", body.decode()))

    def _signed(self, event_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
        # The library takes the wall-clock fields of an instant for UTC, whatever its zone.
        at = now.astimezone(UTC)
        headers = {
            "Content-Type": _CONTENT_TYPE,
            "webhook-id": event_id,
            "webhook-timestamp": str(int(at.timestamp())),
        }
        if self._signers:
            signatures = (signer.sign(event_id, at, body.decode()) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        return headers

    def _refuse(self, reply: http.Reply, *, now: datetime) -> None:
        if reply.status == HTTPStatus.GONE:
            raise SinkGone("HTTP 410: the receiver asks not to be called again")
        meaning = _MEANINGS.get(reply.status) or _phrase(reply.status)
        wait = None
        if reply.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            wait = retry_after(reply.headers.get("Retry-After", ""), now=now)
        raise SinkUnavailable(f"HTTP {reply.status}, {meaning}", retry_after=wait)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "an unknown status"


def retry_after(value: str, *, now: datetime) -> timedelta | None:
    """Return the span that a ``Retry-After`` header asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return timedelta(seconds=int(value[:9]))
    try:
        span = parsedate_to_datetime(value) - now
    except (ValueError, TypeError):
        return None
    return max(span, timedelta())
