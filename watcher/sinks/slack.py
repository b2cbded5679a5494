"""Tell a channel of Slack through an incoming webhook."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from watcher.chat import message as chat
from watcher.chat.gateway import Answer, Refusal
from watcher.chat.markup import MRKDWN
from watcher.chat.sink import ChatSink
from watcher.errors import SinkRejected
from watcher.model import Event

_LIMIT_CHARS = 4000
_TAKEN = "ok"
_TO_EVERYBODY = {"channel", "here", "everyone"}
_REMOVED = "the webhook has been removed or switched off; add it again and write its new address"

# The gateway's words are its codes.
REFUSALS = (
    Refusal("no_service", _REMOVED),
    Refusal("no_service_id", _REMOVED),
    Refusal("no_active_hooks", _REMOVED),
    Refusal("invalid_token", "the address is not valid; copy the webhook's address again"),
    Refusal("no_team", "the workspace does not exist; copy the webhook's address again"),
    Refusal("team_disabled", "the workspace is switched off"),
    Refusal("channel_not_found", "the channel no longer exists; add a webhook for another and write its address"),
    Refusal("channel_is_archived", "the channel is archived; unarchive it, or write the webhook of another"),
    Refusal("action_prohibited", "an administrator does not let the webhook post; ask them"),
    Refusal("posting_to_general_channel_denied", "an administrator lets only some post to #general; ask them"),
    Refusal("user_not_found", "the person whom the webhook writes to does not exist"),
    Refusal("invalid_payload", "the message is not valid", error=SinkRejected),
    Refusal("no_text", "the message has no text", error=SinkRejected),
    Refusal("rollup_error", "an error inside the service"),
)
_CODES = {refusal.code for refusal in REFUSALS}


@dataclass(eq=False, repr=False, kw_only=True)
class SlackSink(ChatSink):
    """One message in Slack's mrkdwn for each event; a repeat is the same text.

    Sources: Slack, "Sending messages using incoming webhooks", "Changes to errors for incoming webhooks", "Rate
    limits", "Unfurling links in messages" (docs.slack.dev).
    """

    mention: Sequence[str] = ()

    def _body(self, event: Event, *, now: datetime) -> dict[str, Any]:
        said = chat.say(event, self.voice, MRKDWN, now=now, fits=self._fits)
        # Slack's servers would fetch what a reply links to.
        return {"text": self._written(said.text), "unfurl_links": False, "unfurl_media": False}

    def _judge(self, answer: Answer) -> None:
        words = answer.text.strip()
        if answer.status == HTTPStatus.OK and words == _TAKEN:
            return
        if words in _CODES:
            raise self.gateway.refusal(words, words, REFUSALS, wait=answer.retry_after)
        raise self.gateway.unexpected(answer)

    def _fits(self, _title: str, text: str) -> bool:
        return len(self._written(text)) <= _LIMIT_CHARS

    def _written(self, text: str) -> str:
        mentions = " ".join(f"<!{who}>" if who in _TO_EVERYBODY else f"<@{who}>" for who in self.mention)
        return "\n".join(filter(None, (text, mentions)))
