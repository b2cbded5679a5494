"""Tell a group of WeCom (WeChat Work) through its robot."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Gateway, Refusal, seal, show, whole
from watcher.chat.markup import MARKDOWN
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event
from watcher.render import Voice

#: 20 messages a minute are let through.
SPACING = timedelta(minutes=1) / 18
_LIMIT_BYTES = 4096

REFUSALS = (
    Refusal(93000, "the message is too long", when="exceed max length", error=SinkRejected),
    Refusal(93000, "it knows no such robot; copy the robot's address again"),
    Refusal(45009, "it was sent too much in a minute; lower the sink's `rate`", wait=timedelta(minutes=1)),
    Refusal(40058, "the message is not as it should be", error=SinkRejected),
    Refusal(40008, "it does not know this type of message", error=SinkRejected),
    Refusal(-1, "it is busy"),
)


class WecomSink:
    """One Markdown message for each event; a repeat is the same text.

    Source: WeCom, "Group robots" (developer.work.weixin.qq.com/document/path/91770) and "Global error codes"
    (path/90313).
    """

    parallel = 1
    most_at_once = 1

    def __init__(
        self,
        gateway: Gateway,
        *,
        name: str,
        voice: Voice,
        mention: Sequence[str] = (),
        spacing: timedelta = SPACING,
    ) -> None:
        self.name = name
        self.target = gateway.target
        self.spacing = spacing
        self._gateway = gateway
        self._voice = voice
        self._mentions = " ".join(f"<@{user}>" for user in mention)

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only ``errcode`` 0 counts as taken."""
        answer = await self._gateway.post(seal(self._body(whole(delivery), now=now)), now=now)
        self._gateway.judge(answer, REFUSALS, code="errcode", words="errmsg")

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted."""
        return show(self._body(event, now=now))

    def _body(self, event: Event, *, now: datetime) -> Mapping[str, Any]:
        said = chat.say(event, self._voice, MARKDOWN, now=now, fits=self._fits)
        return {"msgtype": "markdown", "markdown": {"content": self._written(said.text)}}

    def _fits(self, _title: str, text: str) -> bool:
        return len(self._written(text).encode()) <= _LIMIT_BYTES

    def _written(self, text: str) -> str:
        return "\n\n".join(filter(None, (text, self._mentions)))
