"""What credentials are, how a source of them behaves, and how an answer that carries them is read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

from watcher.errors import CredentialsRejected

#: No answer and no token is anywhere near as long.
LIMIT_BYTES = 64 * 1024

#: How STS, the ECS metadata service and a credentials URI name the four values; a command has its own names.
ANSWER_KEYS = ("AccessKeyId", "AccessKeySecret", "SecurityToken", "Expiration")


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, for a while or for good."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    #: Empty for a key of a user.
    security_token: str = field(default="", repr=False)
    #: None when the source names no end.
    expires_at: datetime | None = None
    #: Where they came from, in words for people.
    source: str = ""


class CredentialsAbsent(CredentialsRejected):
    """The source is not set up here: a chain asks the next one, to all others it is a rejection."""


class Provider(Protocol):
    """A source of credentials. Construction touches nothing and never fails: ``fetch`` says what is wrong."""

    async def fetch(self) -> Credentials:
        """Read the source anew.

        Raises ``CredentialsAbsent`` (not set up here), ``CredentialsRejected`` (broken or refused until
        somebody changes something) or ``ApiUnavailable`` (later may work).
        """
        ...


def is_refusal(status: int) -> bool:
    """Tell whether an HTTP status refuses for good; 408 and 429 pass by themselves."""
    passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in passing


def decode_object(body: bytes | str) -> dict[str, Any]:
    """Return the JSON object in ``body``, or raise ``ValueError`` with the rest of a sentence about it."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        # Not chained: the decoder's error carries the whole document, and with it the secrets in it.
        raise ValueError("is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  the caller knows one kind of bad answer
    return value


def read_answer(
    answer: Mapping[str, Any], *, source: str, keys: tuple[str, str, str, str] = ANSWER_KEYS
) -> Credentials:
    """Return the credentials in ``answer``, or raise ``ValueError`` with the rest of a sentence about it."""
    key_id, secret, token, expiration = (text_of(answer, key) for key in keys)
    if not key_id or not secret:
        raise ValueError("holds no access key")
    return Credentials(key_id, secret, token, _instant(expiration) if expiration else None, source)


def text_of(answer: Mapping[str, Any], key: str) -> str:
    """Return the text under ``key``, or "" when it is missing or no text."""
    value = answer.get(key)
    return value.strip() if isinstance(value, str) else ""


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError("holds an expiration that is no time") from error
    # The vendor's times end in Z; a time without a zone is UTC, too.
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
