"""The model of the ``email`` sink."""

from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from watcher.addresses import is_loopback
from watcher.config.common import TitledModel
from watcher.config.values import Duration, FilePath, Model, SecretRef, Size, Text, type_list
from watcher.mail.mailbox import Mailbox, ascii_domain, parse_mailbox

_LARGEST_BYTES = 50_000_000
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

    @field_validator("max_size")
    @classmethod
    def _is_a_mail(cls, value: int) -> int:
        if value > _LARGEST_BYTES:
            raise ValueError("no mail server takes so much; write `50MB` or less")
        return value

    @property
    def time_limit(self) -> timedelta:
        """How long one attempt may take."""
        return self.smtp.timeout
