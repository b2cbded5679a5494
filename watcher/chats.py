"""From the chats of the configuration to sinks: part of the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import aiohttp

from watcher.chat.gateway import Gateway
from watcher.config import sinks as models
from watcher.config.values import SecretRef, check_url
from watcher.errors import ConfigError
from watcher.ports import Sink
from watcher.render import Voice
from watcher.sinks import dingtalk, feishu, ntfy, slack, telegram, wecom
from watcher.sinks.dingtalk import DingTalkSink
from watcher.sinks.feishu import FeishuSink
from watcher.sinks.ntfy import NtfySink
from watcher.sinks.slack import SlackSink
from watcher.sinks.telegram import TelegramSink
from watcher.sinks.wecom import WecomSink

#: Return a value's text, or the second one where secrets are hidden.
Reveal = Callable[[SecretRef | str | None, str], str]
#: Return the error that says what is wrong with a key of the sink.
Complain = Callable[[str, str], ConfigError]


@dataclass(frozen=True, kw_only=True)
class ChatBuilder:
    """Builds the sink of one chat; raises ``ConfigError`` with the place of what is wrong."""

    name: str
    session: aiohttp.ClientSession
    voice: Voice
    proxy: str | None
    reveal: Reveal
    complain: Complain

    def build(self, model: models.ChatModel) -> Sink:
        """Return the sink."""
        match model:
            case models.DingTalkModel():
                secret = self.reveal(model.secret, "secret")
                return DingTalkSink(
                    self._gateway(model, self._robot(model.webhook), "DingTalk", secret),
                    name=self.name,
                    voice=self.voice,
                    secret=secret,
                    keyword=model.keyword or "",
                    mention=model.mention,
                    spacing=_spacing(model, dingtalk.SPACING),
                )
            case models.FeishuModel():
                secret = self.reveal(model.secret, "secret")
                return FeishuSink(
                    self._gateway(model, self._robot(model.webhook), "Feishu", secret),
                    name=self.name,
                    voice=self.voice,
                    secret=secret,
                    keyword=model.keyword or "",
                    mention=model.mention,
                    spacing=_spacing(model, feishu.SPACING),
                )
            case models.WecomModel():
                return WecomSink(
                    self._gateway(model, self._robot(model.webhook), "WeCom"),
                    name=self.name,
                    voice=self.voice,
                    mention=model.mention,
                    spacing=_spacing(model, wecom.SPACING),
                )
            case models.SlackModel():
                return SlackSink(
                    self._gateway(model, self._robot(model.webhook), "Slack"),
                    name=self.name,
                    voice=self.voice,
                    mention=model.mention,
                    spacing=_spacing(model, slack.SPACING),
                )
            case models.TelegramModel():
                token = self._bot_token(model.token)
                return TelegramSink(
                    self._gateway(model, telegram.address(model.api, token), "Telegram", token),
                    name=self.name,
                    voice=self.voice,
                    chat_id=model.chat,
                    spacing=_spacing(model, telegram.SPACING),
                )
            case models.NtfyModel():
                server, _, topic = self._topic(model.url).rpartition("/")
                token = self.reveal(model.token, "secret")
                return NtfySink(
                    self._gateway(model, f"{server}/", "ntfy", topic, token),
                    name=self.name,
                    voice=self.voice,
                    topic=topic,
                    token=token,
                    spacing=_spacing(model, ntfy.SPACING),
                )
            case _:
                raise NotImplementedError(type(model).__name__)

    def _gateway(self, model: models.ChatModel, url: str, service: str, *secrets: str) -> Gateway:
        return Gateway(self.session, url, service=service, timeout=model.timeout, proxy=self.proxy, secrets=secrets)

    def _robot(self, reference: SecretRef) -> str:
        """Return a robot's address, checked."""
        url = self.reveal(reference, "https://secret.invalid/")
        try:
            return check_url(url, schemes=("http", "https"), plain_only_to_loopback=True, is_secret=True)
        except ValueError as error:
            raise self.complain("webhook", str(error)) from error

    def _bot_token(self, reference: SecretRef) -> str:
        token = self.reveal(reference, "0:secret")
        if not telegram.is_token(token):
            raise self.complain("token", "not a bot's token; it looks like `123456:ABC-DEF...`")
        return token

    def _topic(self, value: SecretRef | str) -> str:
        try:
            return models.check_topic_url(self.reveal(value, "https://secret.invalid/topic"), is_secret=True)
        except ValueError as error:
            raise self.complain("url", str(error)) from error


def _spacing(model: models.ChatModel, default: timedelta) -> timedelta:
    """Return how long to wait from one message to the next."""
    return timedelta(seconds=1 / model.rate) if model.rate else default
