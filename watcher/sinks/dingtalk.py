"""Tell a DingTalk group through its custom robot."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import MARKDOWN
from watcher.chat.sink import ChatSink
from watcher.envelope import as_json
from watcher.errors import SinkGone, SinkRejected
from watcher.model import Delivery, Event

# The 21st message of a minute costs as much silence.
_BANISHMENT = timedelta(minutes=10)
# The page names no limit; longer messages are known to be refused.
_LIMIT_BYTES = 20_000
_MAINLAND = "+86-"
_EVERYBODY = "all"
_TOO_FAST = "rate limit exceeded; messages are refused for 10 minutes; lower the sink's `rate`"
_CONTENT = "the content is refused"
_UNKNOWN = "unknown access_token; copy the robot's address again"

REFUSALS = (
    Refusal(310000, "the robot requires a keyword; write it as the sink's `keyword`", when="keyword"),
    Refusal(310000, "the signature is refused; check `secret` against the robot's page", when="sign not match"),
    Refusal(310000, "the time of the signature is refused; is the clock of this machine right?", when="timestamp"),
    Refusal(310000, "this machine's address is not on the robot's list of allowed addresses", when="whitelist"),
    Refusal(310000, "the robot's security settings refuse the message"),
    Refusal(300001, _UNKNOWN),
    Refusal(300005, _UNKNOWN),
    Refusal(400101, _UNKNOWN),
    Refusal(40035, "the address lacks its access_token; copy the robot's address again"),
    Refusal(400102, "the robot is switched off; switch it on in the group's settings"),
    Refusal(400106, "the robot is no longer in the group; add it again and write its new address"),
    Refusal(400013, "the group has been dissolved", error=SinkGone),
    Refusal(130101, _TOO_FAST, wait=_BANISHMENT),
    Refusal(410100, _TOO_FAST, wait=_BANISHMENT),
    Refusal(660026, _TOO_FAST, wait=_BANISHMENT),
    Refusal(430101, f"{_CONTENT} for a link in it", error=SinkRejected),
    Refusal(430102, f"{_CONTENT} for its words", error=SinkRejected),
    Refusal(430103, f"{_CONTENT} for a picture in it", error=SinkRejected),
    Refusal(430104, _CONTENT, error=SinkRejected),
    Refusal(-1, "the service is busy"),
)


@dataclass(eq=False, repr=False, kw_only=True)
class DingTalkSink(ChatSink):
    """One Markdown message for each event; the robot recognises a repeat by its ``msgUuid``.

    Source: DingTalk, "Custom robots send group messages" and "Security settings of custom robots"
    (open.dingtalk.com/document/robots/custom-robot-access); the codes 130101, 300001, 300005 and 660026 are not on
    that page, but what the gateway answers.
    """

    secret: str = ""
    keyword: str = ""
    mention: Sequence[str] = ()

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self.voice, MARKDOWN, now=now, fits=self._fits)
        return self._written(said.title, said.text)

    async def _post(self, body: Mapping[str, Any], delivery: Delivery, *, now: datetime) -> Answer:
        # Who asked for it to be sent again wants to see it again.
        identity = {} if delivery.replay else {"msgUuid": delivery.event.id}
        query = signed(self.secret, now) if self.secret else None
        return await self.gateway.post({**body, **identity}, now=now, query=query)

    def _judge(self, answer: Answer) -> None:
        self.gateway.judge(answer, REFUSALS, code="errcode", words="errmsg")

    def _fits(self, title: str, text: str) -> bool:
        reserved = len(as_json({"msgUuid": "-" * 30, "text": self.keyword}))
        return len(as_json(self._written(title, text))) + reserved <= _LIMIT_BYTES

    def _written(self, title: str, text: str) -> dict[str, Any]:
        # The page shows numbers of the mainland without their country.
        mobiles = [number.removeprefix(_MAINLAND) for number in self.mention if number != _EVERYBODY]
        # Nobody is mentioned whose number is not in the text, too.
        mentions = " ".join(f"@{number}" for number in mobiles)
        whole = chat.with_keyword("\n\n".join(filter(None, (text, mentions))), self.keyword)
        return {
            "msgtype": "markdown",
            "markdown": {"title": title, "text": whole},
            "at": {"atMobiles": mobiles, "isAtAll": _EVERYBODY in self.mention},
        }


def signed(secret: str, now: datetime) -> dict[str, str]:
    """Return what the address carries for a robot with a secret: HMAC-SHA256 over milliseconds and secret."""
    timestamp = str(round(now.timestamp() * 1000))
    digest = hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), "sha256")
    return {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}
