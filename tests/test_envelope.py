"""The envelope, read back by the CloudEvents SDK and verified by Standard Webhooks."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from hypothesis import example, given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.fakes import account, at, event, note, ticket, with_text
from watcher.detect import digest
from watcher.envelope import EXCERPT_CHARS, LIMIT_BYTES, excerpt, rfc3339, seal, type_of
from watcher.model import (
    Attachment,
    Author,
    Content,
    Event,
    Kind,
    Read,
    Role,
    Severity,
    TicketStatus,
    Unread,
)
from watcher.route import LARGEST_DIGEST

UID = "1604499804113750"
WRITTEN_AT = datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC)
FILE = Attachment(name="renew.log", url="https://oss.example/renew.log?Signature=s", expires_at=WRITTEN_AT)
CONTENT = "您好。续费失败的原因是账户余额不足。\nPlease top up."

REPLY = event(
    160203923,
    account=account(uid=UID),
    ticket=ticket(
        status=TicketStatus.WAIT_FEEDBACK,
        status_code="3",
        severity=Severity.NORMAL,
        severity_code="1",
    ),
    note=note(
        160203923,
        author=Author(role=Role.AGENT, role_code=2, name="Agent 1024"),
        created_at=WRITTEN_AT,
        text=CONTENT,
        attachments=(FILE,),
    ),
    labels={"team": "db"},
    unread=Unread(in_ticket=2, since=WRITTEN_AT),
)


def told(of: Event, *, content: Content = Content.FULL, replay: bool = False) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(seal(of, content=content, replay=replay))
    return value


def noted(**changes: Any) -> Event:
    """Return the reply with some fields of its note changed."""
    assert REPLY.note
    return replace(REPLY, note=replace(REPLY.note, **changes))


def a_digest(count: int = 3, text: str = CONTENT) -> Event:
    members = [event(number, kind=Kind.UNREAD, note=note(number, text=text)) for number in range(count)]
    return digest(members, sink="hub", now=at(60))


def read_by_sdk(body: bytes) -> BaseCloudEvent:
    headers = {"content-type": "application/cloudevents+json; charset=utf-8"}
    return from_structured_event(HTTPMessage(headers=headers, body=body))


# --- by others --------------------------------------------------------------------------------------------

EVENTS = {
    "reply": REPLY,
    "unread": replace(REPLY, kind=Kind.UNREAD),
    "digest": a_digest(),
    "without a time": noted(created_at=None),
    "without a note": replace(REPLY, note=None),
}

each_event = pytest.mark.parametrize("of", EVENTS.values(), ids=EVENTS)


@each_event
@pytest.mark.parametrize("content", Content)
@pytest.mark.parametrize("replay", [False, True])
def test_the_cloudevents_sdk_reads_every_body(of: Event, content: Content, replay: bool) -> None:
    body = seal(of, content=content, replay=replay)
    read = read_by_sdk(body)
    assert (read.get_id(), read.get_specversion(), read.get_type()) == (of.id, "1.0", type_of(of.kind))
    assert (read.get_datacontenttype(), read.get_data()) == ("application/json", json.loads(body)["data"])
    assert read.get_time() == of.occurred_at


def test_the_cloudevents_sdk_finds_every_attribute() -> None:
    attributes = dict(read_by_sdk(seal(REPLY, content=Content.FULL)).get_attributes())
    assert attributes.pop("time") == WRITTEN_AT
    assert attributes == {
        "specversion": "1.0",
        "id": REPLY.id,
        "source": f"//workorder.aliyuncs.com/{UID}",
        "type": "watcher.note.created.v1",
        "subject": "tickets/0005PYGCW/notes/160203923",
        "timestamp": "2021-06-11T07:32:16Z",
        "recordedtime": "2026-01-15T12:01:00Z",
        "sequence": "001623396736000-000160203923",
        "partitionkey": f"{UID}/0005PYGCW",
        "correlationid": "0005PYGCW",
        "severitytext": "INFO",
        "severitynumber": 9,
        "datacontenttype": "application/json",
        "dataschema": "urn:watcher:event:watcher.note.created.v1",
    }


@each_event
def test_standard_webhooks_verifies_the_body_with_either_key_and_no_other(of: Event) -> None:
    body = seal(of, content=Content.FULL)
    old, new, foreign = (Webhook(f"whsec_{letter * 32}") for letter in "ABC")
    now = datetime.now(UTC)
    headers = {
        "webhook-id": of.id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(key.sign(of.id, now, body.decode()) for key in (old, new)),
    }
    assert old.verify(body, headers) == new.verify(body, headers) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        foreign.verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        new.verify(body.replace(b"tickets/", b"tickets\\/") + b" ", headers)
    assert "." not in of.id


def test_the_payload_has_the_three_fields_of_standard_webhooks() -> None:
    value = told(REPLY)
    assert (value["type"], value["timestamp"]) == ("watcher.note.created.v1", value["time"])
    assert isinstance(value["data"], dict)


# --- every field ------------------------------------------------------------------------------------------


def test_the_data_of_a_reply_is_what_the_contract_says() -> None:
    assert told(REPLY)["data"] == {
        "reason": "new",
        "watch": "production",
        "labels": {"team": "db"},
        "account": {"name": "prod", "uid": UID, "site": "cn"},
        "ticket": {
            "id": "0005PYGCW",
            "title": "Why ECS renewal failed?",
            "status": "wait_feedback",
            "status_code": 3,
            "severity": "normal",
            "severity_code": 1,
            "url": "https://console.example/",
        },
        "note": {
            "id": "160203923",
            "created_at": "2021-06-11T07:32:16Z",
            "created_at_ms": 1623396736000,
            "type": "text",
            "author": {"name": "Agent 1024", "role": "agent", "role_code": 2},
            "read": False,
            "read_status": "unread",
            "read_status_code": 1,
            "content": CONTENT,
            "content_format": "text",
            "content_chars": len(CONTENT),
            "truncated": False,
            "attachments": [
                {
                    "name": "renew.log",
                    "url": FILE.url,
                    "url_is_temporary": True,
                    "url_expires_at": "2021-06-11T07:32:16Z",
                }
            ],
        },
        "unread": {"in_ticket": 2, "since": "2021-06-11T07:32:16Z", "reminder": 0},
    }


@pytest.mark.parametrize(
    ("kind", "replay", "type_", "reason"),
    [
        (Kind.REPLY, False, "watcher.note.created.v1", "new"),
        (Kind.UNREAD, False, "watcher.note.unread.v1", "unread"),
        (Kind.REPLY, True, "watcher.note.created.v1", "replay"),
        (Kind.UNREAD, True, "watcher.note.unread.v1", "replay"),
    ],
)
def test_kind_and_replay_tell_type_and_reason(kind: Kind, replay: bool, type_: str, reason: str) -> None:
    value = told(replace(REPLY, kind=kind), replay=replay)
    assert (value["type"], value["data"]["reason"], value["id"]) == (type_, reason, REPLY.id)


def test_every_kind_has_a_type() -> None:
    assert len({type_of(kind) for kind in Kind}) == len(Kind)


def test_an_account_without_a_uid_is_named() -> None:
    value = told(replace(REPLY, account=account("my shop/ä")))
    assert value["source"] == "//workorder.aliyuncs.com/my%20shop%2F%C3%A4"
    assert value["partitionkey"] == "my%20shop%2F%C3%A4/0005PYGCW"
    assert value["data"]["account"] == {"name": "my shop/ä", "uid": "", "site": "cn"}


def test_a_note_without_a_time_happened_when_it_was_seen() -> None:
    value = told(noted(created_at=None))
    assert value["time"] == value["recordedtime"]
    assert (value["data"]["note"]["created_at"], value["data"]["note"]["created_at_ms"]) == (None, None)


@pytest.mark.parametrize(
    ("severity", "text", "number"),
    [(Severity.NORMAL, "INFO", 9), (Severity.URGENT, "WARN", 13), (Severity.UNKNOWN, "INFO", 9)],
)
def test_an_urgent_ticket_is_a_warning_alone_and_in_a_digest(severity: Severity, text: str, number: int) -> None:
    of = event(1, ticket=ticket(severity=severity))
    for value in (told(of), told(digest([of, event(2)], sink="hub", now=at(60)))):
        assert (value["severitytext"], value["severitynumber"]) == (text, number)


@pytest.mark.parametrize(
    ("read", "code", "told_read"), [(Read.UNREAD, 1, False), (Read.READ, 2, True), (Read.UNKNOWN, 6, None)]
)
def test_read_is_true_false_or_null(read: Read, code: int, told_read: bool | None) -> None:
    said = told(noted(read=read, read_code=code))["data"]["note"]
    assert (said["read"], said["read_status"], said["read_status_code"]) == (told_read, read.value, code)


def test_unknown_enum_values_are_named_unknown_beside_their_numbers() -> None:
    of = replace(
        noted(type="unknown", type_code=9, author=Author(role=Role.UNKNOWN, role_code=7)),
        ticket=ticket(status_code="9", severity_code="7"),
    )
    data = told(of)["data"]
    assert (data["ticket"]["status"], data["ticket"]["status_code"]) == ("unknown", 9)
    assert (data["ticket"]["severity"], data["ticket"]["severity_code"]) == ("unknown", 7)
    assert (data["note"]["author"]["role"], data["note"]["author"]["role_code"]) == ("unknown", 7)
    assert data["note"]["type"] == "unknown"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("3", 3),
        ("", None),
        ("wait_feedback", "wait_feedback"),
        ("-1", "-1"),
        ("٣", "٣"),
        ("²", "²"),
        ("9" * 15, 999999999999999),
        ("9" * 16, "9" * 16),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_code_is_a_number_where_every_reader_can_hold_it(code: str, said: Any) -> None:
    assert told(replace(REPLY, ticket=ticket(status_code=code)))["data"]["ticket"]["status_code"] == said


@pytest.mark.parametrize("number", ["9007199254740993", "9" * 64, "CT24/ä b"])
def test_ids_are_text_to_the_last_digit(number: str) -> None:
    value = told(noted(id=number))
    assert value["data"]["note"]["id"] == number
    assert value["subject"].startswith("tickets/0005PYGCW/notes/")
    assert value["subject"].isascii()


def test_the_sequence_sorts_as_the_notes_do() -> None:
    notes = [note(9, minutes=1), note(10, minutes=1), note(2, minutes=2), note(1, minutes=10_000_000)]
    sequences = [told(event(1, note=each))["sequence"] for each in notes]
    assert sequences == sorted(sequences)
    assert sequences[0] == "001768478460000-000000000009"


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (WRITTEN_AT, "2021-06-11T07:32:16Z"),
        (WRITTEN_AT.astimezone(timezone(timedelta(hours=8))), "2021-06-11T07:32:16Z"),
        (WRITTEN_AT + timedelta(milliseconds=7), "2021-06-11T07:32:16.007Z"),
        (WRITTEN_AT + timedelta(microseconds=999), "2021-06-11T07:32:16Z"),
        (WRITTEN_AT + timedelta(microseconds=999_999), "2021-06-11T07:32:16.999Z"),
    ],
)
def test_instants_are_rfc_3339_in_utc(instant: datetime, text: str) -> None:
    assert rfc3339(instant) == text


@given(st.integers(1, 4_102_444_800_000))
@example(32_099)
def test_milliseconds_survive_to_the_last(ms: int) -> None:
    created = datetime.fromtimestamp(ms / 1000, UTC)
    value = told(noted(created_at=created))
    assert value["data"]["note"]["created_at_ms"] == ms
    assert int(value["sequence"].partition("-")[0]) == ms
    assert datetime.fromisoformat(value["time"]) == created


# --- how much of it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text", "said", "truncated"),
    [
        (Content.FULL, "short", "short", False),
        (Content.FULL, "", "", False),
        (Content.EXCERPT, "short", "short", True),
        (Content.EXCERPT, "x" * EXCERPT_CHARS, "x" * EXCERPT_CHARS, True),
        (Content.EXCERPT, "x" * (EXCERPT_CHARS + 1), "x" * (EXCERPT_CHARS - 1) + "…", True),
    ],
)
def test_content_is_whole_or_an_excerpt(content: Content, text: str, said: str, truncated: bool) -> None:
    data = told(with_text(REPLY, text), content=content)["data"]["note"]
    assert (data["content"], data["truncated"], data["content_chars"]) == (said, truncated, len(text))
    assert data["attachments"][0]["url"] == FILE.url


def test_without_content_neither_text_nor_the_keys_to_files_leave() -> None:
    for of in (REPLY, digest([REPLY, event(2)], sink="hub", now=at(60))):
        body = seal(of, content=Content.NONE).decode()
        assert "余额" not in body
        assert "oss.example" not in body
    said = told(REPLY, content=Content.NONE)["data"]["note"]
    assert said.keys().isdisjoint({"content", "content_format", "truncated"})
    assert (said["attachments"], said["content_chars"]) == ([{"name": "renew.log"}], len(CONTENT))


@pytest.mark.parametrize("letter", ["x", "工", "😀", '"', "\x01"])
@pytest.mark.parametrize("length", [100, 18_000, 20_000, 100_000, 1_000_000])
def test_a_body_stays_below_the_limit_and_keeps_what_it_can(letter: str, length: int) -> None:
    body = seal(with_text(REPLY, letter * length), content=Content.FULL)
    said = json.loads(body)["data"]["note"]
    assert len(body) <= LIMIT_BYTES
    assert said["content_chars"] == length
    assert said["truncated"] is (said["content"] != letter * length)
    if said["truncated"]:
        assert said["content"].endswith("…")
        # One more character would not have fitted.
        assert len(body) > LIMIT_BYTES - 8


@pytest.mark.parametrize("content", Content)
@pytest.mark.parametrize("count", [2, 10])
def test_a_digest_of_long_replies_stays_below_the_limit(count: int, content: Content) -> None:
    of = a_digest(count, "工" * 5000)
    body = seal(of, content=content)
    assert len(body) <= LIMIT_BYTES
    events = json.loads(body)["data"]["events"]
    assert [each["id"] for each in events] == [each.id for each in of.events]


def test_the_largest_digest_fits_however_much_its_notes_hold() -> None:
    title = "生产数据库连接数打满新连接被拒绝业务中断中请尽快协助排查处理" * 3
    files = tuple(Attachment(name=f"{n}.log", url="https://files.example/" + "x" * 300) for n in range(50))
    members = [
        replace(with_text(event(10**11 + n, ticket=ticket(f"0005PYG{n:03}", title=title)), "工" * 5000))
        for n in range(LARGEST_DIGEST)
    ]
    members = [replace(each, note=each.note and replace(each.note, attachments=files)) for each in members]
    body = seal(digest(members, sink="hub", now=at(60)), content=Content.FULL)
    assert len(body) <= LIMIT_BYTES
    told = json.loads(body)["data"]["events"]
    assert {each["id"] for each in told} == {each.id for each in members}
    assert all(each["data"]["note"]["truncated"] for each in told)


def test_a_note_with_hundreds_of_files_is_told_briefly() -> None:
    files = tuple(Attachment(name=f"{n}.log", url="https://files.example/" + "x" * 300) for n in range(500))
    of = replace(REPLY, note=REPLY.note and replace(REPLY.note, attachments=files))
    body = seal(of, content=Content.FULL)
    assert len(body) <= LIMIT_BYTES
    assert json.loads(body)["data"]["ticket"]["title"] == of.ticket.title[:40]


def test_without_a_limit_nothing_is_cut() -> None:
    body = seal(with_text(REPLY, "工" * 100_000), content=Content.FULL, limit=None)
    assert json.loads(body)["data"]["note"]["content"] == "工" * 100_000


def test_a_digest_holds_whole_events_with_their_own_ids() -> None:
    of = a_digest()
    value = told(of)
    assert (value["subject"], value["id"]) == (f"digests/{of.id}", of.id)
    assert value.keys().isdisjoint({"partitionkey", "correlationid"})
    assert value["data"]["reason"] == "unread"
    assert value["data"]["events"] == [told(each) for each in of.events]
    for single in value["data"]["events"]:
        assert read_by_sdk(json.dumps(single).encode()).get_type() == "watcher.note.unread.v1"


@given(st.text(), st.integers(-5, 50))
def test_an_excerpt_is_never_longer_than_asked_and_marks_what_is_missing(text: str, longest: int) -> None:
    cut = excerpt(text, longest)
    assert len(cut) <= max(longest, 0)
    assert cut == text or longest <= 0 or (cut.endswith("…") and text.startswith(cut[:-1]))


# --- hostile text -----------------------------------------------------------------------------------------

#: What the wire lets through: anything but NUL and lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>",
        '"}],"x":"',
        "\x1b[2J\r\n\t\x01",
        "\u2028\u2029\u202e",
        "😀\U0010ffff\ufffe",
        "\\u0000",
        "null",
    ],
)
def test_hostile_text_comes_back_as_it_was(text: str) -> None:
    check_round_trip(text)


@given(texts)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    check_round_trip(text)


def check_round_trip(text: str) -> None:
    of = replace(
        noted(content=text, author=Author(role=Role.AGENT, name=text), attachments=(Attachment(name=text, url=text),)),
        ticket=ticket(text or "T", title=text),
        account=account(text or "a"),
        labels={text: text},
    )
    body = seal(of, content=Content.FULL)
    attributes = dict(read_by_sdk(body).get_attributes())
    data = json.loads(body)["data"]
    said = data["note"]
    assert [said["content"], said["author"]["name"], data["ticket"]["title"], said["attachments"][0]["name"]] == [
        text
    ] * 4
    assert data["labels"] == {text: text}
    # Attributes may become headers: nothing of the text but its percent-encoding is in them.
    for name, value in attributes.items():
        assert name == "time" or (str(value).isascii() and str(value).isprintable() and " " not in str(value))
