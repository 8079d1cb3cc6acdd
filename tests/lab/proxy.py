"""A process of bad lines between nodes: HTTP and media pass through it, and it loses and delays.

An edge has one number for TCP and UDP. A node's `--parent` (or a viewer's URL) names the edge
instead of the node above; HTTP is handed on, and in an SDP answer that passes the candidates are
rewritten to the edge, so that the media come the same way. Each address below gets a socket of its
own towards the node above, as through a NAT. HTTP is delayed and cut like the media but loses
nothing: TCP would repair it.

The process is commanded by JSON lines on standard input (`Lines` does that) and ends with it:
`{"edge": 9601, "up": {...}, "down": {...}}` changes conditions, `{"edge": 9601}` asks for counts.
`down` is the way to the child.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.lab.line import Conditions, Line

Address = tuple[str, int]

ROOT = Path(__file__).resolve().parents[2]
_CANDIDATE = re.compile(rb"(a=candidate:\S+ 1 udp \d+ )\S+ (\d+)( typ host)", re.IGNORECASE)
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d+)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)
_BODILESS = re.compile(rb"HTTP/1\.1 (1\d\d|204|304) ")
_BUFFER_BYTES = 4 << 20
_CLOCK_STEP_S = 0.0005


@dataclass(frozen=True, slots=True)
class Edge:
    """One line: where it listens (127.0.0.1), and the URL of the node above."""

    port: int
    above: str

    @property
    def url(self) -> str:
        """What the node below takes for its parent."""
        return f"http://127.0.0.1:{self.port}"


class Lines:
    """The handle on a proxy process. Use as `async with`."""

    def __init__(self, edges: list[Edge], seed: int = 1) -> None:
        self.edges = edges
        self._seed = seed
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Lines:
        plan = json.dumps({"edges": [[e.port, e.above] for e in self.edges], "seed": self._seed})
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.lab.proxy", plan,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await self._answer()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        process = self._running()
        if process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(3):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    @property
    def pid(self) -> int:
        """The process id, for CPU accounting."""
        return self._running().pid

    async def set(
        self, port: int, *, down: Conditions | None = None, up: Conditions | None = None
    ) -> None:
        """Change an edge; None leaves a direction as it is. Effective when this returns."""
        order: dict[str, object] = {"edge": port}
        if down is not None:
            order["down"] = asdict(down)
        if up is not None:
            order["up"] = asdict(up)
        await self._order(order)

    async def set_all(self, conditions: Conditions) -> None:
        """Make every edge the same, both ways."""
        for edge in self.edges:
            await self.set(edge.port, down=conditions, up=conditions)

    async def counts(self, port: int) -> dict[str, dict[str, int]]:
        """The tallies of an edge since its start, `down` and `up`."""
        answer: dict[str, dict[str, int]] = await self._order({"edge": port})
        return answer

    async def _order(self, order: dict[str, object]) -> Any:
        async with self._turn:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(order).encode() + b"\n")
            await process.stdin.drain()
            return await self._answer()

    async def _answer(self) -> Any:
        process = self._running()
        assert process.stdout is not None
        async with asyncio.timeout(10):
            line = await process.stdout.readline()
        if not line:
            raise ConnectionError("the proxy process has ended")
        return json.loads(line)

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RuntimeError("not started")
        return self._process


# ---------------------------------------------------------------- inside the process


class _Clock:
    """Runs sends at their time: one heap, one timer of the loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Callable[[bytes], object], bytes]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None

    def at(self, when: float, send: Callable[[bytes], object], data: bytes) -> None:
        """Call `send(data)` at a time of the loop's clock; equal times keep their order."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, send, data))
        if self._timer is None or when < self._timer.when():
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._run)

    def _run(self) -> None:
        self._timer = None
        heap, limit = self._heap, self._loop.time() + _CLOCK_STEP_S
        while heap and heap[0][0] <= limit:
            _, _, send, data = heapq.heappop(heap)
            send(data)
        if heap:
            self._set_timer()


class _EdgeServer:
    """One edge inside the proxy process."""

    def __init__(self, edge: Edge, seed: int, clock: _Clock) -> None:
        self.edge = edge
        self.down, self.up = Line(2 * seed), Line(2 * seed + 1)
        parts = urlsplit(edge.above)
        self._above = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._media_above = self._above
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._below: dict[Address, socket.socket] = {}
        self._sock = _udp()
        self._clear = asyncio.Event()
        self._clear.set()

    async def start(self) -> None:
        self._sock.bind(("127.0.0.1", self.edge.port))
        self._loop.add_reader(self._sock, self._from_below)
        await asyncio.start_server(self._serve, "127.0.0.1", self.edge.port)

    def change(self, down: dict[str, Any] | None, up: dict[str, Any] | None) -> None:
        """Take new conditions from a command."""
        if down is not None:
            self.down.conditions = Conditions(**down)
        if up is not None:
            self.up.conditions = Conditions(**up)
        if self.down.conditions.cut or self.up.conditions.cut:
            self._clear.clear()
        else:
            self._clear.set()

    # -------------------------------------------------------- media

    def _from_below(self) -> None:
        sock, line, now = self._sock, self.up, self._loop.time()
        for _ in range(64):
            try:
                data, address = sock.recvfrom(2048)
            except OSError:
                return
            when = line.arrival(now, len(data))
            if when is None:
                continue
            above = self._below.get(address) or self._open(address)
            self._deliver(when, now, _sender(above), data)

    def _open(self, address: Address) -> socket.socket:
        """A socket towards the node above that stands for one address below."""
        above = _udp()
        above.bind(("127.0.0.1", 0))
        above.connect(self._media_above)
        self._below[address] = above
        back = _sender_to(self._sock, address)
        self._loop.add_reader(above, self._from_above, above, back)
        return above

    def _from_above(self, above: socket.socket, back: Callable[[bytes], object]) -> None:
        line, now = self.down, self._loop.time()
        for _ in range(64):
            try:
                data = above.recv(2048)
            except OSError:
                return
            when = line.arrival(now, len(data))
            if when is not None:
                self._deliver(when, now, back, data)

    def _deliver(
        self, when: float, now: float, send: Callable[[bytes], object], data: bytes
    ) -> None:
        if when <= now:
            send(data)
        else:
            self._clock.at(when, send, data)

    # -------------------------------------------------------- HTTP

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from below; each request gets a connection of its own to the node above,
        so that a death above is seen below with the next request at the latest.
        """
        try:
            await self._pass(self.up)
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # Either side has closed; the other learns it below.
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Hand on one request and its response; False when the connection has been used up."""
        request = await _message(reader)
        await self._pass(self.up)
        from_above, above = await asyncio.open_connection(*self._above)
        try:
            above.write(request)
            head = await from_above.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            await self._pass(self.down)
            if found is None and not _BODILESS.match(head) and not request.startswith(b"HEAD "):
                # A body without an announced end (a held connection): bytes as they come.
                writer.write(head)
                while data := await from_above.read(65536):
                    await self._pass(self.down)
                    writer.write(data)
                    await writer.drain()
                return False
            body = b""
            if found is not None and not request.startswith(b"HEAD "):
                body = await from_above.readexactly(int(found[1]))
            writer.write(self._rewritten(head + body))
            await writer.drain()
            return True
        finally:
            above.close()

    async def _pass(self, line: Line) -> None:
        """Take the line's time; wait while it is cut."""
        await self._clear.wait()
        await asyncio.sleep(line.conditions.delay_ms / 1000)

    def _rewritten(self, response: bytes) -> bytes:
        """The response with the candidates of an SDP answer turned to this edge."""
        head, _, body = response.partition(b"\r\n\r\n")
        if b"application/sdp" not in head.lower():
            return response
        found = _CANDIDATE.search(body)
        if found is None:
            return response
        self._media_above = (self._above[0], int(found[2]))
        body = _CANDIDATE.sub(rb"\g<1>127.0.0.1 %d\g<3>" % self.edge.port, body)
        head = _LENGTH.sub(b"Content-Length: %d\r" % len(body), head + b"\r\n")
        return head + b"\r\n" + body


async def _message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP request, with a Content-Length or without a body."""
    head = await reader.readuntil(b"\r\n\r\n")
    found = _LENGTH.search(head)
    return head + await reader.readexactly(int(found[1])) if found is not None else head


def _udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, _BUFFER_BYTES)
    return sock


def _sender(sock: socket.socket) -> Callable[[bytes], object]:
    def send(data: bytes) -> None:
        # A full buffer or a dead node loses the packet, as a line does.
        with contextlib.suppress(OSError):
            sock.send(data)

    return send


def _sender_to(sock: socket.socket, address: Address) -> Callable[[bytes], object]:
    def send(data: bytes) -> None:
        with contextlib.suppress(OSError):
            sock.sendto(data, address)

    return send


async def _run(plan: dict[str, Any]) -> None:
    clock = _Clock()
    servers = {}
    for index, (port, above) in enumerate(plan["edges"]):
        server = _EdgeServer(Edge(port, above), 1000 * plan["seed"] + index, clock)
        await server.start()
        servers[port] = server
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    buffer = bytearray()

    def command() -> None:
        data = os.read(0, 65536)
        if not data:
            ended.set()
            return
        buffer.extend(data)
        while b"\n" in buffer:
            line, _, rest = bytes(buffer).partition(b"\n")
            buffer[:] = rest
            order = json.loads(line)
            server = servers[order["edge"]]
            server.change(order.get("down"), order.get("up"))
            _say({"down": asdict(server.down.tally), "up": asdict(server.up.tally)})

    loop.add_reader(0, command)
    _say("ready")
    await ended.wait()


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run(json.loads(sys.argv[1])))
