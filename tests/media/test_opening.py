"""Who leaves while a file is being opened leaves it closed.

The file is a pipe here, which opens when its other end does: after whoever wanted it has left.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web

from media.objects import open_objects
from media.opening import opened
from web import filespan


async def alone(pipe: Path) -> None:
    """Nobody but the mechanism."""
    await opened(lambda: pipe.open("rb", 0))


async def object_store(pipe: Path) -> None:
    """The library's store reads a course."""
    await anext(open_objects(str(pipe.parent)).stream(pipe.name))


async def file_span(pipe: Path) -> None:
    """A page's player is sent a part of one: here nothing, for a pipe cannot be read by place."""
    await filespan.send(cast(web.Request, SimpleNamespace(transport=None)), pipe, 0, 0)


@pytest.mark.parametrize("read", [alone, object_store, file_span])
async def test_nothing_stays_open(tmp_path: Path, read: Callable[[Path], Awaitable[None]]) -> None:
    """The other end is told, and no file is left for the garbage collector to warn of."""
    pipe = tmp_path / "slow"
    os.mkfifo(pipe)
    reading = asyncio.ensure_future(read(pipe))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    del reading
    other_end = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    try:
        left = select.poll()
        left.register(other_end, 0)
        assert await asyncio.to_thread(left.poll, 10_000) == [(other_end, select.POLLERR)]
    finally:
        os.close(other_end)


async def test_who_stays_gets_the_file_or_the_reason(tmp_path: Path) -> None:
    """As from `open` itself."""
    (tmp_path / "there").write_bytes(b"rice")
    with await opened((tmp_path / "there").open) as file:
        assert file.read() == "rice"
    with pytest.raises(FileNotFoundError):
        await opened((tmp_path / "gone").open)
