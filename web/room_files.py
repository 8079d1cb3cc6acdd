"""The pages of slides at every node: `GET /room/files/{sha256}`, fetched once from above.

A page is a picture of some ten kilobytes under the SHA-256 of its bytes, so that what a node holds
never changes, and is checked when it comes. At the top of the tree it is read from the folder of
the slides; a node below keeps what has come by, as far as it has room.

On a thin line a file must not take the way of the sound: `gently.py` sends it. What a page fetches
ahead (`?ahead=1`) gives way to what is shown.

    GET /room/files/{sha256}            200, for ever; 404 where nobody has it
    GET /room/files/{sha256}?ahead=1    the same, after those that somebody waits for
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import time
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import hdrs, web

from relay.access import AccessError
from relay.endpoints import refusal
from relay.errors import Refused
from relay.node import Node
from web import gently

log = logging.getLogger("web.room_files")

PATH: Final = "/room/files/{sha256:[0-9a-f]{64}}"
MOST_BYTES: Final = 2 * 1024 * 1024
AT_ONCE: Final = 4
AHEAD_AT_ONCE: Final = 1
FETCH_WITHIN_S: Final = 60.0
BUDGET_BYTES: Final = 512 * 1024 * 1024
SWEEP_EVERY: Final = 50
"""Files that come between two looks at how much room they take."""
HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Cache-Control": "private, max-age=31536000, immutable",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Content-Type": "image/webp",
}


class Away(Exception):
    """The node above does not give a file; its status and sentence."""

    def __init__(self, status: int, sentence: str, retry_after_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after_s = retry_after_s


class RoomFiles:
    """The files of one node. `folder`: where they are kept; `own`: they are made there."""

    def __init__(self, node: Node, folder: Path, *, own: bool) -> None:
        self._node = node
        self._folder = folder
        self._own = own
        self._coming: dict[str, asyncio.Task[bytes]] = {}
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._ahead = asyncio.Semaphore(AHEAD_AT_ONCE)
        self._fetched = 0

    def add(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(PATH, self.get, allow_head=False)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """`GET /room/files/{sha256}`."""
        try:
            grant = self._node.config.access.check(request.headers.get(hdrs.AUTHORIZATION))
            if not (grant.relay or grant.view):
                raise AccessError(403, "This token does not allow to view anything.")
            data = await self.bytes_of(request.match_info["sha256"], "ahead" in request.query)
        except AccessError as error:
            return refusal(Refused(error.status, error.sentence, reason=error.reason))
        except Away as error:
            return refusal(Refused(error.status, str(error), error.retry_after_s))
        response = web.StreamResponse(headers=HEADERS)
        response.content_length = len(data)
        await response.prepare(request)
        await gently.send(request, response, data)
        return response

    async def bytes_of(self, sha256: str, ahead: bool = False) -> bytes:
        """A file, from this node or from above; Away."""
        data = await asyncio.to_thread(self._read, sha256)
        if data is not None:
            return data
        if self._own or self._node.parents is None:
            raise Away(404, "There is no such file here.")
        coming = self._coming.get(sha256)
        if coming is None:
            coming = asyncio.create_task(self._fetch(sha256, ahead), name=f"file-{sha256[:8]}")
            self._coming[sha256] = coming
            coming.add_done_callback(lambda _: self._coming.pop(sha256, None))
            # Who asked for it may be gone when it fails.
            coming.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(coming)

    def _read(self, sha256: str) -> bytes | None:
        path = self._folder / sha256
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if not self._own:
            if hashlib.sha256(data).hexdigest() != sha256:
                # A disk that went wrong: it is fetched again.
                with contextlib.suppress(OSError):
                    path.unlink()
                return None
            with contextlib.suppress(OSError):
                os.utime(path)
        return data

    # ------------------------------------------------------------ from above

    async def _fetch(self, sha256: str, ahead: bool) -> bytes:
        # Somebody else's may have come since it was looked for.
        if (here := await asyncio.to_thread(self._read, sha256)) is not None:
            return here
        async with self._ahead if ahead else contextlib.nullcontext(), self._turn:
            data = await self._ask(sha256)
        await asyncio.to_thread(self._keep, sha256, data)
        return data

    async def _ask(self, sha256: str) -> bytes:
        assert self._node.parents is not None
        away = Away(503, "The node above does not answer.", 2)
        timeout = aiohttp.ClientTimeout(total=FETCH_WITHIN_S, sock_connect=3)
        for parent in self._node.parents.in_order(time.monotonic()):
            url = f"{parent.uplink.url}/room/files/{sha256}"
            headers = parent.uplink.headers((self._node.id,))
            try:
                async with parent.uplink.http.get(url, headers=headers, timeout=timeout) as answer:
                    data = await answer.content.read(MOST_BYTES + 1)
                    while not answer.content.at_eof() and len(data) <= MOST_BYTES:
                        data += await answer.content.read(MOST_BYTES)
                    if answer.status != 200:
                        sentence = data[:300].decode(errors="replace").strip()
                        away = Away(404 if answer.status == 404 else 503, sentence, 2)
                        continue
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                log.info("room-file-away parent=%s why=%r", parent.uplink.url, error)
                continue
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
            log.warning("room-file-wrong parent=%s sha256=%s", parent.uplink.url, sha256)
        raise away

    def _keep(self, sha256: str, data: bytes) -> None:
        """Put a file on the disk; without room it is fetched again the next time."""
        part = self._folder / f".{sha256}.part"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(self._folder / sha256)
            self._fetched += 1
            if self._fetched % SWEEP_EVERY == 1:
                self._sweep()
        except OSError as error:
            log.warning("room-file-not-kept why=%r", str(error))

    def _sweep(self) -> None:
        """Let those go that nobody has asked for the longest."""
        found = sorted(
            ((one.stat().st_mtime, one.stat().st_size, one) for one in self._folder.iterdir()),
            reverse=True,
        )
        taken = 0
        for _, size, path in found:
            taken += size
            if taken > BUDGET_BYTES:
                path.unlink(missing_ok=True)
