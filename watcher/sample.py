"""Made-up events: for tests of sinks, for previews, and for checking templates. Pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from watcher.detect import digest, event_id
from watcher.model import (
    Account,
    Attachment,
    Author,
    Event,
    Kind,
    Language,
    Note,
    Read,
    Role,
    Severity,
    Ticket,
    TicketStatus,
    Unread,
)
from watcher.words import words_in

_WRITTEN_AT = datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC)
_URL = "https://workorder.console.aliyun.com/"
_ACCOUNT = Account(name="prod", uid="1604499804113750")


def example(kind: Kind) -> Event:
    """Return an event of this kind as it might happen; always the same one."""
    if kind is Kind.DIGEST:
        return digest((_event(Kind.UNREAD), _second()), sink="example", now=_WRITTEN_AT + timedelta(minutes=2))
    if kind is Kind.TEST:
        return trial(Language.ENGLISH, url=_URL, now=_WRITTEN_AT)
    return _event(kind)


def _event(kind: Kind) -> Event:
    note = Note(
        id="160203923",
        author=Author(role=Role.AGENT, role_code=2, name="Agent 1024"),
        created_at=_WRITTEN_AT,
        read=Read.UNREAD,
        read_code=1,
        type_code=2,
        content=(
            "您好，续费失败的原因是账户余额不足。\nPlease top up at least CNY 120, then retry the renewal.\n\n"
            "Details are in the attached log."
        ),
        attachments=(
            Attachment(
                name="renew.log",
                url="https://attachments.example/renew.log?Expires=1623400000&Signature=made-up",
                expires_at=datetime.fromtimestamp(1623400000, UTC),
            ),
        ),
    )
    ticket = Ticket(
        id="0005PYGCW",
        title="Why ECS renewal failed?",
        status=TicketStatus.WAIT_FEEDBACK,
        status_code="3",
        severity=Severity.NORMAL,
        severity_code="1",
    )
    return Event(
        id=event_id(_ACCOUNT.key, ticket.id, note.id),
        kind=kind,
        account=_ACCOUNT,
        ticket=ticket,
        note=note,
        recorded_at=_WRITTEN_AT + timedelta(seconds=48),
        watch="production",
        labels={"team": "platform"},
        unread=Unread(in_ticket=1, since=_WRITTEN_AT),
        url=_URL,
        is_first=True,
    )


def _second() -> Event:
    first = _event(Kind.UNREAD)
    note = Note(
        id="160203977",
        author=Author(role=Role.AGENT, role_code=2, name="工程师 2048"),
        created_at=_WRITTEN_AT + timedelta(minutes=1),
        read=Read.UNREAD,
        read_code=1,
        type_code=2,
        content="快照任务已恢复，请您再试一次。",
    )
    ticket = replace(first.ticket, id="001571BTXC", title="ECS 快照失败", severity=Severity.URGENT, severity_code="2")
    return replace(
        first,
        id=event_id(_ACCOUNT.key, ticket.id, note.id),
        ticket=ticket,
        note=note,
        unread=Unread(in_ticket=1, since=note.created_at),
    )


def trial(language: Language, *, url: str, now: datetime, account: Account | None = None) -> Event:
    """Return a new test event: marked as one in every text, and about no ticket that exists."""
    words = words_in(language)
    account = account or _ACCOUNT
    note = Note(
        id=str(round(now.timestamp() * 1000)),
        author=Author(role=Role.UNKNOWN, name="watcher"),
        created_at=now,
        content=words.test_text,
    )
    return Event(
        id=event_id(account.key, "TEST", note.id, kind="test"),
        kind=Kind.TEST,
        account=account,
        ticket=Ticket(id="TEST", title=words.test_title),
        note=note,
        recorded_at=now,
        url=url,
        is_first=True,
    )
