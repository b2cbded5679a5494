"""Which file may import which: a wrong arrow is a design that slips."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "watcher"
FILES = {
    ".".join(("watcher", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
    if "versions" not in path.parts
}
PURE = {
    f"watcher.{name}"
    for name in (
        *(
            "detect",
            "route",
            "retry",
            "schedule",
            "jitter",
            "model",
            "errors",
            "ports",
            "addresses",
            "duration",
            "redact",
        ),
        *("envelope", "formats", "render", "words", "sample", "popup"),
        *("chat.markup", "chat.message", "mail.compose", "mail.letter", "mail.mailbox", "mail.page", "mail.tally"),
        *("ticketapi.signing", "ticketapi.wire", "ticketapi.failures"),
    )
}
#: What makes a function depend on more than its arguments.
WORLDLY = {"aiohttp", "anyio", "asyncio", "os", "socket", "sqlalchemy", "structlog", "time"}
STAGES = {
    f"watcher.{name}" for name in ("poll", "dispatch", "discover", "remind", "refresh", "daemon", "assemble", "serve")
}
ADAPTERS = ("chat", "config", "mail", "session", "simulator", "sinks", "store", "ticketapi", "web")
#: Arrows between adapters that are meant to be there.
ALLOWED = {
    # The simulator verifies what the client signs.
    ("watcher.simulator.verify", "watcher.ticketapi.signing"),
    # What an address of mail is, whoever reads one.
    ("watcher.config.mail", "watcher.mail.mailbox"),
}
#: What several files of a sink share.
BELOW_SINKS = ("chat", "mail", "session")
#: Who may see both stages and adapters: the composition root, and who starts it.
ROOTS = {
    f"watcher.{name}"
    for name in ("assemble", "outlets", "outlets.chats", "serve", "trial", "cli", "demo", "show", "desktop", "__main__")
}
#: The store is what the stages work on; its contract is its own class.
BELOW_STAGES = {"watcher.store"}


def imports(module: str) -> Iterator[str]:
    """Yield the full names of the modules that a module imports, wherever in the file."""
    for node in ast.walk(ast.parse(FILES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports relatively; say the whole name"
            assert node.module
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in FILES else node.module


def part_of(module: str) -> str:
    """Return the adapter that a module belongs to, or ""."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "watcher" and parts[1] in ADAPTERS else ""


def wrong(module: str, imported: str) -> str | None:
    """Return why ``module`` may not import ``imported``."""
    part, other = part_of(module), part_of(imported)
    if module in PURE:
        if imported.split(".", maxsplit=1)[0] in WORLDLY:
            return "a decision knows no world"
        if imported.startswith("watcher") and imported not in PURE:
            return "a decision knows decisions and nouns only"
        return None
    if part:
        if imported in STAGES | ROOTS:
            return "an adapter knows no stage"
        is_meant = (module, imported) in ALLOWED or (part == "sinks" and other in BELOW_SINKS)
        if other and other != part and not is_meant:
            return "adapters do not know one another"
    if part == other == "sinks" and (module, imported) != ("watcher.sinks.dry", "watcher.sinks.console"):
        return "each sink stands alone"
    if module in STAGES - ROOTS and other and imported not in BELOW_STAGES:
        return "a stage gets its adapters from the composition root"
    if module not in ROOTS and imported in ROOTS:
        return "nothing below imports the composition root"
    return None


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_down(module: str) -> None:
    found = {imported: wrong(module, imported) for imported in imports(module)}
    assert {imported: why for imported, why in found.items() if why} == {}


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("watcher.detect", "time"),
        ("watcher.render", "watcher.store"),
        ("watcher.ticketapi.wire", "aiohttp"),
        ("watcher.store.store", "watcher.poll"),
        ("watcher.sinks.file", "watcher.store"),
        ("watcher.sinks.file", "watcher.sinks.webhook"),
        ("watcher.mail.smtp", "watcher.store"),
        ("watcher.chat.gateway", "watcher.sinks.dingtalk"),
        ("watcher.session.desk", "watcher.web.desks"),
        ("watcher.web.desks", "watcher.daemon"),
        ("watcher.dispatch", "watcher.sinks.webhook"),
        ("watcher.poll", "watcher.ticketapi.client"),
        ("watcher.daemon", "watcher.assemble"),
        ("watcher.http", "watcher.assemble"),
    ],
)
def test_a_wrong_arrow_is_noticed(module: str, imported: str) -> None:
    assert module in FILES
    assert wrong(module, imported)


def test_every_file_that_is_named_here_exists() -> None:
    assert FILES.keys() >= PURE | STAGES
    assert {module for module, _ in ALLOWED} | {imported for _, imported in ALLOWED} <= FILES.keys()


def test_every_exception_that_is_allowed_is_made_use_of() -> None:
    used = {(module, imported) for module in FILES for imported in imports(module)}
    assert used >= ALLOWED


def catches_everything(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and (
        node.type is None or (isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"})
    )


def test_only_dispatch_catches_what_it_does_not_know_and_only_once() -> None:
    found = [
        module
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if catches_everything(node)
    ]
    # The other one hands on what it catches, from one thread to another.
    assert sorted(found) == ["watcher.blocking", "watcher.dispatch"]


def test_no_module_has_state_but_constants_and_its_log() -> None:
    found = [
        f"{module}.{node.names}"
        for module, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Global)
    ]
    assert found == []
