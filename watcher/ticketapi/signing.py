"""ACS3-HMAC-SHA256, the vendor's request signature. Pure: values in, text out.

Source: "Request syntax and signature method V3", help.aliyun.com document 2593177, and the official Python SDK
(tea-openapi 0.4.6), whose output the test vectors hold.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import quote

ALGORITHM = "ACS3-HMAC-SHA256"


def percent_encode(text: str) -> str:
    """Encode as RFC 3986 does: UTF-8, only ``A-Z a-z 0-9 - _ . ~`` left bare."""
    return quote(text, safe="-_.~")


def canonical_query(params: Mapping[str, str]) -> str:
    """Return the query as it is signed, and as it may be sent: names in code-point order, all encoded."""
    return "&".join(f"{percent_encode(name)}={percent_encode(params[name])}" for name in sorted(params))


def content_sha256(body: bytes) -> str:
    """Return the value of ``x-acs-content-sha256`` for exactly these bytes."""
    return hashlib.sha256(body).hexdigest()


def canonical_request(
    method: str, path: str, query: str, headers: Mapping[str, str], signed: Iterable[str], body_hash: str
) -> str:
    """Return the text whose hash is signed.

    ``query`` is what ``canonical_query`` returned, ``headers`` holds lower-case names, and ``signed`` names
    those of them that are signed.
    """
    names = sorted(signed)
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in names)
    return "\n".join((method, path, query, lines, ";".join(names), body_hash))


def string_to_sign(canonical: str) -> str:
    """Return the algorithm's name and the hash of the canonical request."""
    return f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signature(secret: str, text: str) -> str:
    """Return the lower-case hex HMAC-SHA256 of ``text``, keyed with the raw AccessKey secret."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def authorization(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    access_key_id: str,
    access_key_secret: str,
    body_hash: str,
) -> str:
    """Return the ``Authorization`` header; every entry of ``headers`` (lower-case names) is signed."""
    canonical = canonical_request(method, path, query, headers, headers, body_hash)
    signed = signature(access_key_secret, string_to_sign(canonical))
    names = ";".join(sorted(headers))
    return f"{ALGORITHM} Credential={access_key_id},SignedHeaders={names},Signature={signed}"
