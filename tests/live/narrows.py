"""A narrow line: a UDP proxy in front of a node, with a rate, a short queue and loss downwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

QUEUE_S = 0.6
HEADERS_BYTES = 28  # IPv4 and UDP count on a real line


class Narrows:
    """`rate_bps` may be changed at any time. `port` is where the viewer finds the node."""

    def __init__(self, node_port: int, rate_bps: float, lost: float) -> None:
        self.rate_bps = rate_bps
        self.lost = lost
        self._chance = random.Random(7)
        self.dropped = 0
        self.port = 0
        self._node = ("127.0.0.1", node_port)
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._viewer: Any = None
        self._down: asyncio.DatagramTransport | None = None
        self._up: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        local = ("127.0.0.1", 0)
        self._down, _ = await loop.create_datagram_endpoint(lambda: _End(self._up_now), local)
        self._up, _ = await loop.create_datagram_endpoint(lambda: _End(self._down_later), local)
        self.port = self._down.get_extra_info("sockname")[1]

    def _up_now(self, data: bytes, address: Any) -> None:
        self._viewer = address
        assert self._up is not None
        self._up.sendto(data, self._node)

    def _down_later(self, data: bytes, address: Any) -> None:
        # Handshakes have their own repeats, which are not the matter here.
        if 127 < data[0] < 192 and self._chance.random() < self.lost:
            return
        if self._queued + len(data) > self.rate_bps / 8 * QUEUE_S + 3000:
            self.dropped += 1
            return
        self._queue.append(data)
        self._queued += len(data)

    async def run(self) -> None:
        """Let packets out as the rate allows, for as long as the test runs."""
        assert self._down is not None
        before, credit = time.monotonic(), 0.0
        while True:
            await asyncio.sleep(0.002)
            now = time.monotonic()
            credit += (now - before) * self.rate_bps / 8
            before = now
            while self._queue and credit >= len(self._queue[0]) + HEADERS_BYTES:
                data = self._queue.popleft()
                self._queued -= len(data)
                credit -= len(data) + HEADERS_BYTES
                self._down.sendto(data, self._viewer)
            if not self._queue:
                # A late process makes the line no thinner: only an idle one saves up nothing.
                credit = min(credit, 3000 + self.rate_bps / 1600)

    def close(self) -> None:
        for end in (self._up, self._down):
            if end is not None:
                end.close()


class _End(asyncio.DatagramProtocol):
    def __init__(self, arrived: Any) -> None:
        self._arrived = arrived

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._arrived(data, addr)


@contextlib.asynccontextmanager
async def narrows(node_port: int, rate_bps: float, lost: float = 0.0) -> AsyncIterator[Narrows]:
    """A narrow line that lasts as long as the block; `lost` of its packets get lost (0 to 1)."""
    line = Narrows(node_port, rate_bps, lost)
    await line.start()
    task = asyncio.create_task(line.run())
    try:
        yield line
    finally:
        task.cancel()
        line.close()
