"""From files to a configuration: read, merge, check; every problem at once, with its place."""

import glob
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from watcher import document as documents
from watcher.config.schema import ConfigModel, WatchModel
from watcher.config.secrets import Vault
from watcher.config.values import SecretRef
from watcher.document import Document, Key, Mark, Problem, ProblemsFound, did_you_mean, dotted
from watcher.errors import ConfigError
from watcher.model import Content
from watcher.render import Voice

#: Where the configuration is looked for, first match wins.
DEFAULT_PATHS = (Path("watcher.yaml"), Path("/etc/watcher/watcher.yaml"))

_MAPS = ("accounts", "watches", "sinks")
# Parts of the format whose feature does not exist yet: said so, instead of "unknown".
_NOT_YET = {
    (): {"routes", "time_intervals", "expect", "trouble", "heartbeat", "server"},
    ("accounts",): {"sweep"},
    ("storage",): {"url", "backup"},
}
#: What people call a type that has another name here.
_ALSO_CALLED = {
    "dingding": "dingtalk",
    "lark": "feishu",
    "mail": "email",
    "smtp": "email",
    "notification": "desktop",
    "stdout": "console",
    "command": "exec",
    "wechat": "wecom",
    "wework": "wecom",
    "workwechat": "wecom",
    "http": "webhook",
}
_TEMPLATES = ("subject", "text", "html")
_EVENTS_NOT_YET = {"status", "read", "unread"}

#: Where pydantic sees a problem: a key path with the names of union members in between.
Loc = tuple[str | int, ...]


class Config:
    """A checked configuration, and where each of its keys stands."""

    def __init__(self, model: ConfigModel, document: Document, path: Path, vault: Vault) -> None:
        self.model = model
        self.path = path
        self.vault = vault
        self._document = document

    def mark(self, *key: str | int) -> Mark:
        """Return where a key stands."""
        return self._document.mark(key)

    def beside(self, path: Path) -> Path:
        """Return a path as the file means it: relative to the file's own folder."""
        return self.path.parent / path.expanduser()

    @property
    def watches(self) -> dict[str, WatchModel]:
        """The watches; without any, one for each account that discovers every open ticket."""
        if self.model.watches:
            return self.model.watches
        return {name: WatchModel.model_validate({"account": name}) for name in self.model.accounts}

    def absent_secrets(self, *section: str) -> list[Problem]:
        """Return the references whose secret is not there at this moment, of the whole file or of one section."""
        problems = []
        for key, reference in _secret_refs(self.model, ()):
            if key[: len(section)] != section:
                continue
            try:
                reference.probe(self.vault)
            except ConfigError as error:
                problems.append(Problem(self._document.mark(key), dotted(key), str(error)))
        return problems

    def runs_commands(self, *section: str) -> bool:
        """Tell whether a secret of a section is what a program prints."""
        return any(
            reference.command for key, reference in _secret_refs(self.model, ()) if key[: len(section)] == section
        )

    def account_of(self, watch: WatchModel) -> str:
        """Return the name of the account that a watch is of."""
        return watch.account or next(iter(self.model.accounts))


def find(path: Path | None) -> Path:
    """Return the file to read: the given one, else the first of ``DEFAULT_PATHS``."""
    if path is not None:
        return path
    for candidate in DEFAULT_PATHS:
        if candidate.exists():
            return candidate
    places = " or ".join(map(str, DEFAULT_PATHS))
    raise ConfigError(f"there is no {places}; write one (see the README) or name it with --config")


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Return the configuration, or raise ``ConfigError`` (``ProblemsFound`` where places are known)."""
    document = _merge(documents.read(path, environ), path, environ)
    vault = Vault(environ=environ)
    try:
        model = ConfigModel.model_validate({} if document.value is None else document.value)
    except ValidationError as error:
        broken = {problem.key for problem in document.problems}
        found = (_problem(details, document) for details in error.errors(include_url=False))
        more = [problem for problem in found if problem.key not in broken]
        raise ProblemsFound([*document.problems, *more, *_whole(document)]) from error
    problems = [*document.problems, *_whole(document)]
    if problems:
        raise ProblemsFound(problems)
    return Config(model, document, path, vault)


def _merge(main: Document, path: Path, environ: Mapping[str, str]) -> Document:
    """Merge the files that ``include`` names into the main one; one name twice is a problem."""
    if not isinstance(main.value, dict):
        return main
    patterns = main.value.get("include") or []
    for position, pattern in enumerate([patterns] if isinstance(patterns, str) else patterns):
        if not isinstance(pattern, str):
            continue
        key: Key = ("include", position)
        # Not Path.glob: it takes no absolute patterns.
        files = sorted(glob.glob(str(path.parent / pattern)))  # noqa: PTH207
        if not files and not glob.has_magic(pattern):
            main.problems.append(Problem(main.mark(key), dotted(key), f"there is no file {pattern}"))
        for file in files:
            try:
                _add(main, documents.read(Path(file), environ))
            except ProblemsFound as error:
                main.problems += error.problems
            except ConfigError as error:
                main.problems.append(Problem(main.mark(key), dotted(key), str(error)))
    return main


def _add(main: Document, other: Document) -> None:
    main.problems += other.problems
    if other.value is not None and not isinstance(other.value, dict):
        main.problems.append(Problem(other.mark(()), "", "must be a map, as the main file is"))
        return
    for section, content in (other.value or {}).items():
        if section == "version":
            continue
        if section == "include":
            main.problems.append(Problem(other.name_mark((section,)), section, "an included file includes no others"))
            continue
        named = section in _MAPS and isinstance(content, dict)
        place = main.value.setdefault(section, {}) if named else main.value
        for name, value in content.items() if named else [(section, content)]:
            key: Key = (section, name) if named else (section,)
            if name in place:
                first = main.name_mark(key)
                message = f"stands twice; the other is in {first.file} line {first.line}"
                main.problems.append(Problem(other.name_mark(key), dotted(key), message))
                continue
            place[name] = value
            for table, source in ((main.marks, other.marks), (main.names, other.names)):
                table.update({at: mark for at, mark in source.items() if at[: len(key)] == key})
                if (section,) in source:
                    table.setdefault((section,), source[section,])


# --- what pydantic found, in our words --------------------------------------------------------------------


def _problem(details: ErrorDetails, document: Document) -> Problem:
    key, loc, kind = _key(details["loc"], document), details["loc"], details["type"]
    context: dict[str, Any] = details.get("ctx") or {}
    given = details["input"]
    if kind == "extra_forbidden":
        name = str(loc[-1])
        return Problem(document.name_mark(key), dotted(key), _unknown_key(loc, name))
    if kind == "missing":
        return Problem(document.mark(key), dotted((*key, loc[-1])), "is missing; it must be given")
    if kind.startswith("union_tag"):
        return Problem(document.mark((*key, "type")), dotted((*key, "type")), _wrong_type(kind, loc, context))
    return Problem(document.mark(key), dotted(key), _message(kind, given, context, details["msg"]))


def _key(loc: Loc, document: Document) -> Key:
    """Return the part of ``loc`` that stands in the file: pydantic adds the names of union members."""
    key: Key = ()
    for part in loc:
        if (*key, part) in document.marks:
            key = (*key, part)
    return key


def _unknown_key(loc: Loc, name: str) -> str:
    model = _model_at(loc[:-1])
    section = tuple(str(part) for part in loc[:1]) if len(loc) > 1 else ()
    if name in _NOT_YET.get(section, ()):
        return "this version does not know it yet; leave it out"
    hint = did_you_mean(name, model.model_fields) if model else ""
    return f"unknown key; {hint}" if hint else "unknown key"


def _model_at(loc: Loc) -> type[BaseModel] | None:
    """Return the model that describes the place ``loc``, if one does."""
    kind = _kind_at(ConfigModel, loc)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _kind_at(kind: Any, loc: Loc) -> Any:
    """Return the type of what stands at ``loc`` below something of type ``kind``; None if nothing may stand there."""
    if get_origin(kind) is Annotated:
        return _kind_at(get_args(kind)[0], loc)
    members = _members(kind)
    if len(members) == 1:
        return _kind_at(members[0], loc)
    if not loc:
        return kind
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        member = kind.model_fields.get(str(loc[0]))
        return _kind_at(member.annotation, loc[1:]) if member else None
    if get_origin(kind) in {dict, list}:
        return _kind_at(get_args(kind)[-1], loc[1:])
    chosen = [member for member in members if loc[0] in _tags(member) or loc[0] == getattr(member, "__name__", "")]
    return _kind_at(chosen[0], loc[1:]) if chosen else None


def _members(kind: Any) -> list[Any]:
    """Return the members of a union but None; nothing for any other type."""
    is_union = get_origin(kind) in {Union, UnionType}
    return [member for member in get_args(kind) if member is not NoneType] if is_union else []


def _tags(member: Any) -> tuple[str, ...]:
    """Return the values of ``type:`` that mean this model."""
    field = member.model_fields.get("type") if isinstance(member, type) and issubclass(member, BaseModel) else None
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _wrong_type(kind: str, loc: Loc, context: dict[str, Any]) -> str:
    expected = [tag for member in _members(_kind_at(ConfigModel, loc)) for tag in _tags(member)]
    if kind == "union_tag_not_found":
        return f"is missing; choose from: {', '.join(expected)}"
    tag = str(context.get("tag", ""))
    meant = _ALSO_CALLED.get(tag.lower(), "")
    hint = f"did you mean `{meant}`?" if meant in expected else did_you_mean(tag, expected)
    return f"`{tag}` is not known; {hint or 'choose from: ' + ', '.join(expected)}"


def _message(kind: str, given: Any, context: dict[str, Any], fallback: str) -> str:
    match kind:
        case "value_error":
            return str(context["error"])
        case "enum" | "literal_error":
            if given in _EVENTS_NOT_YET and "reply" in str(context["expected"]):
                return f"this version does not announce `{given}` events yet; leave it out"
            words = [word.strip(" '") for word in str(context["expected"]).replace(" or ", ", ").split(",")]
            if "confirmed" in words:
                # A short form that the schema does not know, and a value that nobody would write.
                words = ["open", *(word for word in words if word != "unknown")]
            hint = did_you_mean(str(given), words)
            return f"`{given}` is not possible here; {hint}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a map of keys and values"
        case "list_type":
            return "must be a list"
        case "string_type" | "path_type":
            return "is empty; it needs a value" if given is None else "must be a single value, not a list or a map"
        case "string_too_short":
            return "is empty; it needs a value"
        case "too_short":
            return "must hold at least one entry"
        case _:
            return fallback[:1].lower() + fallback[1:]


# --- what only the whole file can tell --------------------------------------------------------------------


def _whole(document: Document) -> Iterator[Problem]:
    """Yield what no single value shows; read from the plain values, so that other problems hide none of them."""
    yield from _references(document)
    yield from _templates(document)


def _references(document: Document) -> Iterator[Problem]:
    """Yield names that refer to nothing."""
    accounts, watches, sinks, defaults = (
        _map(document.value, section) for section in ("accounts", "watches", "sinks", "defaults")
    )
    for name, watch in watches.items():
        key: Key = ("watches", name, "account")
        account = _map(watches, name).get("account")
        if account is None and len(accounts) > 1 and (watch is None or isinstance(watch, dict)):
            one_of = ", ".join(accounts)
            yield Problem(document.name_mark(key[:2]), dotted(key), f"is missing; it is one of {one_of}")
        if isinstance(account, str) and account not in accounts:
            yield _unknown_name(document, key, account, "account", accounts)
    to = defaults.get("to")
    for position, sink in enumerate([to] if isinstance(to, str) else to or ()):
        if isinstance(sink, str) and sink not in sinks:
            yield _unknown_name(document, ("defaults", "to", position), sink, "sink", sinks)


def _templates(document: Document) -> Iterator[Problem]:
    """Yield what is wrong with the templates of sinks, each tried on events of every kind."""
    sinks, defaults = _map(document.value, "sinks"), _map(document.value, "defaults")
    for name in sinks:
        sink = _map(sinks, name)
        for part in _TEMPLATES:
            if not isinstance(sink.get(part), str):
                continue
            # Most configurations have no template: they need not wait for Jinja2.
            from watcher.template import problem_of  # noqa: PLC0415

            content = sink.get("content", defaults.get("content"))
            voice = Voice(content=Content(content)) if content in set(Content) else Voice()
            problem = problem_of(sink[part], part=part, voice=voice)
            if problem:
                key: Key = ("sinks", name, part)
                yield Problem(document.mark(key), dotted(key), problem)


def _map(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _unknown_name(document: Document, key: Key, name: str, kind: str, known: Mapping[str, Any]) -> Problem:
    hint = did_you_mean(name, known)
    return Problem(document.mark(key), dotted(key), f"there is no {kind} named `{name}`; {hint}")


def _secret_refs(value: Any, key: Key) -> Iterator[tuple[Key, SecretRef]]:
    if isinstance(value, SecretRef):
        yield key, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secret_refs(getattr(value, name), (*key, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _secret_refs(item, (*key, name))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            yield from _secret_refs(item, (*key, position))
