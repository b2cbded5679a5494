"""Webhooks over TLS: who is trusted, who is refused and with which words; also through proxies."""

import base64
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from tests.fakes import NOON, delivery, event
from tests.proxies import Proxy, open_proxy
from tests.servers import open_receiver
from watcher.config.load import Config, load
from watcher.document import ProblemsFound
from watcher.errors import SinkUnavailable
from watcher.outlets import open_outlets

EXPIRED = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Pki:
    """An authority that everybody here trusts, one that nobody does, and a folder for their files."""

    folder: Path
    authority: trustme.CA
    stranger: trustme.CA

    def server(self, name: str = "localhost", *, asks: bool = False, **more: Any) -> ssl.SSLContext:
        """Return the context of a server of this name; if it ``asks``, clients need a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(name, **more).configure_cert(context)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            self.authority.configure_trust(context)
        return context

    def client(self, authority: trustme.CA, **more: Any) -> str:
        """Write a client's certificate and key; return `tls` of a configuration that shows it."""
        chain = authority.issue_cert("watcher@client.example", **more)
        (self.folder / "client.pem").write_bytes(b"".join(blob.bytes() for blob in chain.cert_chain_pems))
        chain.private_key_pem.write_to_path(str(self.folder / "client.key"))
        return "{ca: ca.pem, cert: client.pem, key: client.key}"


@pytest.fixture(scope="module")
def authorities() -> tuple[trustme.CA, trustme.CA]:
    return trustme.CA(), trustme.CA()


@pytest.fixture
def pki(tmp_path: Path, authorities: tuple[trustme.CA, trustme.CA]) -> Pki:
    authority, stranger = authorities
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "stranger.pem"))
    return Pki(tmp_path, authority, stranger)


def configured(pki: Pki, url: str, *, tls: str = "{ca: ca.pem}", more: str = "", **environ: str) -> Config:
    file = pki.folder / "watcher.yaml"
    sink = f"{{type: webhook, url: '{url}', timeout: 30s, tls: {tls}{more}}}"
    file.write_text(f"version: 1\naccounts: {{main: {{}}}}\nsinks:\n  hub: {sink}\n")
    return load(file, environ)


async def send(config: Config) -> str:
    """Send an event; return why it was not taken, or nothing."""
    async with open_outlets(config) as outlets:
        try:
            await outlets.build("hub").send(delivery(event()), now=NOON)
        except SinkUnavailable as error:
            return str(error)
    return ""


# --- the certificate of the receiver ----------------------------------------------------------------------


async def test_an_authority_of_ones_own_can_be_trusted(pki: Pki) -> None:
    async with open_receiver(tls=pki.server()) as receiver:
        assert await send(configured(pki, receiver.url)) == ""
        assert len(receiver.received) == 1


@pytest.mark.parametrize("tls", ["{}", "{ca: stranger.pem}"])
async def test_an_authority_that_is_not_trusted_is_refused(pki: Pki, tls: str) -> None:
    async with open_receiver(tls=pki.server()) as receiver:
        assert await send(configured(pki, receiver.url, tls=tls)) == (
            "TLS failed: the certificate of the other side is not signed by an authority that is trusted here"
        )
        assert receiver.received == []


async def test_an_expired_certificate_is_refused(pki: Pki) -> None:
    async with open_receiver(tls=pki.server(not_after=EXPIRED)) as receiver:
        said = await send(configured(pki, receiver.url))
        assert said == "TLS failed: the certificate of the other side has expired"
        assert receiver.received == []


async def test_the_certificate_of_another_host_is_refused(pki: Pki) -> None:
    async with open_receiver(tls=pki.server("other.example")) as receiver:
        said = await send(configured(pki, receiver.url))
        assert said == "TLS failed: the certificate of the other side is for another host name"
        said = await send(configured(pki, receiver.url.replace("localhost", "127.0.0.1")))
        assert said == "TLS failed: the certificate of the other side is for another address"
        assert receiver.received == []


async def test_plain_http_behind_https_is_named(pki: Pki) -> None:
    async with open_receiver() as receiver:
        said = await send(configured(pki, receiver.url.replace("http:", "https:")))
        assert said == "TLS failed: the other side does not speak TLS here"


# --- the certificate of the client ------------------------------------------------------------------------


@contextmanager
def strict_server(context: ssl.SSLContext) -> Iterator[str]:
    """Serve as servers outside of Python do: who is refused gets an alert that says why; lend the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    _answer(context.wrap_socket(client, server_side=True, do_handshake_on_connect=False))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://localhost:{listener.getsockname()[1]}/"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(client: ssl.SSLSocket) -> None:
    client.settimeout(30)
    try:
        client.do_handshake()
        client.recv(65536)
        client.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    except ssl.SSLError:
        pass
    finally:
        # Read what is left: a connection that is closed with something unread is reset, and the alert may be lost.
        with socket.socket(fileno=client.detach()) as plain, suppress(ConnectionError):
            plain.settimeout(30)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(65536):
                pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_client_certificate_is_shown_or_its_refusal_is_named(pki: Pki, version: ssl.TLSVersion) -> None:
    context = pki.server(asks=True)
    context.minimum_version = context.maximum_version = version
    with strict_server(context) as url:
        assert await send(configured(pki, url, tls=pki.client(pki.authority))) == ""
        assert "asks for a client certificate" in await send(configured(pki, url))
        refused = "TLS failed: the other side refuses the client certificate"
        assert await send(configured(pki, url, tls=pki.client(pki.stranger))) == refused
        expired = pki.client(pki.authority, not_after=EXPIRED)
        assert await send(configured(pki, url, tls=expired)) == f"{refused}: it has expired"


async def test_a_certificate_may_stand_in_one_file_with_its_key(pki: Pki) -> None:
    pki.client(pki.authority)
    both = (pki.folder / "client.pem").read_bytes() + (pki.folder / "client.key").read_bytes()
    (pki.folder / "both.pem").write_bytes(both)
    with strict_server(pki.server(asks=True)) as url:
        assert await send(configured(pki, url, tls="{ca: ca.pem, cert: both.pem}")) == ""


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
async def test_nothing_older_than_tls_1_2_is_spoken(pki: Pki) -> None:
    context = pki.server()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with strict_server(context) as url:
        said = await send(configured(pki, url))
        assert said == "TLS failed: the other side does not accept TLS 1.2 or 1.3"


async def test_a_connection_that_is_dropped_in_the_handshake_is_named(pki: Pki) -> None:
    """As asyncio's servers do it, which send no alert."""
    context = pki.server(asks=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with open_receiver(tls=context) as receiver:
        assert "closed during the TLS handshake" in await send(configured(pki, receiver.url))


# --- files that cannot serve ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tls", "problem"),
    [
        ("{ca: absent.pem}", "sinks.hub.tls.ca: cannot be read: No such file or directory"),
        ("{ca: .}", "sinks.hub.tls.ca: cannot be read: Is a directory"),
        ("{ca: junk.pem}", "sinks.hub.tls.ca: holds no certificate"),
        ("{ca: empty.pem}", "sinks.hub.tls.ca: holds no certificate"),
        ("{cert: absent.pem}", "sinks.hub.tls.cert: cannot be read: No such file or directory"),
        ("{cert: client.pem, key: absent.key}", "sinks.hub.tls.key: cannot be read: No such file or directory"),
        ("{cert: client.pem}", "sinks.hub.tls.cert: does not hold a certificate and the key that belongs to it"),
        ("{cert: junk.pem, key: client.key}", "sinks.hub.tls.cert: does not hold a certificate and the key"),
        ("{cert: ca.pem, key: client.key}", "sinks.hub.tls.cert: does not hold a certificate and the key"),
        ("{cert: client.pem, key: encrypted.key}", "sinks.hub.tls.cert: the key is encrypted; decrypt it"),
    ],
)
async def test_a_file_that_cannot_serve_is_a_problem_with_a_place(pki: Pki, tls: str, problem: str) -> None:
    pki.client(pki.authority)
    (pki.folder / "junk.pem").write_text("-----BEGIN CERTIFICATE-----\njunk\n-----END CERTIFICATE-----\n")
    (pki.folder / "empty.pem").write_text("")
    encrypt(pki.folder / "client.key", pki.folder / "encrypted.key")
    config = configured(pki, "https://hub.example/", tls=tls)
    async with open_outlets(config) as outlets:
        with pytest.raises(ProblemsFound, match=r"watcher.yaml:4:\d+ ") as found:
            outlets.build("hub")
    assert problem in str(found.value)


def encrypt(source: Path, target: Path) -> None:
    key = serialization.load_pem_private_key(source.read_bytes(), None)
    target.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"4711"),
        )
    )


async def test_a_preview_needs_no_files(pki: Pki) -> None:
    config = configured(pki, "https://hub.example/", tls="{cert: absent.pem, key: absent.key}")
    async with open_outlets(config, hides_secrets=True) as outlets:
        assert outlets.build("hub").preview(event(), now=NOON).startswith("POST https://hub.example/\n")


# --- through a proxy --------------------------------------------------------------------------------------


@asynccontextmanager
async def proxied(
    pki: Pki, url: str, *, login: str = "bob:p%40ss-4711", tls: str
) -> AsyncIterator[tuple[Proxy, Config]]:
    """Start a proxy that wants bob and his password; lend it with a configuration that goes through it."""
    async with open_proxy(login=base64.b64encode(b"bob:p@ss-4711").decode()) as proxy:
        address = proxy.url.replace("://", f"://{login}@")
        yield proxy, configured(pki, url, tls=tls, more=", proxy: {env: PROXY}", PROXY=address)


async def test_a_tunnel_through_a_proxy_reaches_the_receiver_who_is_checked_all_the_same(pki: Pki) -> None:
    async with open_receiver(tls=pki.server()) as receiver:
        async with proxied(pki, receiver.url, tls="{ca: ca.pem}") as (proxy, config):
            assert await send(config) == ""
            assert [each.partition(" ")[0] for each in proxy.asked] == ["CONNECT"]
        async with proxied(pki, receiver.url, tls="{ca: stranger.pem}") as (_, config):
            assert "not signed by an authority that is trusted here" in await send(config)
        assert len(receiver.received) == 1
        assert "Proxy-Authorization" not in receiver.received[0].headers


async def test_a_client_certificate_is_shown_through_a_tunnel(pki: Pki) -> None:
    with strict_server(pki.server(asks=True)) as url:
        async with proxied(pki, url, tls=pki.client(pki.authority)) as (proxy, config):
            assert await send(config) == ""
            assert len(proxy.asked) == 1


async def test_plain_http_goes_through_a_proxy_too(pki: Pki) -> None:
    async with open_receiver() as receiver, proxied(pki, receiver.url, tls="null") as (proxy, config):
        assert await send(config) == ""
        assert proxy.asked == [f"POST {receiver.url} HTTP/1.1"]
        assert "Proxy-Authorization" not in receiver.received[0].headers


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_the_password_is_named_without_it(pki: Pki, scheme: str) -> None:
    async with open_receiver(tls=pki.server() if scheme == "https" else None) as receiver:
        tls = "{ca: ca.pem}" if scheme == "https" else "null"
        async with proxied(pki, receiver.url, login="bob:wrong-4711", tls=tls) as (_, config):
            said = await send(config)
        assert said in {"the proxy answered 407", "HTTP 407, proxy authentication required"}
        assert receiver.received == []


async def test_a_proxy_that_is_not_there_is_named_without_its_password(pki: Pki) -> None:
    async with open_receiver(tls=pki.server()) as receiver:
        async with proxied(pki, receiver.url, tls="{ca: ca.pem}") as (_, config):
            pass
        assert await send(config) == "the proxy cannot be reached"
