"""The kinds of value that occur in watcher.yaml, each read from text. Errors say what to write."""

import base64
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from watcher.addresses import is_loopback
from watcher.config.secrets import Secret, Vault
from watcher.duration import parse_duration
from watcher.errors import ConfigError

_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|sec|second|m|min|minute|h|hour)")
_RATE_SECONDS = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KB|MB|KIB|MIB)?")
_SIZE_BYTES = {"B": 1, "KB": 1000, "MB": 1_000_000, "KIB": 1024, "MIB": 1_048_576}
_WHOLE = 100


class Model(BaseModel):
    """A map of watcher.yaml: unknown keys are errors, and an empty value is an empty map."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_a_map(cls, value: Any) -> Any:
        return {} if value is None else value


def _positive_duration(value: Any) -> timedelta:
    span = value if isinstance(value, timedelta) else parse_duration(str(value))
    if not span:
        raise ValueError("must be longer than nothing; write for example `60s`")
    return span


def _parse_share(value: Any) -> float:
    if isinstance(value, float):
        return value
    match = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)\s*%", str(value).strip())
    if not match or float(match[1]) > _WHOLE:
        raise ValueError(f"`{value}` is not a share; write for example `10%`")
    return float(match[1]) / 100


def _parse_rate(value: Any) -> float:
    if isinstance(value, float):
        return value
    match = _RATE.fullmatch(str(value).strip())
    if not match or float(match[1]) <= 0:
        raise ValueError(f"`{value}` is not a rate; write for example `5/s` or `100/min`")
    return float(match[1]) / _RATE_SECONDS[match[2]]


def _parse_size(value: Any) -> int:
    if isinstance(value, int):
        return value
    match = _SIZE.fullmatch(str(value).strip().upper())
    if not match or not float(match[1]):
        raise ValueError(f"`{value}` is not a size; write for example `10MB`")
    return int(float(match[1]) * _SIZE_BYTES[match[2] or "B"])


def _parse_zone(value: Any) -> ZoneInfo:
    if isinstance(value, ZoneInfo):
        return value
    try:
        return ZoneInfo(str(value))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"`{value}` is not a time zone; write for example `Asia/Shanghai` or `UTC`") from error


def _one_or_more(value: Any) -> Any:
    return [value] if isinstance(value, str | dict) else value


def check_url(
    text: str, *, schemes: tuple[str, ...], plain_only_to_loopback: bool = False, is_secret: bool = False
) -> str:
    """Return the address as it is, or raise ``ValueError`` with what to write; a secret one may hold a password."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("not an address") from error
    if parts.scheme not in schemes or not host:
        raise ValueError(f"not an address with {' or '.join(schemes)}; write for example `{schemes[-1]}://host/path`")
    if plain_only_to_loopback and parts.scheme == "http" and not is_loopback(host):
        raise ValueError("plain http is allowed only to a loopback address; write https")
    if parts.password and not is_secret:
        raise ValueError("a password never stands in this file; refer to the whole address: {env: NAME} or the like")
    if port == 0 or any(char.isspace() or not char.isprintable() for char in text):
        raise ValueError(f"not a valid address; write for example `{schemes[-1]}://host/path`")
    return text


def check_header_value(name: str, text: str) -> str:
    """Return the value as it is, or raise ``ValueError`` if it cannot stand in a header."""
    if not text.isprintable():
        raise ValueError(f"the value of `{name}` holds a character that a header may not hold")
    return text


def reveal(value: "SecretRef | str | None", vault: Vault) -> str:
    """Return the text that a value stands for; "" for none."""
    return value.resolve(vault).reveal() if isinstance(value, SecretRef) else value or ""


def _described(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern, "examples": list(examples)})


Duration = Annotated[
    timedelta,
    BeforeValidator(_positive_duration),
    _described(r"^\s*((\d+(\.\d+)?)(ms|s|m|h|d|w)\s*)+$", "30s", "5m", "2h", "7d"),
]
Share = Annotated[float, BeforeValidator(_parse_share), _described(r"^\d{1,3}(\.\d+)?\s*%$", "10%")]
Rate = Annotated[float, BeforeValidator(_parse_rate), _described(r"^\d+(\.\d+)?\s*/\s*[a-z]+$", "5/s", "100/min")]
Size = Annotated[int, BeforeValidator(_parse_size), _described(r"^\d+(\.\d+)?\s*([KkMm][Ii]?)?[Bb]?$", "10MB")]
Zone = Annotated[ZoneInfo, BeforeValidator(_parse_zone), _described(r"^[A-Za-z0-9_+/-]+$", "Asia/Shanghai", "UTC")]


class _OneOrMore:
    """Marks a list for which one value may stand, in the file and in the schema."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_one_or_more, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


#: A list; one value may stand for a list of one.
type_list = _OneOrMore()
#: All values are text for us, but an editor that reads YAML takes some for numbers or truth values.
_SCALARS = ["string", "number", "boolean"]
Scalar = Annotated[str, WithJsonSchema({"type": _SCALARS})]
Name = Annotated[str, Field(min_length=1)]
Text = Annotated[str, Field(min_length=1), WithJsonSchema({"type": _SCALARS, "minLength": 1})]
TicketNumber = Annotated[
    str,
    Field(min_length=1, max_length=64),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["0005PYGCW"]}),
]


def _not_empty(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise ValueError("is empty; it needs a value")
    return value


FilePath = Annotated[Path, BeforeValidator(_not_empty), WithJsonSchema({"type": "string", "minLength": 1})]


def check_signing_secret(secret: str) -> str:
    """Return a Standard Webhooks secret (``whsec_`` and base64) as it is, or raise ``ConfigError``.

    Checked strictly, because lenient decoders differ in what they skip: both ends must arrive at the same key.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError as error:
        raise ConfigError(
            "the secret is not `whsec_` followed by base64; `echo whsec_$(openssl rand -base64 32)` makes one"
        ) from error
    if not key:
        raise ConfigError("the secret is empty")
    return secret


class SecretRef(Model):
    """A reference to a secret: exactly one of `env`, `file`, `credential`, `command`."""

    env: Text | None = None
    """The name of an environment variable."""
    file: Text | None = None
    """The path of a file that holds nothing else."""
    credential: Text | None = None
    """The name of a systemd credential (`LoadCredential=` in the unit)."""
    command: Annotated[list[Text], type_list] | None = None
    """A program and its arguments; what it prints is the secret."""

    @model_validator(mode="before")
    @classmethod
    def _no_bare_secret(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(  # noqa: TRY004 - what pydantic turns into a problem
                "a secret never stands in this file; write {env: NAME}, {file: /path}, {credential: name} or "
                "{command: [program, argument]}"
            )
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> "SecretRef":
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("write exactly one of env, file, credential, command")
        return self

    def resolve(self, vault: Vault) -> Secret:
        """Return the secret, or raise ``ConfigError`` that says why it is not there."""
        if self.env:
            return vault.environment(self.env)
        if self.file:
            return vault.file(self.file)
        if self.credential:
            return vault.credential(self.credential)
        return vault.command(tuple(self.command or ()))

    def probe(self, vault: Vault) -> None:
        """Raise ``ConfigError`` if the secret is not there; a command is looked for but not run."""
        if self.command:
            vault.find_command(tuple(self.command))
        else:
            self.resolve(vault)


class SigningSecretRef(SecretRef):
    """A reference to a Standard Webhooks secret (`whsec_...`)."""

    def probe(self, vault: Vault) -> None:
        """Raise ``ConfigError`` if the secret is not there or cannot sign."""
        super().probe(vault)
        if not self.command:
            check_signing_secret(self.resolve(vault).reveal())
