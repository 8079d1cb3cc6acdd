"""The proxy process between a plain UDP and HTTP server and its clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp import ClientSession, web

from tests.lab.line import Conditions
from tests.lab.ports import Ports
from tests.lab.proxy import Edge, Lines

pytestmark = pytest.mark.live

SDP = "v=0\r\nm=video 9 X 96\r\na=candidate:1 1 udp 2130706431 127.0.0.1 %d typ host\r\n"


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(data, address)


async def answer(request: web.Request) -> web.Response:
    assert request.transport is not None
    number = request.transport.get_extra_info("sockname")[1]
    text = SDP % number if request.method == "POST" else "plain"
    kind = "application/sdp" if request.method == "POST" else "text/plain"
    return web.Response(text=text, content_type=kind, status=201)


@contextlib.asynccontextmanager
async def node(ports: Ports) -> AsyncIterator[Edge]:
    """A server with HTTP and an echo on one number, and the edge in front of it."""
    app = web.Application()
    app.router.add_route("*", "/whep/x", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    number = ports.take()
    await web.TCPSite(runner, "127.0.0.1", number).start()
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        Echo, local_addr=("127.0.0.1", number)
    )
    try:
        yield Edge(ports.take(), f"http://127.0.0.1:{number}")
    finally:
        transport.close()
        await runner.cleanup()


async def echoed(edge: Edge, count: int, within_s: float) -> int:
    """How many of so many datagrams come back through the edge."""
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.connect(("127.0.0.1", edge.port))
        for number in range(count):
            sock.send(b"%d" % number)
            if number % 50 == 0:
                await asyncio.sleep(0.005)
        found = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while found < count:
                    await loop.sock_recv(sock, 100)
                    found += 1
        return found


async def test_an_answer_leads_its_media_through_the_edge() -> None:
    async with node(Ports()) as edge, Lines([edge]), ClientSession() as http:
        async with http.post(f"{edge.url}/whep/x", data="v=0") as response:
            assert response.status == 201
            assert await response.text() == SDP % edge.port
        async with http.get(f"{edge.url}/whep/x") as response:
            assert await response.text() == "plain"
        assert await echoed(edge, 100, 2.0) == 100


async def test_conditions_change_while_it_runs() -> None:
    async with node(Ports()) as edge, Lines([edge]) as lines:
        await lines.set(edge.port, down=Conditions(loss=0.5))
        assert 300 < await echoed(edge, 1000, 1.0) < 700
        await lines.set(edge.port, down=Conditions(cut=True))
        assert await echoed(edge, 10, 0.3) == 0
        async with asyncio.timeout(10):
            while (await lines.counts(edge.port))["down"]["cut"] < 10:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await lines.set(edge.port, down=Conditions())
        assert await echoed(edge, 10, 2.0) == 10
        counts = await lines.counts(edge.port)
        assert counts["up"]["packets"] == 1020
        assert counts["down"]["cut"] == 10


async def test_a_held_connection_breaks_with_its_server() -> None:
    """A node takes this for the sign that its parent has died."""
    dies = asyncio.Event()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\none\n")
        await dies.wait()
        writer.close()

    ports = Ports()
    number = ports.take()
    edge = Edge(ports.take(), f"http://127.0.0.1:{number}")
    server = await asyncio.start_server(hold, "127.0.0.1", number)
    async with server, Lines([edge]):
        reader, writer = await asyncio.open_connection("127.0.0.1", edge.port)
        writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"one\n")).startswith(b"HTTP/1.1 200 OK")
            dies.set()
            assert await reader.read() == b""
        writer.close()
