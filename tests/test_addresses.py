"""Which addresses may be connected to when private ones are refused, and that nothing else is ever touched."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address

import aiohttp
import pytest

from tests.servers import open_receiver
from watcher.addresses import is_loopback, is_public
from watcher.http import HttpFailure, describe, fetch, open_session

PUBLIC = (
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255"),
    *("192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *("::ffff:8.8.8.8", "::ffff:808:808", "2001:4860:4860::8888", "2001:200::1", "2606:4700::1111", "2400:3200::1"),
)
PRIVATE = (
    # This machine, and "this network".
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "0.0.0.1", "0.255.255.255", "::", "::1", "::1%lo"),
    # Networks of one's own.
    *("10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255"),
    *("fc00::1", "fd00::1", "fdff:ffff::1", "fd00:ec2::254", "fec0::1", "feff::1"),
    # Link-local, with metadata services.
    *("169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0", "fe80::a9fe:a9fe", "febf::1"),
    # Shared by carriers, with the metadata service of Alibaba Cloud, and that of Azure.
    *("100.64.0.1", "100.100.100.200", "100.127.255.255", "168.63.129.16"),
    # Multicast, reserved, broadcast.
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.254", "255.255.255.255", "ff02::1", "ff0e::1"),
    # Protocols, documentation, benchmarks.
    *("192.0.0.1", "192.0.0.170", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255"),
    *("192.88.99.1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1"),
    # IPv4 inside of IPv6: mapped, mapped in hexadecimal, compatible, translated, NAT64, local NAT64, 6to4, Teredo.
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:100.100.100.200"),
    *("::ffff:0.0.0.0", "::ffff:224.0.0.1", "::ffff:192.168.0.1%eth0", "::127.0.0.1", "::8.8.8.8"),
    *("::ffff:0:7f00:1", "::ffff:0:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::8.8.8.8"),
    *("64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::", "2002:808:808::1"),
    *("2001::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
    # Not an address as sockets have them.
    *(
        "",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "8.8.8.8 ",
        "8.8.8.8%eth0",
        "[::1]",
        "/run/x.sock",
    ),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_any_other_address_is_not(address: str) -> None:
    assert not is_public(address)


def test_what_python_calls_private_is_never_public() -> None:
    addresses = [f"{first}.{second}.0.1" for first in range(256) for second in range(0, 256, 5)]
    assert [each for each in addresses if is_public(each) and not ip_address(each).is_global] == []


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *(("localhost", True), ("LOCALHOST", True), ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True)),
        *(("::ffff:127.0.0.1", True), ("localhost.example", False), ("0.0.0.0", False), ("10.0.0.1", False)),
        *(("", False), ("::2", False), ("example", False), ("127.0.0.1%a.example", False), ("::1%lo", True)),
    ],
)
def test_loopback_is_what_can_only_be_this_machine(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# --- the session ------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_door() -> AsyncIterator[tuple[int, list[object]]]:
    """Listen on this machine; lend the port and the list of those who connected."""
    connected: list[object] = []

    def connect(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.append(writer.get_extra_info("peername"))
        writer.close()

    server = await asyncio.start_server(connect, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connected
    finally:
        server.close()
        await server.wait_closed()


async def refusal(url: str, *, proxy: str | None = None, allow_loopback: bool = False) -> str:
    async with open_session(public_only=True, allow_loopback=allow_loopback) as session:
        with pytest.raises(HttpFailure) as caught:
            await fetch(session, "GET", url, proxy=proxy, timeout_s=20, limit_bytes=100)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_nothing_connects_to_a_private_address(scheme: str, host: str) -> None:
    async with open_door() as (port, connected):
        said = await refusal(f"{scheme}://{host}:{port}/hook?key=SECRET")
        # Some ways to write an address are no URL to begin with.
        assert "a private address, which is refused" in said or said == "the address is not a valid URL"
        assert not [word for word in ("SECRET", "hook", "://") if word in said]
        await asyncio.sleep(0)
        assert connected == []


async def test_no_proxy_stands_between_a_guarded_session_and_an_address() -> None:
    """A proxy on a public address would connect to anything."""
    async with open_receiver() as proxy:
        said = await refusal("http://10.0.0.1/", proxy=proxy.url, allow_loopback=True)
        assert "10.0.0.1:80: a private address, which is refused" in said
        assert proxy.received == []


async def test_this_machine_may_be_exempt() -> None:
    async with open_receiver() as receiver, open_session(public_only=True, allow_loopback=True) as session:
        assert (await fetch(session, "GET", receiver.url, timeout_s=20, limit_bytes=100)).status == 204


async def test_a_redirect_leads_to_public_addresses_only() -> None:
    async with open_receiver() as receiver, open_session(public_only=True, allow_loopback=True) as session:
        receiver.answers(302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})
        with pytest.raises(aiohttp.ClientConnectorError) as caught:
            await session.get(receiver.url, allow_redirects=True)
    assert describe(caught.value) == "cannot connect to 169.254.169.254:80: a private address, which is refused"


async def test_without_the_guard_this_machine_can_be_called() -> None:
    async with open_receiver() as receiver, open_session() as session:
        assert (await fetch(session, "GET", receiver.url, timeout_s=20, limit_bytes=100)).status == 204


def test_the_refusal_is_told_among_the_reasons_of_several_addresses() -> None:
    reasons = OSError("Multiple exceptions: [Errno 111] Connect call failed, a private address, which is refused")
    assert describe(reasons) == "a private address, which is refused"
