"""The shape of the ``sinks`` section of watcher.yaml, one model for each type."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, field_validator

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
from watcher.model import Content, Language
from watcher.retry import DEFAULT_SCHEDULE

_OWN_HEADERS = {"content-type", "content-length", "host", "transfer-encoding", "connection"}


class RetryModel(Model):
    """When a delivery that failed is tried again."""

    schedule: Annotated[list[Duration], type_list] = list(DEFAULT_SCHEDULE)
    """The waits after the first, second, ... failed attempt; after the last one the delivery is given up."""


class SinkModel(Model):
    """What every sink may override."""

    content: Content | None = None
    """How much of a reply leaves us."""
    retry: RetryModel | None = None


class TextModel(SinkModel):
    """What every sink that writes for people may override."""

    language: Language | None = None
    """Of the texts that we write: `en` or `zh`."""
    timezone: Zone | None = None
    """For times of day in texts."""
    text: Text | None = None
    """A Jinja2 template for the text, over the event as docs/webhooks.md describes it."""


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


class ExecModel(SinkModel):
    """Runs a program with the event as JSON on its standard input."""

    type: Literal["exec"]
    command: Annotated[list[Text], Field(min_length=1), type_list]
    """The program and its arguments; no shell is involved."""
    env: dict[Text, SecretRef | str] = {}
    """Further environment variables; of the daemon's own, only a few harmless ones are handed on."""
    timeout: Duration = timedelta(seconds=20)
    """After this it is ended, and counts as failed."""


class DesktopModel(TitledModel):
    """Shows pop-ups: in the sessions of `users` through `watcher desktop`, or in the daemon's own session."""

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


class WebhookModel(SinkModel):
    """Posts CloudEvents, signed by Standard Webhooks."""

    type: Literal["webhook"]
    url: SecretRef | Text
    format: Literal["cloudevents", "cloudevents-batch", "cloudevents-binary", "json"] = "cloudevents"
    """How the event is written: as one JSON document, as a batch, with its attributes in headers, as plain JSON."""
    sign: Annotated[list[SigningSecretRef], Field(max_length=10), type_list] = []
    """Secrets of the form `whsec_...`; with several, each signs, for rotation."""
    headers: dict[Text, str] = {}
    """Further request headers."""
    timeout: Duration = timedelta(seconds=20)
    """Time limit of one attempt."""
    proxy: SecretRef | Text | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""
    tls: TlsModel | None = None
    private_addresses: Literal["allow", "refuse"] = "allow"
    """`refuse` connects to public addresses only, whatever the host name resolves to."""

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
            if name.lower().startswith("webhook-") or name.lower() in _OWN_HEADERS:
                raise ValueError(f"`{name}` is set by the watcher itself")
        return value


# --- mail -------------------------------------------------------------------------------------------------


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


class EmailModel(TitledModel):
    """Sends mail; the mails of one ticket are one thread."""

    type: Literal["email"]
    smtp: SmtpModel
    sender: Annotated[Text, Field(alias="from")]
    """The address that mails come from, with or without a name."""
    to: Annotated[list[Text], Field(min_length=1), type_list]
    """Addresses; each has its own outcome."""
    cc: Annotated[list[Text], type_list] = []
    bcc: Annotated[list[Text], type_list] = []
    reply_to: Text | None = None
    attachments: Literal["link", "fetch"] = "link"
    """`fetch` downloads the files of a reply and encloses them."""
    max_size: Size = 10_000_000
    """Of all files that are fetched for one mail; what is larger stays a link."""
    html: Text | None = None
    """A Jinja2 template for the HTML part."""


# --- chats ------------------------------------------------------------------------------------------------


class ChatModel(TitledModel):
    """What the robots of chats have in common."""

    rate: Rate | None = None
    """Messages that may be sent, e.g. `18/min`; what waits is told as one. Absent, what the service allows."""
    timeout: Duration = timedelta(seconds=20)
    """Time limit of one attempt."""
    proxy: SecretRef | Text | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""

    _proxy = field_validator("proxy")(_check_proxy)


class DingTalkModel(ChatModel):
    """A custom robot of a DingTalk group."""

    type: Literal["dingtalk"]
    webhook: SecretRef
    """The robot's address, with its access_token."""
    secret: SecretRef | None = None
    """The robot's signing secret (`SEC...`), if it was set up with one."""
    keyword: Text | None = None
    """A word that the robot insists on; it is added where it is missing."""
    mention: Annotated[list[Text], type_list] = []
    """Mobile numbers of the people to mention, or `all`."""


class FeishuModel(ChatModel):
    """A custom bot of a Feishu or Lark group."""

    type: Literal["feishu"]
    webhook: SecretRef
    secret: SecretRef | None = None
    """The bot's signing secret, if it was set up with one."""
    keyword: Text | None = None
    """A word that the bot insists on; it is added where it is missing."""
    mention: Annotated[list[Text], type_list] = []
    """Open ids (`ou_...`) of the people to mention, or `all`."""


class WecomModel(ChatModel):
    """A group robot of WeCom (WeChat Work)."""

    type: Literal["wecom"]
    webhook: SecretRef
    """The robot's address, with its key."""
    mention: Annotated[list[Text], type_list] = []
    """User ids of the people to mention."""


class SlackModel(ChatModel):
    """An incoming webhook of Slack."""

    type: Literal["slack"]
    webhook: SecretRef
    mention: Annotated[list[Text], type_list] = []
    """Member ids (`U...`) of the people to mention, or `channel`, `here`."""


class TelegramModel(ChatModel):
    """A bot of Telegram."""

    type: Literal["telegram"]
    token: SecretRef
    chat: Text
    """The chat's number, or `@channel`."""
    api: Text = "https://api.telegram.org"
    """Another server of the Bot API."""

    _api = field_validator("api")(_check_http_url)


class NtfyModel(ChatModel):
    """A topic of an ntfy server."""

    type: Literal["ntfy"]
    url: SecretRef | Text
    """The topic's address, e.g. `https://ntfy.example/tickets`."""
    token: SecretRef | None = None

    _url = field_validator("url")(_check_http_url)


class AppriseModel(TitledModel):
    """Any service that Apprise knows."""

    type: Literal["apprise"]
    url: Annotated[list[SecretRef], Field(min_length=1), type_list]
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
