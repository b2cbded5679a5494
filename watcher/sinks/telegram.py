"""Tell a chat of Telegram through a bot."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import TELEGRAM_HTML
from watcher.chat.sink import ChatSink
from watcher.errors import SinkRejected
from watcher.model import Event

# Of UTF-16, which entities are counted in; what a reader sees is shorter than its markup.
_LIMIT_UNITS = 4096

_NO_RIGHT = "the bot has no permission to write; ask an administrator of the chat for it"

REFUSALS = (
    Refusal(400, "unknown chat; check `chat`, and write to the bot or add it to the group", when="chat not found"),
    Refusal(400, "the group has become a supergroup; write its new number as `chat`", when="upgraded to a supergroup"),
    Refusal(400, _NO_RIGHT, when="not enough rights"),
    Refusal(400, _NO_RIGHT, when="have no rights"),
    Refusal(400, "the message's markup is not valid; check the `text` template", when="can't parse entities"),
    Refusal(400, "the message is too long", when="message is too long", error=SinkRejected),
    Refusal(400, "the message is empty; check the `text` template", when="text is empty", error=SinkRejected),
    Refusal(401, "unknown bot; copy its token again"),
    Refusal(403, "the bot is blocked or not in the chat; unblock it, or add it again"),
    Refusal(404, "unknown bot; copy its token again and check `api`"),
    Refusal(429, "rate limit exceeded; lower the sink's `rate`"),
)


@dataclass(eq=False, repr=False, kw_only=True)
class TelegramSink(ChatSink):
    """One message in Telegram's HTML for each event; a repeat is the same text.

    Sources: Telegram Bot API, "Making requests", "sendMessage", "ResponseParameters", "HTML style"
    (core.telegram.org/bots/api); "My bot is hitting limits" (core.telegram.org/bots/faq). The descriptions of errors
    are those that the server answers; the page says that they may change.
    """

    chat_id: str

    @property
    def target(self) -> str:
        """What tells this chat from others of the bot."""
        return self.gateway.target_of(self.chat_id)

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self.voice, TELEGRAM_HTML, now=now, fits=_fits)
        body = {"chat_id": self.chat_id, "text": said.text, "link_preview_options": {"is_disabled": True}}
        # Half of somebody's markup would be refused; as plain text it is not pretty, but there.
        return body if said.is_torn else body | {"parse_mode": "HTML"}

    def _judge(self, answer: Answer) -> None:
        if answer.data.get("ok") is True and answer.is_success:
            return
        code = answer.number("error_code")
        if answer.data.get("ok") is not False or code is None:
            raise self.gateway.unexpected(answer)
        raise self.gateway.refusal(code, answer.words("description"), REFUSALS, wait=_asked_wait(answer))


def address(api: str, token: str) -> str:
    """Return where a bot's messages are sent."""
    return f"{api.rstrip('/')}/bot{token}/sendMessage"


def is_token(text: str) -> bool:
    """Tell whether this looks like a bot's token, which becomes a part of the address."""
    return re.fullmatch(r"[0-9]+:[A-Za-z0-9_-]+", text) is not None


def _fits(_title: str, text: str) -> bool:
    return len(text.encode("utf-16-le")) // 2 <= _LIMIT_UNITS


def _asked_wait(answer: Answer) -> timedelta | None:
    parameters = answer.data.get("parameters")
    seconds = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if isinstance(seconds, int) and 0 <= seconds <= timedelta.max.total_seconds():
        return timedelta(seconds=seconds)
    return answer.retry_after
