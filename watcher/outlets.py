"""From the ``sinks`` of the configuration to sinks: part of the composition root, and the one place that lists them."""

import sys
from dataclasses import dataclass

import aiohttp

from watcher.config import sinks as models
from watcher.config.load import Config
from watcher.config.values import SecretRef, check_signing_secret, check_url, reveal
from watcher.document import Problem, ProblemsFound, dotted
from watcher.errors import ConfigError
from watcher.model import Content
from watcher.ports import Sink
from watcher.render import Voice
from watcher.sinks.console import ConsoleSink
from watcher.sinks.dry import DrySink
from watcher.sinks.file import FileSink
from watcher.sinks.webhook import WebhookSink


@dataclass(kw_only=True)
class Outlets:
    """Builds sinks by name; raises ``ConfigError`` with the place of what is wrong.

    A dry run and a preview need no secrets: with ``hides_secrets`` a stand-in takes the place of each.
    """

    config: Config
    session: aiohttp.ClientSession
    hides_secrets: bool = False

    def build(self, name: str) -> Sink:
        """Return the sink of this name."""
        model = self.config.model.sinks[name]
        match model:
            case models.ConsoleModel():
                return ConsoleSink(name=name, stream=sys.stdout, voice=self._voice(model))
            case models.FileModel():
                return FileSink(name=name, path=self.config.beside(model.path), content=self._content(model))
            case models.WebhookModel():
                return WebhookSink(
                    self.session,
                    name=name,
                    url=self._url(model.url, "sinks", name, "url"),
                    secrets=[
                        self._signing_secret(secret, "sinks", name, "sign", position)
                        for position, secret in enumerate(model.sign)
                    ],
                    headers=model.headers,
                    content=self._content(model),
                    timeout=model.timeout,
                    proxy=self._reveal(model.proxy) or None,
                )
            case _:
                raise NotImplementedError(model.type)

    def dry(self, name: str) -> DrySink:
        """Return what stands in for a sink during a dry run."""
        voice = self._voice(self.config.model.sinks[name])
        return DrySink(name=name, console=ConsoleSink(name=name, stream=sys.stdout, voice=voice))

    # --- what sinks have in common ------------------------------------------------------------------------

    def _content(self, model: models.SinkModel) -> Content:
        return model.content or self.config.model.defaults.content

    def _voice(self, model: models.SinkModel) -> Voice:
        defaults = self.config.model.defaults
        text = model if isinstance(model, models.TextModel) else models.TextModel()
        return Voice(
            language=text.language or defaults.language,
            zone=text.timezone or defaults.timezone,
            content=self._content(model),
        )

    def _reveal(self, value: SecretRef | str | None, stand_in: str = "secret") -> str:
        if self.hides_secrets and isinstance(value, SecretRef):
            return stand_in
        return reveal(value, self.config.vault)

    def _url(self, value: SecretRef | str, *key: str | int) -> str:
        """Return an address that may be a secret, checked; a problem names the place and not the address."""
        try:
            return check_url(self._reveal(value, "https://secret.invalid/"), schemes=("http", "https"))
        except ValueError as error:
            raise self._problem(str(error), *key) from error

    def _signing_secret(self, reference: SecretRef, *key: str | int) -> str:
        try:
            return check_signing_secret(self._reveal(reference, "whsec_c3RhbmQtaW4="))
        except ConfigError as error:
            raise self._problem(str(error), *key) from error

    def _problem(self, message: str, *key: str | int) -> ProblemsFound:
        return ProblemsFound([Problem(self.config.mark(*key), dotted(key), message)])
