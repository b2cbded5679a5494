"""Which addresses are this machine, and which are public. Pure."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

# What IANA's special-purpose registry does not call globally reachable, and what must never be called. Written out,
# because `ipaddress.is_global` lets multicast, 6to4 and NAT64 pass, and differs from one Python to the next.
_NOT_PUBLIC_V4 = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by carriers; 100.100.100.200 is the metadata service of Alibaba Cloud
            "127.0.0.0/8",
            "168.63.129.16/32",  # the host of a virtual machine on Azure
            "169.254.0.0/16",  # link-local, with the metadata services of most other clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",  # documentation, as the two below
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, with broadcast
        ),
    )
)
# All public unicast is in here (RFC 4291); loopback, unique local, link-local, site-local, multicast, NAT64 and the
# deprecated forms with an IPv4 address inside are not.
_GLOBAL_UNICAST_V6 = ip_network("2000::/3")
_NOT_PUBLIC_V6 = tuple(
    map(
        ip_network,
        (
            "2001::/23",  # protocols; Teredo is among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: leads to the IPv4 address inside
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Tell whether an address, as a socket connects to it, is one of the public internet.

    Whatever is no plain IP address is not public. Sources: IANA's registries of special-purpose addresses.
    """
    parsed = _parse(address)
    match parsed:
        case IPv4Address():
            return not any(parsed in network for network in _NOT_PUBLIC_V4)
        case IPv6Address():
            return parsed in _GLOBAL_UNICAST_V6 and not any(parsed in network for network in _NOT_PUBLIC_V6)
        case None:
            return False


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` (a name or an address, IPv6 without brackets) can only be this machine."""
    parsed = _parse(host)
    return host.lower() == "localhost" or (parsed is not None and parsed.is_loopback)


def _parse(address: str) -> IPv4Address | IPv6Address | None:
    """Return the address that is meant: as IPv4 where IPv6 only wraps it."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed
