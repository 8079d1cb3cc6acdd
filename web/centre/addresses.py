"""Whose address a request comes from when proxies stand in front (pure).

Each proxy adds the address that it was asked from at the right end of X-Forwarded-For; whatever
stands further left may be made up by anybody. So the header is read from the right, as long as the
one who wrote the next entry is a proxy of ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_HOPS = 20


def network(text: str) -> Network:
    """An address or a network such as 10.0.0.0/8; ValueError in words."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise ValueError(
            "it must be a list of addresses, such as 192.0.2.10 or 10.0.0.0/8"
        ) from None


def client(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The address of who asks.

    peer: the other end of the connection. forwarded: the X-Forwarded-For headers in their order.
    What is no address ends the way: it is the last proxy's own that counts then.
    """
    hops = [one.strip() for one in ",".join(forwarded).split(",")] if forwarded else []
    found = peer
    for hop in hops[: -MOST_HOPS - 1 : -1]:
        if not _is_one_of(found, trusted):
            break
        address = _address(hop)
        if not address:
            break
        found = address
    return found


def _address(hop: str) -> str:
    # Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711.
    text = hop.rpartition("]")[0].removeprefix("[") if hop.startswith("[") else hop
    if text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(_plain(text))
    except ValueError:
        return ""


def _plain(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    found = ipaddress.ip_address(text)
    # A socket for both kinds calls IPv4 peers ::ffff:192.0.2.1.
    return getattr(found, "ipv4_mapped", None) or found


def _is_one_of(text: str, networks: Sequence[Network]) -> bool:
    try:
        address = _plain(text)
    except ValueError:
        return False
    return any(address in one for one in networks)
