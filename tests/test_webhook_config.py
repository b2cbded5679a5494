"""How a webhook is configured, and what a preview of it shows."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from standardwebhooks.webhooks import Webhook

from tests.fakes import NOON, delivery, event, note, ticket
from tests.servers import open_receiver
from tests.test_webhook import SECRETS, webhook
from watcher import http
from watcher.config.load import Config, load
from watcher.document import ProblemsFound
from watcher.errors import ConfigError, SinkUnavailable
from watcher.model import Event
from watcher.outlets import open_outlets
from watcher.ports import Sink

# --- what is shown ----------------------------------------------------------------------------------------


def preview(of: Event, *, url: str = "https://hub.example/hook", **more: Any) -> str:
    async def show() -> str:
        async with webhook(url, **more) as sink:
            return sink.preview(of, now=NOON)

    return anyio.run(show)


def test_a_preview_is_the_request_without_what_is_secret() -> None:
    shown = preview(
        event(),
        url="https://bob:pass-4711@hub.example:8443/hook?key=4711#4711",
        secrets=SECRETS,
        headers={"X-Api-Key": "4711"},
    )
    head, _, body = shown.partition("\n\n")
    assert head.splitlines() == [
        "POST https://…@hub.example:8443/hook?…",
        f"User-Agent: {http.USER_AGENT}",
        "X-Api-Key: …",
        "Content-Type: application/cloudevents+json; charset=utf-8",
        f"webhook-id: {event().id}",
        f"webhook-timestamp: {int(NOON.timestamp())}",
        "webhook-signature: v1,… v1,…",
    ]
    assert json.loads(body)["id"] == event().id
    assert body.startswith('{\n  "specversion": "1.0",\n')
    assert not [word for word in ("4711", "bob") if word in shown]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hub.example", "POST https://hub.example/"),
        ("http://hub.example:80/a/b?", "POST http://hub.example/a/b"),
        ("http://[::1]:8080/a%20b?x=1", "POST http://[::1]:8080/a%20b?…"),
        ("https://user@hub.example/", "POST https://…@hub.example/"),
    ],
)
def test_a_preview_shows_where_it_would_go(url: str, shown: str) -> None:
    assert preview(event(), url=url, secrets=()).splitlines()[0] == shown


def test_nothing_in_a_preview_steers_the_terminal() -> None:
    told = event(
        note=note(1, text="\x1b]0;owned\x07 \u202e evil \x9b2J\u2028second"), ticket=ticket(title="\x9b31mred")
    )
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\u2028"} & set(preview(told))


# --- what is configured -----------------------------------------------------------------------------------


def configured(tmp_path: Path, text: str, **environ: str) -> Config:
    file = tmp_path / "watcher.yaml"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  hub: {{type: webhook, {text}}}\n")
    return load(file, environ)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "url: https://a.example/, private_addresses: refuse, proxy: http://proxy.example:3128",
            "sinks.hub: `private_addresses: refuse` needs a direct connection; leave out `proxy`",
        ),
        (
            "url: http://a.example/, tls: {ca: ca.pem}",
            "sinks.hub: `tls` is for https; write `https://` in `url`, or leave out `tls`",
        ),
        ("url: https://a.example/, tls: {key: k.pem}", "sinks.hub.tls: `key` belongs to a certificate; write `cert`"),
        ("url: https://a.example/, headers: {CE-Id: x}", "sinks.hub.headers: `CE-Id` is set by the watcher itself"),
        ("url: https://a.example/, headers: {Content-Encoding: gzip}", "`Content-Encoding` is set by the watcher"),
        ("url: https://a.example/, headers: {Expect: 100-continue}", "`Expect` is set by the watcher itself"),
        ("url: https://a.example/, format: xml", "sinks.hub.format: "),
        ("url: 'https://bob:4711@a.example/'", "sinks.hub.url: a password never stands in this file"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_sent(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ProblemsFound) as found:
        configured(tmp_path, text)
    assert problem in str(found.value)


@pytest.mark.parametrize("key", ["url", "proxy"])
def test_a_secret_address_that_is_none_is_a_problem_with_a_place_and_without_the_address(
    tmp_path: Path, key: str
) -> None:
    text = ", ".join(
        f"{each}: {'{env: ADDRESS}' if each == key else 'https://a.example/'}" for each in ("url", "proxy")
    )
    for address in ("https://[4711/", "4711", "ftp://a.example/4711"):
        config = configured(tmp_path, text, ADDRESS=address)
        with pytest.raises(ConfigError, match=rf"watcher.yaml:4:\d+ sinks.hub.{key}: not an address") as caught:
            anyio.run(build, config)
        assert "4711" not in str(caught.value)


async def build(config: Config) -> Sink:
    async with open_outlets(config) as outlets:
        return outlets.build("hub")


async def test_private_addresses_can_be_refused(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        config = configured(
            tmp_path, f"url: {receiver.url.replace('127.0.0.1', 'localhost')}, private_addresses: refuse"
        )
        async with open_outlets(config) as outlets:
            with pytest.raises(SinkUnavailable, match="a private address, which is refused"):
                await outlets.build("hub").send(delivery(event()), now=NOON)
        assert receiver.received == []


async def test_a_configured_webhook_sends_what_its_file_says(tmp_path: Path) -> None:
    async with open_receiver() as receiver:
        text = "url: {env: URL}, sign: [{env: OLD}, {env: NEW}], format: json, headers: {X-Team: ops}, content: none"
        address = receiver.url.replace("://", "://bob:p%40ss@") + "hook"
        config = configured(tmp_path, text, URL=address, OLD=SECRETS[0], NEW=SECRETS[1])
        async with open_outlets(config) as outlets:
            await outlets.build("hub").send(delivery(event()), now=datetime.now(UTC))
        (received,) = receiver.received
    headers = {name.lower(): value for name, value in received.headers.items()}
    for secret in SECRETS:
        assert "content" not in Webhook(secret).verify(received.body, headers)["data"]["note"]
    assert (headers["content-type"], headers["x-team"]) == ("application/json", "ops")
    assert headers["authorization"] == "Basic " + base64.b64encode(b"bob:p@ss").decode()
