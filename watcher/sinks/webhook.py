"""Post events to a program, as CloudEvents 1.0 signed by Standard Webhooks."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from ssl import SSLContext

import aiohttp
from standardwebhooks.webhooks import Webhook
from yarl import URL

from watcher import http
from watcher.duration import retry_after
from watcher.errors import SinkGone, SinkUnavailable
from watcher.formats import Format, pack
from watcher.model import Content, Delivery, Event
from watcher.ports import event_for_all
from watcher.render import printable

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
    may change from one to the next. What is signed is the body: in the binary format the attributes in the headers
    are not. Sources: Standard Webhooks 1.0.0; CloudEvents HTTP webhook binding 1.0.2.
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
        form: Format = Format.STRUCTURED,
        proxy: str | None = None,
        ssl_context: SSLContext | None = None,
    ) -> None:
        self.name = name
        # The address may hold a key: it is compared, but never stored or shown.
        self.target = sha256(url.encode()).hexdigest()
        self._session = session
        self._url = url
        self._signers = [Webhook(secret) for secret in secrets]
        self._headers = dict(headers)
        self._content = content
        self._form = form
        self._timeout_s = timeout.total_seconds()
        self._proxy = http.proxy_for(url, proxy)
        self._ssl_context = ssl_context

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only a 2xx counts as taken."""
        event = event_for_all(delivery)
        message = pack(event, self._form, content=self._content, replay=delivery.replay)
        try:
            reply = await http.fetch(
                self._session,
                "POST",
                self._url,
                headers=self._headers | message.headers | self._signed(event.id, message.body, now=now),
                body=message.body,
                timeout_s=self._timeout_s,
                limit_bytes=_ANSWER_LIMIT_BYTES,
                cut=True,
                is_status_enough=True,
                proxy=self._proxy,
                ssl_context=self._ssl_context,
            )
        except http.HttpFailure as error:
            raise SinkUnavailable(str(error)) from error
        if reply.status not in _SUCCESSES:
            self._refuse(reply, now=now)

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the request, its body laid out over several lines; signatures and the values of headers stay out."""
        message = pack(event, self._form, content=self._content)
        own = dict.fromkeys(self._headers, "…")
        signed = self._signed(event.id, message.body, now=now)
        if "webhook-signature" in signed:
            signed["webhook-signature"] = " ".join("v1,…" for _ in self._signers)
        headers = {"User-Agent": http.USER_AGENT} | own | message.headers | signed
        head = (f"POST {_shown(self._url)}", *(f"{name}: {value}" for name, value in headers.items()))
        body = json.dumps(json.loads(message.body), ensure_ascii=False, indent=2)
        return printable("\n".join((*head, "", body)))

    def _signed(self, event_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
        # The library takes the wall-clock fields of an instant for UTC, whatever its zone.
        at = now.astimezone(UTC)
        headers = {"webhook-id": event_id, "webhook-timestamp": str(int(at.timestamp()))}
        if self._signers:
            signatures = (signer.sign(event_id, at, body.decode()) for signer in self._signers)
            headers["webhook-signature"] = " ".join(signatures)
        return headers

    def _refuse(self, reply: http.Reply, *, now: datetime) -> None:
        if reply.status == HTTPStatus.GONE:
            raise SinkGone("HTTP 410: the receiver asks not to be called again")
        meaning = _MEANINGS.get(reply.status) or http.phrase(reply.status)
        wait = None
        if reply.status in {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}:
            wait = retry_after(reply.headers.get("Retry-After", ""), now=now)
        raise SinkUnavailable(f"HTTP {reply.status}, {meaning}", retry_after=wait)


def _shown(address: str) -> str:
    """Return an address without what may be a key in it."""
    url = URL(address)
    login = "…@" if url.user or url.password else ""
    port = "" if url.is_default_port() else f":{url.port}"
    return f"{url.scheme}://{login}{url.host_subcomponent}{port}{url.raw_path}{'?…' if url.query_string else ''}"
