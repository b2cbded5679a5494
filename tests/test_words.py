"""The texts that we write, in both languages."""

import string
from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from tests.fakes import account, event, note, ticket
from watcher.detect import digest
from watcher.model import Author, Event, Kind, Language, Role, Severity, TicketStatus
from watcher.render import Voice, facts, headline, local, local_in_words, plain_text
from watcher.sample import example, trial
from watcher.words import CHINESE, ENGLISH, Words, words_in

SHANGHAI = ZoneInfo("Asia/Shanghai")
IN_CHINESE = Voice(language=Language.CHINESE, zone=SHANGHAI)
IN_ENGLISH = Voice(zone=SHANGHAI)


def names_in(text: str) -> set[str]:
    """Return the names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_fill_in_the_same_things() -> None:
    for each in fields(Words):
        english, chinese = getattr(ENGLISH, each.name), getattr(CHINESE, each.name)
        if isinstance(english, str):
            assert names_in(english) == names_in(chinese), each.name
            assert english, each.name
            assert chinese, each.name
            assert english != chinese, each.name
        else:
            assert len(english) == len(chinese), each.name


@pytest.mark.parametrize("language", list(Language))
def test_every_role_status_and_severity_has_a_word_of_its_own(language: Language) -> None:
    words = words_in(language)
    for table, members in ((words.roles, Role), (words.statuses, TicketStatus), (words.severities, Severity)):
        assert set(table) == set(members)
        assert len(set(table.values())) == len(members)
    assert (len(words.weekdays), len(words.months)) == (7, 12)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (example(Kind.REPLY), "Agent 1024 回复了：Why ECS renewal failed?"),
        (example(Kind.UNREAD), "Agent 1024 的未读回复：Why ECS renewal failed?"),
        (example(Kind.DIGEST), "2 个工单有未读回复"),
        (
            event(1, note=note(1, author=Author(role=Role.AGENT)), ticket=ticket(title="")),
            "工程师 回复了：工单 0005PYGCW",
        ),
        (trial(Language.CHINESE, url="", now=datetime.now(UTC)), "watcher 的测试消息"),
    ],
)
def test_headlines_in_chinese(told: Event, text: str) -> None:
    assert headline(told, IN_CHINESE) == text


def test_new_replies_of_one_ticket_told_together_are_counted() -> None:
    both = digest([event(1), event(2, minutes=1)], sink="ding", now=datetime.now(UTC))
    assert headline(both, IN_ENGLISH) == "2 new replies: Why ECS renewal failed?"
    assert headline(both, IN_CHINESE) == "2 条新回复：Why ECS renewal failed?"


def test_a_reply_in_chinese_is_told_in_chinese_and_its_text_is_left_as_it_is() -> None:
    assert plain_text(example(Kind.REPLY), IN_CHINESE) == (
        "Agent 1024 回复了：Why ECS renewal failed?\n"
        "  > 您好，续费失败的原因是账户余额不足。\n"
        "  > Please top up at least CNY 120, then retry the renewal.\n"
        "  >\n"
        "  > Details are in the attached log.\n"
        "  附件：renew.log\n"
        "  0005PYGCW · prod · 普通 · 待您反馈 · 2021-06-11 15:32 CST（07:32 UTC） · https://workorder.console.aliyun.com/\n"
    )


@pytest.mark.parametrize(
    ("instant", "english", "chinese"),
    [
        (
            datetime(2021, 6, 11, 7, 32, tzinfo=UTC),
            "Fri 11 Jun 2021 at 15:32 CST (07:32 UTC)",
            "2021年6月11日 星期五 15:32 CST（07:32 UTC）",
        ),
        (
            datetime(2021, 12, 31, 17, 5, tzinfo=UTC),
            "Sat 1 Jan 2022 at 01:05 CST (2021-12-31 17:05 UTC)",
            "2022年1月1日 星期六 01:05 CST（2021-12-31 17:05 UTC）",
        ),
    ],
)
def test_an_instant_in_full(instant: datetime, english: str, chinese: str) -> None:
    assert local_in_words(instant, IN_ENGLISH) == english
    assert local_in_words(instant, IN_CHINESE) == chinese


def test_where_the_zone_is_as_utc_an_instant_is_said_once() -> None:
    instant = datetime(2021, 12, 11, 7, 32, tzinfo=timezone(timedelta(hours=3)))
    assert local(instant, Voice()) == "2021-12-11 04:32 UTC"
    assert local(instant, Voice(zone=ZoneInfo("Europe/London"))) == "2021-12-11 04:32 GMT"
    assert local_in_words(instant, Voice()) == "Sat 11 Dec 2021 at 04:32 UTC"


def test_what_a_person_asks_next_is_said_without_what_is_not_known() -> None:
    told = event(1, note=None, account=account(""), ticket=ticket(severity=Severity.URGENT))
    assert facts(told, IN_ENGLISH) == ["0005PYGCW", "urgent", "unknown"]
    assert facts(told, IN_CHINESE) == ["0005PYGCW", "紧急", "未知"]
