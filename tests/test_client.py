"""The client against the simulator, over real HTTP: what it reads, mends once, and refuses."""

import time
import traceback
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from watcher.clock import SystemClock
from watcher.errors import (
    ApiDenied,
    ApiRefused,
    ApiThrottled,
    ApiUnavailable,
    CredentialsRejected,
    PermanentError,
    TransientError,
)
from watcher.http import open_session
from watcher.model import Read, Role, Severity, TicketPage, TicketStatus
from watcher.simulator import Account, Fault, File, Key, World, open_simulator
from watcher.simulator.faults import KINDS
from watcher.ticketapi.client import TicketApiClient, endpoint_for
from watcher.ticketapi.credentials import CachedCredentials, Credentials, StaticKey

TICKET = "0005PYGCW"
SECRET = "made-up-secret"
TIME_LIMIT = timedelta(seconds=1)
MINUTES_20 = timedelta(minutes=20)


@dataclass
class ShiftedClock(SystemClock):
    """This machine's clock, set wrong by ``shift``."""

    shift: timedelta = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.shift


@dataclass
class KeyRing:
    """A source of credentials that hands out the next key at each fetch, and the last one for ever."""

    keys: list[Credentials]
    fetches: int = 0

    async def fetch(self) -> Credentials:
        self.fetches += 1
        return self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]


@dataclass
class Setting:
    """A client and the world it asks."""

    client: TicketApiClient
    world: World
    clock: ShiftedClock

    @property
    def codes(self) -> list[str]:
        """How the gateway ended each call."""
        return [call.code for call in self.world.calls]

    async def contents(self, ticket: str = TICKET) -> list[str]:
        answer = await self.client.list_ticket_notes(ticket)
        return [note.content for note in answer.read().notes]


def new_world(*more_keys: Key) -> World:
    keys = [Key(id="LTAI1", secret=SECRET), *more_keys]
    world = World([Account(name="shop", uid="1", keys=keys, customers=frozenset({"2"}))])
    world.add_ticket(TICKET, title="ECS 快照失败", status=3, severity=2)
    world.agent_reply(TICKET, "Please try again.")
    return world


def key(number: int = 1, secret: str = SECRET, token: str = "") -> Credentials:
    return Credentials(f"LTAI{number}", secret, token)


@asynccontextmanager
async def opened(
    world: World, *keys: Credentials, clock: ShiftedClock | None = None, limit: timedelta = TIME_LIMIT
) -> AsyncIterator[Setting]:
    clock = clock or ShiftedClock()
    async with open_simulator(world) as simulator, open_session() as session:
        client = TicketApiClient(
            session,
            account="shop",
            endpoint=simulator.url,
            credentials=CachedCredentials(KeyRing(list(keys or [key()])), clock),
            clock=clock,
            timeout=limit,
        )
        yield Setting(client, world, clock)


@pytest.fixture
async def setting() -> AsyncIterator[Setting]:
    async with opened(new_world()) as setting:
        yield setting


# --- what it reads ----------------------------------------------------------------------------------------


async def test_the_notes_of_a_ticket(setting: Setting) -> None:
    setting.world.customer_reply(TICKET, "It works, 谢谢!")
    setting.world.agent_reply(TICKET, "See file.", attachments=[File("截图 1.png")])
    answer = await setting.client.list_ticket_notes(TICKET)
    first, asked, last = answer.read().notes
    assert (first.content, first.author.role, first.read) == ("Please try again.", Role.AGENT, Read.UNREAD)
    assert (asked.content, asked.author.role) == ("It works, 谢谢!", Role.CUSTOMER)
    (file,) = last.attachments
    assert file.name == "截图 1.png"
    assert file.expires_at
    assert file.expires_at > datetime.now(UTC)


async def test_the_fingerprint_stays_while_the_addresses_and_the_request_id_change(setting: Setting) -> None:
    setting.world.agent_reply(TICKET, "See file.", attachments=["a.txt"])
    first, second = [await setting.client.list_ticket_notes(TICKET) for _ in range(2)]
    assert first.read() != second.read()
    assert first.fingerprint == second.fingerprint
    setting.world.mark_read(TICKET)
    assert (await setting.client.list_ticket_notes(TICKET)).fingerprint != first.fingerprint


async def test_the_list_comes_in_pages_and_says_how_much_there_is() -> None:
    world = new_world()
    for number in range(150):
        world.add_ticket(f"T{number}", title=f"ticket {number}")
    async with opened(world, limit=timedelta(seconds=10)) as setting:
        first, second, third = [await setting.client.list_tickets(page) for page in (1, 2, 3)]
    assert [len(page.tickets) for page in (first, second, third)] == [100, 51, 0]
    assert first.total == second.total == 151
    listed = {ticket.id: ticket for ticket in first.tickets + second.tickets}
    assert listed.keys() == world.tickets.keys()
    assert (listed[TICKET].title, listed[TICKET].status) == ("ECS 快照失败", TicketStatus.WAIT_FEEDBACK)
    assert listed[TICKET].severity is Severity.UNKNOWN


async def test_an_empty_list() -> None:
    world = World([Account(name="shop", uid="1", keys=[Key(id="LTAI1", secret=SECRET)])])
    async with opened(world) as setting:
        assert await setting.client.list_tickets(1) == TicketPage((), 0)


async def test_only_tickets_made_after_an_instant(setting: Setting) -> None:
    now = datetime.now(UTC)
    setting.world.add_ticket("OLD", at=(now - timedelta(days=40)).timestamp())
    page = await setting.client.list_tickets(1, created_after=now - timedelta(days=30))
    assert [ticket.id for ticket in page.tickets] == [TICKET]


async def test_one_ticket_with_its_severity(setting: Setting) -> None:
    ticket = await setting.client.get_ticket(TICKET)
    assert (ticket.id, ticket.title) == (TICKET, "ECS 快照失败")
    assert (ticket.status, ticket.severity) == (TicketStatus.WAIT_FEEDBACK, Severity.URGENT)
    assert ticket.created_at


@pytest.mark.parametrize("ticket", ["A B/C+*~", "工单", "a&b=c%20?#"])
async def test_any_ticket_id_is_signed_as_it_is_sent(setting: Setting, ticket: str) -> None:
    setting.world.add_ticket(ticket, title="odd")
    setting.world.agent_reply(ticket, "here")
    assert await setting.contents(ticket) == ["here"]
    assert (await setting.client.get_ticket(ticket)).title == "odd"


async def test_a_reseller_asks_for_a_customer_by_uid(setting: Setting) -> None:
    setting.world.add_ticket("T2", uid="2")
    setting.world.agent_reply("T2", "for the customer")
    client = setting.client
    assert len((await client.list_ticket_notes("T2", uid="2")).read().notes) == 1
    assert (await client.get_ticket("T2", uid="2")).id == "T2"
    assert [ticket.id for ticket in (await client.list_tickets(1, uid="2")).tickets] == ["T2"]
    with pytest.raises(ApiDenied):
        await client.list_ticket_notes("T2")
    with pytest.raises(ApiDenied, match=r"illegal\.auth"):
        await client.list_ticket_notes("T2", uid="3")


async def test_a_temporary_key_sends_its_token() -> None:
    world = new_world(Key(id="LTAI2", secret="s", token="t+/= x"))
    async with opened(world, key(2, "s", "t+/= x")) as setting:
        assert await setting.contents() == ["Please try again."]


# --- what it mends once -----------------------------------------------------------------------------------


async def test_a_wrong_secret_is_tried_twice_and_then_told(setting: Setting) -> None:
    async with opened(setting.world, key(secret="wrong")) as other:
        with pytest.raises(CredentialsRejected, match="signature is refused; check the access key secret"):
            await other.contents()
        assert other.codes == ["SignatureDoesNotMatch"] * 2


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (key(1), "InvalidAccessKeyId.Inactive"),
        (key(3), "InvalidAccessKeyId.NotFound"),
        (key(2, "old"), "SignatureDoesNotMatch"),
    ],
)
async def test_a_refused_key_is_read_again_and_the_rotated_one_used(refused: Credentials, code: str) -> None:
    world = new_world(Key(id="LTAI2", secret="rotated"))
    world.disable_key("LTAI1")
    async with opened(world, refused, key(2, "rotated")) as setting:
        for _ in range(2):
            assert await setting.contents() == ["Please try again."]
        assert setting.codes == [code, "OK", "OK"]


async def test_an_expired_token_is_read_again() -> None:
    world = new_world(
        Key(id="LTAI2", secret="s", token="old", token_expires_at=1.0), Key(id="LTAI3", secret="s", token="new")
    )
    async with opened(world, key(2, "s", "old"), key(3, "s", "new")) as setting:
        await setting.contents()
        assert setting.codes == ["InvalidSecurityToken.Expired", "OK"]


async def test_a_source_without_a_key_is_a_rejection() -> None:
    clock = ShiftedClock()
    async with open_simulator(new_world()) as simulator, open_session() as session:
        client = TicketApiClient(
            session,
            account="shop",
            endpoint=simulator.url,
            credentials=CachedCredentials(StaticKey(access_key_id="", access_key_secret=""), clock),
            clock=clock,
            timeout=TIME_LIMIT,
        )
        with pytest.raises(CredentialsRejected, match="empty"):
            await client.get_ticket(TICKET)
        assert not simulator.world.calls


@pytest.mark.parametrize("shift", [MINUTES_20, -MINUTES_20])
async def test_a_wrong_clock_is_learnt_from_the_gateway_with_one_retry(shift: timedelta) -> None:
    async with opened(new_world(), clock=ShiftedClock(shift)) as setting:
        with capture_logs() as logged:
            for _ in range(3):
                assert await setting.contents() == ["Please try again."]
        assert setting.codes == ["InvalidTimeStamp.Expired", "OK", "OK", "OK"]
        (line,) = logged
        assert (line["event"], line["account"]) == ("clock is off", "shop")
        assert abs(line["seconds"] - shift.total_seconds()) <= 2
        # Somebody sets the clock right.
        setting.clock.shift = timedelta()
        assert await setting.contents() == ["Please try again."]
        assert setting.codes[4:] == ["InvalidTimeStamp.Expired", "OK"]


async def test_a_clock_that_is_off_by_minutes_is_left_alone() -> None:
    async with opened(new_world(), clock=ShiftedClock(timedelta(minutes=14))) as setting:
        await setting.contents()
        assert setting.codes == ["OK"]


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 15 Jan 2026 08:30:00 -0000", "Thu, 99 Jan 2026 08:30:00 GMT"])
async def test_a_date_that_is_none_teaches_nothing(setting: Setting, date: str) -> None:
    # White-box: the simulator always sends a good one.
    assert not setting.client._learn_offset(date)


async def test_where_the_date_agrees_with_the_clock_the_error_is_told(setting: Setting) -> None:
    setting.world.inject(Fault("status", status=400, code="InvalidTimeStamp.Expired"))
    with pytest.raises(ApiUnavailable, match="set this machine's clock"):
        await setting.contents()
    assert len(setting.codes) == 1


@pytest.mark.parametrize(("times", "is_mended"), [(1, True), (2, False)])
async def test_a_used_nonce_is_answered_once(setting: Setting, times: int, is_mended: bool) -> None:
    setting.world.inject(Fault("status", status=400, code="SignatureNonceUsed", times=times))
    if is_mended:
        await setting.contents()
    else:
        with pytest.raises(ApiUnavailable, match="nonce"):
            await setting.contents()
    assert len(setting.codes) == 2


async def test_each_remedy_is_tried_once_in_one_call(setting: Setting) -> None:
    for code in ("SignatureNonceUsed", "SignatureDoesNotMatch", "SignatureNonceUsed"):
        setting.world.inject(Fault("status", status=400, code=code, times=1))
    with pytest.raises(ApiUnavailable, match="nonce"):
        await setting.contents()
    assert len(setting.codes) == 3


# --- what it refuses --------------------------------------------------------------------------------------


async def test_throttling_says_how_long(setting: Setting) -> None:
    setting.world.set_quota("shop", 0.5)
    await setting.contents()
    with pytest.raises(ApiThrottled) as caught:
        await setting.contents()
    wait = caught.value.retry_after
    assert wait
    assert timedelta(seconds=1) < wait <= timedelta(seconds=2.1)
    assert setting.codes == ["OK", "Throttling.User"]


@dataclass(frozen=True)
class Case:
    fault: Fault
    outcome: type[TransientError] | type[PermanentError]
    says: str
    calls: int = 1


CASES = [
    Case(Fault("status"), ApiUnavailable, "the service is unavailable"),
    Case(Fault("status", status=500, code="System.error"), ApiUnavailable, "the service failed"),
    Case(Fault("status", status=400, code="Throttling"), ApiThrottled, "more calls than it may"),
    Case(Fault("status", status=403, code="Forbidden.RAM"), ApiDenied, "AliyunSupportFullAccess"),
    Case(Fault("status", status=404, code="InvalidApi.NotFound"), ApiRefused, "check `endpoint`"),
    Case(Fault("status", status=404, code="InvalidAccessKeyId.NotFound"), CredentialsRejected, "unknown", calls=2),
    Case(Fault("in_band"), ApiUnavailable, "reports a failure"),
    Case(Fault("in_band", code=2011, message="没有权限查看该工单"), ApiDenied, "没有权限查看该工单"),
    Case(Fault("slow"), ApiUnavailable, "no whole answer within 1 s"),
    Case(Fault("drip"), ApiUnavailable, "no whole answer within 1 s"),
    Case(Fault("hang"), ApiUnavailable, "no whole answer within 1 s"),
    Case(Fault("truncated"), ApiUnavailable, "broke off in the middle"),
    Case(Fault("reset"), ApiUnavailable, "connection reset by peer"),
    Case(Fault("huge"), ApiUnavailable, "larger than 16777216 bytes"),
    Case(Fault("huge", compressed=True), ApiUnavailable, "larger than 16777216 bytes"),
    Case(Fault("html"), ApiUnavailable, "HTTP 502, an answer that is not the API's"),
    Case(Fault("html", status=200, text="<p>log in"), ApiUnavailable, "not the API's"),
    Case(Fault("html", status=403), ApiDenied, "HTTP 403"),
    Case(Fault("xml"), ApiThrottled, "request throttling"),
    Case(Fault("not_json"), ApiUnavailable, "HTTP 200, an answer that is not the API's"),
    Case(
        Fault("body", body=b"not gzip", headers={"Content-Encoding": "gzip"}),
        ApiUnavailable,
        "not valid HTTP|broke off",
    ),
    Case(Fault("body", status=204), ApiRefused, "HTTP 204"),
    Case(Fault("body", status=302, headers={"Location": "/?Action=GetTicket"}), ApiUnavailable, "redirect"),
    Case(Fault("body", status=307, headers={"Location": "/"}), ApiUnavailable, "redirect"),
    Case(Fault("skew", seconds=-7200), ApiUnavailable, "", calls=0),
]
#: A hanging reader may be given this much more than its limit on a busy machine.
PATIENCE_S = 5.0


@pytest.mark.parametrize("case", CASES[:-1], ids=[f"{case.fault.kind}-{case.says[:20]}" for case in CASES[:-1]])
async def test_every_fault_ends_in_time_as_the_right_error(setting: Setting, case: Case) -> None:
    await setting.contents()
    setting.world.inject(case.fault)
    before = time.monotonic()
    with pytest.raises(case.outcome, match=case.says) as caught:
        await setting.contents()
    assert time.monotonic() - before < TIME_LIMIT.total_seconds() + PATIENCE_S
    assert type(caught.value) is case.outcome
    # No redirect was followed, and nothing was tried more often than it can help.
    assert sum(setting.world.counts.values()) == 1 + case.calls
    setting.world.clear_faults()
    assert await setting.contents() == ["Please try again."]


def test_every_kind_of_fault_is_tried() -> None:
    assert {case.fault.kind for case in CASES} == set(KINDS)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_huge_answer_costs_no_more_memory_than_the_limit(setting: Setting, compressed: bool) -> None:
    await setting.contents()
    setting.world.inject(Fault("huge", size=512 * 1024 * 1024, compressed=compressed))
    tracemalloc.start()
    try:
        with pytest.raises(ApiUnavailable):
            await setting.contents()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1024 * 1024


async def test_nobody_there_is_unavailable() -> None:
    async with open_simulator(new_world()) as simulator:
        url = simulator.url
    async with open_session() as session:
        client = TicketApiClient(
            session,
            account="shop",
            endpoint=url,
            credentials=CachedCredentials(KeyRing([key()]), ShiftedClock()),
            clock=ShiftedClock(),
            timeout=TIME_LIMIT,
        )
        with pytest.raises(ApiUnavailable, match=r"cannot connect to 127\.0\.0\.1"):
            await client.get_ticket(TICKET)


async def test_no_error_tells_a_secret_a_signature_or_an_address(setting: Setting) -> None:
    told: list[str] = []
    world = setting.world
    async with opened(world, key(secret="wrong"), key(token="made-up-token"), key()) as other:
        for fault in [None, *(case.fault for case in CASES if case.fault.kind not in {"slow", "drip", "skew"})]:
            world.clear_faults()
            if fault:
                world.inject(fault)
            with capture_logs() as logged:
                try:
                    await other.client.list_ticket_notes(f"{TICKET}-query")
                except (TransientError, PermanentError) as error:
                    told += [str(error), repr(error), *traceback.format_exception_only(error), str(error.__cause__)]
            told += [str(line) for line in logged]
    text = "\n".join(told)
    assert len(told) > 50
    for secret in (SECRET, "wrong", "made-up-token", "Signature=", "Credential=", "TicketId", "-query", "http://"):
        assert secret not in text


@pytest.mark.parametrize(
    ("site", "region", "host"),
    [
        ("cn", "", "workorder.aliyuncs.com"),
        ("cn", "cn-hangzhou", "workorder.aliyuncs.com"),
        ("intl", "", "workorder.ap-southeast-1.aliyuncs.com"),
        ("intl", "cn-hangzhou", "workorder.aliyuncs.com"),
        ("cn", "ap-southeast-1", "workorder.ap-southeast-1.aliyuncs.com"),
        ("cn", "ap-northeast-1", "workorder.ap-northeast-1.aliyuncs.com"),
    ],
)
def test_the_endpoint_follows_from_site_and_region(site: str, region: str, host: str) -> None:
    assert endpoint_for(site=site, region=region) == f"https://{host}"


async def test_calls_that_were_under_way_when_the_clock_was_found_off_are_made_again() -> None:
    async with opened(new_world(), limit=timedelta(seconds=10)) as setting:
        setting.world.inject(Fault("skew", seconds=1200))
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(setting.client.get_ticket, TICKET)
        assert setting.world.counts["GetTicket"] <= 16
