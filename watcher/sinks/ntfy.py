"""Tell whoever subscribes to a topic of an ntfy server."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import PLAIN, clip, cut_bytes, link_target
from watcher.chat.sink import ChatSink
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event, Severity
from watcher.render import one_line

# What is longer arrives as a file.
_LIMIT_BYTES = 4096
_TITLE_LIMIT_BYTES = 1024
_DEFAULT_PRIORITY, _HIGH_PRIORITY = 3, 4
_FORBIDDEN = "no permission to publish to the topic; check `token`"

REFUSALS = (
    Refusal(40009, "the topic's name is not valid; check `url`"),
    Refusal(40010, "the topic's name is not allowed; check `url`"),
    Refusal(40101, _FORBIDDEN),
    Refusal(40301, _FORBIDDEN),
    Refusal(40401, "unknown address; check `url`"),
    Refusal(41303, "the message is too long", error=SinkRejected),
    Refusal(40057, "the title is too long", error=SinkRejected),
    Refusal(40011, "the message is not valid", error=SinkRejected),
    Refusal(40017, "the message is not valid", error=SinkRejected),
    Refusal(40018, "the message's buttons are not valid", error=SinkRejected),
    Refusal(40024, "the message is not valid", error=SinkRejected),
    Refusal(42901, "rate limit exceeded; lower the sink's `rate`", wait=timedelta(minutes=1)),
    Refusal(42908, "the day's quota of messages is used up", wait=timedelta(hours=1)),
)


@dataclass(eq=False, repr=False, kw_only=True)
class NtfySink(ChatSink):
    """One message for each event; a repeat has the same ``sequence_id`` and replaces what it repeats.

    Published as JSON at the server's root, because headers hold no other alphabet. Sources: ntfy, "Publish as JSON",
    "Updating notifications", "Limitations" (docs.ntfy.sh/publish); the error codes, ``server/errors.go``; the limit
    of titles, release 2.28.0.
    """

    topic: str
    token: str = ""

    @property
    def target(self) -> str:
        """What tells this topic from others of the server."""
        return self.gateway.target_of(self.topic)

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self.voice, PLAIN, now=now, fits=_fits)
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
        action = {"action": "view", "label": self.voice.words.open_ticket, "url": url}
        return body | {"click": url, "actions": [action]}

    async def _post(self, body: Mapping[str, Any], delivery: Delivery, *, now: datetime) -> Answer:  # noqa: ARG002
        # A preview lacks the topic: whoever knows it can read along.
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else None
        return await self.gateway.post({"topic": self.topic, **body}, now=now, headers=headers)

    def _judge(self, answer: Answer) -> None:
        if answer.is_success and answer.words("id"):
            return
        code = answer.number("code")
        if not code:
            raise self.gateway.unexpected(answer)
        raise self.gateway.refusal(code, answer.words("error"), REFUSALS, wait=answer.retry_after)


def _fits(_title: str, text: str) -> bool:
    return len(text.encode()) <= _LIMIT_BYTES
