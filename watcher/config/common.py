"""What the models of sinks have in common."""

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from watcher.config.values import Duration, Model, SecretRef, Text, Zone, check_url, type_list
from watcher.model import Content, Language
from watcher.retry import DEFAULT_SCHEDULE

_USUAL_TIME_LIMIT = timedelta(seconds=20)


def _check_http_url(value: SecretRef | str) -> SecretRef | str:
    return check_url(value, schemes=("http", "https")) if isinstance(value, str) else value


HttpUrl = Annotated[SecretRef | Text, AfterValidator(_check_http_url)]


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
