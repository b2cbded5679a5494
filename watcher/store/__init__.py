"""What must survive a crash: tickets, notes, events, and the outbox, on SQLite."""

from watcher.store.rows import HistoryRow, TicketRow
from watcher.store.store import Store, open_store

__all__ = ["HistoryRow", "Store", "TicketRow", "open_store"]
