"""Sends a span of a file: the kernel copies, and the loop does not wait for the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from functools import partial
from pathlib import Path
from typing import IO, Final

from aiohttp import web

from media.opening import opened

STEP_BYTES: Final = 128 * 1024
CLIENT_SILENT_S: Final = 60
"""A client that acknowledges nothing for so long is gone."""


def watch(request: web.Request) -> None:
    """Have the kernel give up on a client whose line has died (RFC 5482), not after hours."""
    line = request.transport.get_extra_info("socket") if request.transport is not None else None
    if line is not None:
        with contextlib.suppress(OSError):
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * CLIENT_SILENT_S)


async def send(request: web.Request, path: Path, start: int, stop: int) -> None:
    """Send bytes `start` to `stop` of a file as the next part of a prepared response's body.

    Raises OSError when the client has gone or the file cannot be read.
    """
    stream = await opened(partial(_open_warm, path, start, stop))
    try:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        loop = asyncio.get_running_loop()
        sent = await loop.sendfile(request.transport, stream, start, stop - start)
        if sent != stop - start:
            raise OSError(f"{path.name[:16]} became shorter")
    finally:
        stream.close()


def _open_warm(path: Path, start: int, stop: int) -> IO[bytes]:
    """The open file, with the span in memory: `sendfile` on the loop would wait for the disk."""
    stream = path.open("rb", buffering=0)
    try:
        if not _is_warm(stream.fileno(), start, stop):
            at = start
            while at < stop and (chunk := os.pread(stream.fileno(), STEP_BYTES, at)):
                at += len(chunk)
    except BaseException:
        stream.close()
        raise
    return stream


def _is_warm(file: int, start: int, stop: int) -> bool:
    """Whether the page cache holds the span, as far as a look every `STEP_BYTES` can tell."""
    one = bytearray(1)
    try:
        for at in (*range(start, stop, STEP_BYTES), stop - 1):
            os.preadv(file, [one], at, os.RWF_NOWAIT)
    except (OSError, AttributeError):
        return False  # Not there, or a system that cannot tell.
    return True
