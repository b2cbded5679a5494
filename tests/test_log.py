"""What the operator reads."""

import io
import json
from typing import Any

import pytest
import structlog

from watcher import log as logging
from watcher.log import Edges


def said(form: str, level: str = "info", **keys: Any) -> str:
    stream = io.StringIO()
    logging.set_up(level=level, form=form, stream=stream)
    structlog.get_logger("t").warning("poll failed", **keys)
    return stream.getvalue()


def test_text_is_one_line_with_time_words_and_keys() -> None:
    line = said("text", account="prod", error="no answer", empty="", none=None)
    assert line[8:] == '  warning: poll failed            account=prod error="no answer" empty=""\n'


def test_journald_gets_the_level_in_front() -> None:
    assert said("journald", account="prod") == "<4>poll failed: account=prod\n"


def test_json_is_one_object_a_line() -> None:
    entry = json.loads(said("json", account="生产"))
    assert entry["event"] == "poll failed"
    assert entry["level"] == "warning"
    assert entry["account"] == "生产"
    assert entry["timestamp"].endswith("Z")


@pytest.mark.parametrize("form", ["text", "journald", "json"])
@pytest.mark.parametrize("hostile", ["a\nb", "\x1b[31mred", "a\r\nERROR: forged", "\u2028", "\x9b31m", "\u202e"])
def test_nothing_from_outside_can_break_the_line_or_steer_the_terminal(form: str, hostile: str) -> None:
    line = said(form, title=hostile)
    assert line.count("\n") == 1
    assert all(char == "\n" or char.isprintable() for char in line)


def test_below_the_level_nothing_is_said() -> None:
    assert said("text", level="error", account="prod") == ""


def edges() -> tuple[Edges, io.StringIO]:
    stream = io.StringIO()
    logging.set_up(level="info", form="journald", stream=stream)
    return Edges(structlog.get_logger("t")), stream


def test_a_failure_is_said_once_and_the_recovery_with_a_count() -> None:
    failing, stream = edges()
    for _ in range(3):
        failing.failed("hub", "delivery postponed", error="connection refused")
    failing.worked("hub", "sink works again")
    failing.worked("hub", "sink works again")
    assert stream.getvalue().splitlines() == [
        '<4>delivery postponed: error="connection refused"',
        "<6>sink works again: failures=3",
    ]


def test_another_cause_is_news_and_another_key_a_failure_of_its_own() -> None:
    failing, stream = edges()
    failing.failed("hub", "delivery postponed", error="connection refused")
    failing.failed("hub", "delivery postponed", error="HTTP 500")
    failing.failed("mail", "delivery postponed", error="HTTP 500")
    assert len(stream.getvalue().splitlines()) == 3
    assert failing.is_failing("mail")
    assert not failing.is_failing("desk")
