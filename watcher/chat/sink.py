"""What the sinks of all chats have in common."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from typing import Any

from watcher.chat.gateway import Answer, Gateway
from watcher.model import Delivery, Event
from watcher.ports import event_for_all
from watcher.render import Voice


@dataclass(eq=False, repr=False)
class ChatSink(ABC):
    """One message for each event.

    A service's own class says how a message is written, which answer means that it was taken and, where it is not
    the plain one, how it is posted. What waits is told as one message: chats let through few.
    """

    parallel = 1
    most_at_once = 1

    gateway: Gateway
    _: KW_ONLY
    name: str
    voice: Voice
    #: From one message to the next.
    spacing: timedelta = timedelta()

    @property
    def target(self) -> str:
        """What tells this receiver from others; it gives no key away."""
        return self.gateway.target

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Post the event; raises what the service's answer stands for."""
        body = self._body(event_for_all(delivery), now=now)
        self._judge(await self._post(body, delivery, now=now))

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return the JSON that would be posted, without what is secret in it."""
        return json.dumps(self._body(event, now=now), ensure_ascii=False, indent=2)

    @abstractmethod
    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        """Return the message."""

    async def _post(self, body: Mapping[str, Any], delivery: Delivery, *, now: datetime) -> Answer:  # noqa: ARG002
        """Post the message with whatever a preview does not show."""
        return await self.gateway.post(body, now=now)

    @abstractmethod
    def _judge(self, answer: Answer) -> None:
        """Raise what an answer stands for unless it says success."""
