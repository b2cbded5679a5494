"""From the chats of the configuration to sinks: part of the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import aiohttp

from watcher.chat.gateway import Gateway
from watcher.chat.sink import ChatSink
from watcher.config import chats as models
from watcher.config.values import SecretRef, check_url
from watcher.errors import ConfigError
from watcher.render import Voice
from watcher.sinks import telegram
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

    def build(self, model: models.Chat) -> ChatSink:
        """Return the sink."""
        match model:
            case models.DingTalkModel():
                return self._signing_robot(DingTalkSink, "DingTalk", model)
            case models.FeishuModel():
                return self._signing_robot(FeishuSink, "Feishu", model)
            case models.WecomModel():
                return self._robot(WecomSink, "WeCom", model)
            case models.SlackModel():
                return self._robot(SlackSink, "Slack", model)
            case models.TelegramModel():
                token = self._bot_token(model.token)
                return TelegramSink(
                    self._gateway(model, telegram.address(model.api, token), "Telegram", token),
                    name=self.name,
                    voice=self.voice,
                    spacing=model.spacing,
                    chat_id=model.chat,
                )
            case models.NtfyModel():
                server, _, topic = self._topic(model.url).rpartition("/")
                token = self.reveal(model.token, "secret")
                return NtfySink(
                    self._gateway(model, f"{server}/", "ntfy", topic, token),
                    name=self.name,
                    voice=self.voice,
                    spacing=model.spacing,
                    topic=topic,
                    token=token,
                )
            case _:
                assert_never(model)

    def _signing_robot(
        self, build: type[DingTalkSink | FeishuSink], service: str, model: models.SigningRobotModel
    ) -> ChatSink:
        secret = self.reveal(model.secret, "secret")
        return build(
            self._gateway(model, self._webhook(model), service, secret),
            name=self.name,
            voice=self.voice,
            spacing=model.spacing,
            secret=secret,
            keyword=model.keyword or "",
            mention=model.mention,
        )

    def _robot(self, build: type[WecomSink | SlackSink], service: str, model: models.RobotModel) -> ChatSink:
        return build(
            self._gateway(model, self._webhook(model), service),
            name=self.name,
            voice=self.voice,
            spacing=model.spacing,
            mention=model.mention,
        )

    def _gateway(self, model: models.ChatModel, url: str, service: str, *secrets: str) -> Gateway:
        return Gateway(self.session, url, service=service, timeout=model.timeout, proxy=self.proxy, secrets=secrets)

    def _webhook(self, model: models.RobotModel) -> str:
        """Return a robot's address, checked."""
        url = self.reveal(model.webhook, "https://secret.invalid/")
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
