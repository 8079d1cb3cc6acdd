"""Thousands of clients of a room in one process, without media, as cheap as they can be.

Each is a bare protocol on a socket that does what web/room/README.md asks of a client: it notes
where it answers before it does, keeps its receipt and says so, and comes back to some node when its
line breaks, with its receipt and its answer. Commanded by JSON lines on standard input:
`{"join": n, "nodes": [[host, port], ...]}`, `{"vote": seconds}` (each answers at a moment of its
own within that time once it sees the poll), `{"ask": "figures"}`.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import struct
import sys
import time
from typing import Any

from tests.lab.roomtop import ROOM, _answer

OPENING = 100
"""Connections that are being made at a time."""
BACK_S = (0.2, 2.0)
SOURCES = 16
"""Loopback addresses that clients come from: each has its own ephemeral ports."""


class Voter(asyncio.Protocol):
    """One person with one browser, over all of its connections."""

    __slots__ = (
        "_buffer", "_crowd", "_number", "_transport", "_upgraded", "choice", "counted_s",
        "node", "pressed", "receipt", "seat", "sees", "sent_s",
    )  # fmt: skip

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd = crowd
        self._number = number
        self.seat = f"{crowd.prefix}{number:016d}"
        self.choice = number % 3
        self.receipt: dict[str, Any] | None = None
        self.node = ""
        self.pressed = False
        self.sent_s = 0.0
        self.counted_s = 0.0
        self.sees = False
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer, self._upgraded, self.sees = b"", False, False
        transport.write(
            b"GET /room/%d/events HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % ROOM
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._crowd.lost(self)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            head, end, rest = buffer.partition(b"\r\n\r\n")
            if not end:
                self._buffer = buffer
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._crowd.refused += 1
                self.close()
                return
            self._upgraded, buffer = True, rest
            receipts = {} if self.receipt is None else {"1": self.receipt}
            self.send({
                "t": "hello", "token": "", "as": "viewer", "seat": self.seat,
                "receipts": receipts,
            })  # fmt: skip
        at = 0
        while len(buffer) - at >= 2:
            size, start = buffer[at + 1], at + 2
            if size == 126:
                if len(buffer) < at + 4:
                    break
                size, start = struct.unpack_from("!H", buffer, at + 2)[0], at + 4
            elif size == 127:
                if len(buffer) < at + 10:
                    break
                size, start = struct.unpack_from("!Q", buffer, at + 2)[0], at + 10
            if len(buffer) < start + size:
                break
            self._frame(buffer[at], buffer[start : start + size])
            at = start + size
        self._buffer = buffer[at:]

    def _frame(self, first: int, payload: bytes) -> None:
        self._crowd.received += 1
        if first == 0x89:
            self._write(0x8A, payload)
        elif first == 0x88:
            self.close()
        elif first != 0x81:
            return
        elif payload.startswith(b'{"t":"state"'):
            # Thousands of these: only what matters is looked at.
            if not self.sees and b'"open":true' in payload:
                self.sees = True
                if self.pressed and not self.counted_s:
                    self.answer()
        else:
            self._told(json.loads(payload))

    def _told(self, message: dict[str, Any]) -> None:
        match message["t"]:
            case "welcome":
                self.node = message["node"]
                self._crowd.welcomed(self)
            case "counted":
                self.receipt = {**message["receipt"], "choice": self.choice}
                if not self.counted_s:
                    self.counted_s = time.monotonic()
                self.send({"t": "have", "poll": 1, "receipt": message["receipt"]})
            case "error":
                self._crowd.errors[message["code"]] = self._crowd.errors.get(message["code"], 0) + 1

    def press(self) -> None:
        """Choose, and answer as soon as there is a node."""
        self.pressed = True
        self.sent_s = time.monotonic()
        if self._transport is not None and self.sees:
            self.answer()

    def answer(self) -> None:
        if self.receipt is None:
            self.receipt = {"node": self.node, "n": 0, "choice": self.choice}
        self.send({"t": "answer", "poll": 1, "choice": self.choice})

    def send(self, message: dict[str, Any]) -> None:
        self._write(0x81, json.dumps(message, separators=(",", ":")).encode())

    def _write(self, first: int, payload: bytes) -> None:
        if self._transport is None:
            return
        size = len(payload)
        head = struct.pack("!BB", first, 0x80 | size) if size < 126 else struct.pack(
            "!BBH", first, 0x80 | 126, size
        )  # fmt: skip
        # A mask of zeros is a mask (RFC 6455 section 5.3 wants one that nobody foresees, against
        # proxies, of which there are none here).
        self._transport.write(head + b"\0\0\0\0" + payload)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Crowd:
    """All voters of this process."""

    def __init__(self, number: int) -> None:
        self.prefix = f"load{number:02d}"
        self.voters: list[Voter] = []
        self.nodes: list[tuple[str, int]] = []
        self.refused = self.received = self.drops = 0
        self.errors: dict[str, int] = {}
        self.connected = 0
        self._opening = asyncio.Semaphore(OPENING)
        self._random = random.Random(number)
        self._tasks: set[asyncio.Task[None]] = set()
        self._settled = asyncio.Event()
        self._ending = False

    def spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def join(self, count: int) -> None:
        for number in range(count):
            self.voters.append(Voter(self, number))
        await asyncio.gather(
            *(self._connect(one, self.nodes[i % len(self.nodes)], 0.0)
              for i, one in enumerate(self.voters))
        )  # fmt: skip
        while self.connected < count:
            self._settled.clear()
            await self._settled.wait()

    def welcomed(self, voter: Voter) -> None:
        self.connected += 1
        self._settled.set()

    def lost(self, voter: Voter) -> None:
        if voter.node:
            self.connected -= 1
            self.drops += 1
        voter.node = ""
        if not self._ending:
            wait_s = self._random.uniform(*BACK_S)
            self.spawn(self._connect(voter, self._random.choice(self.nodes), wait_s))

    async def _connect(self, voter: Voter, node: tuple[str, int], wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        loop = asyncio.get_running_loop()
        source = f"127.0.1.{1 + self._random.randrange(SOURCES)}"
        while True:
            try:
                async with self._opening:
                    await loop.create_connection(lambda: voter, *node, local_addr=(source, 0))
                return
            except OSError:
                await asyncio.sleep(self._random.uniform(*BACK_S))
                node = self._random.choice(self.nodes)

    def vote(self, within_s: float) -> None:
        loop = asyncio.get_running_loop()
        for voter in self.voters:
            loop.call_later(self._random.uniform(0.0, within_s), voter.press)

    def figures(self) -> dict[str, Any]:
        pressed = [one for one in self.voters if one.pressed]
        waits = sorted(one.counted_s - one.sent_s for one in pressed if one.counted_s)
        expected = [0, 0, 0]
        for one in pressed:
            expected[one.choice] += 1
        return {
            "connected": self.connected, "pressed": len(pressed), "counted": len(waits),
            "expected": expected, "received": self.received, "drops": self.drops,
            "refused": self.refused, "errors": self.errors,
            "wait_p50_s": waits[len(waits) // 2] if waits else 0.0,
            "wait_p99_s": waits[len(waits) * 99 // 100] if waits else 0.0,
            "wait_max_s": waits[-1] if waits else 0.0,
            "last_counted_s": max((one.counted_s for one in pressed), default=0.0),
            "unreceipted": sum(one.receipt is None or not one.receipt["n"] for one in pressed),
            "cpu_s": time.process_time(),
        }  # fmt: skip


async def _run(number: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(number)
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _answer({"ready": True})
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        if "join" in command:
            crowd.nodes = [(host, port) for host, port in command["nodes"]]
            await crowd.join(command["join"])
            _answer({"joined": crowd.connected})
        if "vote" in command:
            crowd.vote(command["vote"])
        if command.get("ask") == "figures":
            _answer(crowd.figures())


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1])))
