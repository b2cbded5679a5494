"""What the store holds, shown to people and programs."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher import render
from watcher.assemble import state_path
from watcher.config.load import Config
from watcher.envelope import rfc3339, type_of
from watcher.model import Kind
from watcher.store import open_store
from watcher.web.control import ask

Row = dict[str, Any]


async def tickets(config: Config) -> list[Row]:
    """Return the known tickets; an empty list before the first run."""
    path = state_path(config)
    if not path.exists():
        return []
    live = {(each["account"], each["ticket"]): each for each in await ask(path, "tickets") or ()}
    async with open_store(path) as store:
        return [
            {
                "account": row.account,
                "ticket": row.ticket,
                "watch": row.watch,
                "title": row.title,
                "status": row.status,
                "unread": row.unread,
                "notes": row.notes,
                "last_note_at": _instant(row.last_note_at),
                "last_poll_at": _instant(row.last_poll_at),
                "error": row.error,
            }
            # What the running daemon knows is newer than what it wrote down.
            | live.get((row.account, row.ticket), {})
            for row in await store.tickets()
        ]


async def history(config: Config, limit: int) -> list[Row]:
    """Return the latest deliveries, newest first."""
    path = state_path(config)
    if not path.exists():
        return []
    async with open_store(path) as store:
        return [_delivery(row) for row in await store.history(most=limit)]


def _delivery(row: Any) -> Row:
    return {
        "event": row.event,
        "type": type_of(Kind(row.kind)),
        "account": row.account,
        "ticket": row.ticket or None,
        "note": row.note or None,
        "sink": row.sink,
        "state": row.state.value,
        "attempts": row.attempts,
        "created_at": rfc3339(row.created_at),
        "due_at": rfc3339(row.due_at),
        "delivered_at": _instant(row.delivered_at),
        "error": row.error,
    }


async def conversations(config: Config, ticket: str, account: str | None) -> list[Row]:
    """Return the conversation of each known ticket of that number (more than one account may have one)."""
    path = state_path(config)
    if not path.exists():
        return []
    zone = config.model.defaults.timezone
    async with open_store(path) as store:
        deliveries = [_delivery(row) for row in await store.history(most=10_000) if row.ticket == ticket]
        return [
            {
                "account": row.account,
                "ticket": row.ticket,
                "title": row.title,
                "status": row.status,
                "error": row.error,
                "timezone": str(zone),
                "notes": [_note(note, seen) for note, seen in await store.conversation(row.account, ticket)],
                "deliveries": [each for each in deliveries if each["account"] == row.account],
            }
            for row in await store.tickets()
            if row.ticket == ticket and account in {None, row.account}
        ]


def _note(note: Any, row: Any) -> Row:
    return {
        "note": row.note,
        "created_at": _instant(note.created_at) if note else None,
        "role": row.role,
        "name": note.author.name if note else None,
        "read": row.read,
        "content": note.content if note else None,
        "attachments": [attachment.name for attachment in note.attachments] if note else [],
    }


def _instant(instant: datetime | None) -> str | None:
    return rfc3339(instant) if instant else None


# --- for people -------------------------------------------------------------------------------------------


def ticket_table(rows: list[Row]) -> None:
    """Print tickets as a table."""
    if not rows:
        Console().print("No tickets are known yet. `watcher run` looks for them.")
        return
    columns = ("account", "ticket", "title", "status", "unread", "notes", "last_note_at", "error")
    _print_table(columns, rows)


def history_table(rows: list[Row]) -> None:
    """Print deliveries as a table."""
    if not rows:
        Console().print("Nothing was announced yet.")
        return
    _print_table(("created_at", "ticket", "type", "sink", "state", "attempts", "event", "error"), rows)


def _print_table(columns: tuple[str, ...], rows: list[Row]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        keeps_whole = column in {"ticket", "event", "sink", "state"}
        table.add_column(column.replace("_at", "").replace("_", " "), no_wrap=keeps_whole)
    for row in rows:
        # Text, not markup: a title may hold square brackets, and must not steer the terminal.
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    console = Console()
    if not console.is_terminal:
        console.width = 240
    console.print(table)


def _cell(value: Any) -> str:
    return "" if value is None else render.one_line(str(value))


def print_conversation(row: Row) -> None:
    """Print one ticket: its notes as they were seen, then what was announced."""
    console = Console(highlight=False)
    console.print(Text(f"{row['ticket']}  {render.one_line(row['title'])}", style="bold"))
    console.print(Text(f"account {row['account']}, {row['status']}" + (f", {row['error']}" if row["error"] else "")))
    for note in row["notes"]:
        name = render.one_line(note["name"] or note["role"])
        console.print()
        console.print(Text(f"{name} ({note['role']}, {note['read']})  {note['created_at'] or ''}", style="bold"))
        content = "(removed by age)" if note["content"] is None else render.printable(note["content"])
        console.print(Text(content))
        for attachment in note["attachments"]:
            console.print(Text(f"attached: {render.one_line(attachment)}"))
    console.print()
    history_table(row["deliveries"])
