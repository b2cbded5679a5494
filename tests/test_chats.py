"""The chats in watcher.yaml: what is refused, and what is built from the rest."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes import NOON, delivery, event
from tests.gateways import KEY, SECRET, DingTalkGateway, NtfyGateway, TelegramGateway, serving
from watcher.config.load import Config, load
from watcher.document import ProblemsFound
from watcher.errors import SinkUnavailable
from watcher.model import Kind
from watcher.outlets import open_outlets
from watcher.sample import example

ROBOTS = ("dingtalk", "feishu", "wecom", "slack")
USUAL_A_MINUTE = {"dingtalk": 18, "feishu": 90, "wecom": 18, "slack": 60, "telegram": 18, "ntfy": 12}
REQUIRED = {
    **dict.fromkeys(ROBOTS, "webhook: {env: URL}"),
    "telegram": "token: {env: TOKEN}, chat: '-100123'",
    "ntfy": "url: {env: URL}",
}


def read(folder: Path, kind: str, more: str = "", **environ: str) -> Config:
    file = folder / "watcher.yaml"
    sink = f"{{type: {kind}, {REQUIRED[kind]}{more}}}"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  chat: {sink}\n")
    return load(file, environ)


def problem(folder: Path, kind: str, more: str) -> str:
    with pytest.raises(ProblemsFound) as found:
        read(folder, kind, more)
    return str(found.value)


# --- what is refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "rate", "most"),
    [
        ("dingtalk", "21/min", 20),
        ("dingtalk", "1/s", 20),
        ("wecom", "30/min", 20),
        ("feishu", "2/s", 100),
        ("slack", "2/s", 60),
        ("telegram", "2/s", 60),
    ],
)
def test_a_rate_above_the_services_limit_is_refused(tmp_path: Path, kind: str, rate: str, most: int) -> None:
    words = f"the service lets through {most} messages a minute; write `{most}/min` or less"
    assert words in problem(tmp_path, kind, f", rate: {rate}")


@pytest.mark.parametrize(("kind", "rate"), [("dingtalk", "20/min"), ("slack", "1/s"), ("ntfy", "5/s")])
def test_a_rate_at_the_limit_is_allowed(tmp_path: Path, kind: str, rate: str) -> None:
    read(tmp_path, kind, f", rate: {rate}")


@pytest.mark.parametrize("kind", ["wecom", "slack", "telegram"])
def test_a_title_that_would_be_lost_is_refused(tmp_path: Path, kind: str) -> None:
    title, text = ", subject: '{{ headline }}!'", ", text: '{{ default }}'"
    said = problem(tmp_path, kind, title + text)
    assert "leave out `subject`, and write the title in `text` (`{{ headline }}` is our own)" in said
    for one in (title, text):
        read(tmp_path, kind, one)


@pytest.mark.parametrize("kind", ["dingtalk", "feishu", "ntfy"])
def test_title_and_text_of_ones_own_go_together_where_there_is_room_for_both(tmp_path: Path, kind: str) -> None:
    read(tmp_path, kind, ", subject: '{{ headline }}!', text: '{{ default }}'")


@pytest.mark.parametrize(
    ("kind", "person", "words"),
    [
        ("dingtalk", "alice", "is not a mobile number; write for example `13800000000`"),
        ("dingtalk", "138 0000 0000", "is not a mobile number"),
        ("feishu", "alice", "is not an open id; write for example `ou_1a2b3c`"),
        ("wecom", "all", "cannot mention everybody"),
        ("wecom", "a>b", "is not a user id"),
        ("slack", "alice", "is not a member id"),
        ("slack", "U1> <!channel", "is not a member id"),
    ],
)
def test_whom_a_chat_cannot_mention_is_refused(tmp_path: Path, kind: str, person: str, words: str) -> None:
    assert words in problem(tmp_path, kind, f", mention: ['{person}']")


@pytest.mark.parametrize(
    ("kind", "people"),
    [
        ("dingtalk", "['+86-13800000000', '13800000000', all]"),
        ("feishu", "[ou_1a2b, all]"),
        ("wecom", "[zhangsan, Li.Si-2]"),
        ("slack", "[U012AB3CD, here, channel]"),
    ],
)
def test_whom_a_chat_can_mention_is_allowed(tmp_path: Path, kind: str, people: str) -> None:
    read(tmp_path, kind, f", mention: {people}")


@pytest.mark.parametrize("chat", ["alice", "@", "12a", "https://t.me/x"])
def test_what_is_no_chat_of_telegram_is_refused(tmp_path: Path, chat: str) -> None:
    file = tmp_path / "watcher.yaml"
    sink = f"{{type: telegram, token: {{env: T}}, chat: '{chat}'}}"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  chat: {sink}\n")
    with pytest.raises(ProblemsFound, match="is not a chat; write its number"):
        load(file, {})


def test_a_bot_api_without_tls_elsewhere_is_refused(tmp_path: Path) -> None:
    assert "plain http is allowed only to a loopback" in problem(tmp_path, "telegram", ", api: 'http://tg.example'")
    read(tmp_path, "telegram", ", api: 'http://127.0.0.1:8081'")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://ntfy.example/", "not the address of a topic"),
        ("https://ntfy.example/a?b=c", "not the address of a topic"),
        ("http://ntfy.example/topic", "plain http is allowed only to a loopback address"),
        ("ntfy.example/topic", "not an address"),
    ],
)
def test_what_is_no_topic_is_refused(tmp_path: Path, url: str, words: str) -> None:
    file = tmp_path / "watcher.yaml"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  chat: {{type: ntfy, url: '{url}'}}\n")
    with pytest.raises(ProblemsFound, match=words):
        load(file, {})


# --- what is built ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REQUIRED)
async def test_a_preview_needs_no_secrets(tmp_path: Path, kind: str) -> None:
    async with open_outlets(read(tmp_path, kind), hides_secrets=True) as outlets:
        sink = outlets.build("chat")
        assert (sink.name, sink.spacing) == ("chat", timedelta(minutes=1) / USUAL_A_MINUTE[kind])
        assert "Why ECS renewal failed?" in sink.preview(example(Kind.REPLY), now=NOON)


@pytest.mark.parametrize("kind", REQUIRED)
async def test_a_rate_becomes_a_pace(tmp_path: Path, kind: str) -> None:
    async with open_outlets(read(tmp_path, kind, ", rate: 6/min"), hides_secrets=True) as outlets:
        assert outlets.build("chat").spacing == timedelta(seconds=10)


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"http://robot.example/{KEY}", "plain http is allowed only to a loopback address"),
        (f"{KEY}", "not an address with http or https"),
        (f"https://robot.example:99999/{KEY}", "not"),
    ],
)
async def test_a_secret_that_is_no_address_is_refused_without_being_said(
    tmp_path: Path, kind: str, url: str, words: str
) -> None:
    async with open_outlets(read(tmp_path, kind, URL=url)) as outlets:
        with pytest.raises(ProblemsFound, match=words) as found:
            outlets.build("chat")
    assert "chat.webhook" in str(found.value)
    assert KEY not in str(found.value)


@pytest.mark.parametrize(
    ("kind", "name", "key"), [("telegram", "TOKEN", "token"), ("ntfy", "URL", "url")], ids=["token", "topic"]
)
async def test_other_secrets_are_checked_too(tmp_path: Path, kind: str, name: str, key: str) -> None:
    async with open_outlets(read(tmp_path, kind, **{name: "no/secret-4711 at all"})) as outlets:
        with pytest.raises(ProblemsFound) as found:
            outlets.build("chat")
    assert f"chat.{key}" in str(found.value)
    assert "4711" not in str(found.value)


async def test_a_robot_of_the_file_is_told_and_its_secrets_are_not_said(tmp_path: Path) -> None:
    more = ", secret: {env: SECRET}, keyword: 工单, mention: '13800000000', language: zh"
    async with serving(DingTalkGateway(secret=SECRET, keyword="工单")) as (server, _):
        config = read(tmp_path, "dingtalk", more, URL=server.url, SECRET=SECRET)
        async with open_outlets(config) as outlets:
            sink = outlets.build("chat")
            await sink.send(delivery(event()), now=server.clock())
            assert "回复了" in server.received[0]["markdown"]["title"]
            server.refuses(-1, f"{SECRET} {server.url} {KEY}")
            with pytest.raises(SinkUnavailable) as caught:
                await sink.send(delivery(event()), now=server.clock())
    assert not {secret for secret in (SECRET, KEY) if secret in str(caught.value)}


async def test_a_bot_of_the_file_is_told(tmp_path: Path) -> None:
    async with serving(TelegramGateway(chat_id="-100123")) as (server, _):
        api = server.url.removesuffix(server.path)
        config = read(tmp_path, "telegram", f", api: '{api}'", TOKEN=server.token)
        async with open_outlets(config) as outlets:
            await outlets.build("chat").send(delivery(event()), now=NOON)
        assert len(server.received) == 1


async def test_a_topic_of_the_file_is_told(tmp_path: Path) -> None:
    async with serving(NtfyGateway()) as (server, _):
        config = read(tmp_path, "ntfy", ", token: {env: T}", URL=f"{server.url}{server.topic}", T=server.token)
        async with open_outlets(config) as outlets:
            await outlets.build("chat").send(delivery(event()), now=NOON)
        assert len(server.received) == 1
