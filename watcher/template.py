"""The user's own wording of messages: sandboxed Jinja2 templates over the event that docs/webhooks.md describes."""

import html
import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.filters import do_mark_safe
from jinja2.sandbox import ImmutableSandboxedEnvironment

from watcher import render
from watcher.envelope import EXCERPT_CHARS, Cut, envelope, excerpt
from watcher.log import Edges
from watcher.model import Content, Event, Kind
from watcher.render import Voice
from watcher.sample import example

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

#: Nobody wants to read more, and some templates never end by themselves.
_LONGEST_CHARS = 200_000
_LONGEST = {Content.FULL: None, Content.EXCERPT: EXCERPT_CHARS, Content.NONE: 0}
#: What goes wrong in a template is not always called a TemplateError: `1 + "a"`, `range(10**9)`, `{} | first.x`.
_FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class TemplateWording:
    """One part of a message as the user wants it; raises ``ValueError`` with the line of a mistake in the syntax.

    A template tells one event. Of a digest it tells each event, below one another; its subject stays ours. An event
    that the template cannot tell is told in our own words: a message must not be lost over its wording.
    """

    def __init__(self, source: str, *, part: str) -> None:
        self._part = part
        # Undefined names are mistakes; the sandbox keeps a template from whatever is not the event.
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=part == "html")
        try:
            self._template = environment.from_string(source)
        except TemplateSyntaxError as error:
            raise ValueError(f"line {error.lineno} of the template: {error.message}") from error
        self._edges = Edges(log)

    def render(self, event: Event, voice: Voice, *, default: str) -> str:
        """Return the text for ``event``; ``default`` is what we would have said, and stands in for what fails."""
        try:
            text = self.attempt(event, voice, default=default)
        except ValueError as error:
            self._edges.failed("template", "template failed", error=str(error), part=self._part, next="our own words")
            return default
        self._edges.worked("template", "template works again", part=self._part)
        # Most services refuse an empty message, and the reply would be lost.
        return text if text.strip() else default

    def attempt(self, event: Event, voice: Voice, *, default: str) -> str:
        """As ``render``, but raise ``ValueError`` for an event that the template cannot tell."""
        if event.events:
            if self._part == "subject":
                return default
            parts = (self._one(each, voice, default=self._short(each, voice)) for each in event.events)
            return "\n\n".join(part.strip("\n") for part in parts)
        # What we say in HTML is escaped already.
        return self._one(event, voice, default=do_mark_safe(default) if self._part == "html" else default)

    def _short(self, event: Event, voice: Voice) -> str:
        """Return what we would say of one event among several."""
        # What is cut is not to be cut again.
        rest = voice if voice.content is Content.NONE else replace(voice, content=Content.FULL)
        text = render.plain_text(_harmless(event, voice), rest)
        if self._part != "html":
            return text
        return do_mark_safe(f'<div style="white-space:pre-wrap">{html.escape(text)}</div>')

    def _one(self, event: Event, voice: Voice, *, default: str) -> str:
        written, length = [], 0
        try:
            for piece in self._template.generate(_context(event, voice, default)):
                written.append(piece)
                length += len(piece)
                if length > _LONGEST_CHARS:
                    raise ValueError(f"it writes more than {_LONGEST_CHARS} characters")
        except _FAILURES as error:
            raise ValueError(f"{_place(error)}: {error}") from error
        return "".join(written)


def _place(error: BaseException) -> str:
    """Return the line of the template in which an error arose."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_code.co_filename == "<template>"]
    return f"line {lines[-1]} of the template" if lines else "the template"


def _context(event: Event, voice: Voice, default: str) -> Mapping[str, Any]:
    """Return what a template sees: the event as webhooks carry it, and what our own texts would say."""
    harmless = _harmless(event, voice)
    told = envelope(harmless, cut=Cut(content=voice.content))
    if event.note:
        told["data"]["note"]["content_chars"] = len(event.note.content)
    # Most events lack most labels.
    told["data"]["labels"] = defaultdict(str, told["data"].get("labels", {}))
    return told | {
        "headline": render.headline(harmless, voice),
        "default": default,
        "local": lambda instant: render.local(datetime.fromisoformat(instant), voice) if instant else "",
    }


def _harmless(event: Event, voice: Voice) -> Event:
    """Return the event as far as the voice lets it out, and then escaped: half an escape is none."""
    longest = _LONGEST[voice.content]
    if event.note and longest is not None:
        event = replace(event, note=replace(event.note, content=excerpt(event.note.content, longest)))
    return voice.escape(event)


def problem_of(source: str, *, part: str, voice: Voice) -> str:
    """Return what is wrong with a template, tried on every kind of event that it may have to tell; "" for nothing."""
    try:
        wording = TemplateWording(source, part=part)
        for kind in Kind:
            wording.attempt(example(kind), voice, default="")
    except ValueError as error:
        return str(error)
    return ""
