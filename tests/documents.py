"""What of docs/ follows from the code: ``python -m tests.documents`` writes it anew; a test compares."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from standardwebhooks.webhooks import Webhook

from watcher import http
from watcher.envelope import Cut, Detail, envelope
from watcher.formats import Format, pack
from watcher.model import Content, Kind
from watcher.retry import DEFAULT_SCHEDULE
from watcher.sample import example
from watcher.sinks.webhook import WebhookSink

DOCS = Path(__file__).parent.parent / "docs"
PAGE, VECTORS, SCHEMA = DOCS / "webhooks.md", DOCS / "webhook-vectors.json", DOCS / "events.schema.json"
_BLOCK = re.compile(r"(?<=<!-- generated: )([a-z-]+)( -->\n)(.*?)(?=<!-- end -->)", re.DOTALL)
_SECRETS = [
    "whsec_" + base64.b64encode(text.encode()).decode()
    for text in ("made up for examples, no secret.", "made up for examples, the second")
]
_BEGINNING = 100
_AT = datetime(2021, 6, 11, 7, 33, 5, tzinfo=UTC)
_PUBLISHED = {
    "name": "the one that the libraries of Standard Webhooks have in common",
    "secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    "id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": 1614265330,
    "body": '{"test": 2432232314}',
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "valid": True,
}


# --- vectors ----------------------------------------------------------------------------------------------


def vectors() -> list[dict[str, Any]]:
    """Return signed messages, and how changed ones must not verify."""
    one, both = _SECRETS[:1], _SECRETS
    plain = _vector("a reply", Kind.REPLY, Format.STRUCTURED, one)
    return [
        _PUBLISHED,
        plain,
        _vector("a reply, signed with two secrets: either verifies", Kind.REPLY, Format.STRUCTURED, both),
        _vector("a digest as a batch", Kind.DIGEST, Format.BATCH, one),
        _vector("a reply in the binary format: the body is its data", Kind.REPLY, Format.BINARY, one),
        plain | {"name": "another body", "body": plain["body"].replace("0005PYGCW", "0005PYGCX"), "valid": False},
        plain | {"name": "another id", "id": example(Kind.DIGEST).id, "valid": False},
        plain | {"name": "another time", "timestamp": plain["timestamp"] + 1, "valid": False},
        plain | {"name": "another secret", "secrets": _SECRETS[1:], "valid": False},
    ]


def _vector(name: str, kind: Kind, form: Format, secrets: list[str]) -> dict[str, Any]:
    told = example(kind)
    body = pack(told, form, content=Content.FULL).body.decode()
    return {
        "name": name,
        "secrets": secrets,
        "id": told.id,
        "timestamp": int(_AT.timestamp()),
        "body": body,
        "signature": " ".join(Webhook(secret).sign(told.id, _AT, body) for secret in secrets),
        "valid": True,
    }


# --- blocks of the page -----------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """Return the generated parts of the page by their names."""
    return {
        "reply": _fenced("json", _json(_told(Kind.REPLY))),
        "unread": _fenced("json", _json(_told(Kind.UNREAD))),
        "digest": _fenced("json", _json(_told(Kind.DIGEST))),
        "test": _fenced("json", _json(_told(Kind.TEST))),
        "brief": _fenced("json", _json(_brief())),
        "structured-request": _fenced("http", _request(Format.STRUCTURED)),
        "batch-request": _fenced("http", _request(Format.BATCH)),
        "binary-request": _fenced("http", _request(Format.BINARY)),
        "schedule": ", ".join(_span(each) for each in DEFAULT_SCHEDULE) + "\n",
        "fields": "".join(_fields(json.loads(SCHEMA.read_text(encoding="utf-8")))),
        "vectors": "".join(_shown(each) for each in vectors()[:2]),
    }


def _told(kind: Kind) -> dict[str, Any]:
    return envelope(example(kind), cut=Cut(content=Content.FULL))


def _brief() -> dict[str, Any]:
    return envelope(example(Kind.UNREAD), cut=Cut(content=Content.FULL, longest=40, detail=Detail.LEAN))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```\n"


def _request(form: Format) -> str:
    """Return the head of a request and the beginning of its body."""

    async def preview() -> str:
        async with aiohttp.ClientSession() as session:
            sink = WebhookSink(
                session,
                name="hub",
                url="https://hub.example/hooks/tickets",
                secrets=_SECRETS[:1],
                headers={},
                content=Content.FULL,
                timeout=timedelta(seconds=20),
                form=form,
            )
            return sink.preview(example(Kind.REPLY), now=_AT)

    head = anyio.run(preview).partition("\n\n")[0].replace(http.USER_AGENT, "watcher/VERSION")
    body = pack(example(Kind.REPLY), form, content=Content.FULL).body.decode()
    return f"{head}\n\n{body[:_BEGINNING]}…"


def _span(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _shown(vector: Mapping[str, Any]) -> str:
    names = ("secrets", "id", "timestamp", "signature", "body")
    lines = (f"{name}: {' '.join(vector[name]) if name == 'secrets' else vector[name]}" for name in names)
    return f"{vector['name'][0].upper()}{vector['name'][1:]}:\n\n" + _fenced("text", "\n".join(lines)) + "\n"


_SECTIONS = (
    *(("event", ""), ("data", "data."), ("account", "data.account."), ("ticket", "data.ticket.")),
    *(("note", "data.note."), ("author", "data.note.author."), ("attachment", "data.note.attachments[].")),
    *(("unread", "data.unread."), ("watcher.digest.v1/data", "data.")),
)
_WORDS = {"string": "text", "integer": "number", "boolean": "true, false"}


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    defs = schema["$defs"]
    for name, prefix in _SECTIONS:
        of_digest = " of a digest" if name.startswith("watcher.digest") else ""
        yield f"**{prefix.rstrip('.') or 'the event'}{of_digest}**: {defs[name]['description']}\n\n"
        yield "| field | type | meaning |\n|---|---|---|\n"
        for field, described in defs[name]["properties"].items():
            target = defs[described["$ref"].rpartition("/")[2]] if "$ref" in described else {}
            kind = _type(target | described) + ("" if field in defs[name]["required"] else ", optional")
            yield f"| `{prefix}{field}` | {kind} | {described.get('description') or target['description']} |\n"
        yield "\n"


def _type(described: Mapping[str, Any]) -> str:
    if "const" in described or "enum" in described:
        return " ".join(f"`{json.dumps(value)}`" for value in described.get("enum", [described.get("const")]))
    if "oneOf" in described:
        return "instant or null"
    if described.get("format") == "date-time":
        return "instant"
    types = described.get("type", "object")
    return " or ".join(_WORDS.get(each, each) for each in ([types] if isinstance(types, str) else types))


# --- files ------------------------------------------------------------------------------------------------


def page() -> str:
    """Return the page as it should be."""
    told = blocks()
    return _BLOCK.sub(lambda match: match[1] + match[2] + told[match[1]], PAGE.read_text(encoding="utf-8"))


def names_on_page() -> set[str]:
    """Return the names of the parts of the page that are generated."""
    return {match[1] for match in _BLOCK.finditer(PAGE.read_text(encoding="utf-8"))}


def vector_file() -> str:
    """Return the file of vectors as it should be."""
    return json.dumps({"vectors": vectors()}, ensure_ascii=False, indent=2) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(vector_file(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")
