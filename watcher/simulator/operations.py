"""The operations: a verified caller's parameters in, the answer's fields out.

Source: the vendor's pages of Workorder 2021-06-10 and the official SDK's models. ListTicketNotes costs one
look-up however many tickets there are; an unfiltered page of ListTickets costs a page.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from watcher.simulator.attachments import signed_url
from watcher.simulator.records import CONFIRMED, SEVERITIES, STATUSES, Account, Note, Ticket, status_number
from watcher.simulator.refusal import FailedError, RefusedError, missing
from watcher.simulator.verify import Incoming
from watcher.simulator.world import World

_PAGE_SIZES = range(10, 101)
_PAGE_NUMBERS = range(1, 10_000_000)
_STATUSES_AT_ONCE = 11
_INT64_DIGITS = 19

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """An operation's surroundings: who asks what, and under which address the simulator was reached."""

    world: World
    account: Account
    incoming: Incoming
    base: str

    def required(self, name: str) -> str:
        """Return a parameter, or refuse the call."""
        return self.incoming.get(name) or _raise(missing(name))

    @property
    def uid(self) -> str:
        """The account number asked for: the caller's own, or one of its customers."""
        uid = self.incoming.get("Uid") or self.account.uid
        if uid != self.account.uid and uid not in self.account.customers:
            raise RefusedError("illegal.auth")
        return uid

    def ticket(self) -> Ticket:
        """Return the ticket asked for; one of another account is as unknown as none."""
        ticket = self.world.tickets.get(self.required("TicketId"))
        if ticket is None or ticket.uid != self.uid:
            # Seen by a third party on the console's gateway of the same product, for both cases.
            raise FailedError(2011, "没有权限查看该工单")
        return ticket


def list_ticket_notes(ask: Ask) -> Answer:
    """Return the whole conversation of a ticket; there is no paging."""
    notes = ask.ticket().notes.values()
    return {"Data": [_note(note, ask) for note in notes]}


def list_tickets(ask: Ask) -> Answer:
    """Return a page of the account's tickets, newest first."""
    number = _within(ask.required("PageNumber"), _PAGE_NUMBERS)
    size = _within(ask.required("PageSize"), _PAGE_SIZES)
    tickets = ask.world.tickets_of(ask.uid)
    filters = _filters(ask.incoming)
    if filters:
        tickets = [ticket for ticket in tickets if all(test(ticket) for test in filters)]
    total = len(tickets)
    stop = max(0, total - (number - 1) * size)
    page = tickets[max(0, stop - size) : stop]
    return {
        "PageNumber": number,
        "PageSize": size,
        "TotalCount": total,
        "Data": [{"TicketId": each.id, "Title": each.title, "Status": _status(each)} for each in page[::-1]],
    }


def get_ticket(ask: Ask) -> Answer:
    """Return one ticket. The page numbers mean nothing; the vendor's answer has them too."""
    ticket = ask.ticket()
    return {
        "PageNumber": 1,
        "PageSize": 10,
        "TotalCount": 1,
        "Data": {
            "TicketId": ticket.id,
            "Title": ticket.title,
            "Description": ticket.description,
            "CreateTime": ticket.created_ms,
            "CreatorId": ticket.uid,
            "CreatorName": "ops-user",
            "CategoryId": "7161",
            "Status": _status(ticket),
            "Severity": {"Label": SEVERITIES[ticket.severity], "Value": str(ticket.severity)},
        },
    }


def reply_ticket(ask: Ask) -> Answer:
    """Append the customer's note; return its dialog id as text."""
    content = ask.required("Content")
    ask.required("Encrypt")
    ticket = ask.ticket()
    if ticket.status == CONFIRMED:
        raise FailedError(1000, "工单已完结")
    return {"Data": str(ask.world.customer_reply(ticket.id, content))}


OPERATIONS: Mapping[str, Callable[[Ask], Answer]] = {
    "ListTicketNotes": list_ticket_notes,
    "ListTickets": list_tickets,
    "GetTicket": get_ticket,
    "ReplyTicket": reply_ticket,
}


def _note(note: Note, ask: Ask) -> Answer:
    return {
        "Type": note.type,
        "Status": note.status,
        "Tip": note.tip,
        "DialogId": note.dialog_id,
        "CreateTime": note.created_ms,
        "Dialog": {"Schema": note.schema, "Content": note.content},
        "User": {"Role": note.role, "Name": note.name},
        "Attachments": [{"Name": file.name, "Url": signed_url(ask.world, ask.base, file)} for file in note.attachments],
    }


def _status(ticket: Ticket) -> Answer:
    return {"Label": STATUSES[ticket.status][1], "Value": str(ticket.status)}


def _filters(incoming: Incoming) -> list[Callable[[Ticket], bool]]:
    tests: list[Callable[[Ticket], bool]] = []
    if text := incoming.get("StartDate"):
        start = _within(text)
        tests.append(lambda ticket: ticket.created_ms >= start)
    if text := incoming.get("EndDate"):
        end = _within(text)
        tests.append(lambda ticket: ticket.created_ms <= end)
    if statuses := _statuses(incoming.form):
        tests.append(lambda ticket: ticket.status in statuses)
    ids = {part.strip() for part in incoming.get("TicketIdList").split(",") if part.strip()}
    if ids:
        tests.append(lambda ticket: ticket.id in ids)
    if wanted := incoming.get("TicketId"):
        tests.append(lambda ticket: ticket.id == wanted)
    if keyword := incoming.get("Keyword").casefold():
        tests.append(lambda ticket: keyword in f"{ticket.title}\n{ticket.description}".casefold())
    return tests


def _statuses(form: Mapping[str, str]) -> set[int]:
    # The vendor's metadata shows names in one place and numbers in another: both are taken.
    listed = [value for name, value in form.items() if name.startswith("StatusList.")]
    if len(listed) > _STATUSES_AT_ONCE:
        raise RefusedError("illegal.param")
    try:
        return {status_number(value) for value in listed}
    except ValueError:
        raise RefusedError("illegal.param") from None


def _within(text: str, allowed: Iterable[int] | None = None) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= _INT64_DIGITS
    number = int(text) if is_number else -1
    if number < 0 or (allowed is not None and number not in allowed):
        raise RefusedError("illegal.param")
    return number


def _raise(error: RefusedError) -> str:
    raise error
