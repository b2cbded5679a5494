"""Chats' gateways on this machine: they check what the real ones check, and answer as those do."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any, ClassVar, TypeVar

import aiohttp
from aiohttp import web

from watcher import http

KEY = "f00dfeed0123456789abcdef-robot-key"
SECRET = "SEC-of-the-robot-0123456789"
HOUR_S = 3600.0


def real_time() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class FakeGateway:
    """A gateway that takes messages, unless it is told to fail or a message is not as it should be."""

    clock: Callable[[], datetime] = real_time
    url: str = ""
    #: The bodies of the messages that were taken.
    received: list[dict[str, Any]] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)
    #: How many messages were refused, for whatever reason.
    refused: int = 0
    script: deque[web.Response | None] = field(default_factory=deque)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    times: deque[float] = field(default_factory=deque)

    path: ClassVar[str] = "/"

    # --- verbs --------------------------------------------------------------------------------------------

    def refuses(self, code: int | str, words: str = "") -> None:
        """Let the next answer be this refusal."""
        self.script.append(self.refusal(code, words))

    def answers(self, status: int, body: str = "", **headers: str) -> None:
        """Let the next answer be this one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.script.append(web.Response(status=status, text=body, headers=named))

    def answers_html(self) -> None:
        """Let the next answer be the page of some proxy."""
        self.script.append(web.Response(text="<html>Please log in</html>", content_type="text/html"))

    def hangs(self) -> None:
        """Let the next request get no answer."""
        self.script.append(None)

    # --- what each gateway does in its own way ------------------------------------------------------------

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        raise NotImplementedError

    def success(self, body: dict[str, Any]) -> web.Response:
        raise NotImplementedError

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:
        """Return the refusal of a message that is not as it should be."""
        raise NotImplementedError

    # --- the server ---------------------------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self.requests.append(request)
        answer = self.script.popleft() if self.script else self.judge(request, raw)
        if answer is None:
            await self.released.wait()
            return web.Response(status=500)
        return answer

    def judge(self, request: web.Request, raw: bytes) -> web.Response:
        assert request.method == "POST"
        assert request.headers["Content-Type"].startswith("application/json")
        body = json.loads(raw)
        refusal = self.check(request, raw, body)
        if refusal:
            self.refused += 1
            return refusal
        self.received.append(body)
        return self.success(body)

    def is_too_fast(self, most: int, within_s: float) -> bool:
        """Count this request, and tell whether it is one too many."""
        now = self.clock().timestamp()
        while self.times and self.times[0] <= now - within_s:
            self.times.popleft()
        self.times.append(now)
        return len(self.times) > most


AnyGateway = TypeVar("AnyGateway", bound=FakeGateway)


@asynccontextmanager
async def serving(gateway: AnyGateway) -> AsyncIterator[tuple[AnyGateway, aiohttp.ClientSession]]:
    """Serve a gateway on a free port, and open a session to call it with."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", gateway.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        gateway.url = f"http://{host}:{port}{gateway.path}"
        async with http.open_session() as session:
            yield gateway, session
    finally:
        gateway.released.set()
        await runner.cleanup()


def reply(body: dict[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type="application/json")


@dataclass(kw_only=True)
class DingTalkGateway(FakeGateway):
    """open.dingtalk.com/document/robots/custom-robot-access."""

    path: ClassVar[str] = f"/robot/send?access_token={KEY}"
    secret: str = ""
    keyword: str = ""
    banned_until: float = 0.0

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return reply({"errcode": code, "errmsg": words})

    def success(self, body: dict[str, Any]) -> web.Response:  # noqa: ARG002
        return reply({"errcode": 0, "errmsg": "ok"})

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:
        now = self.clock().timestamp()
        if request.query.get("access_token") != KEY:
            return self.refusal(300005, "token is not exist")
        if now < self.banned_until or self.is_too_fast(20, 60.0):
            self.banned_until = max(self.banned_until, now + 600.0)
            return self.refusal(410100, "send too fast, exceed 20 times per minute")
        if self.secret:
            timestamp = request.query.get("timestamp", "0")
            signed = hmac.new(self.secret.encode(), f"{timestamp}\n{self.secret}".encode(), hashlib.sha256).digest()
            if abs(now * 1000 - int(timestamp)) > HOUR_S * 1000:
                return self.refusal(310000, "invalid timestamp")
            if request.query.get("sign") != base64.b64encode(signed).decode():
                return self.refusal(310000, "sign not match")
        text = body["markdown"]["text"]
        if self.keyword not in text:
            return self.refusal(310000, "keywords not in content")
        if len(raw) > 20_000:
            return self.refusal(460101, "message too long, exceed 20000 bytes")
        assert body["msgtype"] == "markdown"
        assert body["markdown"]["title"]
        assert all(f"@{number}" in text for number in body["at"]["atMobiles"])
        return None


@dataclass(kw_only=True)
class FeishuGateway(FakeGateway):
    """open.feishu.cn/document/client-docs/bot-v3/add-custom-bot."""

    path: ClassVar[str] = f"/open-apis/bot/v2/hook/{KEY}"
    secret: str = ""
    keyword: str = ""

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return reply({"code": code, "msg": words, "data": {}}, status=400 if code == 9499 else 200)

    def success(self, body: dict[str, Any]) -> web.Response:  # noqa: ARG002
        return reply({"StatusCode": 0, "StatusMessage": "success", "code": 0, "data": {}, "msg": "success"})

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:
        if request.path != self.path:
            return self.refusal(19001, "param invalid: incoming webhook access token invalid")
        if self.is_too_fast(100, 60.0):
            return self.refusal(11232, "frequency limited psm[lark.oapi.app_platform_runtime]appID[1500]")
        if len(raw) > 20 * 1024:
            return self.refusal(9499, "Bad Request")
        if self.secret:
            key = f"{body.get('timestamp')}\n{self.secret}".encode()
            signed = base64.b64encode(hmac.new(key, digestmod=hashlib.sha256).digest()).decode()
            is_old = abs(self.clock().timestamp() - int(body.get("timestamp", 0))) > HOUR_S
            if is_old or body.get("sign") != signed:
                words = "sign match fail or timestamp is not within one hour from current time"
                return self.refusal(19021, words)
        if self.keyword not in "\n".join(texts_in(body)):
            return self.refusal(19024, "Key Words Not Found")
        return None if body["msg_type"] in {"post", "interactive"} else self.refusal(9499, "Bad Request")


def texts_in(value: Any) -> list[str]:
    """Return what a reader of a Feishu message sees."""
    if isinstance(value, list):
        return [text for each in value for text in texts_in(each)]
    if not isinstance(value, dict):
        return []
    own = [value[name] for name in ("title", "text", "content") if isinstance(value.get(name), str)]
    return own + [text for each in value.values() for text in texts_in(each)]


@dataclass(kw_only=True)
class WecomGateway(FakeGateway):
    """developer.work.weixin.qq.com/document/path/91770."""

    path: ClassVar[str] = f"/cgi-bin/webhook/send?key={KEY}"

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return reply({"errcode": code, "errmsg": f"{words}, hint: [1592021214_50_551f]"})

    def success(self, body: dict[str, Any]) -> web.Response:  # noqa: ARG002
        return reply({"errcode": 0, "errmsg": "ok"})

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:  # noqa: ARG002
        if request.query.get("key") != KEY:
            return self.refusal(93000, "invalid webhook url")
        if self.is_too_fast(20, 60.0):
            return self.refusal(45009, "api freq out of limit")
        if len(body["markdown"]["content"].encode()) > 4096:
            return self.refusal(40058, "markdown.content exceed max length 4096")
        assert body["msgtype"] == "markdown"
        return None


@dataclass(kw_only=True)
class SlackGateway(FakeGateway):
    """docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""

    path: ClassVar[str] = f"/services/T00000000/B00000000/{KEY}"
    statuses: ClassVar[dict[str, int]] = {"invalid_payload": 400, "no_service": 404, "channel_is_archived": 410}

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return web.Response(status=self.statuses.get(str(code), 403), text=str(code) + words)

    def success(self, body: dict[str, Any]) -> web.Response:  # noqa: ARG002
        return web.Response(text="ok")

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:  # noqa: ARG002
        if request.path != self.path:
            return self.refusal("no_service")
        return None if isinstance(body["text"], str) and body["text"] else self.refusal("no_text")


@dataclass(kw_only=True)
class TelegramGateway(FakeGateway):
    """core.telegram.org/bots/api."""

    token: ClassVar[str] = "123456:ABC-DEF1234ghIkl-zyx57W2v1u123ew11"
    path: ClassVar[str] = f"/bot{token}/sendMessage"
    chat_id: str = "-1001234567890"

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return reply({"ok": False, "error_code": code, "description": words}, status=int(code))

    def success(self, body: dict[str, Any]) -> web.Response:
        return reply({"ok": True, "result": {"message_id": 1, "text": body["text"]}})

    def throttles(self, seconds: int) -> None:
        """Let the next answer ask for a rest."""
        body = {"ok": False, "error_code": 429, "description": f"Too Many Requests: retry after {seconds}"}
        self.script.append(reply(body | {"parameters": {"retry_after": seconds}}, status=429))

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:  # noqa: ARG002
        if request.path != self.path:
            return self.refusal(404, "Not Found")
        if body["chat_id"] != self.chat_id:
            return self.refusal(400, "Bad Request: chat not found")
        shown = TelegramHtml.read(body["text"]) if body.get("parse_mode") == "HTML" else body["text"]
        if shown is None:
            return self.refusal(400, "Bad Request: can't parse entities: Unsupported start tag")
        if len(shown.encode("utf-16-le")) // 2 > 4096:
            return self.refusal(400, "Bad Request: message is too long")
        return None


class TelegramHtml(HTMLParser):
    """Telegram's HTML, as far as it concerns us: no tags but those it knows, each closed in its turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.shown: list[str] = []
        self.links: list[str | None] = []
        self.is_balanced = True

    @classmethod
    def read(cls, text: str) -> str | None:
        """Return what is shown of a text, or None if its markup is not valid."""
        parser = cls.parse(text)
        is_known = re.fullmatch(r'(?:[^<>]|</?(?:b|blockquote)>|<a href="[^"<>]*">|</a>)*', text)
        return "".join(parser.shown) if is_known and parser.is_balanced and not parser.open else None

    @classmethod
    def parse(cls, text: str) -> "TelegramHtml":
        parser = cls()
        parser.feed(text)
        parser.close()
        return parser

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        self.is_balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


@dataclass(kw_only=True)
class NtfyGateway(FakeGateway):
    """docs.ntfy.sh/publish and ntfy's server/errors.go."""

    topic: str = "tickets-of-prod-7f3a"
    token: str = "tk_AgQdq7mVBoFD37zQVN29RhuMzNIz2"

    def refusal(self, code: int | str, words: str = "") -> web.Response:
        return reply({"code": code, "http": int(code) // 100, "error": words}, status=int(code) // 100)

    def success(self, body: dict[str, Any]) -> web.Response:
        return reply({"id": "xE73Iyuabi", "time": 1673542291, "event": "message", "topic": body["topic"]})

    def check(self, request: web.Request, raw: bytes, body: dict[str, Any]) -> web.Response | None:
        if request.path != self.path:
            return self.refusal(40401, "page not found")
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self.refusal(40301, "forbidden")
        if body["topic"] != self.topic:
            return self.refusal(40009, "invalid request: topic invalid")
        if len(raw) > 2 * 4096:
            return self.refusal(41303, "JSON body too large")
        if len(body["title"].encode()) > 1024:
            return self.refusal(40057, "title too long")
        assert len(body["message"].encode()) <= 4096, "it would arrive as a file"
        return None
