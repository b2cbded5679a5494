"""The user's own wording: what a template sees, and what becomes of one that fails."""

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from structlog.testing import capture_logs

from tests.fakes import NOON, event, note, ticket
from watcher.detect import digest
from watcher.model import Content, Event, Kind, Language
from watcher.render import Voice, headline
from watcher.sample import example
from watcher.template import TemplateWording, problem_of

REPLY = example(Kind.REPLY)


def written(source: str, told: Event = REPLY, *, part: str = "text", default: str = "ours", **voice: Any) -> str:
    return TemplateWording(source, part=part).render(told, Voice(**voice), default=default)


def test_a_template_sees_the_event_as_a_webhook_carries_it() -> None:
    source = "{{ type }} {{ data.ticket.id }} {{ data.note.author.name }} {{ data.note.attachments[0].name }}"
    assert written(source) == "watcher.note.created.v1 0005PYGCW Agent 1024 renew.log"


def test_a_template_may_go_on_from_our_own_words() -> None:
    assert written("{{ headline }} | {{ default }}") == f"{headline(REPLY, Voice())} | ours"
    assert written("{{ headline }}", language=Language.CHINESE) == "Agent 1024 回复了：Why ECS renewal failed?"


def test_instants_are_told_in_the_zone_of_the_sink() -> None:
    assert written("{{ local(time) }}", zone=ZoneInfo("Asia/Shanghai")) == "2021-06-11 15:32 CST (07:32 UTC)"
    assert written("{{ local(data.note.created_at) }}", zone=UTC) == "2021-06-11 07:32 UTC"
    assert written("[{{ local(data.note.created_at) }}]", event(1, note=note(1, created_at=None))) == "[]"


def test_a_label_that_an_event_lacks_is_empty() -> None:
    assert written("{{ data.labels.team }}/{{ data.labels.squad }}") == "platform/"


@pytest.mark.parametrize(
    ("content", "shown"), [(Content.FULL, "x" * 600), (Content.EXCERPT, "x" * 499 + "…"), (Content.NONE, "none")]
)
def test_a_template_sees_as_much_of_a_reply_as_may_leave(content: Content, shown: str) -> None:
    told = event(1, note=note(1, text="x" * 600))
    assert written("{{ data.note.content | default('none') }}", told, content=content) == shown


def test_html_is_escaped_and_text_is_not() -> None:
    told = event(1, ticket=ticket(title="<b>&"))
    assert written("{{ data.ticket.title }}", told, part="html") == "&lt;b&gt;&amp;"
    assert written("{{ data.ticket.title }}", told, part="text") == "<b>&"


def test_our_own_html_may_stand_in_html() -> None:
    told = event(1, ticket=ticket(title="<b>&"))
    assert written("<hr>{{ default }}", told, part="html", default="<p>&lt;b&gt;</p>") == "<hr><p>&lt;b&gt;</p>"
    whole = written("{{ default }}", digest([told], sink="ops", now=NOON), part="html")
    assert whole.startswith('<div style="white-space:pre-wrap">')
    assert "&lt;b&gt;&amp;" in whole


def test_a_template_that_says_nothing_leaves_it_to_our_own_words() -> None:
    assert written(" {% if data.ticket.severity == 'urgent' %}!{% endif %}\n") == "ours"


def test_of_a_digest_each_event_is_told_and_the_subject_stays_ours() -> None:
    whole = example(Kind.DIGEST)
    assert written("{{ data.ticket.id }}\n", whole) == "0005PYGCW\n\n001571BTXC"
    assert written("{{ data.ticket.id }}", whole, part="subject") == "ours"


def test_what_a_title_says_is_no_template() -> None:
    assert written("{{ data.ticket.title }}", event(1, ticket=ticket(title="{{ 7 * 7 }}"))) == "{{ 7 * 7 }}"


HOSTILE = [
    "{{ ''.__class__.__mro__ }}",
    "{{ data.__class__ }}",
    "{{ data | attr('__class__') }}",
    "{{ '{0.__class__}'.format(data) }}",
    "{{ local.__globals__ }}",
    "{{ data.update({'a': 1}) }}",
    "{{ cycler.__init__.__globals__ }}",
    "{% for i in range(1000000) %}{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxx{% endfor %}{% endfor %}",
    "{% include 'x' %}",
]
MISTAKEN = ["{{ data.ticket.titel }}", "{{ nothing }}", "{{ 1 / 0 }}", "{{ 1 + 'a' }}", "{{ data.events[0] }}"]


@pytest.mark.parametrize("source", HOSTILE + MISTAKEN)
def test_what_a_template_cannot_tell_is_told_in_our_own_words_and_said(source: str) -> None:
    with capture_logs() as logs:
        assert written(source) == "ours"
    assert [(each["event"], each["log_level"]) for each in logs] == [("template failed", "warning")]


@pytest.mark.parametrize("source", HOSTILE + MISTAKEN)
def test_the_check_finds_it_first(source: str) -> None:
    assert problem_of(source, part="text", voice=Voice())


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ data.ticket.id }}", ""),
        ("\n{% if %}", "line 2 of the template: Expected an expression, got 'end of statement block'"),
        ("\n\n{{ data.ticket.titel }}", "line 3 of the template: 'dict object' has no attribute 'titel'"),
        ("{{ 1 | nofilter }}", "line 1 of the template: No filter named 'nofilter'."),
    ],
)
def test_a_problem_names_the_line(source: str, problem: str) -> None:
    assert problem_of(source, part="text", voice=Voice()) == problem


def test_a_template_that_works_again_says_so_once() -> None:
    wording = TemplateWording("{{ data.note.content | length // (data.note.content | length - 2) }}", part="text")
    with capture_logs() as logs:
        for text in ("ab", "ab", "abc", "abc"):
            wording.render(event(1, note=note(1, text=text)), Voice(content=Content.FULL), default="ours")
    assert [each["event"] for each in logs] == ["template failed", "template works again"]
