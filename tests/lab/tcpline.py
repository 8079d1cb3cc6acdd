"""A TCP line between two programs that can be slow, be cut, and change a byte on its way."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

CHUNK_BYTES = 4096
BUFFER_BYTES = 16_384


@dataclass(slots=True)
class Tally:
    """Since the start; bytes are those that went down, towards who connected."""

    connections: int = 0
    down_bytes: int = 0
    spoilt: int = 0
    cuts: int = 0


class TcpLine:
    """Listens on loopback and passes everything on to host:port. Use as `async with`.

    rate_bps: of what goes down, all connections together; 0: any. spoilt: set when it is done.
    """

    def __init__(self, host: str, port: int, *, rate_bps: float = 0.0) -> None:
        self.rate_bps = rate_bps
        self.tally = Tally()
        self.url = ""
        self._above = host, port
        self._free_s = 0.0
        self._up = True
        self._spoil_after: int | None = None
        self.spoilt = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> TcpLine:
        await self.listen("127.0.0.1", 0)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._server is not None
        self._server.close()
        await self.cut()

    async def listen(self, host: str, port: int) -> None:
        """Open the line's lower end."""
        self._server = await asyncio.start_server(self._connected, host, port, limit=BUFFER_BYTES)
        self.url = f"http://{host}:{self._server.sockets[0].getsockname()[1]}"

    def spoil(self, after_bytes: int) -> None:
        """Change one byte of a full chunk that goes down after so many more bytes."""
        self._spoil_after = self.tally.down_bytes + after_bytes

    async def cut(self) -> None:
        """Break everything; who connects is hung up on until `heal`."""
        self._up = False
        self.tally.cuts += 1
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def heal(self) -> None:
        """Let connections through again."""
        self._up = True

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if not self._up:
            writer.transport.abort()
            return
        self._tasks.add(task)
        self.tally.connections += 1
        above: asyncio.StreamWriter | None = None
        try:
            from_above, above = await asyncio.open_connection(*self._above, limit=BUFFER_BYTES)
            async with asyncio.TaskGroup() as group:
                upward = group.create_task(self._pass(reader, above))
                await self._pass_down(from_above, writer)
                upward.cancel()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, above):
                if end is not None:
                    end.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()

    async def _pass_down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.rate_bps:
                now = time.monotonic()
                self._free_s = max(now, self._free_s) + 8 * len(chunk) / self.rate_bps
                await asyncio.sleep(self._free_s - now)
            self.tally.down_bytes += len(chunk)
            # A full chunk ends in the middle of a body, so that no header is hit.
            after = self._spoil_after
            if after is not None and self.tally.down_bytes > after and len(chunk) == CHUNK_BYTES:
                self._spoil_after = None
                self.tally.spoilt += 1
                self.spoilt.set()
                chunk = chunk[:-1] + bytes([chunk[-1] ^ 0x10])
            writer.write(chunk)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
