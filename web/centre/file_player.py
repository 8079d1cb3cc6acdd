"""Files played into meetings: one child process per room that has one (`media.play`)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from media.errors import MediaError

log = logging.getLogger("web.centre.file_player")

ROOT: Final = str(Path(__file__).resolve().parents[2])
ON_AIR_WITHIN_S: Final = 20.0
STOP_WITHIN_S: Final = 3.0
MOST_LINE: Final = 4096
MOST: Final = 4
"""Files that are played at once: each takes a good part of a core."""


class FilePlayer:
    """Plays files to this node. `ended` is told when one has ended by itself."""

    def __init__(self, base: str, token: str, ended: Callable[[int], None]) -> None:
        self._base = base
        self._token = token
        self._ended = ended
        self._playing: dict[int, asyncio.subprocess.Process] = {}
        self._follows: set[asyncio.Task[None]] = set()

    async def start(self, room: int, source: Path) -> None:
        """Play a file as the stream `class-{room}.file`, in place of another; MediaError."""
        await self.stop(room)
        if len(self._playing) >= MOST:
            raise MediaError(f"{MOST} files are played already, end one first")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "media.play",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PYTHONPATH": ROOT, "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
            limit=MOST_LINE,
        )
        self._playing[room] = process
        url = f"{self._base}/whip/class-{room}.file"
        job = {"source": str(source), "url": url, "token": self._token}
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            async with asyncio.timeout(ON_AIR_WITHIN_S):
                await _on_air(process)
        except TimeoutError:
            await self.stop(room)
            raise MediaError("the file did not begin to play in time") from None
        except BaseException:
            await self.stop(room)
            raise
        follow = asyncio.create_task(self._follow(room, process), name=f"file-{room}")
        self._follows.add(follow)
        follow.add_done_callback(self._follows.discard)
        log.info("file-begin room=%d", room)

    async def _follow(self, room: int, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._playing.get(room) is process:
            del self._playing[room]
            log.info("file-end room=%d code=%d", room, code)
            self._ended(room)

    async def stop(self, room: int) -> bool:
        """End a file; whether there was one."""
        process = self._playing.pop(room, None)
        if process is None:
            return False
        assert process.stdin is not None
        # It says goodbye to the node, unless it hangs.
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return True

    async def close(self) -> None:
        """End all files."""
        await asyncio.gather(*(self.stop(room) for room in list(self._playing)))


async def _on_air(process: asyncio.subprocess.Process) -> None:
    """Until the first word of the child, which is that it plays; MediaError."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        match json.loads(line):
            case {"event": "on air"}:
                return
            case {"failed": str(sentence)}:
                raise MediaError(sentence)
    raise MediaError("the process that plays files ended at once")
