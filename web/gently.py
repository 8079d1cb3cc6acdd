"""Send a file over a line that carries sound, so that the sound goes on in step.

TCP fills the queue before a thin line, which may be seconds long, and what is live waits in it.
Even two packets under way at all times do: beside sound that takes three quarters of 128 kbit/s
they come to stand for 0.8 s. So a file goes in turns: a little is written, and nothing more until
the other end has all of it. How long that takes says how the queue stands, as in LEDBAT (RFC 6817):
while it takes about as long as the quickest turn, turns grow; when it takes much longer they
shrink, and the smallest is followed by a rest, in which the queue can empty itself. A file that a
line has room for is there as soon as by other ways, but for the first round trips.

Behind a proxy that reads ahead a turn is over once the proxy has it, and the proxy decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import time
from dataclasses import dataclass
from typing import Final

from aiohttp import web

LEAST_BYTES: Final = 1000
MOST_BYTES: Final = 64 * 1024
FIRST_SHARE: Final = 0.6
"""A turn is two segments or more: some receivers answer a lone one only after 40 to 200 ms."""
AT_REST_S: Final = 0.03
CROWDED_S: Final = 0.06
QUICK_S: Final = 0.02
"""A line that takes a turn within this is none of the thin ones."""
LONGEST_REST_S: Final = 0.5
CLIENT_SILENT_S: Final = 30.0


@dataclass(slots=True)
class Pace:
    """How much goes into a turn, and how long to rest after it (pure)."""

    size_bytes: int = LEAST_BYTES
    quickest_s: float = float("inf")

    def after(self, took_s: float) -> float:
        """Learn from a turn that took so long; the seconds to rest before the next."""
        self.quickest_s = min(self.quickest_s, took_s)
        waited_s = took_s - self.quickest_s
        if waited_s < AT_REST_S:
            # Step by step even then: a line may let some kilobytes through before it brakes.
            more = LEAST_BYTES if took_s < QUICK_S else LEAST_BYTES // 2
            self.size_bytes = min(MOST_BYTES, self.size_bytes + more)
        elif waited_s > CROWDED_S:
            if self.size_bytes == LEAST_BYTES:
                return min(took_s, LONGEST_REST_S)
            self.size_bytes = max(LEAST_BYTES, self.size_bytes // 2)
        return 0.0


async def send(request: web.Request, response: web.StreamResponse, data: bytes) -> None:
    """Send a body and end the response; a client that is gone, or silent for 30 s, is given up."""
    transport = request.transport
    line = transport.get_extra_info("socket") if transport is not None else None
    if transport is None or line is None:
        return
    # Every write waits until the kernel has taken it.
    transport.set_write_buffer_limits(high=0)
    pace, at = Pace(), 0
    try:
        while at < len(data):
            turn = data[at : at + pace.size_bytes]
            at += len(turn)
            began_s = time.monotonic()
            async with asyncio.timeout(CLIENT_SILENT_S):
                first = int(len(turn) * FIRST_SHARE)
                for part in (turn[:first], turn[first:]):
                    await response.write(part)
                    # By itself aiohttp waits after 64 KB only.
                    await request.writer.drain()
                await _arrived(line)
            if at < len(data):
                await asyncio.sleep(pace.after(time.monotonic() - began_s))
        await response.write_eof()
    except (TimeoutError, ConnectionError):
        transport.abort()
    finally:
        transport.set_write_buffer_limits()


async def _arrived(line: socket.socket) -> None:
    """Wait until the other end has confirmed everything; the kernel tells that only if asked."""
    began_s = time.monotonic()
    # No event tells of it. A tenth of what it has taken so far: few looks on a slow line.
    while _under_way(line):  # noqa: ASYNC110
        await asyncio.sleep(max(0.001, (time.monotonic() - began_s) / 10))


def _under_way(line: socket.socket) -> int:
    """Bytes that are written and not confirmed (tcp(7), SIOCOUTQ); 0 on a socket that is closed."""
    with contextlib.suppress(OSError, ValueError):
        found: int = struct.unpack("i", fcntl.ioctl(line.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return found
    return 0
