"""The simulator, as a client sees it: real requests over loopback, signed with ``ticketapi.signing``."""

import base64
import gzip
import hashlib
import hmac
import json
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import aiohttp
import anyio
import pytest
from yarl import URL

from watcher.errors import ConfigError
from watcher.simulator import (
    DEMO_SCRIPT,
    Account,
    Fault,
    File,
    Key,
    NotThereError,
    Simulator,
    World,
    load_script,
    open_simulator,
    play,
)
from watcher.simulator.limits import Nonces, Quota
from watcher.ticketapi import signing

TICKET = "0005PYGCW"
LONG_AGO = datetime(2026, 1, 15, 8, 30, tzinfo=UTC).timestamp()


@dataclass
class MovableClock:
    """Stands still until somebody moves it."""

    at: float = LONG_AGO

    def __call__(self) -> float:
        return self.at


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def code(self) -> Any:
        return self.json["Code"]


@dataclass
class Client:
    """Signs as the vendor's page says; ``change`` spoils the headers before or after the signature."""

    session: aiohttp.ClientSession
    simulator: Simulator
    clock: MovableClock
    key: str = "simulator"
    secret: str = "simulator"
    token: str = ""
    without: tuple[str, ...] = ()
    unsigned: tuple[str, ...] = ()
    changed: dict[str, str] = field(default_factory=dict)
    query_as_sent: Callable[[str], str] = str

    @property
    def url(self) -> str:
        return self.simulator.url

    def headers(self, action: str, query: str, body: bytes, method: str) -> dict[str, str]:
        headers = {
            "host": urlsplit(self.simulator.url).netloc,
            "x-acs-action": action,
            "x-acs-version": "2021-06-10",
            "x-acs-date": datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "x-acs-signature-nonce": uuid.uuid4().hex,
            "x-acs-content-sha256": signing.content_sha256(body),
        }
        if self.token:
            headers["x-acs-security-token"] = self.token
        headers |= self.changed
        headers = {name: value for name, value in headers.items() if name not in self.without}
        signed = {name: value for name, value in headers.items() if name not in self.unsigned}
        headers["Authorization"] = signing.authorization(
            method,
            "/",
            query,
            signed,
            access_key_id=self.key,
            access_key_secret=self.secret,
            body_hash=signing.content_sha256(body),
        )
        return headers

    async def call(
        self,
        action: str = "ListTicketNotes",
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        *,
        method: str = "POST",
    ) -> Reply:
        signed_query = signing.canonical_query({"TicketId": TICKET} if query is None else query)
        body = urlencode(form or {}).encode()
        headers = self.headers(action, signed_query, body, method)
        if form:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        url = URL(f"{self.simulator.url}/?{self.query_as_sent(signed_query)}", encoded=True)
        return await self.send(method, url, headers, body)

    async def send(
        self, method: str, url: URL | str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        timeout = aiohttp.ClientTimeout(total=20)
        async with self.session.request(method, url, headers=headers, data=body, timeout=timeout) as response:
            return Reply(response.status, response.headers, await response.read())

    async def control(self, method: str, path: str, body: Any = None) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        return await self.send(method, self.simulator.control_url + path, body=data)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
def world(clock: MovableClock) -> World:
    world = World(now=clock)
    world.add_ticket(TICKET, title="ECS 快照失败", description="自动快照停在 40%")
    return world


@pytest.fixture
async def client(world: World, clock: MovableClock) -> AsyncIterator[Client]:
    async with open_simulator(world) as simulator, aiohttp.ClientSession() as session:
        yield Client(session, simulator, clock)


# --- the answers ------------------------------------------------------------------------------------------


async def test_a_conversation_has_the_shape_of_the_vendors_answer(client: Client, world: World) -> None:
    asked = world.customer_reply(TICKET, "The snapshot stopped at 40 percent.", at=LONG_AGO - 60)
    answered = world.agent_reply(TICKET, "Please try again.", name="agent")
    reply = await client.call()
    request_id = reply.json.pop("RequestId")
    assert reply.headers["x-acs-request-id"] == request_id == request_id.upper()
    assert {**reply.json, "RequestId": ""} == {
        "Code": 0,
        "Message": "success",
        "RequestId": "",
        "Success": True,
        "Data": [
            {
                "Type": 2,
                "Status": 2,
                "Tip": None,
                "DialogId": asked,
                "CreateTime": round((LONG_AGO - 60) * 1000),
                "Dialog": {"Schema": None, "Content": "The snapshot stopped at 40 percent."},
                "User": {"Role": 3, "Name": "ops-user"},
                "Attachments": [],
            },
            {
                "Type": 2,
                "Status": 1,
                "Tip": None,
                "DialogId": answered,
                "CreateTime": round(LONG_AGO * 1000),
                "Dialog": {"Schema": None, "Content": "Please try again."},
                "User": {"Role": 2, "Name": "agent"},
                "Attachments": [],
            },
        ],
    }


async def test_get_is_accepted_like_post(client: Client) -> None:
    assert (await client.call(method="GET")).json["Success"] is True


async def test_the_query_may_be_encoded_otherwise_than_it_is_signed(client: Client, world: World) -> None:
    world.add_ticket("A B/C", title="odd")
    client.query_as_sent = lambda query: query.replace("%20", "+").replace("%2F", "/")
    assert (await client.call(query={"TicketId": "A B/C"})).code == 0


async def test_verbs_show_in_the_next_answer(client: Client, world: World) -> None:
    first = world.agent_reply(TICKET, "one")
    second = world.agent_reply(TICKET, "two")
    world.mark_read(TICKET, first)
    world.edit(TICKET, second, "two, corrected")
    notes = (await client.call()).json["Data"]
    assert [(note["Status"], note["Dialog"]["Content"]) for note in notes] == [
        (2, "one"),
        (1, "two, corrected"),
    ]
    world.mark_read(TICKET)
    world.remove_note(TICKET, first)
    notes = (await client.call()).json["Data"]
    assert [(note["DialogId"], note["Status"]) for note in notes] == [(second, 2)]


async def test_get_ticket_tells_status_and_severity_under_the_vendors_numbers(client: Client, world: World) -> None:
    world.set_status(TICKET, 5)
    by_form = (await client.call("GetTicket", {}, {"TicketId": TICKET})).json["Data"]
    by_query = (await client.call("GetTicket")).json["Data"]
    assert by_form == by_query
    assert by_form["Status"] == {"Label": "待确认", "Value": "5"}
    assert by_form["Severity"] == {"Label": "一般问题", "Value": "1"}
    assert (by_form["TicketId"], by_form["CreateTime"]) == (TICKET, LONG_AGO * 1000)


async def test_a_reply_through_the_api_is_a_note_of_the_customer(client: Client, world: World) -> None:
    form = {"TicketId": TICKET, "Content": "已重试 成功。", "Encrypt": "False"}
    reply = await client.call("ReplyTicket", {}, form)
    note = world.note(TICKET, int(reply.json["Data"]))
    assert (note.role, note.content, world.ticket(TICKET).status) == (3, "已重试 成功。", 4)


async def test_a_closed_ticket_takes_no_reply(client: Client, world: World) -> None:
    world.set_status(TICKET, 6)
    form = {"TicketId": TICKET, "Content": "x", "Encrypt": "False"}
    reply = await client.call("ReplyTicket", {}, form)
    assert (reply.status, reply.json["Success"], reply.code) == (200, False, 1000)


async def test_pages_hold_every_ticket_once_newest_first(client: Client, world: World) -> None:
    for number in range(24):
        world.add_ticket(f"T{number:02}", at=LONG_AGO + 1 + number)
    listed: list[str] = []
    for page in ("1", "2", "3", "4"):
        answer = (await client.call("ListTickets", {"PageNumber": page, "PageSize": "10"})).json
        assert (answer["TotalCount"], answer["PageNumber"], answer["PageSize"]) == (25, int(page), 10)
        listed += [ticket["TicketId"] for ticket in answer["Data"]]
    assert listed == [*(f"T{number:02}" for number in reversed(range(24))), TICKET]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"StatusList.1": "wait_feedback", "StatusList.2": "6"}, {"B", "C"}),
        ({"StatusList.1": "wait-feedback"}, {"B"}),
        ({"TicketIdList": "A, C"}, {"A", "C"}),
        ({"TicketId": "A"}, {"A"}),
        ({"Keyword": "DISK"}, {"A", "B"}),
        ({"StartDate": "2000", "EndDate": "3000"}, {"B", "C"}),
        ({"Uid": "1000000000000001", "Keyword": "nothing"}, set()),
    ],
)
async def test_a_list_can_be_filtered(form: dict[str, str], expected: set[str], clock: MovableClock) -> None:
    world = World(now=clock)
    world.add_ticket("A", title="Disk full", status=1, at=1)
    world.add_ticket("B", description="the disk is slow", status=3, at=2)
    world.add_ticket("C", title="renewal", status=6, at=3)
    async with open_simulator(world) as simulator, aiohttp.ClientSession() as session:
        client = Client(session, simulator, clock)
        answer = (await client.call("ListTickets", {"PageNumber": "1", "PageSize": "10"}, form)).json
    assert {ticket["TicketId"] for ticket in answer["Data"]} == expected
    assert answer["TotalCount"] == len(expected)


# --- what the gateway refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"secret": "wrong"}, 400, "SignatureDoesNotMatch"),
        ({"key": "nobody"}, 404, "InvalidAccessKeyId.NotFound"),
        ({"token": "made-up"}, 400, "InvalidSecurityToken.Malformed"),
        ({"without": ("x-acs-action",)}, 400, "MissingAction"),
        ({"without": ("x-acs-version",)}, 400, "MissingVersion"),
        ({"without": ("x-acs-date",)}, 400, "MissingTimestamp"),
        ({"without": ("x-acs-signature-nonce",)}, 400, "MissingSignatureNonce"),
        ({"without": ("x-acs-content-sha256",)}, 400, "IncompleteSignature"),
        ({"unsigned": ("host",)}, 400, "IncompleteSignature"),
        ({"unsigned": ("x-acs-version",)}, 400, "IncompleteSignature"),
        ({"key": "a,b"}, 400, "IncompleteSignature"),
        ({"changed": {"x-acs-version": "2020-03-26"}}, 400, "InvalidVersion"),
        ({"changed": {"x-acs-action": "ListNothing"}}, 404, "InvalidAction.NotFound"),
        ({"changed": {"x-acs-date": "yesterday"}}, 400, "InvalidTimeStamp.Format"),
        ({"changed": {"x-acs-content-sha256": "0" * 64}}, 400, "SignatureDoesNotMatch"),
    ],
)
async def test_a_bad_request_gets_the_gateways_error(
    client: Client, change: dict[str, Any], status: int, code: str
) -> None:
    for name, value in change.items():
        setattr(client, name, value)
    reply = await client.call()
    assert (reply.status, reply.code) == (status, code)
    assert set(reply.json) == {"RequestId", "Message", "Recommend", "HostId", "Code"}
    assert reply.json["RequestId"] == reply.headers["x-acs-request-id"]
    assert client.simulator.world.calls[-1].code == code


async def test_the_string_to_sign_of_a_mismatch_is_told(client: Client) -> None:
    client.secret = "wrong"
    assert "server string to sign is:ACS3-HMAC-SHA256\n" in (await client.call()).json["Message"]


async def test_a_changed_query_or_body_breaks_the_signature(client: Client) -> None:
    client.query_as_sent = lambda query: query.replace("GCW", "GCX")
    assert (await client.call()).code == "SignatureDoesNotMatch"
    headers = client.headers("GetTicket", "", b"TicketId=A", "POST")
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    assert (await client.send("POST", client.url, headers, b"TicketId=B")).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("query", "code"),
    [({}, "MissingPageNumber"), ({"PageNumber": "1"}, "MissingPageSize")]
    + [
        ({"PageNumber": number, "PageSize": size}, "illegal.param")
        for number, size in [
            ("0", "10"),
            ("1", "9"),
            ("1", "101"),
            ("x", "10"),
            ("1", "9" * 5000),
            ("-1", "10"),
        ]
    ],
)
async def test_a_page_that_cannot_be_is_refused(client: Client, query: dict[str, str], code: str) -> None:
    reply = await client.call("ListTickets", query)
    assert (reply.status, reply.code) == (400, code)


async def test_unknown_and_too_many_statuses_are_refused(client: Client) -> None:
    page = {"PageNumber": "1", "PageSize": "10"}
    assert (await client.call("ListTickets", page, {"StatusList.1": "lost"})).code == "illegal.param"
    twelve = {f"StatusList.{number}": "1" for number in range(12)}
    assert (await client.call("ListTickets", page, twelve)).code == "illegal.param"


async def test_a_missing_parameter_is_named(client: Client) -> None:
    reply = await client.call(query={})
    assert (reply.status, reply.code) == (400, "MissingTicketId")
    assert reply.json["Message"] == "TicketId is mandatory for this action."


async def test_only_get_and_post_are_methods(client: Client) -> None:
    assert (await client.call(method="PUT")).code == "UnsupportedHTTPMethod"


@pytest.mark.parametrize(("minutes", "code"), [(-16, "Expired"), (-14, None), (14, None), (16, "Expired")])
async def test_a_date_may_be_off_by_fifteen_minutes(
    client: Client, clock: MovableClock, minutes: int, code: str | None
) -> None:
    client.clock = MovableClock(clock.at + minutes * 60)
    assert (await client.call()).code == (f"InvalidTimeStamp.{code}" if code else 0)


async def test_a_nonce_works_once(client: Client) -> None:
    client.changed = {"x-acs-signature-nonce": "same"}
    assert [(await client.call()).code for _ in range(2)] == [0, "SignatureNonceUsed"]


def test_nonces_are_forgotten_after_half_an_hour_or_when_they_are_too_many() -> None:
    nonces = Nonces(limit=2)
    assert nonces.take("key", "a", now=0)
    assert not nonces.take("key", "a", now=1799)
    assert nonces.take("other", "a", now=1799)
    assert nonces.take("key", "a", now=1800)
    assert nonces.take("key", "b", now=1801)
    assert nonces.take("other", "a", now=1801)


async def test_a_disabled_key_is_refused_until_it_is_enabled(client: Client, world: World) -> None:
    world.disable_key("simulator")
    assert (await client.call()).code == "InvalidAccessKeyId.Inactive"
    world.enable_key("simulator")
    assert (await client.call()).code == 0


async def test_a_temporary_key_needs_its_token_until_it_expires(clock: MovableClock) -> None:
    key = Key(id="STS.x", secret="s", token="t+/= x", token_expires_at=clock.at + 60)
    world = World([Account(name="a", uid="1", keys=[key])], now=clock)
    world.add_ticket(TICKET)
    async with open_simulator(world) as simulator, aiohttp.ClientSession() as session:
        client = Client(session, simulator, clock, key="STS.x", secret="s", token="t+/= x")
        assert (await client.call()).code == 0
        client.token = "other"
        assert (await client.call()).code == "InvalidSecurityToken.MismatchWithAccessKey"
        client.token = ""
        assert (await client.call()).code == "MissingSecurityToken"
        client.token = "t+/= x"
        clock.at += 60
        assert (await client.call()).code == "InvalidSecurityToken.Expired"


async def test_an_unknown_ticket_and_one_of_another_account_look_alike(client: Client, world: World) -> None:
    world.add_ticket("FOREIGN", uid="2")
    for ticket in ("NONE", "FOREIGN"):
        reply = await client.call(query={"TicketId": ticket})
        assert (reply.status, reply.json["Success"], reply.code) == (200, False, 2011)
        assert "Data" not in reply.json


async def test_a_reseller_asks_for_its_customers_and_nobody_else(clock: MovableClock) -> None:
    account = Account(name="a", uid="1", keys=[Key(id="simulator", secret="simulator")], customers=frozenset({"2"}))
    world = World([account], now=clock)
    world.add_ticket(TICKET, uid="2")
    async with open_simulator(world) as simulator, aiohttp.ClientSession() as session:
        client = Client(session, simulator, clock)
        assert (await client.call(query={"TicketId": TICKET, "Uid": "2"})).code == 0
        assert (await client.call()).code == 2011
        page = {"PageNumber": "1", "PageSize": "10"}
        assert (await client.call("ListTickets", page, {"Uid": "2"})).json["TotalCount"] == 1
        assert (await client.call("ListTickets", page)).json["TotalCount"] == 0
        foreign = await client.call(query={"TicketId": TICKET, "Uid": "3"})
        assert (foreign.status, foreign.code) == (401, "illegal.auth")


async def test_over_its_quota_an_account_is_throttled_and_told_how_long(
    client: Client, world: World, clock: MovableClock
) -> None:
    world.set_quota("simulator", 2)
    codes = [(await client.call()).code for _ in range(3)]
    assert codes == [0, 0, "Throttling.User"]
    throttled = await client.call()
    wait = int(throttled.headers["x-acs-retry-after"])
    assert throttled.status == 400
    assert 500 <= wait <= 501
    clock.at += wait / 1000
    assert [(await client.call()).code for _ in range(2)] == [0, "Throttling.User"]
    world.set_quota("simulator", None)
    assert (await client.call()).code == 0


def test_a_quota_below_one_a_second_and_one_of_nothing() -> None:
    slow = Quota(0.5, now=0)
    assert [slow.spend(0), slow.spend(0), slow.spend(1), slow.spend(2)] == [0, 2, 1, 0]
    nothing = Quota(0, now=0)
    assert [nothing.spend(0), nothing.spend(100)] == [1, 1]
    with pytest.raises(ValueError, match="zero or more"):
        Quota(-1, now=0)


@pytest.mark.parametrize(("spoilt", "code"), [(False, 0), (True, "SignatureDoesNotMatch")])
async def test_the_older_signature_works_as_well(client: Client, spoilt: bool, code: Any) -> None:
    params = {
        "AccessKeyId": "simulator",
        "Action": "ListTicketNotes",
        "Format": "json",
        "SignatureMethod": "HMAC-SHA1",
        "SignatureNonce": uuid.uuid4().hex,
        "SignatureVersion": "1.0",
        "TicketId": TICKET,
        "Timestamp": datetime.fromtimestamp(client.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Version": "2021-06-10",
    }
    text = f"GET&%2F&{signing.percent_encode(signing.canonical_query(params))}"
    secret = b"wrong&" if spoilt else b"simulator&"
    params["Signature"] = base64.b64encode(hmac.digest(secret, text.encode(), hashlib.sha1)).decode()
    reply = await client.send("GET", URL(f"{client.url}/?{urlencode(params)}", encoded=True))
    assert reply.code == code


async def test_the_older_signature_names_what_it_lacks(client: Client) -> None:
    reply = await client.send("GET", f"{client.url}/?Action=GetTicket&Version=2021-06-10&Signature=x")
    assert reply.code == "MissingAccessKeyId"


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nx-acs-action: \xff\xfe",
        b"GET /?Action=%ff HTTP/1.1",
    ],
)
async def test_a_request_that_is_not_text_is_no_accident(
    client: Client, start: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    parts = urlsplit(client.url)
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 0) as stream:
        await stream.send(start + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"HTTP/1.1 400" in await stream.receive()
    assert not warnings_of(caplog)


async def test_half_a_request_is_no_accident(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    parts = urlsplit(client.url)
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 0) as stream:
        await stream.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
    assert (await client.call()).code == 0
    assert not warnings_of(caplog)


async def test_the_date_header_follows_the_simulators_clock(client: Client, clock: MovableClock) -> None:
    reply = await client.call()
    assert parsedate_to_datetime(reply.headers["Date"]).timestamp() == clock.at


# --- attachments ------------------------------------------------------------------------------------------


async def test_an_attachment_has_another_address_at_every_call_and_all_work(client: Client, world: World) -> None:
    world.agent_reply(TICKET, "see file", attachments=[File("截图 1.png", b"\x89PNG"), "trace.log"])
    urls = []
    for _ in range(2):
        attachments = (await client.call()).json["Data"][0]["Attachments"]
        assert [each["Name"] for each in attachments] == ["截图 1.png", "trace.log"]
        urls.append(attachments[0]["Url"])
    assert urls[0] != urls[1]
    for url in urls:
        assert url.startswith(f"{client.url}/attachments/")
        assert (await client.send("GET", URL(url, encoded=True))).body == b"\x89PNG"


async def test_an_address_stops_working(client: Client, world: World, clock: MovableClock) -> None:
    world.agent_reply(TICKET, "see file", attachments=["a.txt"])
    url = (await client.call()).json["Data"][0]["Attachments"][0]["Url"]
    assert parse_qs(urlsplit(url).query)["Expires"] == [str(int(clock.at + 86400))]
    clock.at += 86400
    expired = await client.send("GET", URL(url, encoded=True))
    assert (expired.status, expired.headers["Content-Type"].partition(";")[0]) == (403, "application/xml")
    assert b"<Code>AccessDenied</Code>" in expired.body
    assert b"expired" in expired.body


@pytest.mark.parametrize("spoil", [("Expires=1", "Expires=2"), ("Signature=", "Signature=x"), ("?", "?x")])
async def test_a_spoilt_address_does_not_work(client: Client, world: World, spoil: tuple[str, str]) -> None:
    world.agent_reply(TICKET, "see file", attachments=["a.txt"])
    url = (await client.call()).json["Data"][0]["Attachments"][0]["Url"]
    assert (await client.send("GET", URL(url.replace(*spoil), encoded=True))).status == 403


# --- faults -----------------------------------------------------------------------------------------------


async def test_a_fault_hits_as_often_as_it_says(client: Client, world: World) -> None:
    world.inject(Fault("status", status=503, times=2))
    assert [(await client.call()).status for _ in range(3)] == [503, 503, 200]
    assert [call.code for call in world.calls] == ["fault:status", "fault:status", "OK"]
    assert world.counts == {"ListTicketNotes": 3}


async def test_a_fault_hits_only_the_calls_it_is_meant_for(client: Client, world: World) -> None:
    world.inject(Fault("status", action="GetTicket", ticket=TICKET, code="System.error", status=500))
    assert (await client.call()).status == 200
    assert (await client.call("GetTicket", {"TicketId": "OTHER"})).status == 200
    failed = await client.call("GetTicket")
    assert (failed.status, failed.code) == (500, "System.error")
    world.clear_faults()
    assert (await client.call("GetTicket")).status == 200


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "begin"),
    [
        (Fault("in_band", code=1001, message="m"), 200, "application/json", b'{"Code":1001,"Message":"m"'),
        (Fault("html"), 502, "text/html", b"<!DOCTYPE html>"),
        (Fault("html", status=200, text="<p>log in"), 200, "text/html", b"<p>log in"),
        (Fault("xml", status=503), 503, "text/xml", b'<?xml version="1.0" encoding="UTF-8"?><Error>'),
        (Fault("not_json"), 200, "application/json", b'{"Code": 0, "Success": true, "Data": ['),
        (Fault("body", body=b"\xff{}"), 200, "application/json", b"\xff{}"),
        (Fault("body", text="hm", content_type="text/plain", status=418), 418, "text/plain", b"hm"),
    ],
)
async def test_a_wrong_answer_arrives_as_it_was_ordered(
    client: Client, world: World, *, fault: Fault, status: int, content_type: str, begin: bytes
) -> None:
    world.inject(fault)
    reply = await client.call()
    assert (reply.status, reply.headers["Content-Type"].partition(";")[0]) == (status, content_type)
    assert reply.body.startswith(begin)


async def test_a_status_can_carry_headers_of_its_own(client: Client, world: World) -> None:
    world.inject(Fault("status", status=400, code="Throttling", headers={"x-acs-retry-after": "1500"}))
    reply = await client.call()
    assert (reply.code, reply.headers["x-acs-retry-after"]) == ("Throttling", "1500")


async def test_a_slow_answer_comes_late_and_is_right(client: Client, world: World) -> None:
    world.inject(Fault("slow", seconds=0.2))
    before = time.monotonic()
    assert (await client.call()).code == 0
    assert time.monotonic() - before >= 0.2


async def test_a_dripping_answer_comes_in_single_bytes(client: Client, world: World) -> None:
    world.inject(Fault("drip", seconds=0.001))
    assert (await client.call()).code == 0


async def test_a_truncated_answer_breaks_off(client: Client, world: World) -> None:
    world.inject(Fault("truncated"))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.call()


async def test_a_reset_connection_is_no_answer(client: Client, world: World) -> None:
    world.inject(Fault("reset"))
    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await client.call()


async def test_a_hanging_call_ends_with_the_clients_patience(client: Client, world: World) -> None:
    world.inject(Fault("hang"))
    with anyio.move_on_after(0.2) as patience:
        await client.call()
    assert patience.cancelled_caught
    assert world.calls[-1].code == "fault:hang"


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_huge_answer_is_as_large_as_ordered(client: Client, world: World, compressed: bool) -> None:
    world.inject(Fault("huge", size=3_000_000, compressed=compressed))
    timeout = aiohttp.ClientTimeout(total=20)
    headers = {"Accept-Encoding": "gzip"}
    async with aiohttp.request("GET", client.url, headers=headers, timeout=timeout) as response:
        assert len(await response.read()) == 3_000_000
        assert response.headers.get("Content-Encoding") == ("gzip" if compressed else None)


async def test_a_huge_compressed_answer_is_small_on_the_wire(client: Client, world: World) -> None:
    world.inject(Fault("huge", size=3_000_000, compressed=True))
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        client.session = session
        reply = await client.call()
    assert len(reply.body) < 30_000
    assert json.loads(gzip.decompress(reply.body))["Success"] is True


async def test_a_skewed_clock_can_be_corrected_by_the_date_header(
    client: Client, world: World, clock: MovableClock
) -> None:
    world.inject(Fault("skew", seconds=-7200))
    refused = await client.call()
    assert refused.code == "InvalidTimeStamp.Expired"
    told = parsedate_to_datetime(refused.headers["Date"])
    assert told == datetime.fromtimestamp(clock.at, UTC) - timedelta(hours=2)
    client.clock = MovableClock(told.timestamp())
    assert (await client.call()).code == 0


async def test_a_skew_of_one_call_is_over_with_the_next(client: Client, world: World) -> None:
    world.inject(Fault("skew", times=1))
    assert [(await client.call()).code for _ in range(2)] == ["InvalidTimeStamp.Expired", 0]


def test_a_fault_that_could_never_hit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Fault("reset", times=0)
    with pytest.raises(ValueError, match="a number"):
        Fault("in_band", code="Throttling")
    with pytest.raises(ValueError, match="not a kind of fault"):
        Fault("explosion")  # type: ignore[arg-type]


async def test_stopping_ends_calls_that_hang_and_says_nothing(
    world: World, clock: MovableClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.inject(Fault("hang"))
    async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
        async with open_simulator(world) as simulator:
            tasks.start_soon(_expect_to_be_left, Client(session, simulator, clock))
            await first_call(world)
            before = time.monotonic()
        assert time.monotonic() - before < 5
    assert not warnings_of(caplog)


async def first_call(world: World) -> None:
    with anyio.fail_after(10):
        while not world.calls:  # noqa: ASYNC110 - the world knows nothing of event loops
            await anyio.sleep(0.01)


async def _expect_to_be_left(client: Client) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.call()


@pytest.mark.parametrize("kind", ["drip", "huge", "slow", "hang", "truncated", "reset"])
async def test_a_client_that_goes_away_leaves_no_traceback(
    client: Client, world: World, caplog: pytest.LogCaptureFixture, kind: Any
) -> None:
    world.inject(Fault(kind, size=200_000_000, times=1))
    parts = urlsplit(client.url)
    stream = await anyio.connect_tcp(parts.hostname or "", parts.port or 0)
    await stream.send(b"GET /?TicketId=x HTTP/1.1\r\nHost: x\r\n\r\n")
    await first_call(world)
    await stream.aclose()
    assert (await client.call()).code == 0
    assert not warnings_of(caplog)


# --- the control endpoint ---------------------------------------------------------------------------------


async def test_the_world_can_be_changed_by_hand(client: Client, world: World) -> None:
    replied = await client.control("POST", f"/tickets/{TICKET}/agent-reply", {"text": "one"})
    assert replied.json["done"] == f"agent replies to {TICKET}"
    note = replied.json["dialog_id"]
    assert (await client.call()).json["Data"][0]["DialogId"] == note
    await client.control("POST", f"/tickets/{TICKET}/customer-reply", {"text": "two"})
    await client.control("POST", f"/tickets/{TICKET}/edit", {"text": "one, corrected"})
    await client.control("POST", f"/tickets/{TICKET}/read")
    await client.control("POST", f"/tickets/{TICKET}/status", {"status": "wait_confirm"})
    shown = (await client.control("GET", f"/tickets/{TICKET}")).json
    assert (shown["status"], shown["unread"]) == (5, 0)
    assert [each["content"] for each in shown["notes"]] == ["one, corrected", "two"]
    await client.control("POST", f"/tickets/{TICKET}/remove", {"dialog_id": note})
    await client.control("POST", "/tickets", {"ticket": "00051234", "title": "new", "severity": "urgent"})
    assert (len(world.ticket(TICKET).notes), world.ticket("00051234").severity) == (1, 2)


async def test_keys_quotas_and_faults_can_be_changed_by_hand(client: Client, world: World) -> None:
    await client.control("POST", "/keys/simulator/disable")
    assert (await client.call()).code == "InvalidAccessKeyId.Inactive"
    await client.control("POST", "/keys/simulator/enable")
    await client.control("POST", "/accounts/simulator/quota", {"per_second": 0})
    assert (await client.call()).code == "Throttling.User"
    await client.control("POST", "/accounts/simulator/quota")
    await client.control("POST", "/faults", {"kind": "in_band", "code": 2011, "times": 3})
    assert (await client.call()).code == 2011
    state = (await client.control("GET", "/state")).json
    assert (state["faults"][0]["kind"], state["ticket_count"]) == ("in_band", 1)
    assert [call["code"] for call in state["last_calls"]][-1] == "fault:in_band"
    assert "secret" not in json.dumps(state)
    await client.control("DELETE", "/faults")
    assert world.faults == []


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("POST", "/tickets/NONE/agent-reply", {"text": "x"}, 404, "there is no ticket NONE"),
        ("POST", f"/tickets/{TICKET}/agent-reply", {}, 400, "missing required field `text`"),
        ("POST", f"/tickets/{TICKET}/agent-reply", {"text": "x", "txt": 1}, 400, "unknown field `txt`"),
        ("POST", f"/tickets/{TICKET}/agent-reply", [], 400, "Expected `object`"),
        ("POST", f"/tickets/{TICKET}/status", {"status": "gone"}, 400, "'gone' is not a ticket status"),
        ("POST", f"/tickets/{TICKET}/remove", {}, 404, "no note of the support"),
        ("POST", f"/tickets/{TICKET}/read", {"dialog_id": 1}, 404, "has no note 1"),
        ("POST", "/tickets", {"ticket": TICKET}, 400, "already"),
        ("POST", "/tickets", {"ticket": "T", "severity": "mild"}, 400, "not a severity"),
        ("POST", "/keys/nobody/disable", None, 404, "there is no key nobody"),
        ("POST", "/accounts/nobody/quota", {}, 404, "there is no account nobody; there are: simulator"),
        ("POST", "/faults", {"kind": "flood"}, 400, "Invalid enum value 'flood'"),
        ("GET", "/nothing", None, 404, "GET /_control lists what there is"),
    ],
)
async def test_a_wrong_order_is_explained(
    client: Client, *, method: str, path: str, body: Any, status: int, error: str
) -> None:
    reply = await client.control(method, path, body)
    assert reply.status == status
    assert error in reply.json["error"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "["}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
    ],
)
async def test_web_pages_cannot_reach_the_control_endpoint(
    client: Client, headers: dict[str, str], status: int
) -> None:
    assert (await client.send("GET", client.simulator.control_url + "/state", headers)).status == status


async def test_the_control_endpoint_says_how_it_is_used(client: Client) -> None:
    usage = (await client.send("GET", client.simulator.control_url)).body.decode()
    assert f"curl -s -X POST {client.simulator.control_url}/tickets/{TICKET}/agent-reply -d '" in usage


# --- the world and its scripts ----------------------------------------------------------------------------


def test_the_world_refuses_what_it_cannot_hold(world: World) -> None:
    with pytest.raises(ValueError, match="already"):
        world.add_ticket(TICKET)
    with pytest.raises(ValueError, match="status 9 is not one of 1, 2, 3, 4, 5, 6"):
        world.set_status(TICKET, 9)
    with pytest.raises(ValueError, match="belongs to account simulator already"):
        world.add_account(Account(name="b", uid="2", keys=[Key(id="simulator", secret="x")]))
    with pytest.raises(NotThereError, match="there is no ticket NONE"):
        world.agent_reply("NONE", "x")


async def test_without_a_script_there_are_tickets_and_one_account(clock: MovableClock) -> None:
    script = load_script(now=clock)
    assert script.timeline.steps == ()
    async with open_simulator(script.world) as simulator, aiohttp.ClientSession() as session:
        assert simulator.url in simulator.greeting
        assert simulator.control_url in simulator.greeting
        assert "key id simulator, secret simulator" in simulator.greeting
        client = Client(session, simulator, clock)
        tickets = (await client.call("ListTickets", {"PageNumber": "1", "PageSize": "10"})).json["Data"]
        assert len({ticket["Status"]["Value"] for ticket in tickets}) == len(tickets) == 4
        notes = [
            note
            for ticket in tickets
            for note in (await client.call(query={"TicketId": ticket["TicketId"]})).json["Data"]
        ]
    assert sum(note["Status"] == 1 and note["User"]["Role"] == 2 for note in notes) == 1
    assert any(note["Attachments"] for note in notes)


@dataclass
class Stopwatch:
    """Sleeps at once, and says when it has slept enough."""

    limit: float
    elapsed: float = 0.0

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.elapsed += seconds
        if self.elapsed > self.limit:
            raise TimeoutError


async def test_the_demo_tells_its_story_again_and_again() -> None:
    script = load_script(DEMO_SCRIPT)
    told: list[tuple[float, str]] = []
    watch = Stopwatch(limit=119)
    with pytest.raises(TimeoutError):
        await play(script.world, script.timeline, watch.sleep, lambda s: told.append((watch.elapsed, s)))
    first = [sentence for at, sentence in told if at < 60]
    second = [sentence for at, sentence in told if at >= 60]
    assert (3, "agent replies to 0005PYGCW") in told
    assert (20, "fault status 503 for 2 calls") in told
    assert [each.replace("NEW2", "NEW1") for each in second] == first
    assert not [sentence for _, sentence in told if "left out" in sentence]


async def test_a_step_that_became_impossible_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("timeline: [{at: 1s, ticket: {ticket: T}}, {after: 500ms, read: {ticket: T}}]")
    script = load_script(path)
    script.world.add_ticket("T")
    told: list[str] = []
    await play(script.world, script.timeline, Stopwatch(limit=9).sleep, told.append)
    assert told == ["left out a step: there is a ticket T already", "customer reads T"]


def test_ids_stay_text(tmp_path: Path, clock: MovableClock) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(
        "accounts: {a: {uid: 0012, keys: {null: {secret: 1e3}}, quota: 5, customers: [007]}}\n"
        "tickets: {00051234: {title: no, status: 3, ago: 2d, notes: [{by: agent, text: 1.0, ago: 1h}]}}\n"
    )
    world = load_script(path, now=clock).world
    account, key = world.key("null")
    assert (account.uid, key.secret, sorted(account.customers)) == ("0012", "1e3", ["007"])
    ticket = world.ticket("00051234")
    assert (ticket.title, ticket.uid, ticket.created_ms) == ("no", "0012", (clock.at - 2 * 86400) * 1000)
    assert [note.content for note in ticket.notes.values()] == ["1.0"]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("accounts:\n  a:\n    keys: {}\n", 3, "missing required field `uid`"),
        ("accounts:\n  a:\n    uid: 1\n    quota: many\n", 4, "Expected `float | null`"),
        ("accounts:\n  a: {uid: 1, quota: -1}\n", 2, "zero or more"),
        (
            "accounts:\n  a: {uid: 1, keys: {k: {secret: x}}}\n  b: {uid: 2, keys: {k: {secret: x}}}\n",
            3,
            "already",
        ),
        ("ticket: {}\n", 1, "unknown field `ticket`"),
        ("tickets:\n  T:\n    title: x\n    status: nine\n", 4, "'nine' is not a ticket status"),
        (
            "tickets:\n  T:\n    notes:\n      - {by: agent, text: x}\n      - {by: bot, text: x}\n",
            5,
            "'bot'",
        ),
        ("tickets:\n  T: {ago: soon}\n", 2, "`soon` is not a duration"),
        ("tickets:\n  T: {}\n  T: {}\n", 3, "stands twice"),
        ("tickets:\n  ? [a]\n  : {}\n", 2, "a key must be a word"),
        ("timeline:\n  - at: 1s\n    shout: {}\n", 2, "unknown field `shout`"),
        (
            "timeline:\n  - {at: 1s, clear-faults: {}}\n  - {at: 0s, clear-faults: {}}\n",
            3,
            "order of their times",
        ),
        ("timeline:\n  - {clear-faults: {}}\n", 2, "either `at` or `after`"),
        ("timeline:\n  - {at: 1s}\n", 2, "exactly one thing"),
        ("timeline:\n  - at: 1s\n    read: {ticket: T}\n", 2, "there is no ticket T"),
        ("timeline:\n  - at: 1s\n    fault: {kind: bang}\n", 3, "'bang'"),
        ("repeat: 9s\ntimeline:\n  - {at: 1s, ticket: {ticket: T}}\n", 3, "there is a ticket T already"),
        ("repeat: 1s\ntimeline:\n  - {at: 2s, clear-faults: {}}\n", 1, "shorter than the timeline"),
        ("tickets:\n  T: {\n", 3, "expected the node content"),
        ("- a\n", 1, "Expected `object`"),
    ],
)
def test_a_mistake_in_a_script_is_named_by_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "script.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_script(path)
    assert str(caught.value).startswith(f"{path}:{line}:")
    assert what in str(caught.value)


def test_a_script_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        load_script(tmp_path / "none.yaml")
