"""The models of chats: robots and bots that let through few messages a minute."""

import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from watcher.config.common import HttpUrl, TimedModel, TitledModel
from watcher.config.values import Rate, SecretRef, Text, check_url, type_list

_MINUTE = timedelta(minutes=1)


class ChatModel(TitledModel, TimedModel):
    """What chats have in common."""

    #: How many messages are sent where the file says nothing.
    usual_a_minute: ClassVar[int]
    #: How many the service lets through, where that is known.
    most_a_minute: ClassVar[int | None] = None
    #: Whether a message has a title beside its text.
    has_title: ClassVar[bool] = True

    rate: Rate | None = None
    """Messages that may be sent, e.g. `18/min`; what waits is told as one. Absent, what the service allows."""
    proxy: HttpUrl | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""

    @property
    def spacing(self) -> timedelta:
        """How long to wait from one message to the next."""
        return timedelta(seconds=1 / self.rate) if self.rate else _MINUTE / self.usual_a_minute

    @field_validator("rate")
    @classmethod
    def _is_let_through(cls, value: float | None) -> float | None:
        most = cls.most_a_minute
        if value and most and round(value * _MINUTE.total_seconds(), 3) > most:
            raise ValueError(f"the service lets through {most} messages a minute; write `{most}/min` or less")
        return value

    @model_validator(mode="after")
    def _loses_no_title(self) -> "ChatModel":
        if self.subject and self.text and not self.has_title:
            raise ValueError(
                "a message here has no title beside its `text`; leave out `subject`, and write the title in `text` "
                "(`{{ headline }}` is our own)"
            )
        return self


class RobotModel(ChatModel):
    """What the chats have in common whose robots are called at an address of their own."""

    #: What a person looks like in `mention`, and how to say that one does not.
    person_pattern: ClassVar[str]
    person_is: ClassVar[str]

    webhook: SecretRef
    """The robot's address, with the key in it."""
    mention: Annotated[list[Text], type_list] = []
    """The people to mention."""

    @field_validator("mention")
    @classmethod
    def _are_people(cls, value: list[str]) -> list[str]:
        for person in value:
            if not re.fullmatch(cls.person_pattern, person):
                raise ValueError(f"`{person}` is not {cls.person_is}")
        return value


class SigningRobotModel(RobotModel):
    """What the robots have in common that may insist on a signature or on a word."""

    secret: SecretRef | None = None
    """The robot's signing secret, if it was set up with one."""
    keyword: Text | None = None
    """A word that the robot insists on; it is added where it is missing."""


class DingTalkModel(SigningRobotModel):
    """A custom robot of a DingTalk group."""

    # The 21st message of a minute costs ten minutes of silence.
    usual_a_minute = 18
    most_a_minute = 20
    person_pattern = r"(\+[0-9]{1,4}-)?[0-9]{5,15}|all"
    person_is = "a mobile number; write for example `13800000000`, `+852-51234567` or `all`"

    type: Literal["dingtalk"]
    mention: Annotated[list[Text], type_list] = []
    """Mobile numbers of the people to mention, or `all`."""


class FeishuModel(SigningRobotModel):
    """A custom bot of a Feishu or Lark group."""

    # 5 messages a second, too.
    usual_a_minute = 90
    most_a_minute = 100
    person_pattern = "ou_[A-Za-z0-9_-]+|all"
    person_is = "an open id; write for example `ou_1a2b3c` or `all`"

    type: Literal["feishu"]
    mention: Annotated[list[Text], type_list] = []
    """Open ids (`ou_...`) of the people to mention, or `all`."""


class WecomModel(RobotModel):
    """A group robot of WeCom (WeChat Work)."""

    usual_a_minute = 18
    most_a_minute = 20
    has_title = False
    person_pattern = r"(?!all$)[A-Za-z0-9][A-Za-z0-9_.@-]*"
    person_is = "a user id; write it as the administration lists it (Markdown messages cannot mention everybody)"

    type: Literal["wecom"]
    mention: Annotated[list[Text], type_list] = []
    """User ids of the people to mention."""


class SlackModel(RobotModel):
    """An incoming webhook of Slack."""

    usual_a_minute = 60
    most_a_minute = 60
    has_title = False
    person_pattern = "[UW][A-Z0-9]+|channel|here|everyone"
    person_is = "a member id; write for example `U012AB3CD`, `channel` or `here`"

    type: Literal["slack"]
    mention: Annotated[list[Text], type_list] = []
    """Member ids (`U...`) of the people to mention, or `channel`, `here`."""


class TelegramModel(ChatModel):
    """A bot of Telegram."""

    # 20 messages a minute are let through to a group, and one a second to anybody.
    usual_a_minute = 18
    most_a_minute = 60
    has_title = False

    type: Literal["telegram"]
    token: SecretRef
    chat: Text
    """The chat's number, or `@channel`."""
    api: Text = "https://api.telegram.org"
    """Another server of the Bot API."""

    @field_validator("api")
    @classmethod
    def _is_private(cls, value: str) -> str:
        return check_url(value, schemes=("http", "https"), plain_only_to_loopback=True)

    @field_validator("chat")
    @classmethod
    def _is_chat(cls, value: str) -> str:
        if not re.fullmatch("-?[0-9]+|@[A-Za-z0-9_]+", value):
            raise ValueError(f"`{value}` is not a chat; write its number, for example `-1001234567890`, or `@channel`")
        return value


class NtfyModel(ChatModel):
    """A topic of an ntfy server."""

    # A visitor's requests grow back one in five seconds.
    usual_a_minute = 12

    type: Literal["ntfy"]
    url: SecretRef | Text
    """The topic's address, e.g. `https://ntfy.example/tickets`."""
    token: SecretRef | None = None

    @field_validator("url")
    @classmethod
    def _is_topic(cls, value: SecretRef | str) -> SecretRef | str:
        return value if isinstance(value, SecretRef) else check_topic_url(value)


Chat = DingTalkModel | FeishuModel | WecomModel | SlackModel | TelegramModel | NtfyModel


def check_topic_url(url: str, *, is_secret: bool = False) -> str:
    """Return the address of an ntfy topic as it is, or raise ``ValueError`` with what to write."""
    check_url(url, schemes=("http", "https"), plain_only_to_loopback=True, is_secret=is_secret)
    parts = urlsplit(url)
    if parts.query or parts.fragment or not re.fullmatch("[-_A-Za-z0-9]{1,64}", parts.path.rpartition("/")[2]):
        raise ValueError("not the address of a topic; write for example `https://ntfy.example/tickets`")
    return url
