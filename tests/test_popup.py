"""What stands on a pop-up, and what a daemon and a desktop say to one another."""

from dataclasses import replace

import pytest

from tests.fakes import NOON, event, note, ticket
from watcher.detect import digest
from watcher.model import Content, Event, Kind, Language, Severity
from watcher.popup import (
    LARGEST_MESSAGE_BYTES,
    Close,
    Failed,
    LockScreen,
    Popup,
    Ready,
    Remind,
    Show,
    Shown,
    decode_from_desk,
    decode_to_desk,
    encode,
    plain,
    popup,
)
from watcher.render import Voice
from watcher.sample import example


class Own:
    """A user's wording."""

    def __init__(self, text: str) -> None:
        self.text = text

    def render(self, event: Event, voice: Voice, *, default: str) -> str:  # noqa: ARG002
        return self.text.replace("DEFAULT", default)


def shown(of: Event, **voice: object) -> Popup:
    return popup(of, Voice(**voice), sink="desk", lock_screen=LockScreen.TITLE)  # type: ignore[arg-type]


def test_it_says_who_replied_to_what_and_the_beginning_of_it() -> None:
    made = shown(example(Kind.REPLY))
    assert made.summary == "Agent 1024 replied: Why ECS renewal failed?"
    assert made.body == (
        "0005PYGCW, prod. 您好，续费失败的原因是账户余额不足。 "
        "Please top up at least CNY 120, then retry the renewal. Details are in the attached log."
    )
    assert (made.open_label, made.remind_label) == ("Open ticket", "Remind me in 1 hour")
    assert made.key == "prod/0005PYGCW"
    assert made.tickets == ("prod/0005PYGCW",)
    assert not made.is_urgent


def test_it_speaks_chinese() -> None:
    made = shown(example(Kind.REPLY), language=Language.CHINESE)
    assert made.summary == "Agent 1024 回复了：Why ECS renewal failed?"
    assert made.body.startswith("0005PYGCW，prod。您好")
    assert (made.open_label, made.remind_label) == ("打开工单", "1 小时后提醒我")


def test_a_long_reply_is_cut_after_200_characters_of_one_paragraph() -> None:
    made = shown(event(note=note(1, text="long \n\n" * 500)), content=Content.FULL)
    text = made.body.removeprefix("0005PYGCW, prod. ")
    assert len(text) == 200
    assert text.endswith("…")
    assert "\n" not in text


def test_content_that_is_not_to_leave_stays_here() -> None:
    assert shown(event(), content=Content.NONE).body == "0005PYGCW, prod."


def test_hostile_text_stays_text() -> None:
    told = event(
        ticket=ticket(title="<b>\x1b[31m\u202eevil\nline"), note=note(1, text="\ud800 <img src=x> \x00 \u2028 end")
    )
    made = shown(told)
    assert (made.summary + made.body).isprintable()
    assert "<b>" in made.summary
    assert "<img src=x>" in made.body
    assert decode_to_desk(encode(Show(1, made))) == Show(1, made)


def test_several_tickets_make_one_popup_that_names_them() -> None:
    made = shown(example(Kind.DIGEST))
    assert made.summary == "2 tickets have unread replies"
    assert made.body.splitlines() == [
        "0005PYGCW  Why ECS renewal failed? (Agent 1024)",
        "001571BTXC  ECS 快照失败 (工程师 2048)",
    ]
    assert made.tickets == ("prod/0005PYGCW", "prod/001571BTXC")
    assert made.key == example(Kind.DIGEST).id
    assert made.is_urgent, "as its most urgent ticket"


def test_a_digest_of_many_names_the_first_five() -> None:
    many = [event(n, ticket=ticket(f"T{n:02}")) for n in range(20)]
    made = shown(digest(many, sink="desk", now=NOON))
    assert made.summary == "20 tickets have unread replies"
    assert len(made.body.splitlines()) == 6
    assert made.body.endswith("15 more")


def test_several_replies_of_one_ticket_take_its_place_and_say_the_last() -> None:
    parts = [event(n, minutes=n, note=note(n, minutes=n, text=f"Part {n}.")) for n in (1, 2, 3)]
    made = shown(digest(parts, sink="desk", now=NOON))
    assert made.key == "prod/0005PYGCW"
    assert made.summary == "3 new replies: Why ECS renewal failed?"
    assert made.body == "0005PYGCW, prod. Part 3."


def test_an_urgent_ticket_is_urgent() -> None:
    assert shown(event(ticket=ticket(severity=Severity.URGENT))).is_urgent


def test_of_a_test_nobody_is_reminded() -> None:
    made = shown(example(Kind.TEST))
    assert made.remind_label == ""
    assert made.summary == "Test message of watcher"


@pytest.mark.parametrize("url", ["", "file:///etc/passwd", "javascript:alert(1)", "-h", "https://x/\n--help"])
def test_what_is_no_web_page_cannot_be_opened(url: str) -> None:
    made = shown(replace(event(), url=url))
    assert (made.url, made.open_label) == ("", "")


def test_the_users_own_words_are_used_and_stay_within_bounds() -> None:
    own = {"subject": Own("Ticket!\nDEFAULT"), "text": Own("first\nsecond\x07" + "x" * 5000)}
    made = shown(event(), own=own)
    assert made.summary == "Ticket! agent 1024 replied: Why ECS renewal failed?"
    assert made.body.startswith("first\nsecond\ufffd")
    assert len(made.body) == 1000


def test_two_accounts_with_the_same_number_do_not_replace_one_another() -> None:
    first = shown(event())
    second = shown(event(account=replace(event().account, name="other")))
    assert first.key != second.key


def test_the_largest_popup_fits_into_a_message() -> None:
    many = [event(n, ticket=ticket("工" * 300 + str(n), title="题" * 300)) for n in range(20)]
    own = {"subject": Own("\U0001f600" * 9000), "text": Own("\U0001f600" * 9000)}
    huge = shown(digest(many, sink="desk", now=NOON), own=own)
    assert len(encode(Show(2**40, huge)).encode()) < LARGEST_MESSAGE_BYTES


def test_a_preview_has_the_words_and_the_buttons() -> None:
    assert plain(shown(example(Kind.REPLY))).splitlines()[-1] == "[Open ticket]  [Remind me in 1 hour]"


@pytest.mark.parametrize("message", [Shown(1), Failed(2, "no server"), Ready(), Remind("msg_1", "desk")])
def test_what_a_desktop_says_is_understood(message: Shown | Failed | Ready | Remind) -> None:
    assert decode_from_desk(encode(message)) == message


def test_what_a_daemon_says_is_understood() -> None:
    assert decode_to_desk(encode(Close("prod/A"))) == Close("prod/A")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"type": "fly"}', '{"type": "shown", "number": "x"}', "{" * 5000])
def test_what_nobody_understands_is_a_value_error(text: str) -> None:
    for decode in (decode_from_desk, decode_to_desk):
        with pytest.raises(ValueError, match=r"."):
            decode(text)


def test_a_desktops_reason_is_made_fit_for_a_log_line() -> None:
    message = decode_from_desk(encode(Failed(1, "bad\n\x1b[31m" + "x" * 9000)))
    assert isinstance(message, Failed)
    assert message.reason.isprintable()
    assert len(message.reason) <= 300
