"""YAML as text with positions: every scalar stays text, and every mistake is named by file and line."""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import yaml

from watcher.errors import ConfigError
from watcher.simulator.steps import convert

_PATH = re.compile(r"(?P<what>.*?)(?: - at `(?:key` in `)?\$(?P<path>.*)`)?", re.DOTALL)
_PART = re.compile(r"\.(?P<name>[^.\[]+)|\[(?P<index>\d+)\]")


class Source:
    """A YAML file, read without guessing: ``00051234`` and ``no`` are what they look like."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        try:
            for token in yaml.scan(text, Loader=yaml.BaseLoader):
                # An alias may point at what it is part of, and few scripts need one.
                if isinstance(token, yaml.AliasToken) and token.start_mark:
                    raise ConfigError(f"{name}:{token.start_mark.line + 1}: aliases are not used here")
            self.root = yaml.compose(text, Loader=yaml.BaseLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError(f"{name}:{line}: {error.problem or error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"{name}: {error}") from error

    def wrong(self, node: yaml.Node | None, what: object) -> ConfigError:
        """Return the error that says what is wrong, and where."""
        return ConfigError(f"{self._name}:{node.start_mark.line + 1 if node else 1}: {what}")

    def read(self, node: yaml.Node | None, type_: type[Any]) -> Any:
        """Return what stands at ``node`` as ``type_``."""
        value = {} if node is None else self._plain(node)
        try:
            return convert(value, type_)
        except msgspec.ValidationError as error:
            match = _PATH.fullmatch(str(error))
            what, path = (match["what"], match["path"]) if match else (str(error), "")
            raise self.wrong(_deepest(node, path or ""), what) from error

    def entries(self, key: str) -> Iterator[tuple[str, yaml.Node]]:
        """Yield names and values of the mapping at ``key`` of the root."""
        node = _child(self.root, key)
        if isinstance(node, yaml.MappingNode):
            yield from ((name.value, value) for name, value in node.value)

    def items(self, key: str) -> Iterator[yaml.Node]:
        """Yield the items of the list at ``key`` of the root."""
        node = _child(self.root, key)
        if isinstance(node, yaml.SequenceNode):
            yield from node.value

    def _plain(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(item) for item in node.value]
        if not isinstance(node, yaml.MappingNode):
            return node.value
        plain: dict[str, Any] = {}
        for name, value in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise self.wrong(name, "a key must be text")
            if name.value in plain:
                raise self.wrong(name, f"{name.value!r} stands here twice")
            plain[name.value] = self._plain(value)
        return plain


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None


def _deepest(node: yaml.Node | None, path: str) -> yaml.Node | None:
    """Follow msgspec's path as far as it names nodes."""
    for part in _PART.finditer(path):
        below = _child(node, part["name"]) if part["name"] else None
        if part["index"] and isinstance(node, yaml.SequenceNode):
            below = node.value[int(part["index"])]
        if below is None:
            break
        node = below
    return node
