"""Who is calling: the gateway's side of both request signatures.

Sources: "Request syntax and signature method V3", help.aliyun.com document 2593177; for V1 the RPC signature
page (ECS DescribeRegions example) and the official Python SDK (tea-openapi 0.4.6, signature_algorithm v2).
In which order the real gateway checks is not published; this is the order in which a mistake shows best.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from watcher.simulator.limits import Nonces
from watcher.simulator.records import Account, Key
from watcher.simulator.refusal import RefusedError, missing
from watcher.simulator.world import NotThereError, World
from watcher.ticketapi import signing

_WINDOW_SECONDS = 15 * 60
_AUTHORIZATION = re.compile(
    rf"{signing.ALGORITHM} Credential=([^,\s]+),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-f]{{64}})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request, decoded; the names of ``headers`` are in lower case."""

    method: str
    query: Mapping[str, str]
    form: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def action(self) -> str:
        """The operation's name, in the header (V3) or in the query (V1)."""
        return self.headers.get("x-acs-action") or self.query.get("Action", "")

    @property
    def version(self) -> str:
        """The version of the API, in the header (V3) or in the query (V1)."""
        return self.headers.get("x-acs-version") or self.query.get("Version", "")

    @property
    def key_id(self) -> str:
        """The AccessKey id that the request claims, or ""."""
        match = _AUTHORIZATION.fullmatch(self.headers.get("authorization", ""))
        return match[1] if match else self.query.get("AccessKeyId", "")

    def get(self, name: str) -> str:
        """Return a parameter, wherever it stands, or ""."""
        return self.form.get(name) or self.query.get(name, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    key_id: str
    signature: str
    string_to_sign: str
    date: str
    nonce: str
    token: str

    def expected(self, secret: str) -> str:
        if self.string_to_sign.startswith(signing.ALGORITHM):
            return signing.signature(secret, self.string_to_sign)
        digest = hmac.new(f"{secret}&".encode(), self.string_to_sign.encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()


def verify(world: World, nonces: Nonces, incoming: Incoming) -> Account:
    """Return the account that signed the request, or raise the gateway's ``RefusedError``."""
    claim = _claim_v1(incoming) if "Signature" in incoming.query else _claim_v3(incoming)
    try:
        account, key = world.key(claim.key_id)
    except NotThereError:
        raise RefusedError("InvalidAccessKeyId.NotFound") from None
    if key.disabled:
        raise RefusedError("InvalidAccessKeyId.Inactive")
    now = world.now()
    _check_date(claim.date, now)
    if not hmac.compare_digest(claim.expected(key.secret).encode(), claim.signature.encode()):
        raise _mismatch(claim.string_to_sign)
    _check_token(key, claim.token, now)
    # Remembered last: a request that is refused for another reason does not use up its nonce.
    if not nonces.take(key.id, claim.nonce, now):
        raise RefusedError("SignatureNonceUsed")
    return account


def _claim_v3(incoming: Incoming) -> _Claim:
    headers = incoming.headers
    match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if match is None:
        raise RefusedError("IncompleteSignature")
    key_id, names, signature = match.groups()
    # How the gateway names a missing header is not published; these are the names of the V1 parameters.
    for header, parameter in (("x-acs-date", "Timestamp"), ("x-acs-signature-nonce", "SignatureNonce")):
        if not headers.get(header):
            raise missing(parameter)
    signed = set(names.split(";"))
    required = {"host", "x-acs-content-sha256", *(name for name in headers if name.startswith("x-acs-"))}
    if required - signed or signed - headers.keys():
        raise RefusedError("IncompleteSignature")
    # Encoded anew from the decoded query: the official SDK sends `+` for a space and signs `%20`.
    query = signing.canonical_query(incoming.query)
    body_hash = signing.content_sha256(incoming.body)
    text = signing.string_to_sign(signing.canonical_request(incoming.method, "/", query, headers, signed, body_hash))
    if not hmac.compare_digest(headers["x-acs-content-sha256"].encode(), body_hash.encode()):
        raise _mismatch(text)
    return _Claim(
        key_id=key_id,
        signature=signature,
        string_to_sign=text,
        date=headers["x-acs-date"],
        nonce=headers["x-acs-signature-nonce"],
        token=headers.get("x-acs-security-token", ""),
    )


def _claim_v1(incoming: Incoming) -> _Claim:
    query = incoming.query
    for name in ("AccessKeyId", "Timestamp", "SignatureNonce", "SignatureMethod", "SignatureVersion"):
        if not query.get(name):
            raise missing(name)
    if (query["SignatureMethod"], query["SignatureVersion"]) != ("HMAC-SHA1", "1.0"):
        raise RefusedError("IncompleteSignature")
    params = {**query, **incoming.form}
    del params["Signature"]
    canonical = signing.percent_encode(signing.canonical_query(params))
    return _Claim(
        key_id=query["AccessKeyId"],
        signature=query["Signature"],
        string_to_sign=f"{incoming.method}&%2F&{canonical}",
        date=query["Timestamp"],
        nonce=query["SignatureNonce"],
        token=query.get("SecurityToken", ""),
    )


def _check_date(text: str, now: float) -> None:
    try:
        date = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise RefusedError("InvalidTimeStamp.Format") from None
    if abs(date.timestamp() - now) > _WINDOW_SECONDS:
        raise RefusedError("InvalidTimeStamp.Expired")


def _check_token(key: Key, token: str, now: float) -> None:
    if key.token and not token:
        raise missing("SecurityToken")
    if token and not key.token:
        raise RefusedError("InvalidSecurityToken.Malformed")
    if not hmac.compare_digest(key.token.encode(), token.encode()):
        raise RefusedError("InvalidSecurityToken.MismatchWithAccessKey")
    if key.token_expires_at is not None and now >= key.token_expires_at:
        raise RefusedError("InvalidSecurityToken.Expired")


def _mismatch(text: str) -> RefusedError:
    return RefusedError(
        "SignatureDoesNotMatch",
        f"Specified signature is not matched with our calculation. server string to sign is:{text}",
    )
