"""The email sink before a real mail server: who has a mail, who has not, and what is said about it."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from functools import partial
from typing import Any

import anyio
import pytest

from tests.fakes import NOON, delivery, event, note, with_text
from tests.mailserver import PASSWORD, USER, PostOffice, open_office, server_at
from watcher.errors import PermanentError, SinkRejected, SinkUnavailable, TransientError
from watcher.mail.compose import Addresses
from watcher.mail.mailbox import parse_mailbox
from watcher.model import Author, Content, Kind, Role
from watcher.render import Voice
from watcher.sample import example
from watcher.sinks.email import EmailSink

OPS, DESK, BOSS, AUDIT = "ops@corp.example", "desk@corp.example", "boss@corp.example", "audit@corp.example"


def sink(
    office: PostOffice,
    *,
    sender: str = "Ticket Watcher <watcher@corp.example>",
    to: Sequence[str] = (OPS,),
    cc: Sequence[str] = (),
    bcc: Sequence[str] = (),
    voice: Voice | None = None,
    **more: Any,
) -> EmailSink:
    addresses = Addresses(sender=parse_mailbox(sender), to=[*map(parse_mailbox, to)], cc=[*map(parse_mailbox, cc)])
    server = server_at(office, **({"timeout": timedelta(seconds=30)} | more))
    hidden = [*map(parse_mailbox, bcc)]
    return EmailSink(name="mail", server=server, addresses=addresses, bcc=hidden, voice=voice or Voice())


async def failure(of: EmailSink, **more: Any) -> TransientError | PermanentError:
    """Send an event; return why nobody has it."""
    failed: TransientError | PermanentError | None = None
    try:
        await of.send(delivery(event(), **more), now=NOON)
    except (TransientError, PermanentError) as error:
        failed = error
    assert failed
    assert PASSWORD not in str(failed) + repr(failed)
    return failed


# --- what arrives -----------------------------------------------------------------------------------------


async def test_a_mail_arrives_encrypted_and_logged_in() -> None:
    async with open_office(auth=True) as office:
        await sink(office, user=USER, password=PASSWORD).send(delivery(event()), now=NOON)
    (mail,) = office.received
    assert mail.tls.startswith("TLSv1.")
    assert mail.user == USER
    assert mail.sender == "watcher@corp.example"
    assert mail.receivers == (OPS,)
    assert mail.message["From"] == "agent 1024 via Ticket Watcher <watcher@corp.example>"
    assert mail.message["Message-ID"] == f"<{event().id}@watcher.corp.example>"
    assert "> Please try again." in mail.part("plain")
    assert "Please try again.</blockquote>" in mail.part("html")


async def test_the_sender_may_have_a_name_of_its_own_or_none() -> None:
    async with open_office() as office:
        await sink(office, sender="Cloud Desk <watcher@corp.example>").send(delivery(event()), now=NOON)
        await sink(office, sender="watcher@corp.example").send(delivery(event()), now=NOON)
        await sink(office, sender="Cloud Desk <watcher@corp.example>").send(delivery(example(Kind.DIGEST)), now=NOON)
        await sink(office, sender="watcher@corp.example").send(delivery(example(Kind.TEST)), now=NOON)
    assert [mail.message["From"] for mail in office.received] == [
        "agent 1024 via Cloud Desk <watcher@corp.example>",
        "agent 1024 via Ticket Watcher <watcher@corp.example>",
        "Cloud Desk <watcher@corp.example>",
        "Ticket Watcher <watcher@corp.example>",
    ]


async def test_hidden_receivers_are_told_and_not_named() -> None:
    async with open_office() as office:
        await sink(office, cc=[DESK], bcc=[AUDIT]).send(delivery(event()), now=NOON)
    (mail,) = office.received
    assert set(mail.receivers) == {OPS, DESK, AUDIT}
    assert (mail.message["To"], mail.message["Cc"]) == (OPS, DESK)
    assert b"audit" not in mail.content
    assert "Bcc" not in mail.message


async def test_who_is_named_twice_is_told_once() -> None:
    async with open_office() as office:
        await sink(office, to=[OPS, "Ops <ops@CORP.example>"], cc=[OPS]).send(delivery(event()), now=NOON)
    assert office.received[0].receivers == (OPS,)


async def test_who_is_named_in_two_spellings_has_one_outcome() -> None:
    async with open_office() as office:
        office.refuses("ops@xn--fsqu00a.xn--fiqs8s", 550)
        error = await failure(sink(office, to=["ops@例子.中国", "ops@xn--fsqu00a.xn--fiqs8s"]))
    assert isinstance(error, SinkRejected)


@pytest.mark.parametrize("name", ["A" * 200, "长" * 200, "👩‍👩‍👧" * 50])
async def test_a_long_name_does_not_push_ours_out_of_the_sender(name: str) -> None:
    async with open_office() as office:
        told = event(note=note(author=Author(name=name, role=Role.AGENT)))
        await sink(office).send(delivery(told), now=NOON)
    (mail,) = office.received
    # Python 3.11 itself reads a space into a name of several encoded words; by RFC 2047 there is none.
    head = message_from_bytes(mail.content, policy=policy.compat32)
    assert str(make_header(decode_header(head["From"]))).endswith("… via Ticket Watcher <watcher@corp.example>")


async def test_lines_that_begin_with_a_dot_and_other_oddities_arrive_as_they_are() -> None:
    text = ".\n..\n.hidden\nFrom here on\n请重试 \N{PARTY POPPER}\n" + "x" * 5000
    async with open_office() as office:
        office.hides("8BITMIME")
        told = event(note=example(Kind.REPLY).note)
        await sink(office, voice=Voice(content=Content.FULL)).send(delivery(with_text(told, text)), now=NOON)
    (mail,) = office.received
    quoted = [line.removeprefix("> ") for line in mail.part("plain").splitlines() if line.startswith("> ")]
    assert "\n".join(quoted) == text
    assert mail.content.isascii()
    assert max(map(len, mail.content.splitlines())) <= 998


async def test_a_replay_says_so_under_the_same_id() -> None:
    async with open_office() as office:
        await sink(office).send(delivery(event()), now=NOON)
        await sink(office).send(delivery(event(), replay=True), now=NOON)
    first, again = (mail.message for mail in office.received)
    assert first["Message-ID"] == again["Message-ID"]
    assert (first["X-Watcher-Reason"], again["X-Watcher-Reason"]) == ("new", "replay")


# --- what the server answers ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("answer", ["421 shutting down", "451 later", "452 full"])
async def test_what_may_pass_is_tried_again(command: str, answer: str) -> None:
    async with open_office() as office:
        office.answers(command, answer, answer)
        error = await failure(sink(office))
        assert isinstance(error, SinkUnavailable), error
        assert office.received == []
        office.script.clear()
        await sink(office).send(delivery(event()), now=NOON)
        assert len(office.received) == 1


@pytest.mark.parametrize("number", [1, 2])
async def test_421_to_one_receiver_leaves_nobody_with_the_mail(number: int) -> None:
    async with open_office() as office:
        office.answers("RCPT", *["250 OK"] * (number - 1), "421 shutting down")
        error = await failure(sink(office, to=[OPS, DESK]))
    assert isinstance(error, SinkUnavailable)
    assert office.received == []


@pytest.mark.parametrize("answer", ["550 spam", "554 transaction failed", "552 too large"])
async def test_a_mail_that_is_refused_as_such_is_given_up(answer: str) -> None:
    async with open_office() as office:
        office.answers("DATA", answer)
        error = await failure(sink(office))
    assert isinstance(error, SinkRejected)
    assert answer[4:] in str(error)


async def test_a_mail_that_is_too_large_for_the_server_is_given_up_before_it_is_sent() -> None:
    async with open_office(size=500) as office:
        error = await failure(sink(office))
        assert office.asked == []
    assert isinstance(error, SinkRejected)
    assert "552" in str(error)


@pytest.mark.parametrize(
    ("command", "answer", "remedy"),
    [("MAIL", "553 not owned by user", "`from`"), ("MAIL", "550 no", "`from`"), ("EHLO", "550 who?", "answered 5")],
)
async def test_what_the_configuration_must_mend_kills_no_mail(command: str, answer: str, remedy: str) -> None:
    async with open_office() as office:
        office.answers(command, answer, answer)
        error = await failure(sink(office))
    assert isinstance(error, SinkUnavailable)
    assert remedy in str(error)


async def test_a_busy_server_is_not_blamed_on_the_configuration() -> None:
    async with open_office() as office:
        office.answers("MAIL", "452 4.3.1 out of space")
        error = await failure(sink(office))
    assert str(error) == f"the mail server localhost:{office.port} refused the mail: 452 (4.3.1 out of space)"


async def test_a_server_that_wants_a_login_is_tried_again() -> None:
    async with open_office(auth=True) as office:
        early = await failure(sink(office))
    async with open_office() as office:
        office.answers("RCPT", "530 5.7.0 Authentication required")
        late = await failure(sink(office))
    for error in (early, late):
        assert isinstance(error, SinkUnavailable)
        assert "530" in str(error)


async def test_a_servers_words_are_text_from_outside() -> None:
    async with open_office() as office:
        office.refuses(OPS, 550, "\x1b]0;owned\x07 \N{RIGHT-TO-LEFT OVERRIDE} " + "x" * 400)
        error = await failure(sink(office))
    assert str(error).isprintable()
    assert len(str(error)) < 350


async def test_a_server_that_repeats_the_password_is_not_quoted() -> None:
    async with open_office(auth=True, utf8=True) as office:
        office.answers("MAIL", f"553 unknown {PASSWORD} {b64encode(PASSWORD.encode()).decode()}")
        error = await failure(sink(office, user=USER, password=PASSWORD))
    assert str(error).endswith("553; look at `from` (unknown … …)")


# --- the sink itself --------------------------------------------------------------------------------------


async def test_two_mails_may_be_under_way() -> None:
    async with open_office() as office:
        one = sink(office)
        assert one.parallel == 2
        async with anyio.create_task_group() as group:
            for number in (1, 2):
                group.start_soon(partial(one.send, delivery(event(number)), now=NOON))
        assert len({mail.message["Message-ID"] for mail in office.received}) == 2


def test_the_target_follows_server_and_receivers_and_shows_neither() -> None:
    office = PostOffice(port=25)
    assert sink(office).target == sink(office).target
    assert len({sink(office).target, sink(office, to=[DESK]).target, sink(PostOffice(port=26)).target}) == 3
    assert "corp" not in sink(office).target


def test_a_preview_is_for_people() -> None:
    shown = sink(PostOffice(port=25), cc=["运维组 <desk@例子.中国>"]).preview(
        example(Kind.REPLY), now=datetime(2026, 1, 15, 12, tzinfo=UTC)
    )
    assert "Subject: [Ticket 0005PYGCW] Why ECS renewal failed?\n" in shown
    assert "Cc: 运维组 <desk@xn--fsqu00a.xn--fiqs8s>\n" in shown
    assert "> 您好，续费失败的原因是账户余额不足。\n" in shown
    assert "as HTML" in shown
    assert "Content-Type" not in shown
