"""The shape of the ``sinks`` section of watcher.yaml, one model for each type."""

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from watcher.config.chats import Chat
from watcher.config.common import HttpUrl, SinkModel, TextModel, TimedModel, TitledModel
from watcher.config.mail import EmailModel
from watcher.config.values import (
    Duration,
    FilePath,
    Model,
    Name,
    Scalar,
    SecretRef,
    SigningSecretRef,
    Text,
    check_header_value,
    type_list,
)

_OWN_VARIABLES = {"WATCHER_EVENT_ID", "WATCHER_EVENT_TYPE", "WATCHER_SINK", "WATCHER_ATTEMPT"}
_OWN_HEADERS = {
    *("content-type", "content-length", "content-encoding", "host", "transfer-encoding", "connection"),
    *("expect", "te", "trailer", "upgrade", "proxy-authorization"),
}
_OWN_PREFIXES = ("webhook-", "ce-")


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
    env: dict[Name, SecretRef | Scalar] = {}
    """Further environment variables; of the daemon's own, only a few harmless ones are handed on."""

    @field_validator("command", mode="before")
    @classmethod
    def _is_no_shell_line(cls, value: Any) -> Any:
        words = value.split() if isinstance(value, str) else []
        if len(words) > 1:
            raise ValueError(f"no shell is involved; write a list: [{', '.join(words)}]")
        return value

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
    url: HttpUrl
    format: Literal["cloudevents", "cloudevents-batch", "cloudevents-binary", "json"] = "cloudevents"
    """How the event is written: as one JSON document, as an array, with its attributes in headers, as plain JSON."""
    sign: Annotated[list[SigningSecretRef], Field(max_length=10), type_list] = []
    """Secrets of the form `whsec_...`; with several, each signs, for rotation."""
    headers: dict[Name, SecretRef | Scalar] = {}
    """Further request headers; a value may be a secret."""
    proxy: HttpUrl | None = None
    """An HTTP proxy; absent, the standard environment variables decide."""
    tls: TlsModel | None = None
    private_addresses: Literal["allow", "refuse"] = "allow"
    """`refuse` connects to public addresses only, whatever the host name resolves to, and through no proxy."""

    @field_validator("headers")
    @classmethod
    def _are_headers(cls, value: dict[str, SecretRef | str]) -> dict[str, SecretRef | str]:
        for name, text in value.items():
            if not all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in name) or not name.isascii():
                raise ValueError(f"`{name}` is not a header name")
            if isinstance(text, str):
                check_header_value(name, text)
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


class AppriseModel(TitledModel, TimedModel):
    """Any service that Apprise knows."""

    type: Literal["apprise"]
    url: Annotated[list[SecretRef], Field(min_length=1, max_length=20), type_list]
    """Apprise addresses; they hold keys, so they are referred to. Each has its own outcome."""
    timeout: Duration = timedelta(seconds=30)
    """Time limit of one attempt."""


Sink = Annotated[
    ConsoleModel | FileModel | WebhookModel | EmailModel | DesktopModel | Chat | AppriseModel | ExecModel,
    Field(discriminator="type"),
]
