"""Opening a file on another thread, for somebody who may have left before it is open."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import IO, Any, TypeVar

File = TypeVar("File", bound=IO[Any])


async def opened(open_file: Callable[[], File]) -> File:
    """What `open_file` opens on another thread; closed again if nobody waits for it any more.

    A cancelled `to_thread` lets its thread go on, and drops what it brings. Raises what
    `open_file` raises.
    """
    opening = asyncio.ensure_future(asyncio.to_thread(open_file))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[Any]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
