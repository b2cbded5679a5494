"""Tell a group of Feishu or Lark through its custom bot."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import LARK, without_lark_tags
from watcher.chat.message import Message, Part
from watcher.chat.sink import ChatSink
from watcher.envelope import as_json
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event, Language

# "20 KB" of the whole request.
_LIMIT_BYTES = 20_000
# As long as what a signature adds.
_SIGNED = {"timestamp": "0" * 10, "sign": "0" * 44}
_PAUSE = timedelta(minutes=1)
_TOO_FAST = "rate limit exceeded; lower the sink's `rate`"
_LANGUAGES = {Language.ENGLISH: "en_us", Language.CHINESE: "zh_cn"}

REFUSALS = (
    Refusal(19001, "unknown bot; copy its address again"),
    Refusal(19021, "the signature is refused; check `secret`, and whether the clock of this machine is right"),
    Refusal(19022, "this machine's address is not on the bot's list of allowed addresses"),
    Refusal(19024, "the bot requires a keyword; write it as the sink's `keyword`"),
    Refusal(11232, _TOO_FAST, wait=_PAUSE),
    Refusal(9499, _TOO_FAST, when="frequency limited", wait=_PAUSE),
    Refusal(9499, _TOO_FAST, when="too many", wait=_PAUSE),
    Refusal(9499, "the message is not valid", error=SinkRejected),
)


@dataclass(eq=False, repr=False, kw_only=True)
class FeishuSink(ChatSink):
    """One rich text for each event, or a card where the user has a template; a repeat is the same text.

    Source: Feishu, "Custom bot usage guide" (open.feishu.cn/document/client-docs/bot-v3/add-custom-bot; Lark's page
    on open.larksuite.com says the same); 19001 is not on that page, but what the gateway answers.
    """

    secret: str = ""
    keyword: str = ""
    mention: Sequence[str] = ()

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        if "text" in self.voice.own:
            said = chat.say(event, self.voice, LARK, now=now, fits=lambda *said: self._fits(self._card(*said)))
            return self._card(said.title, said.text)
        whole = chat.draft(event, self.voice, now=now)
        return self._rich_text(chat.fit(whole, lambda message: self._fits(self._rich_text(message))))

    async def _post(self, body: Mapping[str, Any], delivery: Delivery, *, now: datetime) -> Answer:  # noqa: ARG002
        signature = signed(self.secret, now) if self.secret else {}
        return await self.gateway.post(signature | dict(body), now=now)

    def _judge(self, answer: Answer) -> None:
        self.gateway.judge(answer, REFUSALS, code="code", words="msg")

    def _fits(self, body: Mapping[str, Any]) -> bool:
        reserved = len(as_json(_SIGNED | {"text": self.keyword}))
        return len(as_json(body)) + reserved <= _LIMIT_BYTES

    # --- rich text ----------------------------------------------------------------------------------------

    def _rich_text(self, message: Message) -> dict[str, Any]:
        paragraphs = [nodes for part in message.parts for nodes in _paragraphs(part, message)]
        if message.left_out:
            paragraphs.append([_text(message.more.format(count=message.left_out))])
        if self.mention:
            paragraphs.append([{"tag": "at", "user_id": user} for user in self.mention])
        title = without_lark_tags(message.title)
        if self.keyword not in title + "\n".join(node.get("text", "") for nodes in paragraphs for node in nodes):
            paragraphs.append([_text(self.keyword)])
        content = {_LANGUAGES[self.voice.language]: {"title": title, "content": paragraphs}}
        return {"msg_type": "post", "content": {"post": content}}

    # --- a card with the user's own Markdown --------------------------------------------------------------

    def _card(self, title: str, text: str) -> dict[str, Any]:
        mentions = " ".join(f"<at id={user}></at>" for user in self.mention)
        whole = "\n".join(filter(None, (text, mentions)))
        if self.keyword not in title:
            whole = chat.with_keyword(whole, self.keyword)
        return {
            "msg_type": "interactive",
            "card": {
                "header": {"title": {"tag": "plain_text", "content": title}},
                "elements": [{"tag": "markdown", "content": whole}],
            },
        }


def _paragraphs(part: Part, message: Message) -> list[list[dict[str, str]]]:
    """Return one event as paragraphs of nodes; in a digest, with its own headline."""
    facts = [_text(" · ".join(part.facts) + (" · " if part.url else ""))]
    if part.url:
        facts.append({"tag": "a", "text": message.open, "href": part.url})
    lines = [f"• {part.headline}"] if message.is_digest else []
    return [*([_text(line)] for line in (*lines, part.quoted) if line), facts]


def _text(text: str) -> dict[str, str]:
    return {"tag": "text", "text": without_lark_tags(text)}


def signed(secret: str, now: datetime) -> dict[str, Any]:
    """Return what the body carries for a bot with a secret: HMAC-SHA256 over nothing, keyed by seconds and secret."""
    timestamp = str(int(now.timestamp()))
    digest = hmac.digest(f"{timestamp}\n{secret}".encode(), b"", "sha256")
    return {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}
