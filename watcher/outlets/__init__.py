"""From the ``sinks`` of the configuration to sinks: part of the composition root, and the one place that lists them."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import assert_never
from urllib.parse import urlsplit

import aiohttp
import structlog

from watcher import http, tls
from watcher.addresses import is_loopback
from watcher.config import sinks as models
from watcher.config.chats import Chat, ChatModel
from watcher.config.common import SinkModel, TextModel
from watcher.config.load import Config
from watcher.config.mail import EmailModel
from watcher.config.values import SecretRef, check_header_value, check_signing_secret, check_url, reveal
from watcher.document import Problem, ProblemsFound, dotted
from watcher.errors import ConfigError
from watcher.formats import Format
from watcher.mail.attachments import Downloads
from watcher.mail.compose import Addresses
from watcher.mail.smtp import MailServer
from watcher.model import Account, Content
from watcher.outlets.chats import ChatBuilder
from watcher.popup import LockScreen, Popup
from watcher.ports import Sink
from watcher.refresh import FreshAttachments
from watcher.render import Voice, Wording
from watcher.session.bus import require_library
from watcher.session.desk import Desk
from watcher.sinks.apprise import AppriseSink, Service
from watcher.sinks.console import ConsoleSink
from watcher.sinks.desktop import DesktopSink
from watcher.sinks.dry import DrySink
from watcher.sinks.email import EmailSink
from watcher.sinks.exec import ExecSink, harmless
from watcher.sinks.file import FileSink
from watcher.sinks.webhook import WebhookSink
from watcher.web.desks import Desks
from watcher.web.peers import is_user, own_user

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@asynccontextmanager
async def open_outlets(config: Config, *, hides_secrets: bool = False) -> "AsyncIterator[Outlets]":
    """Open what sinks have in common."""
    async with (
        http.open_session() as session,
        http.open_session(public_only=True) as guarded,
        http.open_session(public_only=True, allow_loopback=True) as nearby,
    ):
        outlets = Outlets(config=config, session=session, guarded=guarded, nearby=nearby, hides_secrets=hides_secrets)
        try:
            yield outlets
        finally:
            for sink in outlets.desktops:
                sink.disconnect()


@dataclass(kw_only=True)
class Outlets:
    """Builds sinks by name; raises ``ConfigError`` with the place of what is wrong.

    A dry run and a preview need no secrets: with ``hides_secrets`` a stand-in takes the place of each.
    """

    config: Config
    session: aiohttp.ClientSession
    #: Connects to public addresses only.
    guarded: aiohttp.ClientSession
    #: Connects to public addresses and to this machine.
    nearby: aiohttp.ClientSession
    hides_secrets: bool = False
    #: Gets its sources when there are pollers; without them, addresses that have expired stay so.
    fresh_attachments: FreshAttachments = field(default_factory=FreshAttachments)
    #: The desktops that connect, and the sinks that show something on them.
    desks: Desks = field(default_factory=Desks)
    desktops: list[DesktopSink] = field(default_factory=list)

    def build(self, name: str) -> Sink:
        """Return the sink of this name."""
        model = self.config.model.sinks[name]
        match model:
            case models.ConsoleModel():
                return ConsoleSink(name=name, stream=sys.stdout, voice=self._voice(model))
            case models.FileModel():
                return FileSink(name=name, path=self.config.beside(model.path), content=self._content(model))
            case models.WebhookModel():
                return self._webhook(name, model)
            case EmailModel():
                return self._email(name, model)
            case models.DesktopModel():
                return self._desktop(name, model)
            case ChatModel():
                return self._chat(name, model)
            case models.ExecModel():
                return self._exec(name, model)
            case models.AppriseModel():
                return self._apprise(name, model)
            case _:
                assert_never(model)

    def dry(self, name: str) -> DrySink:
        """Return what stands in for a sink during a dry run."""
        voice = self._voice(self.config.model.sinks[name])
        return DrySink(name=name, console=ConsoleSink(name=name, stream=sys.stdout, voice=voice))

    def _webhook(self, name: str, model: models.WebhookModel) -> WebhookSink:
        return WebhookSink(
            self.guarded if model.private_addresses == "refuse" else self.session,
            name=name,
            url=self._url(model.url, "sinks", name, "url"),
            secrets=[
                self._signing_secret(secret, "sinks", name, "sign", position)
                for position, secret in enumerate(model.sign)
            ],
            headers={header: self._header(value, name, header) for header, value in model.headers.items()},
            content=self._content(model),
            timeout=model.timeout,
            form=Format(model.format),
            proxy=self._url(model.proxy, "sinks", name, "proxy") if model.proxy else None,
            ssl_context=self._tls(model.tls, "sinks", name, "tls"),
        )

    def _email(self, name: str, model: EmailModel) -> EmailSink:
        smtp = model.smtp
        server = MailServer(
            host=smtp.host,
            port=smtp.port or smtp.default_port,
            tls=smtp.tls,
            context=self._tls(models.TlsModel(ca=smtp.ca), "sinks", name, "smtp") or tls.trusting(),
            user=smtp.user or "",
            password=self._reveal(smtp.password),
            timeout=smtp.timeout,
        )
        downloads = Downloads(session_of=self._session_of, max_size=model.max_size, refresh=self.fresh_attachments)
        return EmailSink(
            name=name,
            server=server,
            addresses=Addresses(sender=model.sender, to=model.to, cc=model.cc, reply_to=model.reply_to),
            bcc=model.bcc,
            voice=self._voice(model),
            downloads=downloads if model.attachments == "fetch" else None,
        )

    def _session_of(self, account: Account) -> aiohttp.ClientSession:
        """Return what may download an account's attachments: a simulator keeps them on this machine, as it is there."""
        known = self.config.model.accounts.get(account.name)
        endpoint = (known and known.endpoint) or ""
        return self.nearby if is_loopback(urlsplit(endpoint).hostname or "") else self.guarded

    def _desktop(self, name: str, model: models.DesktopModel) -> DesktopSink:
        if not model.users and not self.hides_secrets:
            try:
                require_library()
            except ConfigError as error:
                raise self._problem(f"{error}; or name `users`, whose own sessions show it", "sinks", name) from error
        for position, user in enumerate(model.users):
            if not is_user(user):
                # It may be known later: directories of users are not always there when the machine starts.
                place = self.config.mark("sinks", name, "users", position)
                log.warning("unknown user", user=user, place=str(place), next="write a login name or a number")
        sink = DesktopSink(
            name=name,
            users=model.users,
            own_user=own_user(),
            desks=self.desks,
            local=self._local_desk,
            voice=self._voice(model),
            lock_screen=LockScreen(model.lock_screen),
        )
        self.desks.admit(sink)
        self.desktops.append(sink)
        return sink

    def _local_desk(self, sink: DesktopSink) -> Desk:
        """Return the session that the daemon itself runs in, if it runs in one."""

        async def remind(popup: Popup) -> None:
            await sink.remind(popup.event, own_user())

        async def ready() -> None:
            sink.ready()

        return Desk(self.config.vault.environ, on_remind=remind, on_ready=ready)

    def _chat(self, name: str, model: Chat) -> Sink:
        return ChatBuilder(
            name=name,
            session=self.session,
            voice=self._voice(model),
            proxy=self._url(model.proxy, "sinks", name, "proxy") if model.proxy else None,
            reveal=self._reveal,
            complain=lambda key, message: self._problem(message, "sinks", name, key),
        ).build(model)

    def _exec(self, name: str, model: models.ExecModel) -> ExecSink:
        folder = self.config.path.parent.absolute()
        program, *arguments = model.command
        own = {variable: self._reveal(value) for variable, value in model.env.items()}
        return ExecSink(
            name=name,
            # A bare name is looked for in PATH.
            command=[str(folder / Path(program).expanduser()) if "/" in program else program, *arguments],
            folder=folder,
            environment=harmless(self.config.vault.environ) | own,
            secrets=[own[variable] for variable, value in model.env.items() if isinstance(value, SecretRef)],
            content=self._content(model),
            timeout=model.timeout,
        )

    def _apprise(self, name: str, model: models.AppriseModel) -> AppriseSink:
        services = []
        for position, reference in enumerate(model.url):
            try:
                services.append(Service(self._apprise_url(reference), time_limit=model.timeout))
            except ConfigError as error:
                raise self._problem(str(error), "sinks", name, "url", position) from error
        return AppriseSink(services, name=name, voice=self._voice(model))

    def _apprise_url(self, reference: SecretRef) -> str:
        """Return the address; for a preview, too, where it is at hand: what it is shown as gives nothing away."""
        if self.hides_secrets and not reference.command:
            with suppress(ConfigError):
                return reference.resolve(self.config.vault).reveal()
        return self._reveal(reference, "json://secret.invalid/")

    # --- what sinks have in common ------------------------------------------------------------------------

    def _content(self, model: SinkModel) -> Content:
        return model.content or self.config.model.defaults.content

    def _voice(self, model: SinkModel) -> Voice:
        defaults = self.config.model.defaults
        text = model if isinstance(model, TextModel) else TextModel()
        return Voice(
            language=text.language or defaults.language,
            zone=text.timezone or defaults.timezone,
            content=self._content(model),
            own={part: self._wording(source, part) for part, source in text.templates().items()},
        )

    @staticmethod
    def _wording(source: str, part: str) -> Wording:
        # Most configurations have no template: they need not wait for Jinja2.
        from watcher.template import TemplateWording  # noqa: PLC0415

        return TemplateWording(source, part=part)

    def _reveal(self, value: SecretRef | str | None, stand_in: str = "secret") -> str:
        if self.hides_secrets and isinstance(value, SecretRef):
            return stand_in
        return reveal(value, self.config.vault)

    def _url(self, value: SecretRef | str, *key: str | int) -> str:
        """Return an address that may be a secret, checked; a problem names the place and not the address."""
        try:
            return check_url(
                self._reveal(value, "https://secret.invalid/"),
                schemes=("http", "https"),
                is_secret=isinstance(value, SecretRef),
            )
        except ValueError as error:
            raise self._problem(str(error), *key) from error

    def _tls(self, model: models.TlsModel | None, *key: str | int) -> SSLContext | None:
        """Return how the other side is checked, with the files of this moment; None for the usual way."""
        if model is None or self.hides_secrets:
            return None
        files = {part: self._file(path, *key, part) for part, path in model if path}
        try:
            context = tls.trusting(files.get("ca"))
        except ValueError as error:
            raise self._problem(str(error), *key, "ca") from error
        try:
            if "cert" in files:
                tls.show_certificate(context, files["cert"], files.get("key"))
        except ValueError as error:
            raise self._problem(str(error), *key, "cert") from error
        return context

    def _file(self, path: Path, *key: str | int) -> Path:
        """Return the place of a file, if it can be read."""
        place = self.config.beside(path)
        try:
            place.open("rb").close()
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}", *key) from error
        return place

    def _header(self, value: SecretRef | str, name: str, header: str) -> str:
        try:
            return check_header_value(header, self._reveal(value))
        except ValueError as error:
            raise self._problem(str(error), "sinks", name, "headers", header) from error

    def _signing_secret(self, reference: SecretRef, *key: str | int) -> str:
        try:
            return check_signing_secret(self._reveal(reference, "whsec_c3RhbmQtaW4="))
        except ConfigError as error:
            raise self._problem(str(error), *key) from error

    def _problem(self, message: str, *key: str | int) -> ProblemsFound:
        return ProblemsFound([Problem(self.config.mark(*key), dotted(key), message)])
