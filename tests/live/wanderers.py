"""Viewers that go where they are sent: they follow a sibling and come again when told goodbye.

What the watch page does, without a browser: real ICE, DTLS and SRTP, but nothing is decoded.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.bench.audience import JOIN_ERRORS
from tests.bench.dtls import Identity
from tests.bench.peer import Peer
from tests.bench.signalling import Client, Response
from tests.patience import PATIENCE

CONSENT_EVERY_S = 4.0


class Following(Client):
    """A client that takes a node's word for where else to ask. `answered_by` is who answered."""

    def __init__(self, url: str, token: str = "") -> None:
        super().__init__(url)
        self.answered_by = url
        self.refused: list[Response] = []
        self._token = token

    async def request(
        self, method: str, path: str, body: bytes = b"", content_type: str = "application/sdp"
    ) -> Response:
        """One request, and once more at the sibling that a 307 or a hint names."""
        response = await super().request(method, path, body, content_type)
        if response.status == 201:
            return response
        self.refused.append(response)
        hint = re.match(r"<([^>]+)>", response.headers.get("link", ""))
        address = response.headers.get("location") or (hint[1] if hint else "")
        if not address:
            return response
        parts = urlsplit(address)
        self.answered_by = f"{parts.scheme}://{parts.netloc}"
        other = Client(self.answered_by)
        try:
            return await other.request(method, f"{parts.path}?{parts.query}", body, content_type)
        finally:
            await other.close()


@dataclass(slots=True, eq=False)
class Wanderer:
    """One viewer. Times are of `time.monotonic()`; `stalls` are the gaps at changes of node."""

    at: str = ""
    joins: int = 0
    packets: int = 0
    last_packet_s: float = 0.0
    longest_gap_s: float = 0.0
    stalls: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Crowd:
    """Viewers of one stream that begin at one node. Use as `async with`."""

    def __init__(self, url: str, stream: str, *, again: bool = True) -> None:
        """`again`: whether they ask anew when they are told goodbye or refused."""
        self.viewers: list[Wanderer] = []
        self._url, self._stream, self._again = url, stream, again
        self._identity = Identity("aes128-gcm")
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Crowd:
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def come(self, count: int, within_s: float) -> None:
        """Let so many ask, spread evenly; returns when the last one has begun to ask."""
        for _ in range(count):
            viewer = Wanderer()
            self.viewers.append(viewer)
            self._tasks.append(asyncio.create_task(self._live(viewer)))
            await asyncio.sleep(within_s / count)

    def playing(self, within_s: float = 0.5) -> list[Wanderer]:
        """Those who got a packet in the last moment."""
        now = time.monotonic()
        return [v for v in self.viewers if now - v.last_packet_s < within_s]

    async def until(self, count: int, seconds: float) -> None:
        """Wait until so many play. Raises TimeoutError."""
        async with asyncio.timeout(seconds * PATIENCE):
            while True:
                if len(self.playing()) >= count:
                    return
                await asyncio.sleep(0.05)

    async def until_moved(self, url: str, seconds: float) -> None:
        """Wait until all have packets from this node, after another. Raises TimeoutError."""
        async with asyncio.timeout(seconds * PATIENCE):
            while not all(v.at == url and v.stalls for v in self.viewers):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def _live(self, viewer: Wanderer) -> None:
        while True:
            peer = Peer(self._identity)
            client = Following(self._url)
            wait_s = 0.0
            try:
                await peer.join(client, f"/whep/{self._stream}")
                viewer.at = client.answered_by
                viewer.joins += 1
                await self._watch(viewer, peer)
            except JOIN_ERRORS as error:
                viewer.failures.append(f"{type(error).__name__}: {error}")
                retry = client.refused[-1].headers.get("retry-after") if client.refused else None
                wait_s = float(retry or 1)
            finally:
                peer.close()
                await client.close()
            if not self._again:
                return
            await asyncio.sleep(wait_s)

    async def _watch(self, viewer: Wanderer, peer: Peer) -> None:
        """Count packets until the node says goodbye (a DTLS alert)."""
        loop = asyncio.get_running_loop()
        gone = asyncio.Event()
        first = True

        def read() -> None:
            nonlocal first
            with contextlib.suppress(BlockingIOError, OSError):
                while True:
                    data = peer.sock.recv(2048)
                    kind = data[0]
                    if kind == 21:
                        gone.set()
                    elif 127 < kind < 192 and not 192 <= data[1] <= 223:
                        now = time.monotonic()
                        gap = now - viewer.last_packet_s if viewer.last_packet_s else 0.0
                        if first and viewer.joins > 1:
                            viewer.stalls.append(gap)
                        first = False
                        viewer.longest_gap_s = max(viewer.longest_gap_s, gap)
                        viewer.last_packet_s = now
                        viewer.packets += 1
                    elif kind < 2:
                        peer.take_stun(data)

        loop.add_reader(peer.sock, read)
        try:
            while not gone.is_set():
                peer.send_consent()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CONSENT_EVERY_S):
                        await gone.wait()
        finally:
            loop.remove_reader(peer.sock)
