"""One way to call HTTP: bounded, without redirects, cookies or secrets in what is said about a failure."""

import os
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from watcher import __version__
from watcher.errors import WatcherError

USER_AGENT = f"watcher/{__version__}"


class HttpFailure(WatcherError):
    """No whole answer arrived; the text says why in words that may be logged."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


@asynccontextmanager
async def open_session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open the one client session of the process.

    The pool has no limit of its own: who calls bounds its calls, so that one hanging host cannot use up the
    connections of the others.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=context),
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
    proxy: str | None = None,
) -> Reply:
    """Return the whole answer, or raise ``HttpFailure``.

    ``timeout_s`` is the total, from the first step to the last byte. ``limit_bytes`` counts decoded bytes, so
    that a small compressed body cannot become a large one; past it, the answer is cut when ``cut`` is set,
    else it is a failure.
    """
    try:
        async with session.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            proxy=proxy,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
        ) as response:
            received = bytearray()
            async for chunk in response.content.iter_any():
                received += chunk
                if len(received) > limit_bytes:
                    response.close()
                    if cut:
                        del received[limit_bytes:]
                        break
                    raise HttpFailure(f"the answer is larger than {limit_bytes} bytes")
            return Reply(response.status, response.headers, bytes(received))
    except TimeoutError as error:
        raise HttpFailure(f"no whole answer within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise HttpFailure(describe(error)) from error


def describe(error: BaseException) -> str:
    """Say what a transport error means, without the address (its query may hold a key)."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"TLS failed: {_reason(error.__cause__ or error.os_error)}"
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
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake refused"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return type(error).__name__


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (a name or an address, IPv6 without brackets) can only be this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: str, configured: str | None) -> str | None:
    """Return the proxy to use: the configured one, else what ``https_proxy`` and ``no_proxy`` say."""
    if configured:
        return configured
    parts = urlsplit(url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(parts.scheme)
