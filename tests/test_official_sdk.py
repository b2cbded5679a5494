"""The vendor's own SDK, unmodified, talks to the simulator."""

# The SDK has no types, and is not installed where only `dev.py lint` has run.
# mypy: disable-error-code="import-untyped,import-not-found"

from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urlsplit

import anyio
import pytest
from alibabacloud_tea_openapi.exceptions import ClientException, ServerException, ThrottlingException
from alibabacloud_tea_openapi.models import Config
from alibabacloud_workorder20210610.client import Client
from alibabacloud_workorder20210610.models import (
    GetTicketRequest,
    ListTicketNotesRequest,
    ListTicketsRequest,
    ReplyTicketRequest,
)

from watcher.simulator import Account, Fault, Key, Simulator, World, open_simulator

# The SDK calls datetime.utcnow(), which Python 3.12 and later warn of; inside the SDK the warning is an error.
pytestmark = pytest.mark.filterwarnings(r"ignore:datetime\.datetime\.utcnow:DeprecationWarning")


TICKET = "0005PYGCW"
OWN, CUSTOMER = "1000000000000001", "1000000000000002"


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The async half of the SDK goes through HTTP_PROXY even to this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def world() -> World:
    keys = [
        Key(id="simulator", secret="simulator"),
        Key(id="STS.simulator", secret="simulator", token="CAIS+/abc==token with space"),
    ]
    world = World([Account(name="simulator", uid=OWN, keys=keys, customers=frozenset({CUSTOMER}))])
    world.add_ticket(TICKET, title="ECS 快照失败", status=1, severity=2)
    world.add_ticket("CUSTOMERS", uid=CUSTOMER)
    return world


@pytest.fixture
async def simulator(world: World) -> AsyncIterator[Simulator]:
    async with open_simulator(world) as simulator:
        yield simulator


def client_of(simulator: Simulator, **changes: str) -> Client:
    fields = {"access_key_id": "simulator", "access_key_secret": "simulator", **changes}
    return Client(Config(protocol="http", endpoint=urlsplit(simulator.url).netloc, **fields))


@pytest.mark.parametrize("algorithm", ["ACS3-HMAC-SHA256", "v2"])
async def test_the_blocking_client_calls_every_operation(simulator: Simulator, world: World, algorithm: str) -> None:
    agent = world.agent_reply(TICKET, "请再试一次 + a*b~c/d", attachments=["截图 1.png"])
    client = client_of(simulator, signature_algorithm=algorithm)
    call = anyio.to_thread.run_sync

    notes = await call(client.list_ticket_notes, ListTicketNotesRequest(ticket_id=TICKET))
    assert notes.status_code == 200
    assert notes.body.success is True
    assert [(note.dialog_id, note.user.role) for note in notes.body.data] == [(agent, 2)]
    assert notes.body.data[0].attachments[0].name == "截图 1.png"

    request = ListTicketsRequest(page_number=1, page_size=10, status_list=["wait_feedback", "6"])
    tickets = (await call(client.list_tickets, request)).body
    assert (tickets.total_count, tickets.data[0].ticket_id, tickets.data[0].status.value) == (1, TICKET, "3")
    request = ListTicketsRequest(page_number=1, page_size=10, ticket_id_list=[TICKET, "B"], keyword="快照 失败")
    assert (await call(client.list_tickets, request)).body.total_count == 0

    ticket = (await call(client.get_ticket, GetTicketRequest(ticket_id=TICKET))).body.data
    assert (ticket.title, ticket.severity.value) == ("ECS 快照失败", "2")

    content = "已重试 成功。\n谢谢 + & = %20 ~ * /"
    request = ReplyTicketRequest(ticket_id=TICKET, content=content, encrypt=False)
    dialog_id = (await call(client.reply_ticket, request)).body.data
    assert world.note(TICKET, int(dialog_id)).content == content


async def test_the_async_client_calls_every_operation(simulator: Simulator, world: World) -> None:
    agent = world.agent_reply(TICKET, "Please try again.")
    client = client_of(simulator)

    notes = (await client.list_ticket_notes_async(ListTicketNotesRequest(ticket_id=TICKET))).body
    assert [note.dialog_id for note in notes.data] == [agent]

    request = ListTicketsRequest(page_number=1, page_size=10, status_list=["wait_feedback"])
    assert (await client.list_tickets_async(request)).body.data[0].title == "ECS 快照失败"

    ticket = (await client.get_ticket_async(GetTicketRequest(ticket_id=TICKET))).body.data
    assert ticket.status.label == "待反馈"

    request = ReplyTicketRequest(ticket_id=TICKET, content="已重试 成功。", encrypt=True)
    dialog_id = (await client.reply_ticket_async(request)).body.data
    assert world.note(TICKET, int(dialog_id)).content == "已重试 成功。"


async def test_a_wrong_secret_is_the_sdks_client_exception(simulator: Simulator) -> None:
    client = client_of(simulator, access_key_secret="wrong")
    with pytest.raises(ClientException) as caught:
        await client.list_ticket_notes_async(ListTicketNotesRequest(ticket_id=TICKET))
    assert (caught.value.status_code, caught.value.code) == (400, "SignatureDoesNotMatch")


async def test_throttling_is_the_sdks_throttling_exception(simulator: Simulator, world: World) -> None:
    world.set_quota("simulator", 0.5)
    client = client_of(simulator)
    ask = partial(client.list_ticket_notes_async, ListTicketNotesRequest(ticket_id=TICKET))
    await ask()
    with pytest.raises(ThrottlingException) as caught:
        await ask()
    assert caught.value.code == "Throttling.User"
    assert 0 < caught.value.retry_after <= 2001


async def test_a_server_error_is_the_sdks_server_exception(simulator: Simulator, world: World) -> None:
    world.inject(Fault("status", status=503))
    with pytest.raises(ServerException) as caught:
        await client_of(simulator).get_ticket_async(GetTicketRequest(ticket_id=TICKET))
    assert caught.value.code == "ServiceUnavailable"


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("CAIS+/abc==token with space", None),
        ("CAIS+other", "InvalidSecurityToken.MismatchWithAccessKey"),
    ],
)
async def test_a_temporary_key_works_with_its_token_only(simulator: Simulator, token: str, code: str | None) -> None:
    client = client_of(simulator, access_key_id="STS.simulator", security_token=token)
    request = ListTicketNotesRequest(ticket_id=TICKET)
    if code is None:
        assert (await client.list_ticket_notes_async(request)).body.success is True
        return
    with pytest.raises(ClientException) as caught:
        await client.list_ticket_notes_async(request)
    assert caught.value.code == code


async def test_a_reseller_reads_the_ticket_of_a_customer(simulator: Simulator) -> None:
    client = client_of(simulator)
    request = ListTicketNotesRequest(ticket_id="CUSTOMERS", uid=CUSTOMER)
    assert (await client.list_ticket_notes_async(request)).body.success is True
    request = ListTicketNotesRequest(ticket_id="CUSTOMERS")
    refused = (await client.list_ticket_notes_async(request)).body
    assert (refused.success, refused.code, refused.data) == (False, 2011, [])
