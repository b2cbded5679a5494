"""A ticket on a poller's list, with what is remembered of it between two looks."""

from dataclasses import dataclass, replace
from datetime import datetime

from watcher.detect import WatchRule
from watcher.model import Account, Ticket
from watcher.schedule import Cadence


@dataclass(slots=True, kw_only=True)
class Watched:
    """Changes with every look; only the loop of its account touches it."""

    account: Account
    ticket: Ticket
    rule: WatchRule
    cadence: Cadence
    #: Listed by hand: no list tells its title and status.
    is_listed: bool = False
    fingerprint: bytes = b""
    looks: int = 0
    failures: int = 0
    last_note_at: datetime | None = None
    last_poll_at: datetime | None = None
    #: Why the last look failed.
    failure: str | None = None
    #: What could not be read of the last answer.
    problem: str | None = None
    #: True while the store's row says that the ticket fails.
    is_error_stored: bool = False

    @property
    def error(self) -> str | None:
        """What is wrong with the ticket, for people; None while all is well."""
        return self.failure or self.problem

    @property
    def was_tried(self) -> bool:
        """Tell whether the ticket was looked at since the start, well or badly."""
        return bool(self.looks or self.failures)

    def learn(self, news: Ticket) -> None:
        """Take over what ``news`` says of the ticket; what it does not say stays as it was."""
        old = self.ticket
        self.ticket = replace(
            news,
            title=news.title or old.title,
            status=news.status if news.status_code else old.status,
            status_code=news.status_code or old.status_code,
            severity=news.severity if news.severity_code else old.severity,
            severity_code=news.severity_code or old.severity_code,
            created_at=news.created_at or old.created_at,
        )
