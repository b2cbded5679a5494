"""A letter as the bytes of a mail: its headers, and that nothing from outside can add one or stop it."""

import re
from dataclasses import replace
from datetime import timedelta, timezone
from email.header import decode_header, make_header
from email.headerregistry import AddressHeader
from typing import cast

import pytest
from hypothesis import example as tried
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON, account, event, ticket
from tests.test_letter import addresses, letter, mail, own, read, text_of
from watcher.detect import digest
from watcher.mail.compose import Addresses, Enclosure, compose
from watcher.mail.letter import label
from watcher.mail.mailbox import Mailbox, parse_mailbox
from watcher.model import Attachment, Author, Event, Kind, Note, Role
from watcher.sample import example

EVERY_HEADER = [
    *("Subject", "From", "To", "Cc", "Reply-To", "Date", "Message-ID", "In-Reply-To", "References", "List-Id"),
    *("Auto-Submitted", "X-Auto-Response-Suppress", "X-Watcher-Reason", "X-Watcher-Event-Id"),
    *("X-Watcher-Ticket", "X-Watcher-Account", "X-Watcher-Severity", "MIME-Version", "Content-Type"),
]


def header_names(data: bytes) -> list[str]:
    """Return the names of the header lines as a strict reader sees them."""
    head, separator, _ = data.partition(b"\r\n\r\n")
    assert separator
    unfolded = re.sub(rb"\r\n[ \t]", b" ", head).split(b"\r\n")
    assert all(re.fullmatch(rb"[A-Za-z-]+: [\x20-\x7e]*", line) for line in unfolded), unfolded
    return [line.partition(b":")[0].decode() for line in unfolded]


def test_a_mail_has_the_headers_of_the_contract() -> None:
    message = read(mail(example(Kind.REPLY)))
    assert dict(message.items()) | {"Content-Type": ""} == {
        "Subject": "[Ticket 0005PYGCW] Why ECS renewal failed?",
        "From": "Agent 1024 via us <watcher@corp.example>",
        "To": "Ops <ops@corp.example>, 运维 一组 <zhang@xn--fsqu00a.xn--fiqs8s>",
        "Cc": "boss@corp.example",
        "Reply-To": "desk@corp.example",
        "Date": "Thu, 15 Jan 2026 12:00:00 +0000",
        "Message-ID": f"<{example(Kind.REPLY).id}@watcher.corp.example>",
        "In-Reply-To": "<ticket.0005PYGCW.1604499804113750@watcher.corp.example>",
        "References": "<ticket.0005PYGCW.1604499804113750@watcher.corp.example>",
        "List-Id": "Support tickets of prod <prod.tickets.watcher.corp.example>",
        "Auto-Submitted": "auto-generated",
        "X-Auto-Response-Suppress": "DR, RN, NRN, OOF, AutoReply",
        "X-Watcher-Reason": "new",
        "X-Watcher-Event-Id": example(Kind.REPLY).id,
        "X-Watcher-Ticket": "0005PYGCW",
        "X-Watcher-Account": "prod",
        "X-Watcher-Severity": "normal",
        "MIME-Version": "1.0",
        "Content-Type": "",
    }
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]


def test_the_same_event_gives_the_same_bytes_but_for_the_date() -> None:
    told = example(Kind.REPLY)
    enclosed = Enclosure(name="renew.log", content_type="text/plain", content=b"log")
    written = letter(told)
    first = compose(written, addresses(), now=NOON, enclosures=[enclosed])
    again = compose(letter(told), addresses(), now=NOON + timedelta(hours=1), enclosures=[enclosed])
    assert first != again
    assert first.replace(b"12:00:00", b"13:00:00") == again


def test_the_date_has_the_readers_zone() -> None:
    now = NOON.astimezone(timezone(timedelta(hours=8)))
    assert b"Date: Thu, 15 Jan 2026 20:00:00 +0800\r\n" in compose(letter(event()), addresses(), now=now)


@given(st.text(), st.text())
def test_no_two_texts_have_one_label(first: str, second: str) -> None:
    assert (label(first) == label(second)) is (first == second)
    assert re.fullmatch(r"[A-Za-z0-9_+~-]{1,48}", label(first))


@pytest.mark.parametrize("text", ["", ".", "a.b", "a b<>@", "x" * 300, "工单", "\ud800", "~", "+41", "\r\n"])
def test_every_text_has_a_label(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_+~-]{1,48}", label(text))


def test_an_own_subject_cannot_add_a_header() -> None:
    data = mail(event(), own=own(subject="a\r\nBcc: evil@example\r\n\r\nbody"))
    assert header_names(data) == EVERY_HEADER


TRICKS = [
    "=?utf-8?q?a=0D=0ABcc:_evil@x.example?=",
    "plain =?utf-8?b?YQ0KQmNjOiBldmlsQHguZXhhbXBsZQ==?= plain",
    "=?utf-8?q?a?==?utf-8?q?b?=",
    "a\r\nBcc: evil@x.example",
    "a\nBcc: evil@x.example\n\nbody",
    "a\rBcc: evil@x.example",
    "a\x85Bcc: evil@x.example\u2028Bcc: b\u2029Bcc: c\x0bBcc: d\x0cBcc: e\x1cBcc: f",
    "\x00\ud800\udfff\x7f",
    '"Evil, Inc" <evil@x.example>, other@x.example; (comment) \\" : group: a@b;',
    "工程师, <evil@x.example>" * 20,
    "\u202egnp.exe \u2066",
    "x" * 3000,
    "长" * 3000,
    "a  b\tc" + " " * 500 + "d",
    "--=_boundary",
    ".",
    "",
]
#: Whatever the wire reader lets through: any text without NUL and lone surrogates, and those for good measure.
ANY_TEXT = st.one_of(st.text(max_size=200), st.sampled_from(TRICKS), st.lists(st.sampled_from(TRICKS)).map("".join))


def hostile(text: str) -> Event:
    attached = Attachment(name=text, url=f"https://x.example/{text}")
    written = Note(
        id=text, author=Author(role=Role.AGENT, name=text), created_at=NOON, content=text, attachments=(attached,)
    )
    return event(
        account=account(text, uid=text),
        ticket=ticket(text, title=text, status_code=text),
        note=written,
        watch=text,
        labels={text: text},
        url=text,
    )


def is_strict(data: bytes) -> bool:
    """Tell whether every line is one for every server: ASCII, not too long, ended by CR LF."""
    lines = data.split(b"\r\n")
    return data.isascii() and not any(b"\r" in line or b"\n" in line or len(line) > 998 for line in lines)


def check_is_harmless(told: Event, text: str) -> None:
    enclosed = Enclosure(name="renew.log", content_type="text/plain", content=text.encode(errors="replace"))
    data = mail(told, enclosures=[enclosed])
    expected = [name for name in EVERY_HEADER if name not in UNTHREADED] if told.events else EVERY_HEADER
    assert header_names(data) == expected
    assert is_strict(data)
    head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    # What is longer has no place where it could be folded.
    assert [line for line in head if len(line) > 78 and b" " in line.partition(b": ")[2].strip()] == []
    message = read(data)
    assert [each.addr_spec for each in cast("AddressHeader", message["From"]).addresses] == ["watcher@corp.example"]
    assert [each.addr_spec for each in cast("AddressHeader", message["To"]).addresses] == [
        "ops@corp.example",
        "zhang@xn--fsqu00a.xn--fiqs8s",
    ]
    assert [part.get_content_type() for part in message.walk()] == [
        *("multipart/mixed", "multipart/alternative", "text/plain", "text/html", "text/plain")
    ]
    written = letter(told)
    assert text_of(data).splitlines() == written.text.splitlines()
    assert text_of(data, "html").splitlines() == written.html.splitlines()


UNTHREADED = {"In-Reply-To", "References", "X-Watcher-Ticket", "X-Watcher-Account", "X-Watcher-Severity"}


@given(ANY_TEXT)
def test_nothing_from_outside_can_inject_or_stop_a_mail(text: str) -> None:
    check_is_harmless(hostile(text), text)


@pytest.mark.parametrize("text", TRICKS)
def test_known_tricks_are_harmless_in_single_mails_and_digests(text: str) -> None:
    check_is_harmless(hostile(text), text)
    members = [hostile(text), replace(hostile(text), id="msg_other")]
    check_is_harmless(digest(members, sink="mail", now=NOON), text)


@given(st.text(st.characters(exclude_categories=("C", "Zl", "Zp", "Zs")), min_size=1, max_size=150))
@tried("=?utf-8?q?a=0D=0ABcc:_evil@x.example?=")
@tried("a=?b?=c")
def test_a_subject_reads_as_it_was_written(title: str) -> None:
    data = mail(event(ticket=ticket(title=title), is_first=True))
    encoded = re.search(rb"\ASubject: (.*?)\r\n(?![ \t])", data, re.DOTALL)
    assert encoded
    decoded = str(make_header(decode_header(encoded[1].decode().replace("\r\n", ""))))
    assert decoded == f"[Ticket 0005PYGCW] {title}"


@pytest.mark.parametrize("title", ["A" * 300, "长" * 300, "👩‍👩‍👧 e\u0301" * 30])
def test_no_encoded_word_is_longer_than_mail_programs_must_read(title: str) -> None:
    """RFC 2047, 2: a word has at most 75 characters, and a line that holds one 76."""
    head = mail(event(ticket=ticket(title=title))).partition(b"\r\n\r\n")[0]
    assert max(map(len, re.findall(rb"=\?[^ ?]+\?[bq]\?[^ ?]*\?=", head))) <= 75
    assert max(len(line) for line in head.split(b"\r\n") if b"=?" in line) <= 76


def test_addresses_that_need_more_than_ascii_are_named_only_where_the_server_can() -> None:
    both = Addresses(
        sender=Mailbox("watcher", "corp.example"),
        to=[parse_mailbox("用户@例子.中国"), parse_mailbox("ops@corp.example")],
    )
    plain = compose(letter(event()), both, now=NOON)
    assert is_strict(plain)
    assert b"To: ops@corp.example\r\n" in plain
    wide = compose(letter(event()), both, now=NOON, utf8=True)
    assert "To: 用户@xn--fsqu00a.xn--fiqs8s,\r\n ops@corp.example\r\n".encode() in wide


def test_a_mail_that_can_name_none_of_its_receivers_names_an_empty_group() -> None:
    """RFC 5322, 3.4: a group may be empty."""
    of_one = Addresses(sender=Mailbox("watcher", "corp.example"), to=[parse_mailbox("用户@corp.example")])
    plain = compose(letter(event()), of_one, now=NOON)
    assert is_strict(plain)
    assert b"\r\nTo: undisclosed-recipients:;\r\n" in plain
    groups = cast("AddressHeader", read(plain)["To"]).groups
    assert [(group.display_name, group.addresses) for group in groups] == [("undisclosed-recipients", ())]
