"""Tell a chat of Telegram through a bot."""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Gateway, Refusal, seal, show, whole
from watcher.chat.markup import TELEGRAM_HTML
from watcher.errors import SinkRejected
from watcher.model import Delivery, Event
from watcher.render import Voice

#: 20 messages a minute are let through to a group, and one a second to anybody.
SPACING = timedelta(minutes=1) / 18
# Of UTF-16, which entities are counted in; what a reader sees is shorter than its markup.
_LIMIT_UNITS = 4096

REFUSALS = (
    Refusal(
        400, "it does not know the chat; check `chat`, and write to the bot or add it first", when="chat not found"
    ),
    Refusal(400, "the group has become a supergroup; write its new number as `chat`", when="upgraded to a supergroup"),
    Refusal(400, "the bot may not write there; let it in the chat's permissions", when="not enough rights"),
    Refusal(400, "the bot may not write there; let it in the chat's permissions", when="have no rights"),
    Refusal(400, "the message's markup is not valid; check the `text` template", when="can't parse entities"),
    Refusal(400, "the message is too long", when="message is too long", error=SinkRejected),
    Refusal(400, "the message is empty; check the `text` template", when="text is empty", error=SinkRejected),
    Refusal(401, "it knows no such bot; check `token`"),
    Refusal(403, "the bot is blocked or not in the chat; unblock it, or add it again"),
    Refusal(404, "it knows no such bot; check `token` and `api`"),
    Refusal(429, "it was sent too much; lower the sink's `rate`"),
)


class TelegramSink:
    """One message in Telegram's HTML for each event; a repeat is the same text.

    Sources: Telegram Bot API, "Making requests", "sendMessage", "ResponseParameters", "HTML style"
    (core.telegram.org/bots/api); "My bot is hitting limits" (core.telegram.org/bots/faq). The descriptions of errors
    are those that the server answers; the page says that they may change.
    """

    parallel = 1
    most_at_once = 1

    def __init__(
        self,
        gateway: Gateway,
        *,
        name: str,
        voice: Voice,
        chat_id: str,
        spacing: timedelta = SPACING,
    ) -> None:
        self.name = name
        self.target = sha256(f"{gateway.target} {chat_id}".encode()).hexdigest()
        self.spacing = spacing
        self._gateway = gateway
        self._voice = voice
        self._chat_id = chat_id

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only an ``ok`` that is true counts as taken."""
        answer = await self._gateway.post(seal(self._body(whole(delivery), now=now)), now=now)
        if answer.data.get("ok") is True and answer.is_success:
            return
        code = answer.number("error_code")
        if answer.data.get("ok") is not False or code is None:
            raise self._gateway.unexpected(answer)
        raise self._gateway.refusal(code, answer.words("description"), REFUSALS, wait=_asked_wait(answer))

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted."""
        return show(self._body(event, now=now))

    def _body(self, event: Event, *, now: datetime) -> Mapping[str, Any]:
        said = chat.say(event, self._voice, TELEGRAM_HTML, now=now, fits=_fits)
        body = {"chat_id": self._chat_id, "text": said.text, "link_preview_options": {"is_disabled": True}}
        # Half of somebody's markup would be refused; as plain text it is not pretty, but there.
        return body if said.is_torn else body | {"parse_mode": "HTML"}


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
