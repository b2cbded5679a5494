"""What a mail says, and that nothing in it can be made to say more."""

import re
from collections.abc import Sequence
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import NOON, account, event, note, ticket
from watcher.detect import digest
from watcher.mail.compose import Addresses, Enclosure, compose
from watcher.mail.letter import Letter, write
from watcher.mail.mailbox import Mailbox, parse_mailbox
from watcher.mail.page import Fate, link
from watcher.model import Attachment, Author, Content, Event, Kind, Language, Read, Role, Unread
from watcher.render import Voice
from watcher.sample import example
from watcher.template import TemplateWording

SHANGHAI = ZoneInfo("Asia/Shanghai")


def voice(**more: Any) -> Voice:
    values: dict[str, Any] = {"zone": SHANGHAI, "content": Content.FULL}
    return Voice(**(values | more))


def letter(of: Event, *, fates: Any = None, **more: Any) -> Letter:
    return write(of, voice(**more), domain="corp.example", fates=fates)


def addresses(*, name: str = "Ticket Watcher") -> Addresses:
    return Addresses(
        sender=Mailbox("watcher", "corp.example", name),
        to=[parse_mailbox("Ops <ops@corp.example>"), parse_mailbox("运维, 一组 <zhang@例子.中国>")],
        cc=[parse_mailbox("boss@corp.example")],
        reply_to=parse_mailbox("desk@corp.example"),
    )


def mail(of: Event, *, enclosures: Sequence[Enclosure] = (), **more: Any) -> bytes:
    written = letter(of, **more)
    return compose(written, addresses(name=f"{written.author} via us"), now=NOON, enclosures=enclosures)


def read(data: bytes) -> EmailMessage:
    return message_from_bytes(data, policy=policy.default)


def text_of(data: bytes, kind: str = "plain") -> str:
    part = read(data).get_body((kind,))
    assert part
    return str(part.get_content())


# --- the words --------------------------------------------------------------------------------------------


def test_a_reply_reads_as_the_contract_of_messages_says() -> None:
    written = letter(example(Kind.REPLY))
    assert written.subject == "[Ticket 0005PYGCW] Why ECS renewal failed?"
    assert written.author == "Agent 1024"
    assert written.text == (
        "Agent 1024 replied on Fri 11 Jun 2021 at 15:32 CST (07:32 UTC).\n"
        "Still unread in the console.\n"
        "\n"
        "> 您好，续费失败的原因是账户余额不足。\n"
        "> Please top up at least CNY 120, then retry the renewal.\n"
        ">\n"
        "> Details are in the attached log.\n"
        "\n"
        "Attachments (links expire; open them soon)\n"
        "  renew.log  https://attachments.example/renew.log?Expires=1623400000&Signature=made-up\n"
        "\n"
        "Ticket    0005PYGCW  Why ECS renewal failed?\n"
        "Status    Waiting for your feedback\n"
        "Severity  Normal\n"
        "Account   prod (1604499804113750)\n"
        "Open      https://workorder.console.aliyun.com/\n"
        "\n"
        "-- \n"
        "Sent by watcher: watch production.\n"
        "Do not answer here: answers do not reach the support agent.\n"
    )


def test_it_speaks_chinese() -> None:
    written = letter(example(Kind.REPLY), language=Language.CHINESE)
    assert written.subject == "[工单 0005PYGCW] Why ECS renewal failed?"
    assert "控制台中仍显示未读。" in written.text
    assert "请勿直接回复此消息" in written.text
    assert '<html lang="zh-CN">' in written.html


def test_later_mails_of_a_ticket_answer_the_first() -> None:
    first, later = letter(event(is_first=True)), letter(event(2))
    assert later.subject == f"Re: {first.subject}" == "Re: [Ticket 0005PYGCW] Why ECS renewal failed?"
    assert first.thread == later.thread == "ticket.0005PYGCW.prod@watcher.corp.example"
    assert first.message_id != later.message_id


def test_a_ticket_without_a_title_is_its_number() -> None:
    assert letter(event(ticket=ticket(title=" \n"), is_first=True)).subject == "[Ticket 0005PYGCW]"


def test_a_long_title_is_cut() -> None:
    assert letter(event(ticket=ticket(title="long " * 100))).subject.endswith("…")
    assert len(letter(event(ticket=ticket(title="长" * 1000))).subject) < 250


def test_several_unread_replies_are_counted() -> None:
    assert "3 replies of this ticket are unread." in letter(event(unread=Unread(in_ticket=3))).text


def test_what_was_read_is_not_called_unread() -> None:
    assert "unread" not in letter(event(note=note(read=Read.READ))).text


def test_a_digest_has_a_section_for_each_ticket_and_starts_no_thread() -> None:
    members = [event(1), event(2), event(3, ticket=ticket("OTHER", title="快照失败"))]
    written = letter(digest(members, sink="mail", now=NOON))
    assert written.subject == "2 tickets have unread replies"
    assert written.thread == ""
    assert written.author == ""
    assert written.text.count("Ticket    ") == 2
    assert written.text.count("> Please try again.") == 3
    assert written.html.count("<h2") == 2


def test_a_digest_over_accounts_has_a_list_of_its_own() -> None:
    members = [event(1), event(2, account=account("other"), minutes=1)]
    assert letter(digest(members, sink="mail", now=NOON)).list_id == (
        "Support tickets of prod, other",
        "tickets.watcher.corp.example",
    )


def test_a_test_message_cannot_be_taken_for_a_reply() -> None:
    written = letter(example(Kind.TEST), content=Content.NONE)
    assert written.subject == "Test message of watcher"
    assert "Nobody replied to anything." in written.text
    assert "Nobody replied to anything." in written.html
    assert written.thread == ""
    assert written.marks["X-Watcher-Reason"] == "test"


def test_content_that_is_not_to_leave_stays_here_with_the_keys_to_its_files() -> None:
    written = letter(example(Kind.REPLY), content=Content.NONE)
    for part in (written.text, written.html):
        assert "top up" not in part
        assert "attachments.example" not in part
        assert "renew.log" in part


def test_html_says_what_the_text_says_and_loads_nothing() -> None:
    written = letter(example(Kind.REPLY)).html
    assert "Please top up at least CNY 120, then retry the renewal.<br><br>Details" in written
    assert '<a href="https://attachments.example/renew.log?Expires=1623400000&amp;Signature=made-up">' in written
    assert not re.search(r"<(?:img|script|link|style|iframe|object|form)|url\(|@import|src=", written)


HOSTILE = '<script>alert(1)</script> "&amp; <img src=x onerror=y> {{ 7 * 7 }} </blockquote>'


def test_html_in_anything_from_outside_is_text() -> None:
    hostile = Attachment(name=HOSTILE, url='https://x.example/"><script>')
    told = event(
        ticket=ticket(HOSTILE, title=HOSTILE),
        account=account(HOSTILE),
        watch=HOSTILE,
        url='https://x.example/"><script>',
        note=note(text=HOSTILE, author=Author(role=Role.AGENT, name=HOSTILE), attachments=(hostile,)),
    )
    written = letter(told, fates={(told.id, 0): Fate(reason=HOSTILE)}).html
    assert not re.findall(r"<(?:script|img)", written)
    assert written.count("</blockquote>") == 1
    assert {tag for tag, _ in re.findall(r"<([a-z0-9]+)((?: [^>]*)?)>", written)} <= {
        *("html", "head", "meta", "title", "body", "div", "h1", "p", "br", "blockquote"),
        *("ul", "li", "a", "table", "tr", "th", "td"),
    }


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://",
        "https://a b/",
        "http://[",
        "ftp://x/",
        "https://x/\u202ey",
    ],
)
def test_only_web_addresses_are_links(url: str) -> None:
    assert link(url) == ""
    told = event(url=url, note=note(attachments=(Attachment(name="a.log", url=url),)))
    assert "<a " not in letter(told).html
    assert url not in letter(told).text


# --- the user's own words ---------------------------------------------------------------------------------


def own(**templates: str) -> dict[str, TemplateWording]:
    return {part: TemplateWording(source, part=part) for part, source in templates.items()}


def test_an_own_subject_takes_the_place_of_the_title_and_the_thread_holds() -> None:
    worded = own(subject="{{ data.account.name }}: {{ default }}")
    assert letter(event(), own=worded).subject == "Re: [Ticket 0005PYGCW] prod: Why ECS renewal failed?"
    assert letter(event(), own=worded).thread == letter(event()).thread
    assert letter(example(Kind.TEST), own=own(subject="urgent")).subject == "Test message of watcher: urgent"


def test_an_own_subject_that_is_empty_is_ours() -> None:
    assert letter(event(), own=own(subject="{# nothing #}")).subject == letter(event()).subject


def test_an_own_text_is_shown_by_html_too() -> None:
    written = letter(event(), own=own(text="<b>{{ headline }}</b>\n  second"))
    assert written.text == "<b>agent 1024 replied: Why ECS renewal failed?</b>\n  second\n"
    assert "&lt;b&gt;agent 1024 replied: Why ECS renewal failed?&lt;/b&gt;<br>  second" in written.html
    assert letter(event(), own=own(text="a", html="<i>b</i>")).html == "<i>b</i>"


@pytest.mark.parametrize("source", ["<i>ours:</i>{{ default }}", "<i>ours:</i>{{ default | safe }}"])
def test_an_own_html_may_hold_ours_and_nothing_from_outside_is_markup(source: str) -> None:
    evil = event(ticket=ticket(title="<script>"), note=note(content="<img src=x>"))
    of_one = letter(evil, own=own(html=source)).html
    of_several = letter(digest([evil, replace(evil, id="msg_other")], sink="mail", now=NOON), own=own(html=source)).html
    assert "<i>ours:</i><!DOCTYPE html>" in of_one
    assert of_several.count("<i>ours:</i><div") == 2
    for html in (of_one, of_several):
        assert "&lt;script&gt;" in html
        assert "&lt;img src=x&gt;" in html
        assert not re.search("<script|<img", html)
