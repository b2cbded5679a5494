"""The vendor's JSON, read into notes and tickets; and what must not change a fingerprint."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import ApiUnavailable
from watcher.model import Note, Read, Reading, Role, Severity, TicketStatus
from watcher.ticketapi import wire
from watcher.ticketapi.failures import failure_of

SAMPLES = Path(__file__).parent / "data" / "samples"
INDEX = {entry["file"]: entry for entry in json.loads((SAMPLES / "_index.json").read_text())["samples"]}
NINE = datetime(2026, 1, 15, 9, 0, tzinfo=UTC)


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.json").read_bytes()


def notes_of(name: str) -> dict[str, Note]:
    reading = wire.NotesAnswer(sample(name)).read()
    assert reading.problems == ()
    return {note.id: note for note in reading.notes}


def raw_note(**changes: Any) -> dict[str, Any]:
    """Return a note as the vendor sends it, with some fields changed; a field set to ``...`` is left out."""
    plain: dict[str, Any] = {
        "Type": 2,
        "Status": 1,
        "Tip": None,
        "DialogId": 7,
        "CreateTime": 1768465800000,
        "Dialog": {"Schema": None, "Content": "Please try again."},
        "User": {"Role": 2, "Name": "agent"},
        "Attachments": [],
    }
    return {name: value for name, value in (plain | changes).items() if value is not ...}


def raw_file(name: str = "a.log", url: str = "https://oss.example/a?Expires=1") -> dict[str, Any]:
    return {"Name": name, "Url": url}


def body_of(*notes: Any, **changes: Any) -> bytes:
    answer = {"Code": 0, "Message": "success", "RequestId": "R", "Success": True, "Data": list(notes)} | changes
    return json.dumps(answer).encode()


def read(*notes: Any, **changes: Any) -> Reading:
    return wire.NotesAnswer(body_of(*notes, **changes)).read()


def read_one(**changes: Any) -> Note:
    (note,) = read(raw_note(**changes)).notes
    return note


# --- the samples ------------------------------------------------------------------------------------------


def test_every_sample_is_in_the_index_and_the_other_way_round() -> None:
    assert {path.name for path in SAMPLES.glob("*.json")} - {"_index.json"} == INDEX.keys()


@pytest.mark.parametrize("name", [name for name, entry in INDEX.items() if entry["http_status"] == 200])
def test_a_sample_is_a_success_unless_it_says_so(name: str) -> None:
    failure = failure_of(200, {}, (SAMPLES / name).read_bytes())
    assert (failure is not None) is name.startswith("inband_")


def test_a_plain_reply_is_one_unread_note_of_the_agent() -> None:
    asked, answered = notes_of("plain_agent_reply").values()
    assert (asked.id, asked.author.role, asked.read) == ("100000101", Role.CUSTOMER, Read.READ)
    assert (answered.id, answered.author.role, answered.read) == ("100000102", Role.AGENT, Read.UNREAD)
    assert (answered.author.name, answered.author.role_code, answered.read_code) == ("agent", 2, 1)
    assert (answered.type, answered.type_code) == ("text", 2)
    assert answered.content.startswith("Hello, we have checked the snapshot task.")
    assert answered.created_at == datetime(2026, 1, 15, 8, 30, tzinfo=UTC)


def test_the_four_letters_null_mean_absent_in_tip_and_schema() -> None:
    (note,) = notes_of("doc_shape_null_strings").values()
    assert (note.tip, note.schema, note.content) == ("", "", "Backup job failed")
    assert (note.read, note.read_code) == (Read.UNKNOWN, 6)
    assert note.created_at == datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC)
    (file,) = note.attachments
    assert (file.name, file.expires_at) == ("003.jpg", None)
    assert file.url.endswith("/image.png")


def test_a_card_has_a_schema_and_perhaps_no_content() -> None:
    first, second, third = notes_of("card_note").values()
    assert [note.type for note in (first, second, third)] == ["card"] * 3
    assert first.content == "Please authorise the engineer to access instance i-example01"
    assert json.loads(first.schema)["component"] == "authorization-card"
    assert (second.content, third.content, third.schema) == ("", "", "not json at all")


def test_attachments_tell_when_their_addresses_expire() -> None:
    first, second = notes_of("several_attachments").values()
    assert [file.name for file in first.attachments] == ["report.pdf", "截图 1.png", "trace.log.gz"]
    expiry = [datetime(2026, 1, 16, 8, 30, tzinfo=UTC)] * 3
    assert [file.expires_at for file in first.attachments] == expiry
    assert (second.content, [file.name for file in second.attachments]) == ("", ["only-file.png"])


def test_read_and_unread_are_told_apart() -> None:
    notes = notes_of("unread_read_mix").values()
    assert len(notes) == 5
    unread = {note.id: note.author.role for note in notes if note.read is Read.UNREAD}
    assert unread == {"100000403": Role.CUSTOMER, "100000404": Role.AGENT, "100000405": Role.AGENT}


def test_notes_are_sorted_by_time_and_number_each_once() -> None:
    assert list(notes_of("unordered_and_duplicate")) == ["100000503", "100000504", "100000505"]


@pytest.mark.parametrize("name", ["empty_data", "missing_data"])
def test_no_data_is_no_notes(name: str) -> None:
    assert wire.NotesAnswer(sample(name)).read() == Reading(())


def test_an_empty_access_denied_detail_means_permitted() -> None:
    assert list(notes_of("access_denied_detail_empty_string")) == ["100000601"]


def test_unknown_enum_values_are_kept_beside_unknown() -> None:
    first, second, third, fourth = notes_of("unknown_enum_values").values()
    assert (first.read, first.read_code, first.author.role) == (Read.UNKNOWN, 3, Role.AGENT)
    assert (second.author.role, second.author.role_code, second.author.name) == (Role.UNKNOWN, 1, "智能助手")
    assert (third.type, third.type_code, third.read_code, third.author.role_code) == ("unknown", 3, 0, 4)
    assert (fourth.read, fourth.read_code) == (Read.UNKNOWN, 6)


def test_a_page_of_tickets_is_read_by_value_not_by_label() -> None:
    value = wire.decode(sample("list_tickets_page1"))
    tickets = wire.read_tickets(value)
    assert (len(tickets), wire.total_count(value)) == (10, 12)
    first = tickets[0]
    assert (first.id, first.title, first.status_code) == ("0005PYGCW", "ECS 快照失败", "3")
    statuses = [ticket.status for ticket in tickets[:5]]
    assert statuses == [
        TicketStatus.WAIT_FEEDBACK,
        TicketStatus.DEALING,
        TicketStatus.WAIT_CONFIRM,
        TicketStatus.CONFIRMED,
        TicketStatus.ASSIGNED,
    ]
    assert [status.is_open for status in statuses] == [True, True, True, False, True]


def test_the_last_page_has_a_null_title_and_an_unknown_status() -> None:
    feedback, last = wire.read_tickets(wire.decode(sample("list_tickets_page2")))
    assert feedback.status is TicketStatus.FEEDBACK
    assert (last.title, last.status, last.status_code, last.status.is_open) == ("", TicketStatus.UNKNOWN, "9", True)


def test_an_empty_page_holds_no_tickets() -> None:
    value = wire.decode(sample("list_tickets_empty"))
    assert (wire.read_tickets(value), wire.total_count(value)) == ([], 0)


def test_the_data_of_get_ticket_is_one_object() -> None:
    ticket = wire.read_ticket(wire.decode(sample("get_ticket")))
    assert (ticket.id, ticket.title) == ("0005PYGCW", "ECS 快照失败")
    assert (ticket.status, ticket.status_code) == (TicketStatus.WAIT_FEEDBACK, "3")
    assert (ticket.severity, ticket.severity_code) == (Severity.NORMAL, "1")
    assert ticket.created_at == datetime(2026, 1, 14, 7, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("reply_ticket", "100002001"),
        ("reopen_ticket", "0005PYGCW"),
        ("get_mq_consumer_tag", "46000001"),
        ("close_ticket", None),
    ],
)
def test_other_operations_are_successes_that_hold_neither_notes_nor_tickets(name: str, data: Any) -> None:
    body = sample(name)
    assert failure_of(200, {}, body) is None
    assert wire.decode(body).get("Data") == data
    with pytest.raises(wire.Unreadable, match="not a ticket"):
        wire.read_ticket(wire.decode(body))


# --- bodies that no sample shows --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null and void",
        b"<!DOCTYPE html><html><body>log in</body></html>",
        b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>Throttling</Code></Error>',
        b'{"Success": true, "Data": [',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\xff\xfe\x00\x01",
        body_of(raw_note()).decode().encode("utf-16"),
    ],
    ids=["empty", "blank", "words", "html", "xml", "half", "deep", "deep list", "deep object", "bytes", "utf-16"],
)
def test_what_is_not_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(wire.Unreadable):
        wire.decode(body)
    with pytest.raises(wire.Unreadable):
        _ = wire.NotesAnswer(body).fingerprint


@pytest.mark.parametrize("data", [{"List": []}, "text", 5, True])
def test_data_of_another_shape_is_no_answer_rather_than_no_notes(data: Any) -> None:
    answer = wire.NotesAnswer(body_of(Data=data))
    with pytest.raises(wire.Unreadable, match="not a list"):
        answer.read()
    with pytest.raises(ApiUnavailable):
        _ = answer.fingerprint
    with pytest.raises(wire.Unreadable, match="not a list"):
        wire.read_tickets(wire.decode(body_of(Data=data)))


def test_null_data_is_no_notes_and_no_tickets() -> None:
    assert read(Data=None) == Reading(())
    assert wire.read_tickets({"Data": None}) == []


def test_entries_without_a_usable_id_are_reported_and_hide_no_other() -> None:
    spoilt: list[Any] = [..., None, "", "  ", True, 1.5, [], {}, "x" * 65, int("9" * 65)]
    reading = read(*(raw_note(DialogId=value) for value in spoilt), "text", 5, [], raw_note(DialogId=8))
    assert [note.id for note in reading.notes] == ["8"]
    positions = ", ".join(str(position) for position in range(1, len(spoilt) + 4))
    assert reading.problems == (f"without a usable DialogId: note {positions} of the answer",)


def test_null_entries_count_for_nothing() -> None:
    assert read(None, raw_note(), None) == read(raw_note())


@pytest.mark.parametrize("absent", [..., None, "text", 5, [], {}])
@pytest.mark.parametrize("name", ["Dialog", "User", "Attachments"])
def test_a_missing_or_odd_part_leaves_that_part_empty(name: str, absent: Any) -> None:
    note = read_one(**{name: absent})
    assert note.content == ("" if name == "Dialog" else "Please try again.")
    assert note.author.role is (Role.UNKNOWN if name == "User" else Role.AGENT)
    assert note.author.name == ("" if name == "User" else "agent")
    assert note.attachments == ()


@pytest.mark.parametrize(
    ("value", "code", "read_as"),
    [
        (1, 1, Read.UNREAD),
        ("1", 1, Read.UNREAD),
        (" 2 ", 2, Read.READ),
        (2.0, 2, Read.READ),
        (1.5, None, Read.UNKNOWN),
        ("1.0", None, Read.UNKNOWN),
        (True, None, Read.UNKNOWN),
        (False, None, Read.UNKNOWN),
        (None, None, Read.UNKNOWN),
        ("", None, Read.UNKNOWN),
        ("unread", None, Read.UNKNOWN),
        ("\u0661", None, Read.UNKNOWN),
        ([1], None, Read.UNKNOWN),
        (-1, -1, Read.UNKNOWN),
        (2**31 - 1, 2**31 - 1, Read.UNKNOWN),
        (2**31, None, Read.UNKNOWN),
        (10**30, None, Read.UNKNOWN),
        (1e300, None, Read.UNKNOWN),
        ("9" * 5000, None, Read.UNKNOWN),
    ],
)
def test_a_code_may_be_any_number_that_a_store_can_hold(value: Any, code: int | None, read_as: Read) -> None:
    note = read_one(Status=value, User={"Role": value}, Type=value)
    assert (note.read, note.read_code) == (read_as, code)
    assert (note.author.role_code, note.type_code) == (code, code)


@pytest.mark.parametrize(
    ("value", "note_id"),
    [
        (0, "0"),
        ("160203923", "160203923"),
        (" 160203923 ", "160203923"),
        (160203923.0, "160203923"),
        (2**53 + 1, "9007199254740993"),
        (2**63, "9223372036854775808"),
        (10**40 + 1, "1" + "0" * 39 + "1"),
        ("CT24-abc", "CT24-abc"),
        (-5, "-5"),
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
    ],
)
def test_an_id_is_text_to_the_last_digit(value: Any, note_id: str) -> None:
    assert read_one(DialogId=value).id == note_id


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1768467600000, NINE),
        (1768467600, NINE),
        ("1768467600000", NINE),
        (1768467600000.0, NINE),
        (1768467600123, NINE + timedelta(milliseconds=123)),
        (9_999_999_999, None),
        (10_000_000_000, None),
        ("yesterday", None),
        ("2026-01-15T09:00:00Z", None),
        (0, None),
        (-1768467600000, None),
        (10**30, None),
        (253402300800000, None),
        (1e308, None),
        (True, None),
        (None, None),
        (..., None),
        ({}, None),
    ],
)
def test_a_time_is_in_milliseconds_or_seconds_or_unknown(value: Any, expected: datetime | None) -> None:
    assert read_one(CreateTime=value).created_at == expected


def test_a_note_without_a_time_comes_last() -> None:
    reading = read(raw_note(DialogId=1, CreateTime=None), raw_note(DialogId=3), raw_note(DialogId=2))
    assert [note.id for note in reading.notes] == ["2", "3", "1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("null", "null"),
        ("", ""),
        (None, ""),
        (12, "12"),
        (1.5, "1.5"),
        (True, ""),
        ([], ""),
        ({"a": 1}, ""),
        ("a\x00b", "a\ufffdb"),
        ("a\ud83db", "a\ufffdb"),
        ("😀 工单 \u202e", "😀 工单 \u202e"),
        ("a\r\n\tb\x1b[31m", "a\r\n\tb\x1b[31m"),
    ],
)
def test_content_and_names_are_kept_as_they_came_but_for_what_no_store_holds(value: Any, text: str) -> None:
    note = read_one(Dialog={"Content": value}, User={"Role": 2, "Name": value})
    assert (note.content, note.author.name) == (text, text)


def test_an_escaped_surrogate_pair_is_one_character_and_half_of_one_is_replaced() -> None:
    body = body_of(raw_note()).replace(b"Please try again.", rb"\ud83d\ude00 \ud83d \udc00")
    (note,) = wire.NotesAnswer(body).read().notes
    assert note.content == "😀 \ufffd \ufffd"


@pytest.mark.parametrize(
    ("spoil", "content"),
    [
        (lambda body: b"\xef\xbb\xbf" + body, "Please try again."),
        (lambda body: body.replace(b"try", b"\xff"), "Please \ufffd again."),
        (lambda body: body.replace(b"try", b"\x00"), "Please \ufffd again."),
        (lambda body: body.replace(b"try", b"\x1b\n"), "Please \x1b\n again."),
        (lambda body: body.replace(b'"Type": 2', b'"Type": NaN'), "Please try again."),
        (lambda body: body.replace(b'"Type": 2', b'"Type": -Infinity'), "Please try again."),
        (lambda body: body.replace(b'"Type": 2', b'"Type": 1e999'), "Please try again."),
        (lambda body: body.replace(b'"Type": 2', b'"Type": ' + b"9" * 5000), "Please try again."),
        (lambda body: body.replace(b'"Please try again."', b"9" * 5000), ""),
    ],
    ids=["bom", "utf-8", "nul", "control", "nan", "infinity", "overflow", "digits", "digits as text"],
)
def test_one_spoilt_value_does_not_spoil_the_answer(spoil: Callable[[bytes], bytes], content: str) -> None:
    body = spoil(body_of(raw_note(), raw_note(DialogId=8, Dialog={"Content": "fine"})))
    assert failure_of(200, {}, body) is None
    answer = wire.NotesAnswer(body)
    assert [(note.id, note.content) for note in answer.read().notes] == [("7", content), ("8", "fine")]
    assert len(answer.fingerprint) == 16


def test_of_duplicate_keys_the_last_one_counts() -> None:
    body = body_of(raw_note()).replace(b'"DialogId": 7', b'"DialogId": 1, "DialogId": 7')
    assert wire.NotesAnswer(body).read() == read(raw_note())


def test_unknown_keys_are_ignored_at_every_depth() -> None:
    odd = {"Odd": [{"deep": [1, {}]}]}
    odd_note = raw_note() | odd | {"Dialog": {"Content": "Please try again.", **odd}}
    odd_note["User"] = {"Role": 2, "Name": "agent", "Avatar": "x"}
    assert read(odd_note, **odd) == read(raw_note())


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([None, 5, "a", [], {}], []),
        ([{"Name": None, "Url": None}], []),
        ([{"Name": "a.log"}], ["a.log"]),
        ([{"Url": "https://x/"}], [""]),
        ([{"Name": 7, "Url": "https://x/"}], ["7"]),
        ([raw_file("b"), raw_file("a")], ["b", "a"]),
    ],
)
def test_attachments_keep_their_order_and_need_a_name_or_an_address(items: Any, names: list[str]) -> None:
    assert [file.name for file in read_one(Attachments=items).attachments] == names


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Expires=1768467600&OSSAccessKeyId=k&Signature=s", NINE),
        ("expires=1768467600", NINE),
        ("x-oss-date=20260115T080000Z&x-oss-expires=3600", NINE),
        ("X-Oss-Date=20260115T080000Z&X-Oss-Expires=3600", NINE),
        ("x-oss-expires=3600", None),
        ("x-oss-date=20260115&x-oss-expires=3600", None),
        ("Expires=soon", None),
        ("Expires=", None),
        ("Expires=" + "9" * 30, None),
        ("Expires=" + "9" * 5000, None),
        ("x-oss-date=20260115T080000Z&x-oss-expires=" + "9" * 30, None),
        ("", None),
    ],
)
def test_an_address_says_when_it_expires_in_two_forms(query: str, expected: datetime | None) -> None:
    assert wire.url_expiry(f"https://gts-workorder.oss-cn-beijing.aliyuncs.com/a.log?{query}") == expected


@pytest.mark.parametrize("url", ["https://[::1?Expires=1", "Expires=1", "\x00", "//"])
def test_an_address_that_is_none_has_no_expiry(url: str) -> None:
    assert wire.url_expiry(url) is None


@pytest.mark.parametrize(
    ("status", "expected", "code"),
    [
        ({"Value": "5", "Label": "已完成"}, TicketStatus.WAIT_CONFIRM, "5"),
        ({"Value": 5}, TicketStatus.WAIT_CONFIRM, "5"),
        ("5", TicketStatus.WAIT_CONFIRM, "5"),
        (5, TicketStatus.WAIT_CONFIRM, "5"),
        ({"Label": "已完成"}, TicketStatus.UNKNOWN, ""),
        (None, TicketStatus.UNKNOWN, ""),
        ({"Value": "wait_feedback"}, TicketStatus.UNKNOWN, "wait_feedback"),
    ],
)
def test_a_status_is_read_by_its_number(status: Any, expected: TicketStatus, code: str) -> None:
    (ticket,) = wire.read_tickets({"Data": [{"TicketId": "T", "Status": status}]})
    assert (ticket.status, ticket.status_code) == (expected, code)


def test_entries_of_a_list_without_a_ticket_id_are_left_out() -> None:
    data = [None, 5, {}, {"TicketId": None}, {"TicketId": ""}, {"TicketId": 12}, {"TicketId": "T"}]
    assert [ticket.id for ticket in wire.read_tickets({"Data": data})] == ["12", "T"]


@given(st.binary(max_size=200))
def test_no_bytes_whatever_raise_anything_but_unreadable(body: bytes) -> None:
    try:
        reading = wire.NotesAnswer(body).read()
    except wire.Unreadable:
        return
    assert reading.notes == ()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
spoilt_notes = st.fixed_dictionaries({}, optional=dict.fromkeys(raw_note(), json_values))


@given(st.lists(spoilt_notes, max_size=4))
def test_spoilt_notes_never_hide_a_good_one(spoilt: list[Any]) -> None:
    body = json.dumps({"Success": True, "Data": [*spoilt, raw_note(DialogId="good")]}).encode()
    answer = wire.NotesAnswer(body)
    assert "good" in {note.id for note in answer.read().notes}
    assert len(answer.fingerprint) == 16


# --- the fingerprint --------------------------------------------------------------------------------------


FIRST, SECOND = raw_note(Attachments=[raw_file()]), raw_note(DialogId=8, CreateTime=1768465800001)
#: Strict JSON is looked at quickly; after a byte order mark everything has to be read.
PREFIXES = {"quick": b"", "slow": b"\xef\xbb\xbf"}

both_ways = pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)


def fingerprint(prefix: bytes, *notes: Any, **changes: Any) -> bytes:
    return wire.NotesAnswer(prefix + body_of(*notes, **changes)).fingerprint


@both_ways
@pytest.mark.parametrize(
    ("notes", "envelope"),
    [
        ([FIRST, SECOND], {"RequestId": "another"}),
        ([FIRST, SECOND], {"Message": "成功", "Code": 200, "AccessDeniedDetail": ""}),
        ([SECOND, FIRST], {}),
        ([FIRST | {"Attachments": [raw_file(url="https://oss.example/a?Expires=2")]}, SECOND], {}),
    ],
    ids=["request id", "message", "order", "address"],
)
def test_a_fingerprint_stays_the_same_while_the_notes_do(
    prefix: bytes, notes: list[Any], envelope: dict[str, Any]
) -> None:
    assert fingerprint(prefix, *notes, **envelope) == fingerprint(prefix, FIRST, SECOND)


@both_ways
@pytest.mark.parametrize(
    "notes",
    [
        [FIRST],
        [],
        [FIRST, SECOND, raw_note(DialogId=9)],
        [FIRST, SECOND | {"DialogId": 9}],
        [FIRST, SECOND | {"CreateTime": 1768465800002}],
        [FIRST, SECOND | {"Status": 2}],
        [FIRST, SECOND | {"Type": 1}],
        [FIRST, SECOND | {"Dialog": {"Schema": None, "Content": "Please try again!"}}],
        [FIRST, SECOND | {"User": {"Role": 3, "Name": "agent"}}],
        [FIRST, SECOND | {"Attachments": [raw_file()]}],
        [FIRST | {"Attachments": [raw_file("b.log")]}, SECOND],
        [FIRST | {"Attachments": [raw_file(), raw_file()]}, SECOND],
    ],
    ids=[
        *("one less", "none", "one more", "id", "time", "status", "type", "content", "role"),
        *("an attachment", "its name", "two"),
    ],
)
def test_a_fingerprint_changes_with_the_notes(prefix: bytes, notes: list[Any]) -> None:
    assert fingerprint(prefix, *notes) != fingerprint(prefix, FIRST, SECOND)


def test_empty_null_and_missing_data_are_equally_nothing() -> None:
    bare = wire.NotesAnswer(b'{"Success":true}').fingerprint
    assert fingerprint(b"") == fingerprint(b"", Data=None) == bare


@pytest.mark.parametrize(
    "name", [name for name, entry in INDEX.items() if entry["operation"] == "ListTicketNotes" and "error" not in name]
)
def test_the_slow_path_reads_the_same(name: str) -> None:
    body = (SAMPLES / name).read_bytes()
    assert wire.NotesAnswer(PREFIXES["slow"] + body).read() == wire.NotesAnswer(body).read()


contents = st.text(max_size=8)
small_notes = st.builds(
    lambda number, content, status, files: raw_note(
        DialogId=number,
        Dialog={"Schema": None, "Content": content},
        Status=status,
        Attachments=[raw_file(name) for name in files],
    ),
    st.integers(0, 3),
    contents,
    st.integers(1, 3),
    st.lists(contents.filter(bool), max_size=2),
)
conversations = st.lists(small_notes, max_size=3, unique_by=lambda note: note["DialogId"])


@given(conversations, conversations)
def test_two_conversations_have_one_fingerprint_only_if_they_read_the_same(one: list[Any], other: list[Any]) -> None:
    same = read(*one) == read(*other)
    for prefix in PREFIXES.values():
        assert (fingerprint(prefix, *one) == fingerprint(prefix, *other)) is same
