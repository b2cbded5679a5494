"""What the store holds, shown to people and programs."""

from datetime import datetime, tzinfo
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher import render
from watcher.assemble import state_path
from watcher.config.load import Config
from watcher.envelope import rfc3339, type_of
from watcher.model import DeliveryState, Kind
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


async def history(config: Config, limit: int, sink: str | None, state: str | None) -> list[Row]:
    """Return the latest deliveries, newest first; of one sink or in one state where one is given."""
    path = state_path(config)
    if not path.exists():
        return []
    async with open_store(path) as store:
        only = DeliveryState(state) if state else None
        return [_delivery(row) for row in await store.history(most=limit, sink=sink, state=only)]


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
        "receiver": row.receiver or None,
    }


async def conversations(config: Config, ticket: str, account: str | None) -> list[Row]:
    """Return the conversation of each known ticket of that number (more than one account may have one)."""
    path = state_path(config)
    if not path.exists():
        return []
    async with open_store(path) as store:
        deliveries = [_delivery(row) for row in await store.history(most=1000, ticket=ticket)]
        return [
            {
                "account": row.account,
                "ticket": row.ticket,
                "title": row.title,
                "status": row.status,
                "error": row.error,
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


def print_tickets(rows: list[Row], zone: tzinfo) -> None:
    """Print tickets as a table, and below it what is wrong with some of them."""
    if not rows:
        _say("No tickets are known yet. `watcher run` looks for them.")
        return
    several = len({row["account"] for row in rows}) > 1
    columns = ["account"] * several + ["ticket", "status", "unread", "notes", "last note", "title"]
    _print_table(columns, [row | {"last note": _local(row["last_note_at"], zone)} for row in rows])
    for row in rows:
        if row["error"]:
            _say(f"{row['account']}, {row['ticket']}: {row['error']}")


def print_history(rows: list[Row], zone: tzinfo) -> None:
    """Print deliveries as a table, newest first, and below it why some of them did not get through."""
    if not rows:
        _say("Nothing was announced yet.")
        return
    told = [
        row
        | {
            "when": _local(row["created_at"], zone),
            "says": row["type"].split(".", 1)[1].rsplit(".", 1)[0],
            "sink": _where(row),
        }
        for row in rows
    ]
    _print_table(["when", "ticket", "says", "sink", "state", "attempts", "event"], told)
    for row in rows:
        if row["error"]:
            again = f", next try {_local(row['due_at'], zone)}" if row["state"] == "due" else ""
            _say(f"{row['event']} to {_where(row)}: {row['error']}{again}")


def print_conversation(row: Row, zone: tzinfo) -> None:
    """Print one ticket: its notes as they were seen, then what was announced."""
    _say(f"{row['ticket']}  {row['title']}", style="bold")
    _say(f"account {row['account']}, {row['status']}" + (f", {row['error']}" if row["error"] else ""))
    for note in row["notes"]:
        _say("")
        when = _local(note["created_at"], zone) or "at an unknown time"
        _say(f"{note['name'] or note['role']} ({note['role']}, {note['read']}), {when}", style="bold")
        text = "(removed by age)" if note["content"] is None else note["content"] or "(no text)"
        for line in render.printable(text).splitlines():
            # Quoted, so that nothing in a note can pass for words of ours.
            _say(f"> {line}")
        for attachment in note["attachments"]:
            _say(f"  attached: {attachment}")
    _say("")
    print_history(row["deliveries"], zone)


def _where(row: Row) -> str:
    """Return the sink, and which of its receivers lacks what the others have."""
    return f"{row['sink']} ({row['receiver']})" if row["receiver"] else str(row["sink"])


def _say(line: str, style: str = "") -> None:
    """Print one line; not as markup, and wrapped only by the terminal itself."""
    Console(highlight=False, soft_wrap=True).print(Text(render.one_line(line), style=style))


def _print_table(columns: list[str], rows: list[Row]) -> None:
    """Print a table as wide as it is: an id that is cut cannot be copied, and a terminal wraps by itself."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    wide = Console(width=10_000, force_terminal=Console().is_terminal)
    with wide.capture() as captured:
        wide.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _cell(value: Any) -> str:
    return "" if value is None else render.one_line(str(value))


def _local(instant: str | None, zone: tzinfo) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(zone):%Y-%m-%d %H:%M}" if instant else ""
