"""Fakes with verbs, and short builders of values."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio

from watcher.detect import WatchRule, event_id
from watcher.errors import SinkPartly
from watcher.model import (
    Account,
    Author,
    Delivery,
    DeliveryState,
    Event,
    FirstRun,
    Kind,
    Note,
    Read,
    Reading,
    Role,
    Snapshot,
    Ticket,
    TicketPage,
)

NOON = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """Return the instant so many minutes after noon."""
    return NOON + timedelta(minutes=minutes)


def _all(*parts: dict[str, Any]) -> dict[str, Any]:
    """Return the parts as one; the later ones win."""
    return {name: value for part in parts for name, value in part.items()}


def account(name: str = "prod", **more: Any) -> Account:
    return Account(name=name, **more)


def ticket(number: str = "0005PYGCW", **more: Any) -> Ticket:
    return Ticket(**_all({"id": number, "title": "Why ECS renewal failed?"}, more))


def note(
    number: int | str = 1,
    *,
    by: Role = Role.AGENT,
    read: Read = Read.UNREAD,
    minutes: float = 0.0,
    text: str = "Please try again.",
    **more: Any,
) -> Note:
    author = Author(role=by, role_code={Role.AGENT: 2, Role.CUSTOMER: 3}.get(by, 7), name=f"{by.value} 1024")
    codes = {Read.UNREAD: 1, Read.READ: 2, Read.UNKNOWN: 6}
    values: dict[str, Any] = {"author": author, "created_at": at(minutes), "content": text, "read_code": codes[read]}
    return Note(**_all({"id": str(number), "read": read, "type_code": 2}, values, more))


def snapshot(*notes: Note, minutes: float = 60.0, **more: Any) -> Snapshot:
    values: dict[str, Any] = {"account": account(), "ticket": ticket(), "notes": tuple(notes), "taken_at": at(minutes)}
    return Snapshot(**_all(values, more))


def rule(*, since: float = 30.0, first_run: FirstRun = FirstRun.UNREAD, **more: Any) -> WatchRule:
    values: dict[str, Any] = {
        "name": "production",
        "since": at(since),
        "ticket_url": "https://console.example/{ticket_id}",
    }
    return WatchRule(**_all(values, {"first_run": first_run}, more))


def event(number: int | str = 1, *, kind: Kind = Kind.REPLY, minutes: float = 0.0, **more: Any) -> Event:
    of_account, of_ticket = more.pop("account", account()), more.pop("ticket", ticket())
    told = more.pop("note", note(number, minutes=minutes))
    values: dict[str, Any] = {"recorded_at": at(minutes + 1), "watch": "production", "url": "https://console.example/"}
    identity = event_id(of_account.key, of_ticket.id, str(number))
    return Event(
        **_all({"id": identity, "kind": kind, "account": of_account, "ticket": of_ticket, "note": told}, values, more)
    )


def delivery(of: Event | None = None, *, sink: str = "hub", attempts: int = 0, **more: Any) -> Delivery:
    values: dict[str, Any] = {"state": DeliveryState.DUE, "due_at": NOON, "created_at": NOON}
    return Delivery(**_all({"event": of or event(), "sink": sink, "attempts": attempts}, values, more))


class FakeClock:
    """Time that moves when told, or by itself while somebody sleeps."""

    def __init__(self, start: datetime = NOON) -> None:
        self._now = start
        self._elapsed = 1000.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return self._elapsed

    async def sleep(self, span: timedelta) -> None:
        self.slept.append(span.total_seconds())
        self.advance(span.total_seconds())
        await anyio.lowlevel.checkpoint()

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._elapsed += seconds


@dataclass(frozen=True)
class FakeAnswer:
    reading: Reading
    fingerprint: bytes

    def read(self) -> Reading:
        return self.reading


class FakeApi:
    """A Ticket API in memory: it says what it was told to say."""

    def __init__(self) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.notes: dict[str, tuple[Note, ...]] = {}
        self.problems: dict[str, tuple[str, ...]] = {}
        self.failures: dict[str, list[Exception | None]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.hanging: set[str] = set()

    def shows(self, number: str, *notes: Note, problems: Iterable[str] = (), **more: Any) -> None:
        """Let the ticket exist with these notes."""
        self.tickets[number] = ticket(number, **more)
        self.notes[number] = notes
        self.problems[number] = tuple(problems)

    def fails(self, call: str, *errors: Exception | None) -> None:
        """Let the next calls of a kind (or ``kind/ticket``) raise these errors; None lets one succeed."""
        self.failures.setdefault(call, []).extend(errors)

    def hangs(self, number: str) -> None:
        """Let the notes of a ticket never arrive."""
        self.hanging.add(number)

    def count(self, call: str, number: str | None = None) -> int:
        """Return how many calls of a kind there were, for a ticket or for all."""
        return sum(each[0] == call and number in {None, each[1]} for each in self.calls)

    def _serve(self, call: str, number: str, uid: str) -> None:
        self.calls.append((call, number, uid))
        for key in (f"{call}/{number}", call):
            error = self.failures[key].pop(0) if self.failures.get(key) else None
            if error:
                raise error

    async def list_ticket_notes(self, number: str, *, uid: str = "") -> FakeAnswer:
        await anyio.lowlevel.checkpoint()
        self._serve("notes", number, uid)
        if number in self.hanging:
            await anyio.sleep_forever()
        reading = Reading(self.notes[number], self.problems[number])
        return FakeAnswer(reading, repr(reading).encode())

    async def list_tickets(self, page: int, *, uid: str = "", created_after: datetime | None = None) -> TicketPage:  # noqa: ARG002
        await anyio.lowlevel.checkpoint()
        self._serve("list", "", uid)
        tickets = tuple(self.tickets.values())
        return TicketPage(tickets if page == 1 else (), len(tickets))

    async def get_ticket(self, number: str, *, uid: str = "") -> Ticket:
        await anyio.lowlevel.checkpoint()
        self._serve("ticket", number, uid)
        return self.tickets[number]


@dataclass
class FakeSink:
    """A sink that takes what it is given, unless told to fail first."""

    name: str = "hub"
    target: str = "https://hub.example/"
    parallel: int = 1
    spacing: timedelta = timedelta()
    most_at_once: int | None = None
    received: list[Event] = field(default_factory=list)
    #: What was taken, with whom it was for.
    taken: list[Delivery] = field(default_factory=list)
    script: list[Exception | None] = field(default_factory=list)
    attempts: int = 0
    #: While this is set to an event, attempts wait for it.
    gate: anyio.Event | None = None

    def fails(self, *errors: Exception | None) -> None:
        """Let the next attempts end so; None takes the event."""
        self.script.extend(errors)

    def preview(self, event: Event, *, now: datetime) -> str:  # noqa: ARG002
        return event.id

    async def send(self, delivery: Delivery, *, now: datetime) -> None:  # noqa: ARG002
        await anyio.lowlevel.checkpoint()
        self.attempts += 1
        if self.gate:
            await self.gate.wait()
        error = self.script.pop(0) if self.script else None
        if error and not isinstance(error, SinkPartly):
            raise error
        self.received.append(delivery.event)
        self.taken.append(delivery)
        if error:
            raise error


def with_text(of: Event, text: str) -> Event:
    """Return the event with another text in its note."""
    assert of.note
    return replace(of, note=replace(of.note, content=text))


async def until(condition: Callable[[], bool], *, within: float = 30.0) -> None:
    """Wait for the condition; a test that needs anything near the limit is broken."""
    with anyio.fail_after(within):
        while not condition():  # noqa: ASYNC110 - many conditions, none with an event of its own
            await anyio.sleep(0.005)
