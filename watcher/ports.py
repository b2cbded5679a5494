"""The ways in which the watcher touches the world, as contracts on one page."""

from datetime import datetime, timedelta
from typing import Protocol

from watcher.errors import SinkRejected
from watcher.model import Delivery, Event, Reading, Ticket, TicketPage


class Clock(Protocol):
    """Time. Wall time is for records and signatures, elapsed time for everything that waits."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return seconds that never jump and go on while the machine sleeps; only differences mean anything."""
        ...

    async def sleep(self, span: timedelta) -> None:
        """Return after ``span``."""
        ...


class Answer(Protocol):
    """A successful ListTicketNotes answer, not yet read."""

    @property
    def fingerprint(self) -> bytes:
        """Equal for two answers that say the same; temporary addresses and request ids do not count."""
        ...

    def read(self) -> Reading:
        """Return the notes; what cannot be read of one note hides none of the others."""
        ...


class TicketApi(Protocol):
    """One account's Ticket API.

    Every method raises ``ApiUnavailable``, ``ApiThrottled``, ``ApiDenied``, ``CredentialsRejected`` or
    ``ApiRefused``, and nothing else.
    """

    async def list_ticket_notes(self, ticket: str, *, uid: str = "") -> Answer:
        """Return the whole conversation of ``ticket``; the API has no paging and no "since"."""
        ...

    async def list_tickets(self, page: int, *, uid: str = "", created_after: datetime | None = None) -> TicketPage:
        """Return the n-th page (from 1) of the tickets, without their severity (the list does not carry it)."""
        ...

    async def get_ticket(self, ticket: str, *, uid: str = "") -> Ticket:
        """Return title, status and severity of one ticket."""
        ...


class Sink(Protocol):
    """Where events go.

    ``send`` may be called again with the same event: the receiver sees the same id. It raises
    ``SinkUnavailable``, ``SinkRejected``, ``SinkGone`` or ``SinkPartly``, whose texts hold no secret.
    """

    @property
    def name(self) -> str:
        """The name in ``watcher.yaml``."""
        ...

    @property
    def target(self) -> str:
        """What identifies the receiver; when it changes, a switched-off sink is tried again."""
        ...

    @property
    def parallel(self) -> int:
        """How many events may be under way at once."""
        ...

    @property
    def spacing(self) -> timedelta:
        """How long to wait at least from one message to the next."""
        ...

    @property
    def most_at_once(self) -> int | None:
        """So many waiting events are told one by one, more of them as one digest; None: always one by one."""
        ...

    async def send(self, delivery: Delivery, *, now: datetime) -> None:
        """Hand over one event, within the sink's own time limit.

        A delivery that names a ``receiver`` goes to that one alone.
        """
        ...

    def preview(self, event: Event, *, now: datetime) -> str:
        """Return what would be sent, readable by people and with secrets left out; nothing is sent."""
        ...


def event_for_all(delivery: Delivery) -> Event:
    """Return the event, for a sink that has no receivers of its own; a delivery to one is left over."""
    if delivery.receiver:
        raise SinkRejected(f"{delivery.receiver} is no longer among the receivers of this sink")
    return delivery.event
