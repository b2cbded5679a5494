"""One way to call HTTP: bounded, without redirects, cookies or secrets in what is said about a failure."""

import os
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from watcher import __version__, tls
from watcher.addresses import is_loopback, is_public
from watcher.errors import WatcherError

USER_AGENT = f"watcher/{__version__}"
_REFUSED = "a private address, which is refused"


class HttpFailure(WatcherError):
    """No whole answer arrived; the text says why in words that may be logged."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class _PublicConnector(aiohttp.TCPConnector):
    """Connects to public addresses only.

    What is checked is the address that a socket is about to connect to: however the host is written, whatever its
    name resolves to at that moment, wherever a redirect leads.
    """

    def __init__(self, *, allow_loopback: bool, ssl_context: ssl.SSLContext) -> None:
        super().__init__(limit=0, ssl=ssl_context, socket_factory=partial(_open_socket, allow_loopback=allow_loopback))


def _open_socket(info: aiohttp.AddrInfoType, *, allow_loopback: bool) -> socket.socket:
    family, kind, protocol, _, address = info
    host = str(address[0])
    if not (is_public(host) or (allow_loopback and is_loopback(host))):
        raise PermissionError(_REFUSED)
    return socket.socket(family, kind, protocol)


@asynccontextmanager
async def open_session(
    *, public_only: bool = False, allow_loopback: bool = False
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open a client session; one of the process serves all calls.

    With ``public_only`` it connects to public addresses alone, and never through a proxy, which would connect to
    anything; ``allow_loopback`` exempts this machine.

    The pool has no limit of its own: who calls bounds its calls, so that one hanging host cannot use up the
    connections of the others.
    """
    context = tls.trusting()
    async with aiohttp.ClientSession(
        connector=_PublicConnector(allow_loopback=allow_loopback, ssl_context=context)
        if public_only
        else aiohttp.TCPConnector(limit=0, ssl=context),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT},
        skip_auto_headers={"Content-Type"},
    ) as session:
        yield session


async def fetch(
    session: aiohttp.ClientSession,
    method: str,
    url: URL | str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    timeout_s: float,
    limit_bytes: int,
    cut: bool = False,
    is_status_enough: bool = False,
    proxy: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Reply:
    """Return the whole answer, or raise ``HttpFailure``.

    ``timeout_s`` is the total, from the first step to the last byte. ``limit_bytes`` counts decoded bytes, so
    that a small compressed body cannot become a large one; past it, the answer is cut when ``cut`` is set,
    else it is a failure. With ``is_status_enough`` an answer whose body does not arrive whole, or not in time, is
    returned with what there is of it. ``ssl_context`` takes the place of the session's own.
    """
    try:
        async with session.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            proxy=None if isinstance(session.connector, _PublicConnector) else proxy,
            ssl=ssl_context or True,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            received = bytearray()
            try:
                await _receive(response, received, limit_bytes=limit_bytes, cut=cut)
            except (TimeoutError, aiohttp.ClientError, OSError, ValueError):
                if not is_status_enough:
                    raise
                response.close()
            return Reply(response.status, response.headers, bytes(received))
    except TimeoutError as error:
        raise HttpFailure(f"no whole answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise HttpFailure(describe(error)) from error


async def _receive(response: aiohttp.ClientResponse, into: bytearray, *, limit_bytes: int, cut: bool) -> None:
    async for chunk in response.content.iter_any():
        into += chunk
        if len(into) > limit_bytes:
            response.close()
            if not cut:
                raise HttpFailure(f"the answer is larger than {limit_bytes} bytes")
            del into[limit_bytes:]
            return


def describe(error: BaseException) -> str:
    """Say what a transport error means, without the address (its query may hold a key)."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return _reason(error.__cause__ or error.os_error)
        case aiohttp.ClientConnectorDNSError():
            return f"the host name {error.host} cannot be resolved"
        case aiohttp.ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case aiohttp.ClientHttpProxyError():
            return f"the proxy answered {error.status}"
        case aiohttp.ClientConnectorError():
            return f"cannot connect to {error.host}:{error.port}: {_reason(error.os_error)}"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case aiohttp.ClientPayloadError():
            return "the answer broke off in the middle"
        case aiohttp.InvalidURL():
            return "the address is not a valid URL"
        case aiohttp.ClientResponseError():
            return "the answer is not valid HTTP"
        case _:
            return _reason(error)


def _reason(error: BaseException | None) -> str:
    # The reasons of several addresses of one host come as one text.
    if _REFUSED in str(error):
        return _REFUSED
    # An alert may come after the handshake, as an error of the first read.
    for each in (error, error.__cause__ if error else None):
        if isinstance(each, ssl.SSLError):
            return f"TLS failed: {tls.meaning(each)}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    if isinstance(error, ConnectionResetError):
        # What asyncio says of a connection that is lost before it is ready (it has an errno where the system says so).
        return "the connection was closed during the TLS handshake"
    return type(error).__name__


def phrase(status: int) -> str:
    """Return what a status means, in the words of the standard."""
    try:
        return HTTPStatus(status).phrase.lower()
    except ValueError:
        return "an unknown status"


def proxy_for(url: str, configured: str | None) -> str | None:
    """Return the proxy to use: the configured one, else what ``https_proxy`` and ``no_proxy`` say."""
    if configured:
        return configured
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
