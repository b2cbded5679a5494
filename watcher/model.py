"""The nouns: frozen values that every other file speaks in.

Instants are aware UTC ``datetime`` and end in ``_at``; spans are ``timedelta``. Texts that came from the
ticket system are kept as they were received (less NUL and lone surrogates, which no store can hold): whoever
shows them makes them safe for the place where they are shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """Who wrote a note."""

    AGENT = "agent"
    CUSTOMER = "customer"
    #: A role that the vendor's page does not list. Announced like an agent's: better once too often.
    UNKNOWN = "unknown"


class Read(StrEnum):
    """What ``Status`` says of a note. A hint: the vendor does not say whose reading it is."""

    UNREAD = "unread"
    READ = "read"
    #: Neither of the two published values; the vendor's own example prints such a one.
    UNKNOWN = "unknown"


class Severity(StrEnum):
    """How urgent a ticket is, as its customer chose when creating it."""

    NORMAL = "normal"
    URGENT = "urgent"
    UNKNOWN = "unknown"


class TicketStatus(StrEnum):
    """Where a ticket stands, under the vendor's names."""

    ASSIGNED = "assigned"
    DEALING = "dealing"
    WAIT_FEEDBACK = "wait_feedback"
    FEEDBACK = "feedback"
    WAIT_CONFIRM = "wait_confirm"
    CONFIRMED = "confirmed"
    UNKNOWN = "unknown"

    @property
    def is_open(self) -> bool:
        """Tell whether an answer may still be expected; an unknown status counts as open."""
        return self is not TicketStatus.CONFIRMED


class FirstRun(StrEnum):
    """What a watch says about notes that are older than itself."""

    #: Announce what is unread, as one digest per sink; the rest is history.
    UNREAD = "unread"
    #: Announce nothing that is older than the watch.
    NOTHING = "nothing"
    #: Announce every agent note ever written.
    EVERYTHING = "everything"


class Language(StrEnum):
    """The language of the texts that we write; replies are never translated."""

    ENGLISH = "en"
    CHINESE = "zh"


class Content(StrEnum):
    """How much of a reply leaves the watcher."""

    FULL = "full"
    EXCERPT = "excerpt"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who wrote a note, as the ticket system names them."""

    role: Role
    role_code: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of a note. ``url`` is a key to the file for whoever holds it, and differs at every poll."""

    name: str
    url: str = ""
    #: When the address stops working, if it says so.
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One entry of a ticket's conversation."""

    #: DialogId as text: it may exceed what JavaScript and CloudEvents hold as a number.
    id: str
    author: Author
    #: None when the answer names no usable CreateTime.
    created_at: datetime | None
    read: Read = Read.UNKNOWN
    read_code: int | None = None
    #: ``text``, ``card``, or ``unknown`` with the number in ``type_code``.
    type: str = "text"
    type_code: int | None = None
    content: str = ""
    schema: str = ""
    tip: str = ""
    attachments: tuple[Attachment, ...] = ()

    @property
    def order(self) -> tuple[float, int, str]:
        """Sort key: CreateTime, then DialogId as a number where it is one. A note without a time comes last."""
        when = self.created_at.timestamp() if self.created_at else float("inf")
        return (when, int(self.id) if self.id.isdecimal() else 0, self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What the ticket system says of a ticket, apart from its notes."""

    id: str
    title: str = ""
    status: TicketStatus = TicketStatus.UNKNOWN
    #: The status number as received; text, because the vendor sends it as text.
    status_code: str = ""
    severity: Severity = Severity.UNKNOWN
    severity_code: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read of an answer: the good notes, and what was wrong with the others."""

    #: Oldest first, each DialogId once.
    notes: tuple[Note, ...]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TicketPage:
    """One page of the list of tickets."""

    tickets: tuple[Ticket, ...]
    #: How many tickets all pages hold, if the answer says so.
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose tickets they are: one credential and endpoint, and for a reseller one customer of it."""

    name: str
    #: The customer's account number where one is configured, else "".
    uid: str = ""
    site: str = "cn"

    @property
    def key(self) -> str:
        """The UID, else the name: the part of an event's id that says whose ticket it is."""
        return self.uid or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One ticket's notes as one poll saw them, oldest first, each DialogId once."""

    account: Account
    ticket: Ticket
    notes: tuple[Note, ...]
    taken_at: datetime


class Kind(StrEnum):
    """What an event says. The value is what routes and watches call it."""

    REPLY = "reply"
    UNREAD = "unread"
    DIGEST = "digest"
    #: Made by `watcher test`; it tells of no ticket.
    TEST = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What a person asks next: how much of this ticket is unread, and since when."""

    in_ticket: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something to say. Its id is a function of what it says, so that a repeat is recognised."""

    id: str
    kind: Kind
    account: Account
    ticket: Ticket
    note: Note | None
    recorded_at: datetime
    watch: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    unread: Unread = Unread()
    #: Where a person can open the ticket.
    url: str = ""
    #: True for the first agent note of a conversation: what it starts, later ones continue.
    is_first: bool = False
    #: The single events of a digest, in the order in which they are told.
    events: tuple["Event", ...] = ()

    @property
    def lane(self) -> str:
        """What this must be told in order with: its ticket's other events; a digest stands alone."""
        return self.id if self.events else f"{self.account.name}/{self.ticket.id}"

    @property
    def is_urgent(self) -> bool:
        """Tell whether the ticket, or one of a digest's, is urgent."""
        return any(event.ticket.severity is Severity.URGENT for event in self.events or (self,))

    @property
    def occurred_at(self) -> datetime:
        """When the thing happened that the event tells: the note's CreateTime, else when it was seen."""
        if self.events:
            return max(event.occurred_at for event in self.events)
        if self.note and self.note.created_at:
            return self.note.created_at
        return self.recorded_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store remembers of one ticket."""

    #: False until the first complete look at the ticket was recorded.
    is_looked_at: bool = False
    #: The read state last seen, by DialogId, of every note ever seen.
    notes: Mapping[str, Read] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What one look at a ticket found."""

    #: Notes without a row so far, with or without an event.
    new_notes: tuple[Note, ...] = ()
    #: Known notes whose read state differs from what is stored.
    changed_notes: tuple[Note, ...] = ()
    #: Oldest note first.
    events: tuple[Event, ...] = ()
    is_first_look: bool = False

    @property
    def is_nothing(self) -> bool:
        """Tell whether there is nothing to write down."""
        return not (self.new_notes or self.changed_notes or self.is_first_look)


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    DUE = "due"
    #: Kept back on purpose, to come out later or as part of a digest.
    HELD = "held"
    DELIVERED = "delivered"
    #: Given up, with a reason; it stays listed until it is replayed.
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one sink; or for one receiver of it, where the others have the event already."""

    event: Event
    sink: str
    #: Which of the sink's receivers (a mail address, a service, a user) still lacks the event; "" for all of them.
    receiver: str = ""
    state: DeliveryState
    #: Attempts already made.
    attempts: int
    due_at: datetime
    created_at: datetime
    #: How many of them came before their time; they do not count against the schedule.
    hastened: int = 0
    #: True when a person asked for it to be sent again.
    replay: bool = False

    @property
    def lane(self) -> str:
        """What this must go out in order with; who lacks an event holds up nobody else."""
        return f"{self.event.lane} {self.receiver}" if self.receiver else self.event.lane


@dataclass(frozen=True, slots=True)
class Delivered:
    """The sink has it."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Retry:
    """Not yet: try again at ``due_at``."""

    due_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class Dead:
    """Given up."""

    at: datetime
    error: str


Verdict = Delivered | Retry | Dead
