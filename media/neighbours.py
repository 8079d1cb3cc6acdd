"""Boxes on the same LAN, found by multicast DNS (RFC 6762, RFC 6763), as sources of pieces.

A box announces `_terrace-pieces._tcp` with the port at which it serves `/pieces/<sha256>`. What a
neighbour says is believed in one thing only, its address: every piece is checked, and no token is
ever shown to one. Addresses outside of the box's own networks are passed over, for a name on the
LAN must not send it into the internet.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Self

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from .suppliers import Source, SourceKind

log = logging.getLogger("media.neighbours")

SERVICE: Final = "_terrace-pieces._tcp.local."
MAX_NEIGHBOURS: Final = 16
RESOLVE_WITHIN_MS: Final = 3000
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Neighbours:
    """Announces this box and keeps the list of the others. Use as `async with`.

    Without a network (or where multicast is not allowed) there are no neighbours, and no error.
    """

    def __init__(
        self,
        box: str,
        port: int,
        *,
        interfaces: list[str] | None = None,
        changed: Callable[[], None] | None = None,
    ) -> None:
        """box: a name that no other box has, of letters, digits and `-`, at most 40 characters.

        port: where this box serves its pieces; 0: nowhere, it only looks for others.
        interfaces: own addresses to use; None: all that are not loopback.
        changed: called after the list has changed.
        """
        self._box = box
        self._port = port
        self._interfaces = interfaces
        self._changed = changed
        self._found: dict[str, Source] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None

    def sources(self) -> list[Source]:
        """The neighbours that are there now."""
        return list(self._found.values())

    async def __aenter__(self) -> Self:
        addresses = self._interfaces or own_addresses()
        if not addresses:
            return self
        try:
            self._zeroconf = AsyncZeroconf(interfaces=addresses, ip_version=IPVersion.V4Only)
            if self._port:
                info = AsyncServiceInfo(
                    SERVICE,
                    f"{self._box}.{SERVICE}",
                    port=self._port,
                    server=f"{self._box}.local.",
                    parsed_addresses=addresses,
                    properties={"v": "1"},
                )
                await (await self._zeroconf.async_register_service(info, allow_name_change=True))
                self._box = info.name.removesuffix("." + SERVICE)
            self._browser = AsyncServiceBrowser(
                self._zeroconf.zeroconf, SERVICE, handlers=[self._heard]
            )
        except (OSError, ZeroconfError) as error:
            log.warning("neighbours-off why=%s", error)
            await self._close()
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        browser, zeroconf = self._browser, self._zeroconf
        self._browser = self._zeroconf = None
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            # It says goodbye, so that nobody asks a box that is off.
            await zeroconf.async_close()

    def _heard(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if name == f"{self._box}.{SERVICE}" or len(name) > 255:
            return
        if state_change is ServiceStateChange.Removed:
            if self._found.pop(name, None) is not None:
                self._tell()
            return
        task = asyncio.ensure_future(self._resolve(zeroconf, name))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        try:
            if not await info.async_request(zeroconf, RESOLVE_WITHIN_MS):
                return
        except ZeroconfError as error:
            log.info("neighbour-unclear name=%.80r why=%s", name, error)
            return
        addresses = info.parsed_addresses(IPVersion.V4Only)
        source = choose(addresses, info.port or 0, own_networks())
        if source is None or (name not in self._found and len(self._found) >= MAX_NEIGHBOURS):
            return
        if self._found.get(name) != source:
            self._found[name] = source
            log.info("neighbour url=%s", source.url)
            self._tell()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed()


def choose(addresses: Iterable[str], port: int, networks: Iterable[Network]) -> Source | None:
    """The source at the first address that lies in one of our own networks; None if none does."""
    near = list(networks)
    if not 0 < port < 65536:
        return None
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if any(address in network for network in near):
            host = f"[{address}]" if address.version == 6 else str(address)
            return Source(f"http://{host}:{port}", SourceKind.NEIGHBOUR)
    return None


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses but loopback."""
    return [str(address.ip) for address in _own() if not address.is_loopback]


def own_networks() -> list[Network]:
    """The networks of all of this machine's cards, loopback's too."""
    return [address.network for address in _own()]


def _own() -> list[ipaddress.IPv4Interface]:
    return [
        ipaddress.IPv4Interface(f"{ip.ip}/{ip.network_prefix}")
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 and isinstance(ip.ip, str)
    ]


def box_name(prefix: str = "terrace") -> str:
    """A name for a box that has no better one: this machine's, as far as it fits."""
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in socket.gethostname())
    return f"{prefix}-{letters}"[:40].strip("-")
