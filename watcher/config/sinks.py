"""The shape of the ``sinks`` section of watcher.yaml, one model for each type."""

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from watcher.addresses import is_loopback
from watcher.config.values import (
    Duration,
    FilePath,
    Model,
    Rate,
    SecretRef,
    SigningSecretRef,
    Size,
    Text,
    Zone,
    check_url,
    type_list,
)
from watcher.mail.mailbox import Mailbox, ascii_domain, parse_mailbox
from watcher.model import Content, Language
from watcher.retry import DEFAULT_SCHEDULE

_OWN_VARIABLES = {"WATCHER_EVENT_ID", "WATCHER_EVENT_TYPE", "WATCHER_SINK", "WATCHER_ATTEMPT"}
_USUAL_TIME_LIMIT = timedelta(seconds=20)
_OWN_HEADERS = {
    *("content-type", "content-length", "content-encoding", "host", "transfer-encoding", "connection"),
    *("expect", "te", "trailer", "upgrade", "proxy-authorization"),
}
_OWN_PREFIXES = ("webhook-", "ce-")


class RetryModel(Model):
    """When a delivery that failed is tried again."""

    schedule: Annotated[list[Duration], type_list] = list(DEFAULT_SCHEDULE)
    """The waits after the first, second, ... failed attempt; after the last one the delivery is given up."""


class SinkModel(Model):
    """What every sink may override."""

    content: Content | None = None
    """How much of a reply leaves us."""
    retry: RetryModel | None = None

    @property
    def time_limit(self) -> timedelta:
        """How long one attempt may take."""
        return _USUAL_TIME_LIMIT


class TimedModel(SinkModel):
    """What every sink may override whose attempts have a time limit to choose."""

    timeout: Duration = _USUAL_TIME_LIMIT
    """Time limit of one attempt."""

    @property
    def time_limit(self) -> timedelta:
        """How long one attempt may take."""
        return self.timeout


class TextModel(SinkModel):
    """What every sink that writes for people may override."""

    language: Language | None = None
    """Of the texts that we write: `en` or `zh`."""
    timezone: Zone | None = None
    """For times of day in texts."""
    text: Text | None = None
    """A Jinja2 template for the text, over the event as docs/webhooks.md describes it."""

    def templates(self) -> dict[str, str]:
        """Return the user's templates by the part of the message that they write."""
        parts = ((part, getattr(self, part, None)) for part in ("subject", "text", "html"))
        return {part: source for part, source in parts if source}


class TitledModel(TextModel):
    """What every sink that writes a title and a text may override."""

    subject: Text | None = None
    """A Jinja2 template for the subject or title."""


def _check_proxy(value: SecretRef | str | None) -> SecretRef | str | None:
    return check_url(value, schemes=("https", "http")) if isinstance(value, str) else value


def _check_http_url(value: SecretRef | str) -> SecretRef | str:
    return check_url(value, schemes=("http", "https")) if isinstance(value, str) else value


# --- on this machine --------------------------------------------------------------------------------------


class ConsoleModel(TextModel):
    """Prints to standard output."""

    type: Literal["console"]


class FileModel(SinkModel):
    """Appends JSON lines to a file."""

    type: Literal["file"]
    path: FilePath
    """The file; a relative path starts at the folder of watcher.yaml."""


class ExecModel(TimedModel):
    """Runs a program with the event as JSON on its standard input."""

    type: Literal["exec"]
    command: Annotated[list[Text], Field(min_length=1), type_list]
    """The program and its arguments; no shell is involved. A relative path starts at the folder of watcher.yaml, where
    the program also runs; a bare name is looked for in PATH."""
    env: dict[Text, SecretRef | str] = {}
    """Further environment variables; of the daemon's own, only a few harmless ones are handed on."""

    @field_validator("command")
    @classmethod
    def _is_command(cls, value: list[str]) -> list[str]:
        if any("\0" in word for word in value):
            raise ValueError("no word of a command may hold a NUL character")
        return value

    @field_validator("env")
    @classmethod
    def _are_variables(cls, value: dict[str, SecretRef | str]) -> dict[str, SecretRef | str]:
        for name, text in value.items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"`{name}` is not a name of an environment variable; write letters, digits and `_`")
            if name in _OWN_VARIABLES:
                raise ValueError(f"`{name}` is set by the watcher itself")
            if isinstance(text, str) and "\0" in text:
                raise ValueError(f"the value of `{name}` holds a NUL character")
        return value


class DesktopModel(TitledModel):
    """Shows pop-ups: in the sessions of `users` through `watcher desktop`, or in the daemon's own session.

    What could not be shown within 3 days is given up; it stays in the history.
    """

    type: Literal["desktop"]
    users: Annotated[list[Text], type_list] = []
    """Login names (or numbers) whose sessions show the pop-ups; absent, the user that the daemon runs as."""
    lock_screen: Literal["title", "full", "none"] = "title"
    """What is shown while the session is locked: the title, all, or nothing until it is unlocked."""


# --- programs ---------------------------------------------------------------------------------------------


class TlsModel(Model):
    """How a TLS connection is checked; without it, against the certificates of the system."""

    ca: FilePath | None = None
    """A file of certificates (PEM) to trust instead of the system's."""
    cert: FilePath | None = None
    """The client's own certificate, with its chain (PEM)."""
    key: FilePath | None = None
    """The client's key (PEM); absent, it stands in `cert`."""

    @model_validator(mode="after")
    def _key_of_a_certificate(self) -> "TlsModel":
        if self.key and not self.cert:
            raise ValueError("`key` belongs to a certificate; write `cert` too, or leave both out")
        return self


class WebhookModel(TimedModel):
    """Posts CloudEvents, signed by Standard Webhooks."""

    type: Literal["webhook"]
    url: SecretRef | Text
    format: Literal["cloudevents", "cloudevents-batch", "cloudevents-binary", "json"] = "cloudevents"
    """How the event is written: as one JSON document, as an array, with its attributes in headers, as plain JSON."""
    sign: Annotated[list[SigningSecretRef], Field(max_length=10), type_list] = []
    """Secrets of the form `whsec_...`; with several, each signs, for rotation."""
    headers: dict[Text, str] = {}
    """Further request headers."""
    proxy: SecretRef | Text | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""
    tls: TlsModel | None = None
    private_addresses: Literal["allow", "refuse"] = "allow"
    """`refuse` connects to public addresses only, whatever the host name resolves to, and through no proxy."""

    _proxy = field_validator("proxy")(_check_proxy)
    _url = field_validator("url")(_check_http_url)

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name) or not name.isascii():
                raise ValueError(f"`{name}` is not a header name")
            if not text.isprintable():
                raise ValueError(f"the value of `{name}` holds a character that a header may not hold")
            if name.lower().startswith(_OWN_PREFIXES) or name.lower() in _OWN_HEADERS:
                raise ValueError(f"`{name}` is set by the watcher itself")
        return value

    @model_validator(mode="after")
    def _can_check_what_it_connects_to(self) -> "WebhookModel":
        if self.private_addresses == "refuse" and self.proxy:
            raise ValueError(
                "`private_addresses: refuse` needs a direct connection; leave out `proxy`, or let the proxy refuse them"
            )
        if self.tls and isinstance(self.url, str) and self.url.lower().startswith("http:"):
            raise ValueError("`tls` is for https; write `https://` in `url`, or leave out `tls`")
        return self


# --- mail -------------------------------------------------------------------------------------------------


_IMPLICIT_TLS_PORT = 465


def _parse_mail_address(value: Any) -> Mailbox:
    return value if isinstance(value, Mailbox) else parse_mailbox(str(value))


MailAddress = Annotated[
    Mailbox,
    BeforeValidator(_parse_mail_address),
    WithJsonSchema({"type": "string", "pattern": "@", "examples": ["ops@example.com", "Ops <ops@example.com>"]}),
]


def _is_ip_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


class SmtpModel(Model):
    """The mail server that takes our mail."""

    host: Text
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Absent, 587 for `starttls`, 465 for `implicit`, 25 for `none`."""
    tls: Literal["starttls", "implicit", "none"] = "starttls"
    """`none` only to a loopback address."""
    user: Text | None = None
    password: SecretRef | None = None
    ca: FilePath | None = None
    """A file of certificates (PEM) to trust instead of the system's."""
    timeout: Duration = timedelta(seconds=60)
    """Time limit of one attempt, from the first step to the last answer."""

    @field_validator("host")
    @classmethod
    def _is_host(cls, value: str) -> str:
        try:
            return value if _is_ip_address(value) else ascii_domain(value)
        except ValueError as error:
            raise ValueError(f"`{value}` is not a host name; write for example `smtp.example.com`") from error

    @property
    def default_port(self) -> int:
        """What `port` is if it is absent."""
        return {"starttls": 587, "implicit": 465, "none": 25}[self.tls]

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> "SmtpModel":
        if self.tls == "none" and not is_loopback(self.host):
            raise ValueError("`tls: none` is allowed only to a loopback address; write `starttls` or `implicit`")
        if self.tls == "starttls" and self.port == _IMPLICIT_TLS_PORT:
            raise ValueError("port 465 speaks TLS from the start; write `tls: implicit`")
        if self.user and self.password is None:
            raise ValueError("`user` needs a `password`: {env: NAME}, {file: /path} or the like")
        if self.password and self.user is None:
            raise ValueError("`password` needs a `user`")
        return self


class EmailModel(TitledModel):
    """Sends mail; the mails of one ticket are one thread."""

    type: Literal["email"]
    smtp: SmtpModel
    sender: Annotated[MailAddress, Field(alias="from")]
    """The address that mails come from, with or without a name."""
    to: Annotated[list[MailAddress], Field(min_length=1), type_list]
    """Addresses; each has its own outcome."""
    cc: Annotated[list[MailAddress], type_list] = []
    bcc: Annotated[list[MailAddress], type_list] = []
    reply_to: MailAddress | None = None
    attachments: Literal["link", "fetch"] = "link"
    """`fetch` downloads the files of a reply and encloses them."""
    max_size: Size = 10_000_000
    """Of all files that are fetched for one mail; what is larger stays a link."""
    html: Text | None = None
    """A Jinja2 template for the HTML part."""

    @property
    def time_limit(self) -> timedelta:
        """How long one attempt may take."""
        return self.smtp.timeout


# --- chats ------------------------------------------------------------------------------------------------


def _check_private_url(value: SecretRef | str) -> SecretRef | str:
    if not isinstance(value, str):
        return value
    return check_url(value, schemes=("http", "https"), plain_only_to_loopback=True)


def _check_people(people: list[str], pattern: str, *, what: str) -> list[str]:
    for person in people:
        if not re.fullmatch(pattern, person):
            raise ValueError(f"`{person}` is not {what}")
    return people


class ChatModel(TitledModel, TimedModel):
    """What the robots of chats have in common."""

    most_a_minute: ClassVar[int | None] = None

    rate: Rate | None = None
    """Messages that may be sent, e.g. `18/min`; what waits is told as one. Absent, what the service allows."""
    proxy: SecretRef | Text | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""

    _proxy = field_validator("proxy")(_check_proxy)

    @field_validator("rate")
    @classmethod
    def _is_let_through(cls, value: float | None) -> float | None:
        if value and cls.most_a_minute and round(value * 60, 3) > cls.most_a_minute:
            raise ValueError(f"the service lets through {cls.most_a_minute} messages a minute; write `18/min` or less")
        return value


class DingTalkModel(ChatModel):
    """A custom robot of a DingTalk group."""

    most_a_minute = 20
    type: Literal["dingtalk"]
    webhook: SecretRef
    """The robot's address, with its access_token."""
    secret: SecretRef | None = None
    """The robot's signing secret (`SEC...`), if it was set up with one."""
    keyword: Text | None = None
    """A word that the robot insists on; it is added where it is missing."""
    mention: Annotated[list[Text], type_list] = []
    """Mobile numbers of the people to mention, or `all`."""

    @field_validator("mention")
    @classmethod
    def _are_numbers(cls, value: list[str]) -> list[str]:
        what = "a mobile number; write for example `13800000000`, `+852-51234567` or `all`"
        return _check_people(value, r"(\+[0-9]{1,4}-)?[0-9]{5,15}|all", what=what)


class FeishuModel(ChatModel):
    """A custom bot of a Feishu or Lark group."""

    most_a_minute = 100
    type: Literal["feishu"]
    webhook: SecretRef
    secret: SecretRef | None = None
    """The bot's signing secret, if it was set up with one."""
    keyword: Text | None = None
    """A word that the bot insists on; it is added where it is missing."""
    mention: Annotated[list[Text], type_list] = []
    """Open ids (`ou_...`) of the people to mention, or `all`."""

    @field_validator("mention")
    @classmethod
    def _are_open_ids(cls, value: list[str]) -> list[str]:
        return _check_people(value, "ou_[A-Za-z0-9_-]+|all", what="an open id; write for example `ou_1a2b3c` or `all`")


class WecomModel(ChatModel):
    """A group robot of WeCom (WeChat Work)."""

    most_a_minute = 20
    type: Literal["wecom"]
    webhook: SecretRef
    """The robot's address, with its key."""
    mention: Annotated[list[Text], type_list] = []
    """User ids of the people to mention."""

    @field_validator("mention")
    @classmethod
    def _are_user_ids(cls, value: list[str]) -> list[str]:
        what = "a user id; write it as the administration lists it (Markdown messages cannot mention everybody)"
        return _check_people(value, r"(?!all$)[A-Za-z0-9][A-Za-z0-9_.@-]*", what=what)


class SlackModel(ChatModel):
    """An incoming webhook of Slack."""

    most_a_minute = 60
    type: Literal["slack"]
    webhook: SecretRef
    mention: Annotated[list[Text], type_list] = []
    """Member ids (`U...`) of the people to mention, or `channel`, `here`."""

    @field_validator("mention")
    @classmethod
    def _are_member_ids(cls, value: list[str]) -> list[str]:
        what = "a member id; write for example `U012AB3CD`, `channel` or `here`"
        return _check_people(value, "[UW][A-Z0-9]+|channel|here|everyone", what=what)


class TelegramModel(ChatModel):
    """A bot of Telegram."""

    most_a_minute = 60
    type: Literal["telegram"]
    token: SecretRef
    chat: Text
    """The chat's number, or `@channel`."""
    api: Text = "https://api.telegram.org"
    """Another server of the Bot API."""

    _api = field_validator("api")(_check_private_url)

    @field_validator("chat")
    @classmethod
    def _is_chat(cls, value: str) -> str:
        if not re.fullmatch("-?[0-9]+|@[A-Za-z0-9_]+", value):
            raise ValueError(f"`{value}` is not a chat; write its number, for example `-1001234567890`, or `@channel`")
        return value


class NtfyModel(ChatModel):
    """A topic of an ntfy server."""

    type: Literal["ntfy"]
    url: SecretRef | Text
    """The topic's address, e.g. `https://ntfy.example/tickets`."""
    token: SecretRef | None = None

    @field_validator("url")
    @classmethod
    def _is_topic(cls, value: SecretRef | str) -> SecretRef | str:
        return value if isinstance(value, SecretRef) else check_topic_url(value)


def check_topic_url(url: str, *, is_secret: bool = False) -> str:
    """Return the address of an ntfy topic as it is, or raise ``ValueError`` with what to write."""
    check_url(url, schemes=("http", "https"), plain_only_to_loopback=True, is_secret=is_secret)
    parts = urlsplit(url)
    if parts.query or parts.fragment or not re.fullmatch("[-_A-Za-z0-9]{1,64}", parts.path.rpartition("/")[2]):
        raise ValueError("not the address of a topic; write for example `https://ntfy.example/tickets`")
    return url


class AppriseModel(TitledModel, TimedModel):
    """Any service that Apprise knows."""

    type: Literal["apprise"]
    url: Annotated[list[SecretRef], Field(min_length=1, max_length=20), type_list]
    """Apprise addresses; they hold keys, so they are referred to. Each has its own outcome."""
    timeout: Duration = timedelta(seconds=30)
    """Time limit of one attempt."""


Sink = Annotated[
    ConsoleModel
    | FileModel
    | WebhookModel
    | EmailModel
    | DesktopModel
    | DingTalkModel
    | FeishuModel
    | WecomModel
    | SlackModel
    | TelegramModel
    | NtfyModel
    | AppriseModel
    | ExecModel,
    Field(discriminator="type"),
]
