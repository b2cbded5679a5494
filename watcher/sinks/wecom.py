"""Tell a group of WeCom (WeChat Work) through its robot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import MARKDOWN
from watcher.chat.sink import ChatSink
from watcher.errors import SinkRejected
from watcher.model import Event

_LIMIT_BYTES = 4096

REFUSALS = (
    Refusal(93000, "the message is too long", when="exceed max length", error=SinkRejected),
    Refusal(93000, "unknown robot; copy its address again"),
    Refusal(45009, "rate limit exceeded; lower the sink's `rate`", wait=timedelta(minutes=1)),
    Refusal(40058, "the message is not valid", error=SinkRejected),
    Refusal(40008, "this type of message is not known", error=SinkRejected),
    Refusal(-1, "the service is busy"),
)


@dataclass(eq=False, repr=False, kw_only=True)
class WecomSink(ChatSink):
    """One Markdown message for each event; a repeat is the same text.

    Source: WeCom, "Group robots" (developer.work.weixin.qq.com/document/path/91770) and "Global error codes"
    (path/90313).
    """

    mention: Sequence[str] = ()

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self.voice, MARKDOWN, now=now, fits=self._fits)
        return {"msgtype": "markdown", "markdown": {"content": self._written(said.text)}}

    def _judge(self, answer: Answer) -> None:
        self.gateway.judge(answer, REFUSALS, code="errcode", words="errmsg")

    def _fits(self, _title: str, text: str) -> bool:
        return len(self._written(text).encode()) <= _LIMIT_BYTES

    def _written(self, text: str) -> str:
        mentions = " ".join(f"<@{user}>" for user in self.mention)
        return "\n\n".join(filter(None, (text, mentions)))
