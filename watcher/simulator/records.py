"""What the simulated world is made of. Numbers and names are the vendor's."""

from dataclasses import dataclass, field

from watcher.model import TicketStatus
from watcher.simulator.limits import Quota

AGENT, CUSTOMER = 2, 3
UNREAD, READ = 1, 2
CARD, TEXT = 1, 2
NORMAL, URGENT = 1, 2

#: The six published states: number on the wire, the vendor's name, the label that answers carry.
STATUSES = {
    1: (TicketStatus.ASSIGNED, "待响应"),
    2: (TicketStatus.DEALING, "处理中"),
    3: (TicketStatus.WAIT_FEEDBACK, "待反馈"),
    4: (TicketStatus.FEEDBACK, "已反馈"),
    5: (TicketStatus.WAIT_CONFIRM, "待确认"),
    6: (TicketStatus.CONFIRMED, "已完成"),
}
DEALING, WAIT_FEEDBACK, FEEDBACK, CONFIRMED = 2, 3, 4, 6
SEVERITIES = {NORMAL: "一般问题", URGENT: "紧急问题"}


def status_number(text: str) -> int:
    """Return the number of a status given as number or name; ``wait-feedback`` is the vendor's own slip."""
    name = text.strip().lower().replace("-", "_")
    for number, (status, _) in STATUSES.items():
        if name in {str(number), status.value}:
            return number
    names = ", ".join(f"{number} {status.value}" for number, (status, _) in STATUSES.items())
    raise ValueError(f"{text!r} is not a ticket status; there are: {names}")


@dataclass(slots=True, kw_only=True)
class Key:
    """An AccessKey. One with a ``token`` is a temporary STS key."""

    id: str
    secret: str
    token: str = ""
    #: Epoch seconds after which the token is refused.
    token_expires_at: float | None = None
    disabled: bool = False


@dataclass(slots=True, kw_only=True)
class Account:
    """A customer of the cloud."""

    name: str
    uid: str
    keys: list[Key] = field(default_factory=list)
    #: Account numbers for which a reseller may ask with the parameter ``Uid``.
    customers: frozenset[str] = frozenset()
    quota: Quota | None = None


@dataclass(frozen=True, slots=True)
class File:
    """What somebody attaches."""

    name: str
    content: bytes = b"The simulator's attachment.\n"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file under the key by which its address finds it."""

    key: str
    name: str
    content: bytes


@dataclass(slots=True, kw_only=True)
class Note:
    """One entry of a conversation."""

    dialog_id: int
    created_ms: int
    role: int
    name: str
    content: str | None
    type: int = TEXT
    status: int = UNREAD
    tip: str | None = None
    schema: str | None = None
    attachments: tuple[StoredFile, ...] = ()


@dataclass(slots=True, kw_only=True)
class Ticket:
    """A ticket and its notes, by dialog id in the order in which they came."""

    id: str
    uid: str
    title: str
    description: str
    status: int
    severity: int
    created_ms: int
    notes: dict[int, Note] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call as the gateway saw it."""

    action: str
    ticket_id: str
    key_id: str
    #: Epoch seconds of the simulator's clock.
    at: float
    #: ``OK``, the error code that was answered, or ``fault:`` and the fault's kind.
    code: str
