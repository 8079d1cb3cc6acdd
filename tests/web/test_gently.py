"""A file makes room for the sound on a thin line, and is quick on a wide one."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable

import pytest
from aiohttp import web

from tests.media.lessons import serving
from web import gently
from web.gently import LEAST_BYTES, MOST_BYTES, Pace


class Line:
    """A queue before a line (pure): turns go through it beside a sound of a steady rate."""

    def __init__(self, line_bps: float, sound_bps: float, way_s: float) -> None:
        self.bytes_per_s = line_bps / 8
        self.sound_per_s = sound_bps / 8
        self.way_s = way_s
        self.queue_bytes = 0.0
        self.longest_s = 0.0
        self.now_s = 0.0

    def rest(self, gone_s: float) -> None:
        self.now_s += gone_s
        gone = (self.bytes_per_s - self.sound_per_s) * gone_s
        self.queue_bytes = max(0.0, self.queue_bytes - gone)

    def turn(self, size: int) -> float:
        """How long it takes until all of it has come and that is known."""
        self.queue_bytes += size
        self.longest_s = max(self.longest_s, self.queue_bytes / self.bytes_per_s)
        took_s = self.queue_bytes / self.bytes_per_s + self.way_s
        self.rest(took_s)
        return took_s


def sent(line: Line, size: int) -> float:
    """Send so much over a line; the seconds it takes."""
    pace = Pace()
    while size > 0:
        turn = min(size, pace.size_bytes)
        size -= turn
        line.rest(pace.after(line.turn(turn)))
    return line.now_s


def test_sound_waits_little_on_a_thin_line() -> None:
    line = Line(128_000, 95_000, 0.01)
    took_s = sent(line, 15_000)
    assert line.longest_s < 0.25
    # At what the sound leaves it would be 3.6 s.
    assert took_s < 6


@pytest.mark.parametrize(
    ("line_bps", "way_s", "within_s"),
    [(100e6, 0.001, 0.2), (10e6, 0.03, 0.5), (4e6, 0.3, 4.0), (128e3, 0.1, 3.5)],
)
def test_a_line_with_room_carries_a_page_soon(
    line_bps: float, way_s: float, within_s: float
) -> None:
    assert sent(Line(line_bps, 0, way_s), 15_000) < within_s


def test_a_turn_has_its_bounds() -> None:
    pace = Pace()
    for _ in range(1000):
        assert pace.after(0.001) == 0
    assert pace.size_bytes == MOST_BYTES
    rests = [pace.after(5.0) for _ in range(100)]
    assert pace.size_bytes == LEAST_BYTES
    assert max(rests) == gently.LONGEST_REST_S


async def test_a_body_arrives_whole_and_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    data = secrets.token_bytes(300_000)
    sizes: list[int] = []
    learn: Callable[[Pace, float], float] = Pace.after

    def after(self: Pace, took_s: float) -> float:
        sizes.append(self.size_bytes)
        return learn(self, took_s)

    monkeypatch.setattr(Pace, "after", after)
    async with serving(_one(data)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in range(2):  # One connection carries one answer after the other.
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: 300000" in head
            assert await reader.readexactly(len(data)) == data
        writer.close()
    assert sizes[0] == LEAST_BYTES
    assert len(sizes) > 10


async def test_who_stops_reading_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gently, "CLIENT_SILENT_S", 0.3)
    given_up: asyncio.Queue[bool] = asyncio.Queue()
    async with serving(_one(bytes(8_000_000), given_up)) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(line, (host, int(port)))
            await loop.sock_sendall(line, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await asyncio.wait_for(given_up.get(), 10)


def _one(data: bytes, given_up: asyncio.Queue[bool] | None = None) -> web.Application:
    async def get(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(data)
        await response.prepare(request)
        await gently.send(request, response, data)
        transport = request.transport
        if given_up is not None:
            given_up.put_nowait(transport is None or transport.is_closing())
        return response

    app = web.Application()
    app.router.add_get("/", get)
    return app
