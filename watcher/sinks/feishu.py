"""Tell a group of Feishu or Lark through its custom bot."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Gateway, Refusal, seal, show, whole
from watcher.chat.markup import LARK, without_lark_tags
from watcher.chat.message import Message, Part
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event, Language
from watcher.render import Voice

#: 100 messages a minute and 5 a second are let through.
SPACING = timedelta(minutes=1) / 90
# "20 KB" of the whole request.
_LIMIT_BYTES = 20_000
# As long as what a signature adds.
_SIGNED = {"timestamp": "0" * 10, "sign": "0" * 44}
_PAUSE = timedelta(minutes=1)
_TOO_FAST = "it was sent too much; lower the sink's `rate`"
_LANGUAGES = {Language.ENGLISH: "en_us", Language.CHINESE: "zh_cn"}

REFUSALS = (
    Refusal(19001, "it knows no such bot; copy the bot's address again"),
    Refusal(19021, "the signature is refused; check `secret`, and whether the clock of this machine is right"),
    Refusal(19022, "this machine's address is not among those that the bot lets in"),
    Refusal(19024, "the bot insists on a keyword; write it as the sink's `keyword`"),
    Refusal(11232, _TOO_FAST, wait=_PAUSE),
    Refusal(9499, _TOO_FAST, when="frequency limited", wait=_PAUSE),
    Refusal(9499, _TOO_FAST, when="too many", wait=_PAUSE),
    Refusal(9499, "the message is not as it should be", error=SinkRejected),
)


class FeishuSink:
    """One rich text for each event, or a card where the user has a template; a repeat is the same text.

    Source: Feishu, "Custom bot usage guide" (open.feishu.cn/document/client-docs/bot-v3/add-custom-bot; Lark's page
    on open.larksuite.com says the same); 19001 is not on that page, but what the gateway answers.
    """

    parallel = 1
    most_at_once = 1

    def __init__(
        self,
        gateway: Gateway,
        *,
        name: str,
        voice: Voice,
        secret: str = "",
        keyword: str = "",
        mention: Sequence[str] = (),
        spacing: timedelta = SPACING,
    ) -> None:
        self.name = name
        self.target = gateway.target
        self.spacing = spacing
        self._gateway = gateway
        self._voice = voice
        self._secret = secret
        self._keyword = keyword
        self._mention = tuple(mention)

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only ``code`` 0 counts as taken."""
        signature = signed(self._secret, now) if self._secret else {}
        answer = await self._gateway.post(seal(signature | self._body(whole(delivery), now=now)), now=now)
        self._gateway.judge(answer, REFUSALS, code="code", words="msg")

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted, without its signature."""
        return show(self._body(event, now=now))

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        if "text" in self._voice.own:
            said = chat.say(event, self._voice, LARK, now=now, fits=lambda *said: self._fits(self._card(*said)))
            return self._card(said.title, said.text)
        whole = chat.draft(event, self._voice, now=now)
        return self._post(chat.fit(whole, lambda message: self._fits(self._post(message))))

    def _fits(self, body: Mapping[str, Any]) -> bool:
        reserved = len(seal(_SIGNED | {"text": self._keyword}))
        return len(seal(body)) + reserved <= _LIMIT_BYTES

    # --- rich text ----------------------------------------------------------------------------------------

    def _post(self, message: Message) -> dict[str, Any]:
        paragraphs = [nodes for part in message.parts for nodes in _paragraphs(part, message)]
        if message.left_out:
            paragraphs.append([_text(message.more.format(count=message.left_out))])
        if self._mention:
            paragraphs.append([{"tag": "at", "user_id": user} for user in self._mention])
        title = without_lark_tags(message.title)
        if self._keyword not in title + "\n".join(node.get("text", "") for nodes in paragraphs for node in nodes):
            paragraphs.append([_text(self._keyword)])
        content = {_LANGUAGES[self._voice.language]: {"title": title, "content": paragraphs}}
        return {"msg_type": "post", "content": {"post": content}}

    # --- a card with the user's own Markdown --------------------------------------------------------------

    def _card(self, title: str, text: str) -> dict[str, Any]:
        mentions = " ".join(f"<at id={user}></at>" for user in self._mention)
        whole = "\n".join(filter(None, (text, mentions)))
        if self._keyword not in title:
            whole = chat.with_keyword(whole, self._keyword)
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
