"""The forms of an event on the wire, each read back by the CloudEvents SDK and verified by Standard Webhooks."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.fakes import account, at, delivery, event, note, ticket, with_text
from tests.servers import Received, open_receiver
from watcher import http
from watcher.detect import digest
from watcher.envelope import LIMIT_BYTES, seal
from watcher.formats import Format, Message, pack
from watcher.model import Attachment, Content, Event, Kind
from watcher.route import LARGEST_DIGEST
from watcher.sample import example
from watcher.sinks.webhook import WebhookSink

SECRET = "whsec_" + "A" * 32
EXAMPLES = {kind.value: example(kind) for kind in Kind}
each_format = pytest.mark.parametrize("form", Format)
each_example = pytest.mark.parametrize("of", EXAMPLES.values(), ids=EXAMPLES)


async def arrived(of: Event, form: Format, **more: Any) -> Received:
    """Send an event through the real sink; return the request as it arrived."""
    async with open_receiver() as receiver, http.open_session() as session:
        values: dict[str, Any] = {"secrets": [SECRET], "headers": {}, "content": Content.FULL}
        sink = WebhookSink(
            session, name="hub", url=receiver.url, form=form, timeout=timedelta(seconds=20), **(values | more)
        )
        await sink.send(delivery(of), now=datetime.now(UTC))
        return receiver.received[0]


def lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def read_by_sdk(body: bytes, headers: Mapping[str, str]) -> BaseCloudEvent:
    return from_http_event(HTTPMessage(headers=lower(headers), body=body))


def structured(of: Event) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(seal(of, content=Content.FULL))
    return value


# --- by others --------------------------------------------------------------------------------------------


@each_example
@each_format
async def test_every_form_is_signed_under_the_id_of_the_event(of: Event, form: Format) -> None:
    request = await arrived(of, form)
    assert request.headers["webhook-id"] == of.id
    assert Webhook(SECRET).verify(request.body, lower(request.headers)) == json.loads(request.body)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "B" * 32).verify(request.body, lower(request.headers))


@each_example
@pytest.mark.parametrize("form", [Format.STRUCTURED, Format.BINARY])
async def test_the_sdk_finds_the_mode_and_reads_the_same_event(of: Event, form: Format) -> None:
    request = await arrived(of, form)
    read = read_by_sdk(request.body, request.headers)
    expected = structured(of)
    assert read.get_data() == expected.pop("data")
    assert (read.get_time(), read.get_datacontenttype()) == (of.occurred_at, "application/json")
    attributes = {name: value for name, value in read.get_attributes().items() if name != "time"}
    # In a header, a number is text.
    assert {name: str(value) for name, value in attributes.items()} == {
        name: str(value) for name, value in expected.items() if name != "time"
    }


@each_example
async def test_the_sdk_reads_every_event_of_a_batch(of: Event) -> None:
    request = await arrived(of, Format.BATCH)
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json; charset=utf-8"
    singles = json.loads(request.body)
    assert singles == [structured(each) for each in of.events or (of,)]
    for single, each in zip(singles, of.events or (of,), strict=True):
        headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
        assert read_by_sdk(json.dumps(single).encode(), headers).get_id() == each.id


@each_example
async def test_plain_json_is_the_same_document(of: Event) -> None:
    request = await arrived(of, Format.PLAIN)
    assert request.headers["Content-Type"] == "application/json"
    assert request.body == seal(of, content=Content.FULL)


# --- attributes in headers --------------------------------------------------------------------------------


async def test_attributes_are_headers_and_the_data_is_the_body() -> None:
    request = await arrived(example(Kind.REPLY), Format.BINARY)
    assert {name: value for name, value in lower(request.headers).items() if name.startswith(("ce-", "content-t"))} == {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": example(Kind.REPLY).id,
        "ce-source": "//workorder.aliyuncs.com/1604499804113750",
        "ce-type": "watcher.note.created.v1",
        "ce-subject": "tickets/0005PYGCW/notes/160203923",
        "ce-time": "2021-06-11T07:32:16Z",
        "ce-timestamp": "2021-06-11T07:32:16Z",
        "ce-recordedtime": "2021-06-11T07:33:04Z",
        "ce-sequence": "001623396736000-000160203923",
        "ce-partitionkey": "1604499804113750/0005PYGCW",
        "ce-correlationid": "0005PYGCW",
        "ce-severitytext": "INFO",
        "ce-severitynumber": "9",
        "ce-dataschema": "urn:watcher:event:watcher.note.created.v1",
    }
    assert json.loads(request.body) == structured(example(Kind.REPLY))["data"]


@given(
    number=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    dialog=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
)
def test_whatever_a_ticket_is_called_its_headers_are_headers(number: str, name: str, dialog: str) -> None:
    of = event(note=note(dialog), ticket=ticket(number), account=account(name))
    message = pack(of, Format.BINARY, content=Content.FULL)
    for header, value in message.headers.items():
        allowed = " " if header == "Content-Type" else ""
        assert all("\x21" <= char <= "\x7e" or char in allowed for char in header + value)
        assert '"' not in value
    told = {attribute: value for attribute, value in structured(of).items() if attribute not in {"data", "time"}}
    read = read_by_sdk(message.body, message.headers).get_attributes()
    assert {attribute: str(read[attribute]) for attribute in told} == {
        attribute: str(value) for attribute, value in told.items()
    }


def test_an_attribute_too_long_for_a_header_stays_out() -> None:
    of = event(ticket=ticket("0" * 5000), note=note("9" * 5000), labels={"team": "x" * 3000})
    message = pack(of, Format.BINARY, content=Content.FULL)
    assert max(map(len, message.headers.values())) <= 2000
    assert message.headers.keys() >= {"ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time"}
    assert message.headers.keys().isdisjoint({"ce-subject", "ce-correlationid", "ce-sequence", "ce-partitionkey"})
    assert json.loads(message.body)["labels"] == {"team": "x" * 3000}


# --- how much of it ---------------------------------------------------------------------------------------


def size(message: Message) -> int:
    return len(message.body) + sum(len(f"{name}: {value}\r\n") for name, value in message.headers.items())


@each_format
@pytest.mark.parametrize("letter", ["x", "工", '"', "\x01"])
def test_every_form_stays_below_the_limit_and_keeps_what_it_can(form: Format, letter: str) -> None:
    message = pack(with_text(example(Kind.REPLY), letter * 100_000), form, content=Content.FULL)
    assert LIMIT_BYTES - 8 < size(message) <= LIMIT_BYTES


@each_format
def test_the_largest_digest_fits_in_every_form_with_every_id(form: Format) -> None:
    files = tuple(Attachment(name=f"{n}.log", url="https://files.example/" + "x" * 300) for n in range(50))
    members = [
        event(10**11 + n, ticket=ticket(f"0005PYG{n:03}", title="生产数据库" * 20), note=note(n, attachments=files))
        for n in range(LARGEST_DIGEST)
    ]
    members = [with_text(each, "工" * 5000) for each in members]
    told = digest(members, sink="hub", now=at(60))
    message = pack(told, form, content=Content.FULL)
    assert size(message) <= LIMIT_BYTES
    document = json.loads(message.body)
    if form is not Format.BATCH:
        document = document.get("data", document)["events"]
    assert [each["id"] for each in document] == [each.id for each in told.events]


@each_format
def test_content_that_is_not_to_leave_is_in_no_form(form: Format) -> None:
    for of in EXAMPLES.values():
        message = pack(of, form, content=Content.NONE)
        assert "余额".encode() not in message.body
        assert b"attachments.example" not in message.body


@each_format
def test_a_replay_is_marked_in_every_form(form: Format) -> None:
    for of in EXAMPLES.values():
        once, again = (pack(of, form, content=Content.FULL, replay=replay) for replay in (False, True))
        assert (b'"replay"' in once.body, b'"replay"' in again.body) == (False, True)
        assert once.headers == again.headers


def test_a_limit_of_none_is_no_limit() -> None:
    told = with_text(replace(example(Kind.REPLY), labels={}), "x" * 50_000)
    assert len(pack(told, Format.STRUCTURED, content=Content.FULL, limit=None)) > 50_000
