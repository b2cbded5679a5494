"""What must survive a crash: tickets, notes, events, and the outbox, on SQLite."""

from watcher.store.store import Store, TicketRow, open_store

__all__ = ["Store", "TicketRow", "open_store"]
