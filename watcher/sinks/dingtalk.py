"""Tell a DingTalk group through its custom robot."""

import base64
import hmac
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Gateway, Refusal, seal, show, whole
from watcher.chat.markup import MARKDOWN
from watcher.errors import SinkGone, SinkRejected
from watcher.model import Delivery, Event
from watcher.render import Voice

#: 20 messages a minute are let through; the 21st costs ten minutes of silence.
SPACING = timedelta(minutes=1) / 18
_BANISHMENT = timedelta(minutes=10)
# The page names no limit; longer messages are known to be refused.
_LIMIT_BYTES = 20_000
_MAINLAND = "+86-"
_TOO_FAST = "it was sent too much in a minute and takes nothing for ten; lower the sink's `rate`"
_CONTENT = "the content is refused"
_UNKNOWN = "it knows no such access_token; copy the robot's address again"

REFUSALS = (
    Refusal(310000, "the robot insists on a keyword; write it as the sink's `keyword`", when="keyword"),
    Refusal(310000, "the signature is refused; check `secret` against the robot's page", when="sign not match"),
    Refusal(310000, "the time of the signature is refused; is the clock of this machine right?", when="timestamp"),
    Refusal(310000, "this machine's address is not among those that the robot lets in", when="whitelist"),
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
    Refusal(-1, "it is busy"),
)


class DingTalkSink:
    """One Markdown message for each event; the robot recognises a repeat by its ``msgUuid``.

    Source: DingTalk, "Custom robots send group messages" and "Security settings of custom robots"
    (open.dingtalk.com/document/robots/custom-robot-access); the codes 130101, 300001, 300005 and 660026 are not on
    that page, but what the gateway answers.
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
        # The page shows numbers of the mainland without their country.
        self._mobiles = [number.removeprefix(_MAINLAND) for number in mention if number != "all"]
        self._mentions_all = "all" in mention

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; only ``errcode`` 0 counts as taken."""
        event = whole(delivery)
        body = self._body(event, now=now)
        # Who asked for it to be sent again wants to see it again.
        sealed = seal(body if delivery.replay else body | {"msgUuid": event.id})
        query = signed(self._secret, now) if self._secret else None
        answer = await self._gateway.post(sealed, now=now, query=query)
        self._gateway.judge(answer, REFUSALS, code="errcode", words="errmsg")

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted; the signature would stand in the address."""
        return show(self._body(event, now=now))

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self._voice, MARKDOWN, now=now, fits=self._fits)
        return self._written(said.title, said.text)

    def _fits(self, title: str, text: str) -> bool:
        reserved = len(seal({"msgUuid": "-" * 30, "text": self._keyword}))
        return len(seal(self._written(title, text))) + reserved <= _LIMIT_BYTES

    def _written(self, title: str, text: str) -> dict[str, Any]:
        # Nobody is mentioned whose number is not in the text, too.
        mentions = " ".join(f"@{number}" for number in self._mobiles)
        whole = chat.with_keyword("\n\n".join(filter(None, (text, mentions))), self._keyword)
        return {
            "msgtype": "markdown",
            "markdown": {"title": title, "text": whole},
            "at": {"atMobiles": self._mobiles, "isAtAll": self._mentions_all},
        }


def signed(secret: str, now: datetime) -> dict[str, str]:
    """Return what the address carries for a robot with a secret: HMAC-SHA256 over milliseconds and secret."""
    timestamp = str(round(now.timestamp() * 1000))
    digest = hmac.digest(secret.encode(), f"{timestamp}\n{secret}".encode(), "sha256")
    return {"timestamp": timestamp, "sign": base64.b64encode(digest).decode()}
