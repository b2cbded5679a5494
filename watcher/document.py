"""Read YAML into plain values that remember where they stand.

Every scalar is read as text: YAML 1.1 would turn the ticket number ``00051234`` into 21148 and the time ``22:00``
into 1320. What a text means is decided by the schema. Duplicate keys, tags, merge keys and more than a few aliases
are refused (nested merges of 862 bytes can keep a loader busy for minutes).
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from watcher.errors import ConfigError

Key = tuple[str | int, ...]

_LARGEST_BYTES = 4 * 1024 * 1024
_DEEPEST = 50
_MOST_ALIASES = 100
_MOST_NODES = 500_000
_FEW_WORDS = 12
_NULLS = {"", "~", "null", "Null", "NULL"}
_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")
_DEFAULT_TAGS = {
    yaml.ScalarNode: "tag:yaml.org,2002:str",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong with a file: where, which key, what it is and what to write instead."""

    mark: Mark
    key: str
    message: str

    def __str__(self) -> str:
        text = f"{self.mark} {self.key}: {self.message}" if self.key else f"{self.mark} {self.message}"
        # Parts of the file stand in the message, and a file may hold anything.
        return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class ProblemsFound(ConfigError):
    """Everything that is wrong with the configuration, at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Document:
    """Plain values (dict, list, str, None), and for each key path the place of its value and of its name."""

    value: Any
    file: str
    marks: dict[Key, Mark] = field(default_factory=dict)
    names: dict[Key, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def at(self, key: Key) -> Any:
        """Return the value of ``key``."""
        value = self.value
        for part in key:
            value = value[part]
        return value

    def mark(self, key: Key) -> Mark:
        """Return where ``key`` stands, or where the nearest thing around it does."""
        while key and key not in self.marks:
            key = key[:-1]
        return self.marks.get(key, Mark(self.file, 1, 1))

    def name_mark(self, key: Key) -> Mark:
        """Return where the name of ``key`` stands."""
        return self.names.get(key) or self.mark(key)


def read(path: Path, environ: Mapping[str, str] = os.environ) -> Document:
    """Read one file; problems are collected in the document, but a file that is no YAML raises ``ProblemsFound``."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_BYTES + 1)
        if len(content) > _LARGEST_BYTES:
            raise ConfigError(f"{path}: larger than {_LARGEST_BYTES} bytes; this is not a configuration")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from error
    return parse(text, str(path), environ)


def parse(text: str, file: str, environ: Mapping[str, str] | None = None) -> Document:
    """Read the text of a file; see ``read``. Without an environment, ``${NAME}`` is a text like any other."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        mark = Mark(file, where.line + 1, where.column + 1) if where else Mark(file, 1, 1)
        raise ProblemsFound([Problem(mark, "", _syntax(error, text, mark))]) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ProblemsFound([Problem(Mark(file, 1, 1), "", f"not valid YAML: {_short(error)}")]) from error
    reader = _Reader(Document(None, file), environ)
    reader.document.value = reader.read(node, ()) if node else None
    return reader.document


def _syntax(error: yaml.MarkedYAMLError, text: str, mark: Mark) -> str:
    """Return what the parser says, with the remedy where the cause is a common one."""
    said = "not valid YAML: " + " ".join(filter(None, (error.problem, error.context)))
    line = "".join(text.splitlines()[mark.line - 1 : mark.line])
    if r"\t" in (error.problem or ""):
        return f"{said}; indent with spaces"
    if "${" in line:
        return f"{said}; inside braces, put quotes around a text with ${{...}}"
    return said


def _short(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())[:200]


class _Reader:
    """Turns nodes into values, noting where each stands."""

    def __init__(self, document: Document, environ: Mapping[str, str] | None) -> None:
        self.document = document
        self._environ = environ
        self._seen: dict[int, int] = {}
        self._aliases = 0
        self._nodes = 0
        self._inside: set[int] = set()

    def read(self, node: yaml.Node, key: Key) -> Any:
        mark = self._mark(node)
        self.document.marks[key] = mark
        refusal = self._refusal(node, key)
        if refusal:
            self._complain(mark, key, refusal)
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        self._inside.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, key)
            return [self.read(item, (*key, position)) for position, item in enumerate(node.value)]
        finally:
            self._inside.discard(id(node))

    def _refusal(self, node: yaml.Node, key: Key) -> str:
        """Return why the node is not read, or ""."""
        self._nodes += 1
        self._aliases += id(node) in self._seen
        self._seen[id(node)] = 1
        if self._aliases > _MOST_ALIASES or self._nodes > _MOST_NODES:
            return f"more than {_MOST_ALIASES} aliases; write the values out"
        if len(key) > _DEEPEST:
            return "nested too deeply"
        if id(node) in self._inside:
            return "the alias contains itself"
        if node.tag != _DEFAULT_TAGS[type(node)] and node.tag not in _IMPLICIT:
            return f"the tag `{node.tag.replace('tag:yaml.org,2002:', '!!')}` is not known here; leave it out"
        return ""

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for name_node, value_node in node.value:
            mark = self._mark(name_node)
            if not isinstance(name_node, yaml.ScalarNode):
                self._complain(mark, key, "a key must be a word")
                continue
            name = name_node.value
            if name == "<<" and not name_node.style:
                self._complain(mark, key, "merge keys (<<) are not supported; write the values out")
            elif name in result:
                first = self.document.names[*key, name].line
                self._complain(mark, (*key, name), f"stands twice in the same place; the first is in line {first}")
            else:
                self.document.names[*key, name] = mark
                result[name] = self.read(value_node, (*key, name))
        return result

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> str | None:
        if node.style is None and node.value in _NULLS:
            return None
        if self._environ is None:
            return str(node.value)
        try:
            return _VARIABLE.sub(partial(_variable, self._environ), node.value)
        except KeyError as error:
            name = error.args[0]
            self._complain(
                self._mark(node),
                key,
                f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}",
            )
            return None

    def _complain(self, mark: Mark, key: Key, message: str) -> None:
        self.document.problems.append(Problem(mark, dotted(key), message))

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self.document.file, node.start_mark.line + 1, node.start_mark.column + 1)


def _variable(environ: Mapping[str, str], match: re.Match[str]) -> str:
    if match[0] == "$$":
        return "$"
    name, default = match[1], match[2]
    return environ[name] if default is None else environ.get(name) or default


# Tags that the loader gives by itself to plain scalars.
_IMPLICIT = {
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
}


def dotted(key: Key) -> str:
    """Return a key path as people write it: ``sinks.ops-mail.to[1]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence that names the nearest known word, or all of them where they are few, or ""."""
    words = sorted(known)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    if words and len(words) <= _FEW_WORDS:
        return f"choose from: {', '.join(words)}"
    return ""
