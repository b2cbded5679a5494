"""The request signature, against vectors that the vendor's own SDK produced."""

import json
from pathlib import Path
from typing import Any

import pytest

from watcher.ticketapi import signing

DATA = json.loads((Path(__file__).parent / "data" / "vectors.json").read_text(encoding="utf-8"))
VECTORS = [vector for vector in DATA["vectors"] if vector["scheme"] == signing.ALGORITHM]

each_vector = pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])


def body_of(vector: dict[str, Any]) -> bytes:
    text: str = vector["input"]["body"]
    return text.encode()


def canonical_of(vector: dict[str, Any]) -> str:
    given = vector["input"]
    return signing.canonical_request(
        given["method"],
        given["path"],
        signing.canonical_query(given["query"]),
        given["headers_to_sign"],
        given["headers_to_sign"],
        signing.content_sha256(body_of(vector)),
    )


def test_there_are_vectors_of_every_sort() -> None:
    names = {vector["name"] for vector in VECTORS}
    assert {"published_v3_example", "unicode_query", "empty_value", "key_sorting", "sts_token", "form_body"} <= names


@each_vector
def test_the_query_is_made_canonical_as_the_sdk_does(vector: dict[str, Any]) -> None:
    assert signing.canonical_query(vector["input"]["query"]) == vector["expected"]["canonical_query"]


@each_vector
def test_the_body_is_hashed_as_the_sdk_does(vector: dict[str, Any]) -> None:
    assert signing.content_sha256(body_of(vector)) == vector["expected"]["content_sha256"]


@each_vector
def test_the_request_is_made_canonical_as_the_sdk_does(vector: dict[str, Any]) -> None:
    canonical = canonical_of(vector)
    assert canonical == vector["expected"]["canonical_request"]
    assert signing.content_sha256(canonical.encode()) == vector["expected"]["hashed_canonical_request"]
    assert vector["expected"]["canonical_headers"] in canonical
    assert f"\n{vector['expected']['signed_headers']}\n" in canonical


@each_vector
def test_the_string_to_sign_and_the_signature_are_the_sdks(vector: dict[str, Any]) -> None:
    text = signing.string_to_sign(canonical_of(vector))
    assert text == vector["expected"]["string_to_sign"]
    assert signing.signature(vector["input"]["access_key_secret"], text) == vector["expected"]["signature"]


@each_vector
def test_the_authorization_header_is_the_sdks(vector: dict[str, Any]) -> None:
    given = vector["input"]
    header = signing.authorization(
        given["method"],
        given["path"],
        signing.canonical_query(given["query"]),
        given["headers_to_sign"],
        access_key_id=given["access_key_id"],
        access_key_secret=given["access_key_secret"],
        body_hash=signing.content_sha256(body_of(vector)),
    )
    assert header == vector["expected"]["authorization"]


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("AZaz09-_.~", "AZaz09-_.~"),
        (" ", "%20"),
        ("*", "%2A"),
        ("/", "%2F"),
        ("+", "%2B"),
        ("%20", "%2520"),
        ("é", "%C3%A9"),
        ("e\u0301", "e%CC%81"),
        ("工", "%E5%B7%A5"),
        ("😀", "%F0%9F%98%80"),
        ("\r\n", "%0D%0A"),
    ],
)
def test_only_the_unreserved_characters_stay_bare(text: str, encoded: str) -> None:
    assert signing.percent_encode(text) == encoded


def test_header_values_are_signed_without_the_space_around_them() -> None:
    spaced = signing.canonical_request("GET", "/", "", {"host": "  a b  "}, ["host"], "hash")
    assert spaced == "GET\n/\n\nhost:a b\n\nhost\nhash"


def test_only_the_named_headers_are_signed() -> None:
    canonical = signing.canonical_request("GET", "/", "", {"host": "h", "accept": "x"}, ["host"], "hash")
    assert "accept" not in canonical
