"""The state of the simulated ticket system, and the verbs that change it. No HTTP here."""

import secrets
import time
import uuid
from bisect import insort
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import count

from watcher.simulator.faults import Fault, Faults
from watcher.simulator.limits import Quota
from watcher.simulator.records import (
    AGENT,
    CUSTOMER,
    DEALING,
    FEEDBACK,
    NORMAL,
    READ,
    SEVERITIES,
    STATUSES,
    TEXT,
    UNREAD,
    WAIT_FEEDBACK,
    Account,
    Call,
    File,
    Key,
    Note,
    StoredFile,
    Ticket,
)

_CALLS_KEPT = 10_000
_DAY = 24 * 3600.0


class NotThereError(LookupError):
    """The world holds no ticket, note, key or account of that name."""


def simulator_account() -> Account:
    """Return the account that is there when nobody names another: key id and secret are ``simulator``."""
    key = Key(id="simulator", secret="simulator")  # noqa: S106 - published on purpose
    return Account(name="simulator", uid="1000000000000001", keys=[key])


class World:
    """Accounts, tickets, notes and faults. All times are epoch seconds of ``now``."""

    def __init__(
        self,
        accounts: Iterable[Account] = (),
        *,
        now: Callable[[], float] = time.time,
        first_dialog_id: int = 100_000_001,
        url_lifetime: float = _DAY,
    ) -> None:
        self._clock = now
        self._faults = Faults()
        self._dialog_ids = count(first_dialog_id)
        self._keys: dict[str, tuple[Account, Key]] = {}
        self._by_owner: dict[str, list[Ticket]] = {}
        self.accounts: dict[str, Account] = {}
        self.tickets: dict[str, Ticket] = {}
        self.files: dict[str, StoredFile] = {}
        #: Seconds for which the address of an attachment works.
        self.url_lifetime = url_lifetime
        #: What addresses of attachments are signed with; nobody else needs to know it.
        self.url_secret = secrets.token_hex(16)
        #: The last calls, oldest first, and how many there were of each action.
        self.calls: deque[Call] = deque(maxlen=_CALLS_KEPT)
        self.counts: Counter[str] = Counter()
        for account in list(accounts) or [simulator_account()]:
            self.add_account(account)

    def now(self) -> float:
        """Return the time that the simulator believes it is."""
        return self._clock() + self._faults.shift()

    # --- accounts and keys ---

    def add_account(self, account: Account) -> None:
        """Open an account with the keys it carries."""
        if account.name in self.accounts:
            raise ValueError(f"there is an account {account.name} already")
        for key in account.keys:
            if key.id in self._keys:
                raise ValueError(f"the key {key.id} belongs to account {self._keys[key.id][0].name} already")
            self._keys[key.id] = (account, key)
        self.accounts[account.name] = account

    def account(self, name: str) -> Account:
        """Return the account of that name."""
        if name not in self.accounts:
            raise NotThereError(f"there is no account {name}; there are: {', '.join(self.accounts)}")
        return self.accounts[name]

    def key(self, key_id: str) -> tuple[Account, Key]:
        """Return the key with the account it belongs to."""
        if key_id not in self._keys:
            raise NotThereError(f"there is no key {key_id}")
        return self._keys[key_id]

    def disable_key(self, key_id: str) -> None:
        """Switch a key off, as its owner can in the console."""
        self.key(key_id)[1].disabled = True

    def enable_key(self, key_id: str) -> None:
        """Switch a key on again."""
        self.key(key_id)[1].disabled = False

    def set_quota(self, account_name: str, per_second: float | None) -> None:
        """Allow an account that many calls a second; None: as many as it likes."""
        account = self.account(account_name)
        account.quota = None if per_second is None else Quota(per_second, self.now())

    # --- tickets ---

    def add_ticket(
        self,
        ticket_id: str,
        *,
        title: str = "",
        uid: str | None = None,
        status: int = DEALING,
        severity: int = NORMAL,
        description: str = "",
        at: float | None = None,
    ) -> Ticket:
        """Open a ticket, by default of the first account."""
        if ticket_id in self.tickets:
            raise ValueError(f"there is a ticket {ticket_id} already")
        ticket = Ticket(
            id=ticket_id,
            uid=next(iter(self.accounts.values())).uid if uid is None else uid,
            title=title,
            description=description,
            status=_known(status, STATUSES, "status"),
            severity=_known(severity, SEVERITIES, "severity"),
            created_ms=self._milliseconds(at),
        )
        self.tickets[ticket_id] = ticket
        insort(self._by_owner.setdefault(ticket.uid, []), ticket, key=lambda each: each.created_ms)
        return ticket

    def ticket(self, ticket_id: str) -> Ticket:
        """Return the ticket of that id."""
        if ticket_id not in self.tickets:
            raise NotThereError(f"there is no ticket {ticket_id}")
        return self.tickets[ticket_id]

    def tickets_of(self, uid: str) -> Sequence[Ticket]:
        """Return the tickets of an account number, oldest first; not a copy, so that a page costs a page."""
        return self._by_owner.get(uid, [])

    def set_status(self, ticket_id: str, status: int) -> None:
        """Move a ticket to one of the states 1 to 6."""
        self.ticket(ticket_id).status = _known(status, STATUSES, "status")

    # --- notes ---

    def agent_reply(
        self,
        ticket_id: str,
        text: str,
        *,
        name: str = "Agent 1024",
        attachments: Iterable[File | str] = (),
        read: bool = False,
        at: float | None = None,
    ) -> int:
        """Let the support answer; return the DialogId. The ticket then waits for the customer.

        What the customer wrote before counts as read from now on.
        """
        ticket = self.ticket(ticket_id)
        _read_all(ticket.notes.values(), CUSTOMER)
        ticket.status = WAIT_FEEDBACK
        return self.add_note(
            ticket_id,
            text,
            role=AGENT,
            name=name,
            attachments=attachments,
            status=READ if read else UNREAD,
            at=at,
        )

    def customer_reply(
        self,
        ticket_id: str,
        text: str,
        *,
        name: str = "ops-user",
        attachments: Iterable[File | str] = (),
        at: float | None = None,
    ) -> int:
        """Let the customer write; return the DialogId. The ticket then waits for the support."""
        self.set_status(ticket_id, FEEDBACK)
        return self.add_note(ticket_id, text, role=CUSTOMER, name=name, attachments=attachments, at=at)

    def add_note(
        self,
        ticket_id: str,
        content: str | None,
        *,
        role: int,
        name: str,
        type: int = TEXT,  # noqa: A002 - the vendor's word
        status: int = UNREAD,
        tip: str | None = None,
        schema: str | None = None,
        attachments: Iterable[File | str] = (),
        at: float | None = None,
    ) -> int:
        """Append a note of any shape, also one the vendor does not publish; return its DialogId."""
        ticket = self.ticket(ticket_id)
        note = Note(
            dialog_id=next(self._dialog_ids),
            created_ms=self._milliseconds(at),
            role=role,
            name=name,
            content=content,
            type=type,
            status=status,
            tip=tip,
            schema=schema,
            attachments=tuple(self._store(each) for each in attachments),
        )
        ticket.notes[note.dialog_id] = note
        return note.dialog_id

    def note(self, ticket_id: str, dialog_id: int) -> Note:
        """Return one note."""
        notes = self.ticket(ticket_id).notes
        if dialog_id not in notes:
            raise NotThereError(f"ticket {ticket_id} has no note {dialog_id}")
        return notes[dialog_id]

    def mark_read(self, ticket_id: str, dialog_id: int | None = None) -> None:
        """Let the customer read one note, or all the support's notes of a ticket."""
        if dialog_id is None:
            _read_all(self.ticket(ticket_id).notes.values(), AGENT)
        else:
            self.note(ticket_id, dialog_id).status = READ

    def edit(self, ticket_id: str, dialog_id: int, text: str) -> None:
        """Change what a note says; its id and time stay."""
        self.note(ticket_id, dialog_id).content = text

    def remove_note(self, ticket_id: str, dialog_id: int) -> None:
        """Withdraw a note."""
        self.note(ticket_id, dialog_id)
        del self.tickets[ticket_id].notes[dialog_id]

    # --- faults and calls ---

    @property
    def faults(self) -> list[Fault]:
        """The faults in force."""
        return self._faults.active()

    def inject(self, fault: Fault) -> None:
        """Let something go wrong from the next call on."""
        self._faults.add(fault)

    def clear_faults(self) -> None:
        """Let all be well again; calls that hang already go on hanging."""
        self._faults.clear()

    def strike(self, action: str, ticket_id: str) -> Fault | None:
        """Count a call against the faults; return the one that hits it."""
        return self._faults.strike(action, ticket_id)

    def record(self, action: str, ticket_id: str, key_id: str, code: str) -> None:
        """Note down a call and how it ended."""
        self.counts[action] += 1
        self.calls.append(Call(action=action, ticket_id=ticket_id, key_id=key_id, at=self.now(), code=code))

    def _store(self, file: File | str) -> StoredFile:
        made = File(file) if isinstance(file, str) else file
        day = datetime.fromtimestamp(self.now(), UTC).strftime("%Y%m%d")
        stored = StoredFile(f"{day}/{uuid.uuid4()}", made.name, made.content)
        self.files[stored.key] = stored
        return stored

    def _milliseconds(self, at: float | None) -> int:
        return round((self.now() if at is None else at) * 1000)


def _read_all(notes: Iterable[Note], role: int) -> None:
    for note in notes:
        if note.role == role:
            note.status = READ


def _known(value: int, among: Iterable[int], what: str) -> int:
    if value not in among:
        raise ValueError(f"{what} {value} is not one of {', '.join(map(str, among))}")
    # A subclass of int may have come in from a script; what is kept is a plain number.
    return int(value)
