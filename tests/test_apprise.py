"""The sink that sends through Apprise, in front of real servers that speak some of its languages."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.benches.apprise import Silence
from tests.fakes import NOON, delivery, event, note, ticket, until
from tests.servers import Receiver, open_raw, open_receiver
from watcher.config.load import load
from watcher.document import ProblemsFound
from watcher.errors import ConfigError, SinkPartly, SinkRejected, SinkUnavailable
from watcher.model import Content, Event, Kind, Language, Severity
from watcher.outlets import open_outlets
from watcher.render import Voice
from watcher.sample import example
from watcher.sinks.apprise import AppriseSink, Service

ROOT = Path(__file__).parent.parent
PATIENT = timedelta(seconds=20)


def address(receiver: Receiver, *, scheme: str = "json", path: str = "hook", **options: str) -> str:
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{scheme}://{receiver.url.removeprefix('http://')}{path}" + (f"?{query}" if query else "")


def sink(*urls: str, time_limit: timedelta = PATIENT, voice: Voice | None = None) -> AppriseSink:
    services = [Service(url, time_limit=time_limit) for url in urls]
    return AppriseSink(services, name="phone", voice=voice or Voice(content=Content.FULL))


async def failure(of: AppriseSink) -> SinkUnavailable:
    """Return why nobody has taken an event."""
    with pytest.raises(SinkUnavailable) as caught:
        await of.send(delivery(event()), now=NOON)
    return caught.value


@asynccontextmanager
async def silent(receiver: Receiver) -> AsyncIterator[None]:
    """Let the next request get no answer in the meantime."""
    ended = anyio.Event()
    receiver.script.append(Silence(ended))
    try:
        yield
    finally:
        ended.set()


# --- what is sent -----------------------------------------------------------------------------------------


async def sent(told: Event, *, voice: Voice | None = None, **options: str) -> dict[str, Any]:
    async with open_receiver() as receiver:
        await sink(address(receiver, **options), voice=voice).send(delivery(told), now=NOON)
        (request,) = receiver.received
    body: dict[str, Any] = json.loads(request.body)
    return body


async def test_a_message_has_a_title_and_a_text_and_says_nothing_twice() -> None:
    body = await sent(example(Kind.REPLY))
    assert body["title"] == "Agent 1024 replied: Why ECS renewal failed?"
    assert body["message"].startswith("> 您好，续费失败的原因是账户余额不足。\n> Please top up")
    assert body["title"] not in body["message"]
    assert body["type"] == "info"


async def test_a_digest_is_one_message() -> None:
    body = await sent(example(Kind.DIGEST))
    assert body["title"] == "2 tickets have unread replies"
    assert body["message"].startswith("- Unread reply of Agent 1024: ")
    assert body["type"] == "warning"


async def test_an_urgent_ticket_is_a_warning_and_the_language_is_the_reader_s() -> None:
    told = event(ticket=ticket(severity=Severity.URGENT))
    body = await sent(told, voice=Voice(language=Language.CHINESE))
    assert body["type"] == "warning"
    assert "回复了" in body["title"]


async def test_nothing_in_a_reply_is_interpreted() -> None:
    text = "\\n \\u0041 :smile: ${HOME} <b>bold</b> **strong** \x1b[31m\u202e"
    body = await sent(event(note=note(1, text=text), ticket=ticket(title=":smile: <i>\\t")), emojis="yes")
    assert "> \\n \\u0041 :smile: ${HOME} <b>bold</b> **strong** \ufffd[31m\n" in body["message"]
    assert body["title"].endswith(":smile: <i>\\t")


async def test_for_a_service_that_speaks_html_the_text_is_escaped() -> None:
    body = await sent(event(note=note(1, text="<b>bold</b> & more")), format="html")
    assert "<b>" not in body["message"]
    assert "&lt;b&gt;" in body["message"]


@pytest.mark.parametrize("overflow", ["upstream", "split", "truncate"])
async def test_an_event_is_one_message_however_long_it_is(overflow: str) -> None:
    told = event(note=note(1, text="请重试 " * 50_000), ticket=ticket(title="t" * 1000))
    body = await sent(told, overflow=overflow)
    assert body["message"].endswith("…")
    assert len(body["message"]) <= 32768
    assert len(body["title"]) <= 250


@pytest.mark.parametrize("overflow", ["upstream", "split"])
async def test_an_event_that_grows_when_it_is_escaped_is_still_one_message(overflow: str) -> None:
    body = await sent(event(note=note(1, text="<&" * 30_000)), format="html", overflow=overflow)
    assert "<&" not in body["message"]


@pytest.mark.parametrize("scheme", ["form", "xml", "ntfy"])
async def test_it_speaks_other_languages_too(scheme: str) -> None:
    async with open_receiver() as receiver:
        if scheme == "ntfy":
            receiver.answers(200, body=b"{}")
        await sink(address(receiver, scheme=scheme)).send(delivery(example(Kind.REPLY)), now=NOON)
        assert "Why" in "".join(each.body.decode() + each.headers.get("X-Title", "") for each in receiver.received)


async def test_a_service_that_wants_to_be_left_alone_is_and_what_waits_is_told_as_one() -> None:
    async with open_receiver() as receiver:
        plain, ntfy = sink(address(receiver)), sink(address(receiver), address(receiver, scheme="ntfy"))
    assert (plain.spacing, plain.most_at_once) == (timedelta(), None)
    assert ntfy.spacing > timedelta(seconds=1)
    assert ntfy.most_at_once


# --- one outcome for each address -------------------------------------------------------------------------


async def test_who_has_an_event_is_not_called_again() -> None:
    async with open_receiver() as first, open_receiver() as second:
        phone = sink(address(first), address(second))
        second.answers(500)
        with pytest.raises(SinkPartly) as caught:
            await phone.send(delivery(event()), now=NOON)
        (left,) = caught.value.left
        await phone.send(delivery(event(), attempts=1, receiver=left), now=NOON)
        assert (len(first.received), len(second.received)) == (1, 2)
        assert left.startswith("json-")


async def test_the_name_of_a_receiver_does_not_depend_on_the_others() -> None:
    async with open_receiver() as first, open_receiver() as second:
        for urls in ([first, second], [second, first]):
            second.answers(500)
            with pytest.raises(SinkPartly) as caught:
                await sink(*map(address, urls)).send(delivery(event()), now=NOON)
            assert list(caught.value.left) == [Service(address(second), time_limit=PATIENT).key]


async def test_a_receiver_that_is_no_longer_there_gets_it_never() -> None:
    async with open_receiver() as receiver:
        with pytest.raises(SinkRejected, match="tgram-3f2a9c is no longer among the receivers"):
            await sink(address(receiver)).send(delivery(event(), receiver="tgram-3f2a9c"), now=NOON)
        assert receiver.received == []


async def test_when_nobody_has_it_the_reasons_stand_side_by_side() -> None:
    async with open_receiver() as first, open_receiver() as second:
        first.answers(429)
        second.answers(500)
        error = await failure(sink(address(first), address(second)))
    assert "error=429" in str(error)
    assert "error=500" in str(error)
    assert error.retry_after == timedelta(minutes=1)


async def test_an_address_that_hangs_holds_up_no_other() -> None:
    async with open_receiver() as first, open_receiver() as second, silent(second):
        with pytest.raises(SinkPartly) as caught:
            await sink(address(first), address(second), time_limit=timedelta(seconds=0.4)).send(
                delivery(event()), now=NOON
            )
        assert len(first.received) == 1
        (error,) = caught.value.left.values()
        assert isinstance(error, SinkUnavailable)


# --- what comes of it -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 410, 413, 429, 500, 503])
async def test_every_status_but_2xx_is_tried_again_and_no_redirect_is_followed(status: int) -> None:
    async with open_receiver() as receiver:
        receiver.answers(status, headers={"Location": f"{receiver.url}elsewhere"})
        error = await failure(sink(address(receiver)))
        assert f"error={status}" in str(error)
        assert len(receiver.received) == 1
    assert (error.retry_after is not None) == (status == 429)


async def test_an_address_cannot_ask_for_more_attempts_or_call_a_failure_a_success() -> None:
    async with open_receiver() as receiver:
        for _ in range(3):
            receiver.answers(500)
        await failure(sink(address(receiver, retry="3", wait="0", optional="yes")))
        assert len(receiver.received) == 1


async def test_a_service_that_is_not_there_is_said_without_its_address() -> None:
    async with open_receiver() as receiver:
        url = address(receiver, path="t0k3n-f0r-t3sts")
    said = str(await failure(sink(url)))
    assert "onnection" in said
    assert "t0k3n" not in said


@pytest.mark.parametrize("option", [{}, {"rto": "60", "cto": "60"}])
async def test_a_plugin_waits_no_longer_than_the_time_limit(option: dict[str, str]) -> None:
    async with open_receiver() as receiver, silent(receiver):
        phone = sink(address(receiver, **option), time_limit=timedelta(seconds=0.3))
        await failure(phone)
        # Its thread has come to its end too, or does soon.
        (service,) = phone._services.values()
        await until(lambda: not service._sending.is_busy)
        await phone.send(delivery(event(), attempts=1), now=NOON)
        assert len(receiver.received) == 2


async def test_while_an_attempt_has_not_come_to_its_end_no_further_one_begins() -> None:
    """An answer that trickles keeps every time limit of the plugin."""
    async with open_receiver() as receiver, silent(receiver):
        phone = sink(address(receiver))
        with anyio.move_on_after(0.2):
            await phone.send(delivery(event()), now=NOON)
        assert str(await failure(phone)) == "an earlier attempt has not come to its end"
        assert len(receiver.received) == 1


async def test_what_a_service_says_is_one_short_line_without_its_keys() -> None:
    answer = (
        b"HTTP/1.1 400 Bad\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        + json.dumps(
            {"error": "see https://x.example/?k=T0K3N-F0R-T3STS\x1b[31m T0K3N-F0R-T3STS " + "x" * 5000}
        ).encode()
    )
    async with open_raw(answer) as url:
        base = url.removeprefix("http://")
        for plugin in (f"ntfy://user:pa55w0rd@{base}T0K3N-F0R-T3STS", f"json://user:pa55w0rd@{base}T0K3N-F0R-T3STS"):
            said = str(await failure(sink(plugin)))
            assert said.isprintable()
            assert len(said) <= 200
            assert not [secret for secret in ("T0K3N", "pa55w0rd") if secret in said]


def test_what_is_said_hides_every_part_of_the_address() -> None:
    service = Service("json://user:ABCdef%2Bghi@localhost/bot123456789/-1001234/", time_limit=PATIENT)
    said = service._masked(
        "to -1001234 (bot123456789, ABCdef+ghi, ABCdef%2Bghi) https://api.example/1: Bad, error=400."
    )
    assert not [part for part in ("1001234", "123456789", "ABCdef", "api.example") if part in said]
    assert said.endswith("Bad, error=400.")


def test_apprise_says_nothing_by_itself_and_writes_nothing(tmp_path: Path) -> None:
    """In a process of its own: what it would print, and where, is a matter of the whole process."""
    code = (
        "import asyncio, logging\n"
        "from tests.fakes import NOON, delivery, event\n"
        "from tests.test_apprise import sink\n"
        "from watcher.errors import SinkUnavailable\n"
        "phone = sink('json://127.0.0.1:9/t0k3n')\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        asyncio.run(phone.send(delivery(event()), now=NOON))\n"
        "    except SinkUnavailable:\n"
        "        print('unavailable')\n"
        "    logging.basicConfig(level='DEBUG')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={"HOME": str(tmp_path)}, check=True
    )
    assert (done.stdout, done.stderr) == ("unavailable\nunavailable\n", "DEBUG:asyncio:Using selector: EpollSelector\n")
    assert list(tmp_path.iterdir()) == []


def test_a_hanging_service_does_not_keep_the_process_from_ending() -> None:
    code = (
        "import asyncio, socket\n"
        "from datetime import timedelta\n"
        "from tests.fakes import NOON, delivery, event\n"
        "from tests.test_apprise import sink\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "url = f'json://127.0.0.1:{server.getsockname()[1]}/'\n"
        "async def main():\n"
        "    phone = sink(url, time_limit=timedelta(seconds=120))\n"
        "    task = asyncio.create_task(phone.send(delivery(event()), now=NOON))\n"
        "    connection = await asyncio.get_running_loop().run_in_executor(None, server.accept)\n"
        "    task.cancel()\n"
        "    return connection\n"
        "connection = asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)


# --- addresses --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3cr3t", "not an Apprise address"),
        ("", "not an Apprise address"),
        ("tgarm://s3cr3t/chat", "knows no service `tgarm`; did you mean `tgram`"),
        ("zzzzzzzzzz://s3cr3t/chat", "knows no service `zzzzzzzzzz`; its documentation"),
        ("tgram://s3cr3t", "not a complete address for Apprise's service `tgram`"),
        ("json://", "not a complete address for Apprise's service `json`"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_being_quoted(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Service(url, time_limit=PATIENT)
    assert "s3cr3t" not in str(caught.value)


async def test_a_wrong_address_is_found_by_its_place_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "watcher.yaml"
    path.write_text(
        "version: 1\naccounts: {main: {}}\nsinks:\n  me:\n    type: apprise\n    url:\n"
        "      - {env: GOOD}\n      - {env: WRONG}\n"
    )
    async with open_outlets(load(path, {"GOOD": "json://localhost/a", "WRONG": "tgram://s3cr3t"})) as outlets:
        with pytest.raises(ProblemsFound) as caught:
            outlets.build("me")
    assert "watcher.yaml:8:9 sinks.me.url" in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


async def test_a_preview_needs_no_address(tmp_path: Path) -> None:
    path = tmp_path / "watcher.yaml"
    path.write_text("version: 1\naccounts: {main: {}}\nsinks: {me: {type: apprise, url: {env: NOWHERE}}}\n")
    async with open_outlets(load(path, {}), hides_secrets=True) as outlets:
        shown = outlets.build("me").preview(example(Kind.REPLY), now=NOON)
    assert "Agent 1024 replied: Why ECS renewal failed?\n> " in shown


async def test_the_user_s_own_words_are_said() -> None:
    class Wording:
        def render(self, event: Event, voice: Voice, *, default: str) -> str:  # noqa: ARG002
            return f"  own {event.ticket.id}\nwords "

    voice = Voice(own={"subject": Wording(), "text": Wording()})
    body = await sent(replace(event(), id="msg_x"), voice=voice)
    assert (body["title"], body["message"]) == ("own 0005PYGCW words", "own 0005PYGCW\nwords")
