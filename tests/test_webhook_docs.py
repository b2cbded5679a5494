"""What docs/ says to those who receive webhooks is what the code sends: schema, examples, vectors, links."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from jsonschema.exceptions import best_match  # type: ignore[import-untyped]
from standardwebhooks.webhooks import Webhook

from tests import documents
from tests.documents import PAGE, SCHEMA, VECTORS
from tests.fakes import at, event, note, ticket
from watcher.config.load import load
from watcher.config.values import check_signing_secret
from watcher.detect import digest
from watcher.envelope import LIMIT_BYTES, Cut, Detail, as_json, envelope, type_of
from watcher.formats import Format, pack
from watcher.model import (
    Account,
    Attachment,
    Author,
    Content,
    Event,
    Kind,
    Note,
    Read,
    Role,
    Severity,
    Ticket,
    TicketStatus,
    Unread,
)
from watcher.retry import DEFAULT_SCHEDULE
from watcher.sample import example

schema: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
validator = Draft202012Validator(schema)


def problem(document: Any, under: str = "") -> str:
    """Say what is wrong with a document by the schema, or by the one of this id within it."""
    checker = validator.evolve(schema={"$ref": under}) if under else validator
    error = best_match(checker.iter_errors(document))
    return f"{error.json_path}: {error.message}" if error else ""


def forms(of: Event) -> Iterator[dict[str, Any]]:
    """Return an event in every form into which it may be cut."""
    for content in Content:
        for detail in Detail:
            for replay in (False, True):
                cut = Cut(content=content, longest=50, detail=detail)
                yield json.loads(as_json(envelope(of, cut=cut, replay=replay)))


# --- the schema -------------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_event_matches_in_every_form(kind: Kind) -> None:
    for document in forms(example(kind)):
        assert problem(document) == ""


@pytest.mark.parametrize("kind", Kind)
def test_the_data_of_every_kind_matches_the_schema_that_the_event_names(kind: Kind) -> None:
    document = envelope(example(kind), cut=Cut(content=Content.FULL))
    assert document["dataschema"] == f"urn:watcher:event:{type_of(kind)}"
    assert problem(document["data"], document["dataschema"]) == ""
    assert problem(document["data"] | {"reason": "because"}, document["dataschema"]) != ""


@pytest.mark.parametrize("kind", Kind)
def test_a_batch_matches(kind: Kind) -> None:
    body = json.loads(pack(example(kind), Format.BATCH, content=Content.FULL).body)
    assert problem(body, "urn:watcher:batch") == ""
    assert problem([], "urn:watcher:batch") != ""


def objects(value: Any) -> Iterator[dict[str, Any]]:
    """Return all maps in a document but the free one."""
    if isinstance(value, dict):
        yield value
        for name, each in value.items():
            if name != "labels":
                yield from objects(each)
    if isinstance(value, list):
        for each in value:
            yield from objects(each)


@pytest.mark.parametrize("kind", Kind)
def test_a_field_that_the_schema_lacks_is_found_wherever_it_stands(kind: Kind) -> None:
    document = envelope(example(kind), cut=Cut(content=Content.FULL))
    for position, _ in enumerate(objects(document)):
        changed = deepcopy(document)
        list(objects(changed))[position]["new"] = 1
        assert problem(changed) != ""


def test_every_field_of_the_schema_is_sent_and_described() -> None:
    told = [*map(example, Kind), event(note=note(1, attachments=(Attachment(name="x"),) * 11))]
    sent = {name for of in told for document in forms(of) for each in objects(document) for name in each}
    described = {
        name
        for definition in schema["$defs"].values()
        for name, field in definition.get("properties", {}).items()
        if field.get("description") or "$ref" in field
    }
    assert {name for each in schema["$defs"].values() for name in each.get("properties", {})} == described == sent


@pytest.mark.parametrize(
    "break_it",
    [
        lambda document: document.pop("id"),
        lambda document: document.update(type="watcher.note.read.v1"),
        lambda document: document.update(time="2021-06-11 07:32:16"),
        lambda document: document.update(id="msg_1"),
        lambda document: document.update(source="workorder"),
        lambda document: document["data"].update(reason="unread"),
        lambda document: document["data"]["note"].update(id=160203923),
        lambda document: document["data"]["ticket"].update(status="open"),
        lambda document: document["data"].update(labels={"team": 1}),
    ],
)
def test_what_is_never_sent_does_not_match(break_it: Callable[[dict[str, Any]], object]) -> None:
    document = envelope(example(Kind.REPLY), cut=Cut(content=Content.FULL))
    assert problem(document) == ""
    break_it(document)
    assert problem(document) != ""


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - with zone
numbers = st.none() | st.integers(-(2**31), 2**63)
events = st.builds(
    Event,
    id=st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26).map("msg_{}".format),
    kind=st.sampled_from([kind for kind in Kind if kind is not Kind.DIGEST]),
    account=st.builds(Account, name=names, uid=texts, site=st.sampled_from(["cn", "intl"])),
    ticket=st.builds(
        Ticket,
        id=names,
        title=texts,
        status=st.sampled_from(TicketStatus),
        status_code=texts | st.integers().map(str),
        severity=st.sampled_from(Severity),
        severity_code=texts | st.integers().map(str),
    ),
    note=st.none()
    | st.builds(
        Note,
        id=names,
        author=st.builds(Author, role=st.sampled_from(Role), role_code=numbers, name=texts),
        created_at=st.none() | instants,
        read=st.sampled_from(Read),
        read_code=numbers,
        type=st.sampled_from(["text", "card", "unknown"]),
        content=texts,
        attachments=st.lists(
            st.builds(Attachment, name=texts, url=texts, expires_at=st.none() | instants), max_size=12
        ).map(tuple),
    ),
    recorded_at=instants,
    watch=texts,
    labels=st.dictionaries(names, texts, max_size=3),
    unread=st.builds(Unread, in_ticket=st.integers(0, 99), since=st.none() | instants),
    url=texts,
)


@given(events, st.sampled_from(Content), st.sampled_from(Detail), st.booleans())
def test_any_event_matches(of: Event, content: Content, detail: Detail, replay: bool) -> None:
    document = envelope(of, cut=Cut(content=content, longest=10, detail=detail), replay=replay)
    assert problem(json.loads(as_json(document))) == ""


@given(st.lists(events, min_size=1, max_size=4), st.sampled_from(Detail))
def test_any_digest_matches(members: list[Event], detail: Detail) -> None:
    document = envelope(digest(members, sink="hub", now=at(0)), cut=Cut(content=Content.FULL, detail=detail))
    assert problem(json.loads(as_json(document))) == ""


@pytest.mark.parametrize("size", [1000, 20_000, 100_000])
def test_what_was_cut_to_fit_matches(size: int) -> None:
    files = tuple(Attachment(name=f"{n}.log", url="https://files.example/" + "x" * 300) for n in range(size // 2000))
    members = [
        event(n, note=note(n, text="工" * size, attachments=files), ticket=ticket(f"T{n}", title="x" * 300))
        for n in range(20)
    ]
    for of in (members[0], replace(members[0], kind=Kind.UNREAD), digest(members, sink="hub", now=at(0))):
        body = pack(of, Format.STRUCTURED, content=Content.FULL).body
        assert len(body) <= LIMIT_BYTES
        assert problem(json.loads(body)) == ""


# --- vectors ----------------------------------------------------------------------------------------------

VECTORS_READ: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]


def signature(secret: str, vector: dict[str, Any]) -> str:
    """Sign as the specification says, without the library."""
    signed = f"{vector['id']}.{vector['timestamp']}.{vector['body']}".encode()
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


@pytest.mark.parametrize("vector", VECTORS_READ, ids=[each["name"] for each in VECTORS_READ])
def test_the_signature_of_a_vector_is_what_its_last_field_says(vector: dict[str, Any]) -> None:
    own = [signature(secret, vector) for secret in vector["secrets"]]
    moment = datetime.fromtimestamp(vector["timestamp"], UTC)
    assert own == [Webhook(secret).sign(vector["id"], moment, vector["body"]) for secret in vector["secrets"]]
    assert (own == vector["signature"].split(" ")) is vector["valid"]


def test_the_secrets_of_the_vectors_are_good_ones() -> None:
    for vector in VECTORS_READ[1:]:
        for secret in vector["secrets"]:
            assert len(base64.b64decode(check_signing_secret(secret).removeprefix("whsec_"))) == 32


# --- the page ---------------------------------------------------------------------------------------------


def test_what_is_generated_is_up_to_date() -> None:
    """If not: ``python -m tests.documents``."""
    assert VECTORS.read_text(encoding="utf-8") == documents.vector_file()
    assert PAGE.read_text(encoding="utf-8") == documents.page()
    assert documents.names_on_page() == documents.blocks().keys()


def test_every_example_on_the_page_matches_the_schema() -> None:
    examples = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [problem(json.loads(each)) for each in examples] == [""] * (len(Kind) + 1)
    assert {json.loads(each)["type"] for each in examples} == {type_of(kind) for kind in Kind}


def test_every_configuration_on_the_page_loads(tmp_path: Path) -> None:
    configurations = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for text in configurations:
        file = tmp_path / "watcher.yaml"
        file.write_text(text if text.startswith("version:") else f"version: 1\naccounts: {{main: {{}}}}\n{text}")
        assert list(load(file, {}).model.sinks) == ["hub"]
    assert len(configurations) == 2


def test_every_link_leads_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings
        elif not target.startswith("https://"):
            assert (PAGE.parent / target).exists(), target


def test_no_secret_of_the_page_is_one_that_could_be_in_use() -> None:
    made_up = {secret for vector in VECTORS_READ for secret in vector["secrets"]}
    found = set(re.findall(r"whsec_[A-Za-z0-9+/=]{8,}", PAGE.read_text(encoding="utf-8")))
    assert found <= made_up


def test_the_receivers_say_how_to_run_them_as_the_page_does() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, install in (
        ("python/receiver.py", "pip install -r requirements.txt"),
        ("javascript/receiver.mjs", "npm install"),
    ):
        head = (Path(PAGE).parent / "receivers" / name).read_text(encoding="utf-8")[:600]
        program = "python receiver.py" if name.endswith("py") else "node receiver.mjs"
        for text in (head, page):
            assert install in text
            assert re.search(rf"WEBHOOK_SECRET=whsec_\S+ {program}\n", text)


def test_the_schedule_of_the_page_lasts_less_than_the_ids_are_to_be_kept() -> None:

    assert sum(DEFAULT_SCHEDULE, timedelta()) * 1.1 < timedelta(days=4)
