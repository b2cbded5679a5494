"""Tell whoever subscribes to a topic of an ntfy server."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Gateway, Refusal, seal, show, whole
from watcher.chat.markup import PLAIN, clip, cut_bytes, link_target
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event, Severity
from watcher.render import Voice, one_line

#: A visitor's requests grow back one in five seconds.
SPACING = timedelta(seconds=5)
# What is longer arrives as a file.
_LIMIT_BYTES = 4096
_TITLE_LIMIT_BYTES = 1024
_DEFAULT_PRIORITY, _HIGH_PRIORITY = 3, 4
_FORBIDDEN = "it does not let us publish to the topic; check `token`"

REFUSALS = (
    Refusal(40009, "the topic's name is not valid; check `url`"),
    Refusal(40010, "the topic's name is not allowed; check `url`"),
    Refusal(40101, _FORBIDDEN),
    Refusal(40301, _FORBIDDEN),
    Refusal(40401, "it knows no such page; check `url`"),
    Refusal(41303, "the message is too long", error=SinkRejected),
    Refusal(40057, "the title is too long", error=SinkRejected),
    Refusal(40011, "the message is not as it should be", error=SinkRejected),
    Refusal(40017, "the message is not as it should be", error=SinkRejected),
    Refusal(40018, "the message's buttons are not as they should be", error=SinkRejected),
    Refusal(40024, "the message is not as it should be", error=SinkRejected),
    Refusal(42901, "it was sent too much; lower the sink's `rate`", wait=timedelta(minutes=1)),
    Refusal(42908, "it takes no more messages of us today", wait=timedelta(hours=1)),
)


class NtfySink:
    """One message for each event; a repeat has the same ``sequence_id`` and replaces what it repeats.

    Published as JSON at the server's root, because headers hold no other alphabet. Sources: ntfy, "Publish as JSON",
    "Updating notifications", "Limitations" (docs.ntfy.sh/publish); the error codes, ``server/errors.go``; the limit
    of titles, release 2.28.0.
    """

    parallel = 1
    most_at_once = 1

    def __init__(
        self,
        gateway: Gateway,
        *,
        name: str,
        voice: Voice,
        topic: str,
        token: str = "",
        spacing: timedelta = SPACING,
    ) -> None:
        self.name = name
        self.target = sha256(f"{gateway.target} {topic}".encode()).hexdigest()
        self.spacing = spacing
        self._gateway = gateway
        self._voice = voice
        self._topic = topic
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Publish the event; only an answer that names the message counts as taken."""
        body = {"topic": self._topic, **self._body(whole(delivery), now=now)}
        answer = await self._gateway.post(seal(body), now=now, headers=self._headers)
        if answer.is_success and answer.words("id"):
            return
        code = answer.number("code")
        if not code:
            raise self._gateway.unexpected(answer)
        raise self._gateway.refusal(code, answer.words("error"), REFUSALS, wait=answer.retry_after)

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted, without the topic: whoever knows it can read along."""
        return show(self._body(event, now=now))

    def _body(self, event: Event, *, now: datetime) -> Mapping[str, Any]:
        said = chat.say(event, self._voice, PLAIN, now=now, fits=_fits)
        urgent = any(each.ticket.severity is Severity.URGENT for each in event.events or (event,))
        body = {
            "title": cut_bytes(clip(said.title, _TITLE_LIMIT_BYTES), _TITLE_LIMIT_BYTES),
            "message": said.text,
            "priority": _HIGH_PRIORITY if urgent else _DEFAULT_PRIORITY,
            "sequence_id": event.id,
        }
        url = link_target(one_line(event.url))
        if not url:
            return body
        action = {"action": "view", "label": self._voice.words.open_ticket, "url": url}
        return body | {"click": url, "actions": [action]}


def _fits(_title: str, text: str) -> bool:
    return len(text.encode()) <= _LIMIT_BYTES
