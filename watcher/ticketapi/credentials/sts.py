"""Roles, taken on through the Security Token Service (STS, version 2015-04-01).

Sources: "AssumeRole" and "AssumeRoleWithOIDC", help.aliyun.com, and the vendor's packages for Python and Go.
"""

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import aiohttp
from yarl import URL

from watcher.addresses import is_loopback
from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.http import HttpFailure, Reply, fetch, proxy_for
from watcher.ports import Clock
from watcher.ticketapi import signing
from watcher.ticketapi.credentials.contract import (
    LIMIT_BYTES,
    Credentials,
    Provider,
    decode_object,
    is_refusal,
    read_answer,
    text_of,
)
from watcher.ticketapi.credentials.local import read_text, switched_on, variable

STS_URL = "https://sts.aliyuncs.com"
#: Who we are in the customer's audit trail, unless they choose a name.
SESSION_NAME = "watcher"
SESSION = timedelta(hours=1)
SHORTEST_SESSION = timedelta(minutes=15)

_VERSION = "2015-04-01"
_TIMEOUT_S = 10.0
_REGION = re.compile(r"[a-z0-9-]+")
_CODE = re.compile(r"[\w.-]{1,80}", re.ASCII)

# Codes that pass by themselves, by their beginning.
_PASSING = (
    "Throttling",
    "ServiceUnavailable",
    "InternalError",
    "SignatureNonceUsed",
    "InvalidTimeStamp.Expired",
)
_REMEDIES = {
    "InvalidAccessKeyId": "the access key is unknown or disabled",
    "InvalidSecurityToken": "the security token is refused or has expired: get a new one",
    "SignatureDoesNotMatch": "check the access key secret",
    "IncompleteSignature": "check the access key secret",
    "NoPermission": "give the caller AliyunSTSAssumeRoleAccess, and name it in the role's trust policy",
    "EntityNotExist": "check the ARN of the role and of the provider",
    "AuthenticationFail": "check the OIDC provider, its token file, and the role's trust policy",
    "InvalidParameter": "check role ARN, session name, session duration and policy",
    "InvalidTimeStamp": "set this machine's clock",
}


def sts_endpoint(environment: Mapping[str, str], *, region: str = "", vpc: bool | None = None) -> str:
    """Return the address of STS: the central one, or that of a region, inside its VPC if asked for.

    Raises ``CredentialsRejected`` for a region that is no name: the OIDC token must not go to a strange host.
    """
    region = region or variable(environment, "ALIBABA_CLOUD_STS_REGION")
    if not region:
        return STS_URL
    if not _REGION.fullmatch(region):
        raise CredentialsRejected(f"The STS region {region!r} is not the name of a region: correct it.")
    if vpc is None:
        vpc = switched_on(environment, "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED")
    return f"https://sts{'-vpc' if vpc else ''}.{region}.aliyuncs.com"


class Sts:
    """The Security Token Service at one address; plain http only on this machine."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        clock: Clock,
        endpoint: str = STS_URL,
        proxy: str | None = None,
    ) -> None:
        self._session = session
        self._clock = clock
        self._endpoint = endpoint
        self._proxy = proxy

    async def assume_role(self, params: Mapping[str, str], *, key: Credentials, source: str) -> Credentials:
        """Take on a role with ``key``; the request is signed with ACS3."""
        host = self._address().netloc
        query = signing.canonical_query(params)
        body_hash = signing.content_sha256(b"")
        headers = {
            "host": host,
            "x-acs-action": "AssumeRole",
            "x-acs-content-sha256": body_hash,
            "x-acs-date": self._timestamp(),
            "x-acs-signature-nonce": secrets.token_hex(16),
            "x-acs-version": _VERSION,
        }
        if key.security_token:
            headers["x-acs-accesskey-id"] = key.access_key_id
            headers["x-acs-security-token"] = key.security_token
        headers["authorization"] = signing.authorization(
            "POST",
            "/",
            query,
            headers,
            access_key_id=key.access_key_id,
            access_key_secret=key.access_key_secret,
            body_hash=body_hash,
        )
        # The service answers in XML unless asked; not signed, since proxies rewrite this header.
        headers["accept"] = "application/json"
        return _credentials(await self._post(query, headers, b""), source)

    async def assume_role_with_oidc(self, params: Mapping[str, str], *, source: str) -> Credentials:
        """Take on a role with the OIDC token in ``params``, which is all the proof there is: no signature.

        The parameters travel in the body, so that no proxy writes the token to its log.
        """
        query = {
            "Action": "AssumeRoleWithOIDC",
            "Format": "JSON",
            "SignatureNonce": secrets.token_hex(16),
            "Timestamp": self._timestamp(),
            "Version": _VERSION,
        }
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        body = signing.canonical_query(params).encode()
        return _credentials(await self._post(signing.canonical_query(query), headers, body), source)

    async def _post(self, query: str, headers: Mapping[str, str], body: bytes) -> Reply:
        address = self._address()
        origin = f"{address.scheme}://{address.netloc}"
        try:
            return await fetch(
                self._session,
                "POST",
                # Encoded already: what is sent must be what was signed.
                URL(f"{origin}/?{query}", encoded=True),
                headers=headers,
                body=body,
                timeout_s=_TIMEOUT_S,
                limit_bytes=LIMIT_BYTES,
                proxy=proxy_for(origin, self._proxy),
            )
        except HttpFailure as error:
            raise ApiUnavailable(f"STS does not answer: {error}.") from error

    def _address(self) -> SplitResult:
        try:
            address = urlsplit(self._endpoint)
            host = address.hostname or ""
        except ValueError as error:
            raise CredentialsRejected("The STS endpoint is not a valid address: correct it.") from error
        safe = address.scheme == "https" or (address.scheme == "http" and is_loopback(host))
        if not host or not safe or "@" in address.netloc:
            raise CredentialsRejected(
                "The STS endpoint must be an https:// address; http:// serves on this machine only."
            )
        return address

    def _timestamp(self) -> str:
        return self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")


class RamRole:
    """A role taken on with another key."""

    def __init__(
        self,
        *,
        sts: Sts,
        source: Provider,
        role_arn: str,
        session_name: str = SESSION_NAME,
        duration: timedelta = SESSION,
        external_id: str = "",
        policy: str = "",
    ) -> None:
        self._sts = sts
        self._source = source
        self._role_arn = role_arn
        self._params = _role_params(role_arn, session_name, duration, policy)
        self._duration = duration
        if external_id:
            self._params["ExternalId"] = external_id

    async def fetch(self) -> Credentials:
        """Read the other key anew and take on the role with it."""
        _check(self._role_arn, self._duration)
        key = await self._source.fetch()
        source = f"RAM role {_role_name(self._role_arn)}, taken on with the key of the {key.source}"
        return await self._sts.assume_role(self._params, key=key, source=source)


class OidcRole:
    """A role taken on with an OIDC token, as pods do it (RRSA: RAM roles for service accounts)."""

    def __init__(
        self,
        *,
        sts: Sts,
        role_arn: str,
        provider_arn: str,
        token_file: Path,
        session_name: str = SESSION_NAME,
        duration: timedelta = SESSION,
        policy: str = "",
    ) -> None:
        self._sts = sts
        self._role_arn = role_arn
        self._token_file = token_file
        self._duration = duration
        self._params = _role_params(role_arn, session_name, duration, policy)
        self._params["OIDCProviderArn"] = provider_arn

    async def fetch(self) -> Credentials:
        """Read the token file, which the cluster renews, and take on the role."""
        _check(self._role_arn, self._duration)
        token = (await read_text(self._token_file, shown=str(self._token_file), expected=True)).strip()
        if not token:
            raise CredentialsRejected(f"The OIDC token file {self._token_file} is empty.")
        source = f"RAM role {_role_name(self._role_arn)}, taken on with an OIDC token"
        return await self._sts.assume_role_with_oidc({**self._params, "OIDCToken": token}, source=source)


def _role_params(role_arn: str, session_name: str, duration: timedelta, policy: str) -> dict[str, str]:
    params = {
        "DurationSeconds": str(int(duration.total_seconds())),
        "RoleArn": role_arn,
        "RoleSessionName": session_name or SESSION_NAME,
    }
    return {**params, "Policy": policy} if policy else params


def _check(role_arn: str, duration: timedelta) -> None:
    if not role_arn:
        raise CredentialsRejected("The RAM role to take on has no ARN: name it.")
    if duration < SHORTEST_SESSION:
        raise CredentialsRejected(
            f"The session of the RAM role {_role_name(role_arn)} is shorter than the 900 s that STS asks for."
        )


def _role_name(role_arn: str) -> str:
    return role_arn.rpartition("role/")[2]


def _credentials(reply: Reply, source: str) -> Credentials:
    try:
        answer = decode_object(reply.body)
    except ValueError as error:
        raise ApiUnavailable(
            f"STS, or a proxy before it, gives an answer that {error} (status {reply.status})."
        ) from error
    if reply.status != HTTPStatus.OK:
        raise _failure(reply.status, text_of(answer, "Code"), source)
    granted = answer.get("Credentials")
    try:
        return read_answer(granted if isinstance(granted, dict) else {}, source=source)
    except ValueError as error:
        raise ApiUnavailable(f"STS gives an answer that {error}.") from error


def _failure(status: int, code: str, source: str) -> ApiUnavailable | CredentialsRejected:
    # The answer's Message is left out: it may quote what was signed.
    code = code if _CODE.fullmatch(code) else "no code"
    if not is_refusal(status) or code.startswith(_PASSING):
        return ApiUnavailable(f"STS has no answer for now (status {status}, {code}).")
    remedies = (remedy for beginning, remedy in _REMEDIES.items() if code.startswith(beginning))
    remedy = next(remedies, "look the code up in the vendor's STS error list")
    return CredentialsRejected(f"STS refuses the {source} ({code}): {remedy}.")
