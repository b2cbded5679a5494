"""A script's file: plain values of a document, read as the types that scripts are made of."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from watcher import document
from watcher.document import Document, Key, Problem, ProblemsFound, dotted
from watcher.simulator.steps import convert

_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<path>.*)`)?", re.DOTALL)
_PART = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]")


class Source:
    """A script; every mistake in it is named by file and line."""

    def __init__(self, name: str, text: str) -> None:
        self._document: Document = document.parse(text, name)
        if self._document.problems:
            raise ProblemsFound(self._document.problems)

    def wrong(self, key: Key, what: object) -> ProblemsFound:
        """Return the error that says what is wrong, and where."""
        place = Problem(self._document.mark(key), dotted(key), str(what))
        return ProblemsFound([place])

    def read(self, key: Key, type_: type[Any]) -> Any:
        """Return what stands at ``key`` as ``type_``; nothing at all is an empty map."""
        value = self._document.at(key)
        try:
            return convert({} if value is None else value, type_)
        except msgspec.ValidationError as error:
            match = _PATH.fullmatch(str(error))
            what, path = (match["what"], match["path"]) if match else (str(error), "")
            raise self.wrong((*key, *_key(path or "")), what) from error

    def keys(self, key: str) -> Iterator[Key]:
        """Yield the keys of what stands in the mapping or list at ``key`` of the root."""
        value = self._document.at(()) or {}
        below = value.get(key) or {}
        yield from ((key, part) for part in (below if isinstance(below, dict) else range(len(below))))


def _key(path: str) -> Key:
    """Return msgspec's path as a key."""
    parts = _PART.finditer(path)
    return tuple(part["name"] or int(part["index"]) for part in parts)
