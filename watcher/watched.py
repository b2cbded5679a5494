"""A ticket on a poller's list, with what is remembered of it between two looks."""

from dataclasses import dataclass, replace
from datetime import datetime

from watcher.detect import WatchRule
from watcher.model import Account, Ticket, TicketStatus
from watcher.schedule import Cadence


@dataclass(slots=True, kw_only=True)
class Watched:
    """Changes with every look, and with every list that shows the ticket."""

    account: Account
    ticket: Ticket
    rule: WatchRule
    cadence: Cadence
    #: Listed by hand in the configuration.
    is_listed: bool = False
    #: Whether the last list of the account's tickets showed it: then its title and status come from there.
    is_in_list: bool = False
    #: How many of a reseller's uids were asked in vain whether the ticket is theirs.
    uids_tried: int = 0
    fingerprint: bytes = b""
    looks: int = 0
    #: At which look its title and status are asked for next, where no list tells them.
    details_due: int = 0
    failures: int = 0
    last_note_at: datetime | None = None
    last_poll_at: datetime | None = None
    #: Why the last look failed.
    failure: str | None = None
    #: What could not be read of the last answer.
    problem: str | None = None
    #: Title and status as the store has them, and whether its row says that the ticket fails.
    stored: tuple[str, TicketStatus] | None = None
    is_error_stored: bool = False

    @property
    def error(self) -> str | None:
        """What is wrong with the ticket, for people; None while all is well."""
        return self.failure or self.problem

    @property
    def was_tried(self) -> bool:
        """Tell whether the ticket was looked at since the start, well or badly."""
        return bool(self.looks or self.failures)

    @property
    def is_worth_saving(self) -> bool:
        """Tell whether the store's row says something else."""
        return (self.ticket.title, self.ticket.status) != self.stored or bool(self.error) != self.is_error_stored

    def saved(self, *, error: str | None = "") -> None:
        """Note that the store has title, status, and the error that there is now (or the given one)."""
        self.stored = (self.ticket.title, self.ticket.status)
        self.is_error_stored = bool(self.error if error == "" else error)

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
