"""What chats are told: the message, what keeps a reply from being markup, and where it is cut."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import NOON, event, note, ticket
from tests.gateways import TelegramHtml
from watcher.chat import message as chat
from watcher.chat.markup import MARKDOWN, MRKDWN, PLAIN, TELEGRAM_HTML, Markup, clip, cut, cut_bytes, link_target
from watcher.chat.message import say
from watcher.detect import digest
from watcher.model import Attachment, Content, Event, Kind, Language, Severity
from watcher.render import Voice
from watcher.sample import example
from watcher.template import TemplateWording

SHANGHAI = Voice(zone=ZoneInfo("Asia/Shanghai"))
QUOTED = (
    "您好，续费失败的原因是账户余额不足。 Please top up at least CNY 120, then retry the renewal. "
    "Details are in the attached log."
)
FACTS = "0005PYGCW · prod · normal · 15:32 CST (07:32 UTC) · attached: renew.log"
LATER_THAT_DAY = datetime(2021, 6, 11, 9, tzinfo=UTC)
MARKUPS = pytest.mark.parametrize(
    "markup", [MARKDOWN, MRKDWN, TELEGRAM_HTML, PLAIN], ids=["markdown", "slack", "html", "plain"]
)


def told(of: Event, markup: Markup = MARKDOWN, *, voice: Voice = SHANGHAI, limit: int = 20_000) -> str:
    return say(of, voice, markup, now=LATER_THAT_DAY, fits=lambda _, text: len(text.encode()) <= limit).text


def replying(text: str) -> Event:
    return event(note=note(1, text=text))


# --- the message ------------------------------------------------------------------------------------------


def test_a_reply_is_a_headline_a_quote_and_a_line_of_facts() -> None:
    assert told(example(Kind.REPLY)).split("\n\n") == [
        "#### Agent 1024 replied: Why ECS renewal failed?",
        f"> {QUOTED}",
        f"{FACTS} · [Open](https://workorder.console.aliyun.com/)",
    ]


def test_it_speaks_chinese() -> None:
    text = told(example(Kind.REPLY), voice=Voice(language=Language.CHINESE))
    assert "Agent 1024 回复了：Why ECS renewal failed?" in text
    assert "普通" in text
    assert "[打开](https://" in text


def test_a_reply_of_another_day_is_told_with_its_date() -> None:
    said = say(example(Kind.REPLY), SHANGHAI, PLAIN, now=NOON, fits=lambda *_: True).text
    assert "2021-06-11 15:32 CST (07:32 UTC)" in said


def test_a_test_is_marked_as_one() -> None:
    assert told(example(Kind.TEST)).startswith("#### Test message of watcher\n")
    assert "Nobody replied" in told(example(Kind.TEST))


def test_content_that_is_not_to_leave_stays_here() -> None:
    text = told(example(Kind.REPLY), voice=Voice(content=Content.NONE))
    assert "top up" not in text
    assert "Why ECS renewal failed?" in text


def test_many_attachments_are_counted() -> None:
    files = tuple(Attachment(name=f"{n}.log") for n in range(9))
    assert "attached: 2.log · 6 more · [Open]" in told(event(note=note(1, attachments=files)))


def test_an_unknown_severity_is_not_mentioned() -> None:
    assert "unknown" not in told(event())
    assert "urgent" in told(event(ticket=ticket(severity=Severity.URGENT)))


@MARKUPS
def test_a_digest_has_a_headline_and_tells_every_event(markup: Markup) -> None:
    text = told(example(Kind.DIGEST), markup)
    assert ("2 tickets have unread replies" in text) is (markup is not PLAIN)
    for words in ("Why ECS renewal failed?", "ECS 快照失败", "快照任务已恢复", "001571BTXC", "0005PYGCW"):
        assert words in text


def test_a_digest_tells_only_the_beginning_of_long_replies() -> None:
    many = digest([replying("x" * 5000), event(2)], sink="ding", now=NOON)
    assert "x" * 150 in told(many)
    assert "x" * 250 not in told(many)


# --- what does not fit ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [400, 800, 4096])
def test_the_reply_is_shortened_first(limit: int) -> None:
    full = replace(SHANGHAI, content=Content.FULL)
    text = told(replying("请重试。" * 3000), voice=full, limit=limit)
    assert limit - 20 < len(text.encode()) <= limit
    assert "agent 1024 replied: Why ECS renewal failed?" in text
    assert "…\n\n0005PYGCW · prod · 2026-01-15 20:00 CST (12:00 UTC) · [Open](https://console.example/)" in text


@pytest.mark.parametrize("limit", [4096, 2000, 1000, 400])
def test_a_digest_that_does_not_fit_says_how_many_more_there_are(limit: int) -> None:
    events = [
        event(n, ticket=ticket(f"T{n:06}", title="标题很长" * 30), note=note(n, text="请重试。" * 100))
        for n in range(20)
    ]
    text = told(digest(events, sink="ding", now=NOON), limit=limit)
    shown = len(set(re.findall(r"T\d{6}", text)))
    more = re.search(r"(\d+) more$", text)
    assert len(text.encode()) <= limit
    assert shown + int(more[1] if more else 0) == 20
    # No event is left out for a fact of another.
    assert not (more and "prod" in text)
    assert text.count("[Open](https://console.example/)") == shown > 0


@given(text=st.text(max_size=3000), title=st.text(max_size=300), limit=st.integers(600, 5000))
def test_whatever_a_reply_holds_the_message_fits_and_keeps_its_link(text: str, title: str, limit: int) -> None:
    said = told(event(ticket=ticket(title=title), note=note(1, text=text)), limit=limit)
    assert len(said.encode()) <= limit
    assert said.endswith("[Open](https://console.example/)")


@given(text=st.text(max_size=200), limit=st.integers(3, 300))
def test_a_cut_text_never_exceeds_the_limit_and_breaks_no_character(text: str, limit: int) -> None:
    part = cut_bytes(text, limit)
    assert len(part.encode()) <= limit
    assert part == text or (part.endswith("…") and text.startswith(part[:-1]))


@given(
    letters=st.lists(
        st.sampled_from(["a", "e\u0301", "👩🏽", "👩\u200d👩\u200d👧", "🇨🇳", "한", "❤\ufe0f"]), max_size=40
    ),
    longest=st.integers(0, 60),
)
def test_a_clipped_text_ends_between_letters(letters: list[str], longest: int) -> None:
    text = "".join(letters)
    part = clip(text, longest)
    assert len(part) <= longest
    assert part in {text, ""} or part[:-1] in {"".join(letters[:count]) for count in range(len(letters))}


@pytest.mark.parametrize(
    ("text", "longest", "expected"),
    [
        ("abcdef", 4, "abc…"),
        ("cafe\u0301 noir", 5, "caf…"),
        ("👩\u200d👩\u200d👧 family", 4, "…"),
        ("a👍🏽b", 3, "a…"),
        ("a🇨🇳🇩🇪b", 5, "a🇨🇳…"),
        ("a🇨🇳🇩🇪b", 4, "a🇨🇳…"),
        ("word and more", 6, "word…"),
    ],
)
def test_what_people_see_as_one_letter_stays_whole(text: str, longest: int, expected: str) -> None:
    assert clip(text, longest) == expected


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("cafe\u0301 noir", 7, "caf…"),
        ("cafe\u0301 noir", 9, "cafe\u0301…"),
        ("请重试", 8, "请…"),
        ("请重试", 9, "请重试"),
    ],
)
def test_a_text_is_cut_between_letters(text: str, limit: int, expected: str) -> None:
    assert cut_bytes(text, limit) == expected


@pytest.mark.parametrize("limit", range(10, 40))
def test_a_link_of_a_template_is_not_cut_in_half(limit: int) -> None:
    assert cut_bytes("read [this](https://a.example/)!", limit) in {
        "read…",
        "read [this](https://a.example/)!",
    }
    part = cut_bytes("see <https://a.example|it> soon", limit)
    assert part.count("<") == part.count(">")


@pytest.mark.parametrize("limit", range(6, 14))
def test_an_escape_is_not_cut_in_half(limit: int) -> None:
    assert cut_bytes("a&amp;&lt;b", limit) in {"a…", "a&amp;…", "a&amp;&lt;b"}


def test_what_fits_is_not_touched() -> None:
    assert cut("a [half](http", lambda _: True) == "a [half](http"
    assert cut("text", lambda _: False) == ""


# --- hostile texts ----------------------------------------------------------------------------------------

HOSTILE = (
    "[free money](https://evil.example)",
    "![](https://evil.example/pixel.png)",
    "<a href='https://evil.example'>x</a>",
    "<https://evil.example|the bank>",
    "<!channel> <!here|x> <@U012AB3CD>",
    '<at user_id="all">all</at> <at id=all></at>',
    "@all @所有人 @13800000000 @channel <@zhangsan>",
    "# heading",
    "> quote",
    "**bold** *bold* __x__ _x_ ~~x~~ ~x~ `x` ```x```",
    "</blockquote><b>x",
    "a\n\n# out of the quote\n> @all",
    "\\[x\\](https://evil.example) &lt;x&gt; &#91;x",
    "<font color='red'>x</font>",
    "* item\n- item\n---\n===",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_reply_is_markdown(text: str) -> None:
    """DingTalk and WeCom have no escape: the characters must not be there."""
    plain = told(replying("harmless"))
    written = told(event(note=note(1, text=text), ticket=ticket(title=text)))
    assert written.count("\n") == plain.count("\n")
    head, quoted, facts = written.split("\n\n")
    for line in (head.removeprefix("#### "), quoted.removeprefix("> ")):
        assert not set("[]<>*`\\") & set(line)
        assert not re.search(r"(?<![A-Za-z0-9])@|^[#>]|^[-+=]+\s|&#?\w+;|~~|\b_|_\b", line)
    assert facts.startswith("0005PYGCW · prod")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_reply_is_a_control_sequence_of_slack(text: str) -> None:
    written = told(event(note=note(1, text=text), ticket=ticket(title=text)), MRKDWN)
    assert re.findall(r"<[^>]*>", written) == ["<https://console.example/|Open>"]
    assert written.count("\n") == 2
    head, quoted, _ = written.split("\n")
    assert head.count("*") == 2
    assert not set("*`") & set(quoted)
    assert not re.search(r"(?<!\w)@", written)


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_reply_is_html_of_telegram(text: str) -> None:
    written = told(event(note=note(1, text=text), ticket=ticket(title=text)), TELEGRAM_HTML)
    assert TelegramHtml.read(written) is not None
    assert TelegramHtml.parse(written).links == ["https://console.example/"]
    assert written.count("<b>") == written.count("<blockquote>") == 1
    assert not re.search(r"(?<!\w)@", written)


@MARKUPS
def test_what_agents_write_every_day_stays_readable(markup: Markup) -> None:
    text = "Ask a.b@corp.example about snake_case in https://help.example/a_b?x=1-2 (5 - 3 = 2), 50% #1!"
    assert text in told(replying(text), markup)


@given(text=st.text(alphabet="@_*[]()<>!`~#&;|\\ a1\n", max_size=60))
def test_no_reply_of_any_characters_breaks_the_html(text: str) -> None:
    written = told(event(note=note(1, text=text), ticket=ticket(title=text)), TELEGRAM_HTML)
    assert TelegramHtml.read(written) is not None


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a.example/t?id=1&x=%20#y", "https://a.example/t?id=1&x=%20#y"),
        ("https://a.example/) [x](https://b.example", "https://a.example/%29%20%5Bx%5D%28https://b.example"),
        ('https://a.example/"><b>', "https://a.example/%22%3E%3Cb%3E"),
        ("https://a.example/|x>", "https://a.example/%7Cx%3E"),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_an_address_ends_no_link_before_its_time(url: str, expected: str) -> None:
    assert link_target(url) == expected


def test_without_an_address_there_is_no_link() -> None:
    assert "Open" not in told(event(url="javascript:alert(1)"))


# --- templates and keywords -------------------------------------------------------------------------------


def wording(part: str, source: str) -> Voice:
    return replace(SHANGHAI, own={part: TemplateWording(source, part=part)})


def test_a_template_for_the_text_is_used_as_it_is() -> None:
    own = wording("text", "**{{ data.ticket.id }}** [read]({{ data.ticket.url }})")
    assert told(event(), voice=own) == "**0005PYGCW** [read](https://console.example/)"


@MARKUPS
def test_what_a_template_puts_in_of_the_event_is_no_markup(markup: Markup) -> None:
    own = wording("text", "*mine* {{ data.note.content }}")
    text = told(replying("# <!channel>\n@all [x](https://evil.example)"), markup, voice=own)
    assert text.startswith("*mine* ")
    if markup is not PLAIN:
        assert "<!channel>" not in text
        assert "\n@all" not in text
    assert ("[x]" in text) is (markup is not MARKDOWN)


@pytest.mark.parametrize("source", ["{{ data.note.content }}", "{{ default }}"])
def test_an_excerpt_is_cut_before_it_is_escaped(source: str) -> None:
    """Of 500 characters, 499 are the reply's; what we say of one event of a digest is an excerpt, too."""
    many = digest([replying("<&>" * 400), event(2)], sink="chat", now=NOON)
    text = told(many, TELEGRAM_HTML, voice=wording("text", source))
    assert "&lt;&amp;&gt;" * 166 + "&lt;…" in text


def test_a_template_counts_the_characters_of_the_reply_and_not_of_its_escapes() -> None:
    own = wording("text", "{{ data.note.content_chars }} {{ data.note.truncated }}")
    assert told(replying("&" * 600), TELEGRAM_HTML, voice=own) == "600 True"
    assert told(replying("&" * 60), TELEGRAM_HTML, voice=replace(own, content=Content.FULL)) == "60 False"


def test_without_content_a_template_still_knows_how_long_the_reply_is() -> None:
    own = replace(wording("text", "{{ data.note.content_chars }}"), content=Content.NONE)
    assert told(replying("&" * 600), TELEGRAM_HTML, voice=own) == "600"


def test_a_template_may_frame_our_own_words() -> None:
    assert told(event(), voice=wording("text", "{{ default }}\n!")) == told(event()) + "\n!"


def test_a_template_that_says_nothing_does_not_make_an_empty_message() -> None:
    assert told(event(), voice=wording("text", "{# nothing #}")) == told(event())
    assert told(event(), voice=wording("subject", "{# nothing #}")) == told(event())
    assert told(event(), voice=wording("text", " {# nothing #} \n\t")) == told(event())


def test_the_address_of_a_file_ends_no_link_before_its_time() -> None:
    files = (Attachment(name="a.log", url="https://files.example/a) [all](https://evil.example/?x=1&y=%20|<z>"),)
    own = wording("text", "{% for each in data.note.attachments %}[{{ each.name }}]({{ each.url }}){% endfor %}")
    text = told(event(note=note(1, attachments=files)), voice=own)
    assert text == "[a.log](https://files.example/a%29%20%5Ball%5D%28https://evil.example/?x=1&y=%20%7C%3Cz%3E)"


def test_a_templates_text_is_cut_and_says_so() -> None:
    voice = wording("text", "{{ 'x' * 9000 }}")
    said = say(event(), voice, MARKDOWN, now=NOON, fits=lambda _, text: len(text.encode()) <= 4096)
    assert said.is_torn
    assert len(said.text.encode()) == 4096


def test_a_template_for_the_subject_is_the_headline() -> None:
    said = say(event(), wording("subject", "[VIP] {{ data.ticket.id }}"), MARKDOWN, now=NOON, fits=lambda *_: True)
    assert said.title == "[VIP] 0005PYGCW"
    assert said.text.startswith("#### ［VIP］ 0005PYGCW\n")


def test_a_keyword_is_added_only_where_it_is_missing() -> None:
    assert chat.with_keyword("a ticket", "ticket") == "a ticket"
    assert chat.with_keyword("a reply", "ticket") == "a reply\n\nticket"
    assert chat.with_keyword("a reply", "") == "a reply"


def test_the_same_event_is_told_in_the_same_words() -> None:
    first, second = (told(example(Kind.DIGEST)) for _ in range(2))
    assert first == second


def test_a_long_reply_is_fitted_quickly() -> None:
    full = replace(SHANGHAI, content=Content.FULL)
    started = datetime.now(UTC)
    told(replying("请 重试 " * 50_000), voice=full, limit=4096)
    assert datetime.now(UTC) - started < timedelta(seconds=20)
