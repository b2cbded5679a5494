"""Credentials from near by, never through a proxy: the ECS metadata service and a credentials URI."""

import re
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import aiohttp

from watcher.errors import ApiUnavailable, CredentialsRejected
from watcher.http import HttpFailure, Reply, fetch
from watcher.ticketapi.credentials.contract import (
    LIMIT_BYTES,
    Credentials,
    CredentialsAbsent,
    decode_object,
    is_refusal,
    read_answer,
    text_of,
)

#: A link-local address that only ECS instances can reach.
METADATA_URL = "http://100.100.100.200"

_TOKEN_PATH = "/latest/api/token"  # noqa: S105  a path, no secret
_ROLES_PATH = "/latest/meta-data/ram/security-credentials/"
# Elsewhere nothing answers at that address, and a start should not wait long to learn it.
_ECS_TIMEOUT_S = 2.0
_URI_TIMEOUT_S = 10.0
_ROLE = re.compile(r"[\w.@-]{1,64}", re.ASCII)


class EcsRamRole:
    """The RAM role attached to this ECS instance, ``role`` or whichever the instance has.

    A session token is asked for first (IMDSv2); without one it goes on tokenless if ``tokenless`` allows it.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        role: str = "",
        tokenless: bool = True,
        base_url: str = METADATA_URL,
    ) -> None:
        self._session = session
        self._role = role
        self._tokenless = tokenless
        self._base_url = base_url.rstrip("/")

    async def fetch(self) -> Credentials:
        """Ask the metadata service."""
        token = await self._token()
        headers = {"X-aliyun-ecs-metadata-token": token} if token else {}
        role = self._role or await self._discover(headers)
        reply = await self._call("GET", _ROLES_PATH + quote(role, safe=""), headers)
        if reply.status == HTTPStatus.NOT_FOUND:
            raise CredentialsRejected(
                f"This ECS instance does not have the RAM role {role}: attach it, or correct its name."
            )
        return _credentials(reply, what="The ECS metadata service", source=f"ECS RAM role {role}")

    async def _token(self) -> str:
        try:
            headers = {"X-aliyun-ecs-metadata-token-ttl-seconds": "21600"}
            reply = await self._call("PUT", _TOKEN_PATH, headers)
        except ApiUnavailable:
            if not self._tokenless:
                raise
            return ""
        if reply.status == HTTPStatus.OK:
            return reply.body.decode(errors="replace").strip()
        if self._tokenless:
            return ""
        raise CredentialsRejected(
            f"The ECS metadata service gives no session token (status {reply.status}), and"
            " ALIBABA_CLOUD_IMDSV1_DISABLED forbids to ask without one."
        )

    async def _discover(self, headers: Mapping[str, str]) -> str:
        reply = await self._call("GET", _ROLES_PATH, headers)
        if reply.status == HTTPStatus.NOT_FOUND:
            raise CredentialsAbsent("This ECS instance has no RAM role: attach one in the ECS console.")
        role = reply.body.decode(errors="replace").strip()
        if reply.status != HTTPStatus.OK or not _ROLE.fullmatch(role):
            raise ApiUnavailable(f"The ECS metadata service names no RAM role (status {reply.status}).")
        return role

    async def _call(self, method: str, path: str, headers: Mapping[str, str]) -> Reply:
        url = self._base_url + path
        try:
            return await fetch(
                self._session,
                method,
                url,
                headers=headers,
                timeout_s=_ECS_TIMEOUT_S,
                limit_bytes=LIMIT_BYTES,
            )
        except HttpFailure as error:
            raise ApiUnavailable(f"The ECS metadata service does not answer: {error}.") from error


class CredentialsUri:
    """An address that answers with credentials; plain http serves, as it is meant to be a neighbour."""

    def __init__(self, *, session: aiohttp.ClientSession, uri: str, source: str = "credentials URI") -> None:
        self._session = session
        self._uri = uri
        self._source = source

    async def fetch(self) -> Credentials:
        """Ask the address."""
        what = f"The address of the {self._source}"
        if not _is_http(self._uri):
            raise CredentialsRejected(f"{what} is not an http:// or https:// address.")
        try:
            reply = await fetch(self._session, "GET", self._uri, timeout_s=_URI_TIMEOUT_S, limit_bytes=LIMIT_BYTES)
        except HttpFailure as error:
            raise ApiUnavailable(f"{what} does not answer: {error}.") from error
        return _credentials(reply, what=what, source=self._source)


def _is_http(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _credentials(reply: Reply, *, what: str, source: str) -> Credentials:
    if is_refusal(reply.status):
        raise CredentialsRejected(f"{what} refuses to give credentials (status {reply.status}).")
    if reply.status != HTTPStatus.OK:
        raise ApiUnavailable(f"{what} has no answer for now (status {reply.status}).")
    try:
        answer = decode_object(reply.body)
        if text_of(answer, "Code") != "Success":
            raise CredentialsRejected(f"{what} answers that it has no credentials to give.")
        return read_answer(answer, source=source)
    except ValueError as error:
        raise ApiUnavailable(f"{what} gives an answer that {error}.") from error
