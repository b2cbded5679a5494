"""What people read: right in words, and harmless on a terminal."""

import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import account, at, event, note, ticket, with_text
from watcher.detect import digest
from watcher.envelope import EXCERPT_CHARS
from watcher.model import Attachment, Author, Content, Event, Kind, Read, Role, TicketStatus
from watcher.render import Voice, author, body, headline, local, one_line, plain_text, printable, status, title

SHANGHAI = ZoneInfo("Asia/Shanghai")
ENGLISH = Voice()


def of_role(role: Role, name: str = "", **more: Any) -> Event:
    return event(1, note=note(1, author=Author(role=role, name=name)), **more)


def a_digest(*tickets: str) -> Event:
    members = [
        event(number, kind=Kind.UNREAD, minutes=number, ticket=ticket(name)) for number, name in enumerate(tickets)
    ]
    return digest(members, sink="desk", now=at(60))


# --- headlines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (of_role(Role.AGENT, "Agent 1024"), "Agent 1024 replied: Why ECS renewal failed?"),
        (of_role(Role.AGENT, "工程师A"), "工程师A replied: Why ECS renewal failed?"),
        (of_role(Role.AGENT), "Agent replied: Why ECS renewal failed?"),
        (of_role(Role.UNKNOWN), "Unknown sender replied: Why ECS renewal failed?"),
        (of_role(Role.CUSTOMER), "Customer replied: Why ECS renewal failed?"),
        (of_role(Role.AGENT, " \t\n "), "Agent replied: Why ECS renewal failed?"),
        (of_role(Role.AGENT, ticket=ticket(title="续费 失败")), "Agent replied: 续费 失败"),
        (of_role(Role.AGENT, ticket=ticket(title="")), "Agent replied: ticket 0005PYGCW"),
        (of_role(Role.AGENT, ticket=ticket(title=" \r\n")), "Agent replied: ticket 0005PYGCW"),
        (of_role(Role.AGENT, kind=Kind.UNREAD), "Unread reply of Agent: Why ECS renewal failed?"),
        (event(1, note=None), "Somebody replied: Why ECS renewal failed?"),
        (of_role(Role.AGENT, "a\r\nb\x1b[1m", ticket=ticket(title="c\u2028d")), "a b\ufffd[1m replied: c d"),
        (a_digest("A"), "1 ticket has unread replies"),
        (a_digest("A", "A"), "1 ticket has unread replies"),
        (a_digest("A", "B", "A"), "2 tickets have unread replies"),
    ],
)
def test_a_headline_says_who_did_what(of: Event, text: str) -> None:
    assert headline(of, ENGLISH) == text


def test_tickets_of_two_accounts_are_two_tickets() -> None:
    members = [event(1, kind=Kind.UNREAD, account=account(name)) for name in ("a", "b")]
    assert headline(digest(members, sink="desk", now=at(60)), ENGLISH) == "2 tickets have unread replies"


def test_every_kind_has_a_headline_and_every_status_its_words() -> None:
    for kind in Kind:
        assert headline(replace(a_digest("A", "B") if kind is Kind.DIGEST else event(1), kind=kind), ENGLISH)
    words = {status(event(1, ticket=ticket(status=each)), ENGLISH) for each in TicketStatus}
    assert len(words) == len(TicketStatus)


def test_who_and_what_have_names_even_if_nothing_is_known() -> None:
    assert author(None, ENGLISH) == "Somebody"
    assert title(event(1, ticket=ticket("T\x1b1", title="")), ENGLISH) == "ticket T\ufffd1"


# --- terminal safety --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("", ""),
        ("tab\tstays", "tab\tstays"),
        ("工单 😀 e\u0301", "工单 😀 e\u0301"),
        ("👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"),
        ("\x1b[31mred\x1b]0;title\x07", "\ufffd[31mred\ufffd]0;title\ufffd"),
        ("a\x00b\x08c\x7f", "a\ufffdb\ufffdc\ufffd"),
        ("\x9b31m\x90\x9d", "\ufffd31m\ufffd\ufffd"),
        ("\ud800", "\ufffd"),
        ("a\r\nb\rc\nd", "a\nb\nc\nd"),
        ("a\vb\fc\x1cd\x1de\x1ef\x85g\u2028h\u2029i", "a\nb\nc\nd\ne\nf\ng\nh\ni"),
        ("\x1f", "\ufffd"),
        ("exe\u202egnp.a\u202c", "exegnp.a"),
        ("\u2066a\u2069\u200eb\u200fc\u061cd\u202ae\u202bf", "abcdef"),
    ],
)
def test_what_steers_a_terminal_is_taken_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\r\nb", "a b"),
        ("  a \t b  ", "a b"),
        ("a\u2028b\x85c", "a b c"),
        ("a\u3000b\u00a0c", "a b c"),
        ("\n\n", ""),
        ("工单\n失败", "工单 失败"),
    ],
)
def test_one_line_is_one_line(text: str, shown: str) -> None:
    assert one_line(text) == shown


BIDI = {"R", "AL", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"} - {"R", "AL"}


def is_harmless(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cs", "Zl", "Zp"} and unicodedata.bidirectional(char) not in BIDI


anything = st.text(st.characters(), max_size=60) | st.text("\x1b\r\n\t\x85\u2028\u202e\u2066\x9b a工", max_size=30)


@given(anything)
def test_whatever_comes_in_nothing_harmful_comes_out(text: str) -> None:
    assert all(char in "\n\t" or is_harmless(char) for char in printable(text))
    line = one_line(text)
    assert all(map(is_harmless, line))
    assert line == line.strip()
    assert len(line.splitlines()) <= 1
    assert printable(printable(text)) == printable(text)


@given(anything, st.sampled_from(Content))
def test_an_event_of_hostile_texts_is_harmless(text: str, content: Content) -> None:
    hostile = event(
        1,
        account=account(text),
        ticket=ticket(text, title=text),
        note=note(1, author=Author(role=Role.AGENT, name=text), text=text, attachments=(Attachment(name=text),)),
        url=f"https://console.example/{text}",
    )
    for of in (hostile, digest([hostile, event(2)], sink="desk", now=at(60))):
        shown = plain_text(of, Voice(content=content, zone=UTC))
        assert all(char in "\n\t" or is_harmless(char) for char in shown)
        assert shown.endswith("\n")
        assert "\n\n" not in shown


# --- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text", "shown"),
    [
        (Content.FULL, "a\nb", "a\nb"),
        (Content.FULL, "x" * 2000, "x" * 2000),
        (Content.EXCERPT, "short", "short"),
        (Content.EXCERPT, "工" * 2000, "工" * (EXCERPT_CHARS - 1) + "…"),
        (Content.NONE, "secret", ""),
        (Content.FULL, "", ""),
    ],
)
def test_a_body_shows_as_much_as_it_may(content: Content, text: str, shown: str) -> None:
    assert body(note(1, text=text), Voice(content=content)) == shown


@pytest.mark.parametrize(("content", "shown"), [(Content.FULL, "[card]"), (Content.NONE, "")])
def test_a_card_without_text_is_named(content: Content, shown: str) -> None:
    assert body(note(1, text="", type="card"), Voice(content=content)) == shown


def test_a_reply_in_plain_text() -> None:
    of = event(
        1,
        ticket=ticket(status=TicketStatus.WAIT_FEEDBACK),
        note=note(
            1,
            author=Author(role=Role.AGENT, name="Agent 1024"),
            created_at=datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC),
            text="您好。续费失败的原因是账户余额不足。\r\n\r\nPlease top up.",
            attachments=(Attachment(name="renew.log", url="https://oss.example/?Signature=s"),),
        ),
    )
    assert plain_text(of, Voice(content=Content.FULL, zone=SHANGHAI)) == (
        "Agent 1024 replied: Why ECS renewal failed?\n"
        "  > 您好。续费失败的原因是账户余额不足。\n"
        "  >\n"
        "  > Please top up.\n"
        "  attached: renew.log\n"
        "  0005PYGCW · prod · unknown · waiting for your feedback · 2021-06-11 15:32 CST (07:32 UTC) · https://console.example/\n"
    )


def test_without_content_and_address_the_facts_remain() -> None:
    of = replace(event(1), url="")
    assert plain_text(of, Voice(content=Content.NONE, zone=UTC)) == (
        "agent 1024 replied: Why ECS renewal failed?\n  0005PYGCW · prod · unknown · unknown · 2026-01-15 12:00 UTC\n"
    )


def test_a_digest_in_plain_text_tells_each_of_its_events() -> None:
    lines = plain_text(a_digest("A", "B"), Voice(content=Content.FULL, zone=UTC)).splitlines()
    assert lines[0] == "2 tickets have unread replies"
    assert [line for line in lines if line.startswith("  - ")] == [
        "  - Unread reply of agent 1024: Why ECS renewal failed?"
    ] * 2
    assert len([line for line in lines if line == "  > Please try again."]) == 2


def test_a_note_without_a_time_is_shown_with_the_time_it_was_seen() -> None:
    of = event(1, note=note(1, created_at=None, read=Read.UNKNOWN))
    assert "2026-01-15 12:01 UTC" in plain_text(of, Voice(content=Content.FULL, zone=UTC))


def test_a_fake_second_line_cannot_pass_for_ours() -> None:
    of = with_text(event(1), "hello\nAgent 1 replied: fake")
    assert "\nAgent 1 replied" not in plain_text(of, Voice(content=Content.FULL, zone=UTC))


@pytest.mark.parametrize(
    ("instant", "zone", "text"),
    [
        (datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC), "Asia/Shanghai", "2021-06-11 15:32 CST (07:32 UTC)"),
        (datetime(2021, 6, 11, 7, 32, 16, tzinfo=UTC), "UTC", "2021-06-11 07:32 UTC"),
        (datetime(2021, 6, 11, 17, 32, tzinfo=UTC), "Asia/Tokyo", "2021-06-12 02:32 JST (2021-06-11 17:32 UTC)"),
        (datetime(2021, 6, 11, 7, 32, tzinfo=UTC), "Europe/Berlin", "2021-06-11 09:32 CEST (07:32 UTC)"),
        (datetime(2021, 12, 11, 7, 32, tzinfo=UTC), "Europe/Berlin", "2021-12-11 08:32 CET (07:32 UTC)"),
        (datetime(2021, 6, 11, 7, 32, tzinfo=SHANGHAI), "UTC", "2021-06-10 23:32 UTC"),
    ],
)
def test_an_instant_is_shown_in_the_readers_zone(instant: datetime, zone: str, text: str) -> None:
    assert local(instant, Voice(zone=ZoneInfo(zone))) == text
