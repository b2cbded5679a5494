"""One way to call a chat's gateway: JSON there and back, and refusals explained in words that hold no secret."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import aiohttp
from yarl import URL

from watcher import http
from watcher.duration import retry_after
from watcher.envelope import as_json
from watcher.errors import PermanentError, SinkUnavailable, TransientError
from watcher.redact import Redactor

# Telegram repeats the whole message in its answer, each of its characters as six.
_ANSWER_LIMIT_BYTES = 200_000
# Shorter parts of an address are words of its path, and hide nothing.
_SHORTEST_KEY = 4
_SHORTEST_SEGMENT = 16
_DIGITS = 15
_REDIRECTS = range(300, 400)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What one answer of a gateway means, and what to do about it."""

    code: int | str
    says: str
    #: The refusal is meant only where the gateway's own words hold this; in lower case.
    when: str = ""
    error: type[TransientError | PermanentError] = SinkUnavailable
    #: How long the gateway wants to be left alone, where it does not say so itself.
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A whole HTTP answer."""

    status: int
    text: str
    #: The JSON object that it is; empty where it is none.
    data: Mapping[str, Any]
    #: How long its ``Retry-After`` asks to wait.
    retry_after: timedelta | None

    @property
    def is_success(self) -> bool:
        """Tell whether the status is a 2xx, which by itself says little of a chat's gateway."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    def number(self, name: str) -> int | None:
        """Return a field that is a number, or a text that is one; DingTalk's own page shows both."""
        value = self.data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal():
            return int(value[:_DIGITS])
        return None

    def words(self, name: str) -> str:
        """Return a field that is a text, else ""."""
        value = self.data.get(name)
        return value if isinstance(value, str) else ""


class Gateway:
    """A service's interface at one address; ``secrets`` are what must not be said beside the address."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        *,
        service: str,
        timeout: timedelta,
        proxy: str | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.service = service
        self.url = url
        # The address holds a key: it is compared, but never stored or shown.
        self.target = sha256(url.encode()).hexdigest()
        self._session = session
        self._timeout_s = timeout.total_seconds()
        self._proxy = http.proxy_for(url, proxy)
        self._redactor = Redactor(_keys_in(url) | set(secrets))

    def target_of(self, receiver: str) -> str:
        """Return what tells apart the receivers that share the address."""
        return sha256(f"{self.target} {receiver}".encode()).hexdigest()

    async def post(
        self,
        body: Mapping[str, Any],
        *,
        now: datetime,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Post a JSON body; raises ``SinkUnavailable`` where no whole answer arrives."""
        try:
            reply = await http.fetch(
                self._session,
                "POST",
                URL(self.url).update_query(query) if query else self.url,
                headers={"Content-Type": "application/json; charset=utf-8", **(headers or {})},
                body=as_json(body),
                timeout_s=self._timeout_s,
                limit_bytes=_ANSWER_LIMIT_BYTES,
                cut=True,
                proxy=self._proxy,
            )
        except http.HttpFailure as error:
            raise SinkUnavailable(f"{self.service}: {error}") from error
        text = reply.body.decode(errors="replace")
        wait = retry_after(reply.headers.get("Retry-After", ""), now=now)
        return Answer(reply.status, text, _object(text), wait)

    def judge(self, answer: Answer, refusals: Iterable[Refusal], *, code: str, words: str) -> None:
        """Raise what an answer stands for unless it says success: the number 0 in the field ``code``."""
        number = answer.number(code)
        if number is None or (number == 0 and not answer.is_success):
            raise self.unexpected(answer)
        if number:
            raise self.refusal(number, answer.words(words), refusals, wait=answer.retry_after)

    def refusal(
        self, code: int | str, words: str, refusals: Iterable[Refusal], *, wait: timedelta | None = None
    ) -> TransientError | PermanentError:
        """Return the error that a gateway's code stands for.

        ``wait`` is what the gateway itself asks for. An unknown code may pass.
        """
        said = self._redactor.reason(words)
        details = f"code {code}: {said}" if said and said != code else f"code {code}"
        for refusal in refusals:
            if refusal.code == code and refusal.when in words.lower():
                text = f"{self.service}: {refusal.says}"
                if issubclass(refusal.error, TransientError):
                    return refusal.error(text, details=details, retry_after=wait or refusal.wait)
                return refusal.error(text, details=details)
        return SinkUnavailable(f"{self.service} refuses the message", details=details, retry_after=wait)

    def unexpected(self, answer: Answer) -> SinkUnavailable:
        """Return the error for an answer that is not in the gateway's own form."""
        if answer.status in _REDIRECTS:
            meaning = "a redirect, which is not followed; write the address that the service gave you"
        elif answer.is_success:
            meaning = "but the answer is not the service's own; is it a proxy's, or is the address wrong?"
        else:
            meaning = http.phrase(answer.status)
        return SinkUnavailable(f"{self.service}: HTTP {answer.status}, {meaning}", retry_after=answer.retry_after)


def _keys_in(url: str) -> set[str]:
    """Return what in an address may be a key: the values of its query, the end of its path, and what is long."""
    parts = urlsplit(url)
    segments = [segment for segment in parts.path.split("/") if segment]
    values = [value for _, value in parse_qsl(parts.query)]
    # With a query, the path ends in a word like `send`.
    keys = {key for key in values or segments[-1:] if len(key) >= _SHORTEST_KEY}
    return {url} | keys | {segment for segment in segments if len(segment) >= _SHORTEST_SEGMENT}


def _object(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
