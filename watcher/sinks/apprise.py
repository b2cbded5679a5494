"""Send events through Apprise: to any service that it knows, with an outcome of its own for each address."""

import difflib
import logging
import re
import warnings
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from textwrap import dedent
from typing import Any
from urllib.parse import unquote

import anyio

from watcher import render
from watcher.blocking import Busy, OneAtATime
from watcher.envelope import excerpt
from watcher.errors import ConfigError, SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import Delivery, Event
from watcher.redact import HIDDEN, Redactor
from watcher.render import Voice

_SCHEMA = re.compile(r"([a-z][a-z0-9]{1,29})://", re.IGNORECASE)
#: The plugins say the HTTP status only so, in their log; what a Retry-After said is lost.
_STATUS = re.compile(r"\berror=(\d{3})\b")
_TOO_MANY = "429"
_AFTER_TOO_MANY = timedelta(minutes=1)
_FEW_AT_ONCE = 5
# What stands in an address, and may stand in what a service says of a failure.
_ADDRESS = re.compile(r"\w+://\S+")
_ADDRESS_PARTS = re.compile(r"[/:@?&=,;#\s]+")
_SHORTEST_SECRET_CHARS = 4
_LONG_WORD = re.compile(r"[\w+/=.-]{28,}")


class AppriseSink:
    """One message for each event and address: a title and plain text, never interpreted.

    An address that has the event is not called again for it. Apprise's own retries are off, and it follows no
    redirect unless an address says ``redirect=yes``. An address with several targets (``tgram://token/1/2``) is one
    receiver, of which all targets get a repeat: write one address for each.

    The plugins block, so each attempt runs in a thread of its own (Apprise's pool of a few threads would let
    those that hang delay the others). A thread that is past its time limit or cancelled cannot be stopped: it may
    still deliver, and until it ends, its address takes no further attempt.
    """

    # The plugins keep state, and are not made for two threads at once.
    parallel = 1

    def __init__(self, services: Iterable["Service"], *, name: str, voice: Voice) -> None:
        self.name = name
        self._services = {service.key: service for service in services}
        self.target = sha256(
            " ".join(sorted(service.target for service in self._services.values())).encode()
        ).hexdigest()
        self.spacing = max(service.spacing for service in self._services.values())
        self.most_at_once = _FEW_AT_ONCE if self.spacing else None
        self._voice = voice

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        """Send to the address that the delivery names, or to all of them at once."""
        services = self._receivers(delivery.receiver)
        title, body = self._message(delivery.event)
        failures: dict[str, SinkUnavailable] = {}

        async def attempt(service: Service) -> None:
            try:
                await service.send(title, body, is_urgent=delivery.event.is_urgent)
            except SinkUnavailable as error:
                failures[service.key] = error

        async with anyio.create_task_group() as attempts:
            for service in services:
                attempts.start_soon(attempt, service)
        if not failures:
            return
        if len(failures) < len(services):
            raise SinkPartly(failures)
        raise _as_one(failures)

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        """Return title and text, and to which kinds of service they go."""
        return "\n".join((", ".join(sorted(self._services)), "", *self._message(event)))

    def _receivers(self, wanted: str) -> Sequence["Service"]:
        if not wanted:
            return list(self._services.values())
        if wanted not in self._services:
            raise SinkRejected(f"{wanted} is no longer among the receivers of this sink")
        return [self._services[wanted]]

    def _message(self, event: Event) -> tuple[str, str]:
        headline, _, details = render.plain_text(event, self._voice).partition("\n")
        title = render.one_line(self._voice.say("subject", event, headline))
        body = render.printable(self._voice.say("text", event, dedent(details))).strip()
        return title, body or headline


class Service:
    """One Apprise address. ``key`` and ``target`` tell it from others without giving it away.

    Raises ``ConfigError`` without the address if Apprise cannot use it, or is not installed.
    """

    def __init__(self, url: str, *, time_limit: timedelta) -> None:
        apprise = _library()
        asset = _asset(apprise)
        with warnings.catch_warnings():
            # At the first address it imports every plugin, and some warn of the age of what they import.
            warnings.simplefilter("ignore")
            plugin = apprise.Apprise.instantiate(url, asset=asset)
        if plugin is None:
            raise ConfigError(_what_is_wrong(url))
        _bound(plugin, time_limit)
        self.target = sha256(url.encode()).hexdigest()
        self.key = f"{plugin.schema}-{self.target[:6]}"
        #: How long the service wants to be left alone between two messages.
        self.spacing = timedelta(seconds=plugin.request_rate_per_sec)
        self._redactor = Redactor(_secrets_of(url))
        self._time_limit = time_limit
        self._plugin = plugin
        self._apprise = apprise.Apprise(plugin, asset=asset)
        self._sending = OneAtATime()

    async def send(self, title: str, body: str, *, is_urgent: bool) -> None:
        """Send one message, or raise ``SinkUnavailable`` with what the service said, less what the address says."""
        try:
            complaints = await self._sending.run(self._time_limit, self._notify, title, body, is_urgent=is_urgent)
        except Busy as error:
            raise SinkUnavailable("an earlier attempt has not come to its end") from error
        except TimeoutError as error:
            raise SinkUnavailable(f"no answer within {self._time_limit.total_seconds():g} s") from error
        if complaints is not None:
            raise self._failure(complaints)

    def _notify(self, title: str, body: str, *, is_urgent: bool) -> list[str] | None:
        """Return what was complained of, or None if the service took the message."""
        title = excerpt(title, self._plugin.title_maxlen) if self._plugin.title_maxlen > 0 else title
        # Where there is no place for a title, it comes to stand above the text.
        taken = 0 if self._plugin.title_maxlen > 0 else len(title) + 2
        result = self._apprise.notify(
            body=excerpt(body, max(self._plugin.body_maxlen - taken, 1)),
            title=title,
            notify_type="warning" if is_urgent else "info",
            body_format="text",
        )
        return None if result else [entry.message for entry in result.logs()]

    def _failure(self, complaints: Sequence[str]) -> SinkUnavailable:
        """Return the error; no status is final, because nothing says what the plugin made of the answer."""
        with_status = next((line for line in complaints if _STATUS.search(line)), None)
        reason = with_status or next(iter(complaints), "the service did not take the message")
        status = _STATUS.search(reason)
        is_too_many = status is not None and status[1] == _TOO_MANY
        return SinkUnavailable(self._masked(reason), retry_after=_AFTER_TOO_MANY if is_too_many else None)

    def _masked(self, text: str) -> str:
        text = _ADDRESS.sub(HIDDEN, self._redactor.redact(text))
        return self._redactor.reason(_LONG_WORD.sub(HIDDEN, text))


def _library() -> Any:
    """Return the library, kept from saying anything anywhere: what it logs is asked of its results."""
    try:
        import apprise  # noqa: PLC0415 - most configurations have no such sink
    except ImportError as error:
        raise ConfigError('Apprise is not installed beside watcher: pip install "apprise>=2.2,<3"') from error
    # Below it, urllib3 logs paths, and keys stand in paths.
    for name in ("apprise", "urllib3"):
        logging.getLogger(name).propagate = False
    return apprise


def _asset(apprise: Any) -> Any:
    return apprise.AppriseAsset(
        app_id="watcher",
        app_desc="Ticket Watcher",
        # Nothing is written to the disk, and no keys are made.
        storage_mode="memory",
        pgp_autogen=False,
        pem_autogen=False,
        secure_logging=True,
        # A redirect would turn the POST into a GET, whose success means nothing.
        http_redirects=False,
        # The text comes from outside.
        interpret_escapes=False,
        interpret_emojis=False,
        allow_templates=False,
        # With any limit of its own, it would use its shared pool of threads.
        service_timeout=0,
        async_mode=False,
    )


def _bound(plugin: Any, time_limit: timedelta) -> None:
    """Let a plugin make one attempt with one message; what the address says of that does not count."""
    from apprise import OverflowMode  # noqa: PLC0415

    plugin.retry = 0
    # `optional=yes` would call a failure a success.
    plugin.optional = False
    plugin.overflow_mode = OverflowMode.TRUNCATE
    for name in ("socket_connect_timeout", "socket_read_timeout"):
        # The instance has one of its own only if the address says so (`cto`, `rto`).
        said = vars(plugin).get(name)
        setattr(plugin, name, min(said or time_limit.total_seconds(), time_limit.total_seconds()))


def _what_is_wrong(url: str) -> str:
    """Say why Apprise cannot use an address, without quoting it."""
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415

    match = _SCHEMA.match(url.strip())
    if not match:
        return "not an Apprise address; write for example `tgram://token/chat`"
    plugins: Any = NotificationManager
    schema, plugins = match[1].lower(), plugins()
    if schema not in plugins:
        near = difflib.get_close_matches(schema, plugins.schemas(), n=1)
        hint = f"did you mean `{near[0]}`?" if near else "its documentation lists those that there are"
        return f"Apprise knows no service `{schema}`; {hint}"
    if not plugins[schema].enabled:
        needed = plugins[schema].requirements.get("packages_required") or ["something that this system lacks"]
        return f"Apprise's service `{schema}` needs {', '.join(needed)}"
    return f"not a complete address for Apprise's service `{schema}`; Apprise's documentation says what belongs to it"


def _secrets_of(url: str) -> list[str]:
    """Return every part of an address that could be a secret, as it stands there and decoded."""
    rest = url.partition("://")[2]
    parts = {part for text in (rest, unquote(rest)) for part in _ADDRESS_PARTS.split(text)}
    return [part for part in parts if len(part) >= _SHORTEST_SECRET_CHARS]


def _as_one(failures: dict[str, SinkUnavailable]) -> SinkUnavailable:
    if len(failures) == 1:
        return next(iter(failures.values()))
    waits = [error.retry_after for error in failures.values() if error.retry_after]
    # Sorted, so that the same failure is said in the same words.
    said = "; ".join(f"{key}: {error}" for key, error in sorted(failures.items()))
    return SinkUnavailable(said, retry_after=max(waits, default=None))
