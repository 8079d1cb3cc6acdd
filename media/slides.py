"""Slides that were sent, as pictures: the worker that draws them, watched and bounded from here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .errors import MediaError
from .slide_worker import MOST_PAGES, kind_of

WITHIN_S: Final = 180.0
AT_ONCE: Final = 1
"""Two cores carry a meeting besides; who sends slides meanwhile waits for the first ones."""
MOST_LINE: Final = 4096
YOUNG_S: Final = 86_400.0
"""Files that are no older than this may belong to slides that are just being sent."""
OURS: Final = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.part|\.upload-.+")
ROOT: Final = str(Path(__file__).resolve().parent.parent)


@dataclass(frozen=True, slots=True)
class Page:
    """A page as a WebP picture. sha256: of its bytes, and the name of its file."""

    sha256: str
    size_bytes: int
    width: int
    height: int

    def as_json(self) -> dict[str, Any]:
        """The page, as the state of a room has it."""
        return {
            "sha256": self.sha256,
            "bytes": self.size_bytes,
            "width": self.width,
            "height": self.height,
        }


class Slides:
    """Draws slides into one folder, in which every page is a file under its SHA-256."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def draw(self, data: bytes) -> tuple[str, list[Page]]:
        """The media type of an upload and its pages, in order; MediaError with a sentence."""
        kind = kind_of(data[:1024])
        if not kind:
            raise MediaError("this is neither a PDF nor a PNG, JPEG or WebP picture")
        async with self._turn:
            source = await asyncio.to_thread(self._write, data)
            try:
                return kind, await self._run(source)
            finally:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(source.unlink)

    async def sweep(self, named: set[str]) -> int:
        """Let files go that are a day old and not `named`; how many."""
        return await asyncio.to_thread(self._sweep, named)

    def _sweep(self, named: set[str]) -> int:
        gone, young = 0, time.time() - YOUNG_S
        with contextlib.suppress(FileNotFoundError):
            for one in self.folder.iterdir():
                if one.name in named or not OURS.fullmatch(one.name):
                    continue
                with contextlib.suppress(OSError):
                    if one.stat().st_mtime < young:
                        one.unlink()
                        gone += 1
        return gone

    def _write(self, data: bytes) -> Path:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".upload-", dir=self.folder)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
        except OSError as error:
            raise MediaError(f"slides cannot be kept here: {error.strerror}") from error
        return Path(name)

    async def _run(self, source: Path) -> list[Page]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "media.slide_worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of ours is in its surroundings, tokens and passwords least of all.
            env={"PYTHONPATH": ROOT, "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"},
            limit=MOST_LINE,
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                return await self._listen(process, source)
        except TimeoutError:
            raise MediaError(
                f"these slides are not drawn after {WITHIN_S:.0f} s; make the file simpler"
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _listen(self, process: asyncio.subprocess.Process, source: Path) -> list[Page]:
        assert process.stdin is not None
        assert process.stdout is not None
        job = {"source": str(source), "folder": str(self.folder)}
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.close()
        found: list[Page] = []
        # An empty line ends it: the worker has ended.
        while line := await process.stdout.readline():
            match json.loads(line):
                case {"page": page} if len(found) < MOST_PAGES:
                    found.append(Page(page["sha256"], page["bytes"], page["width"], page["height"]))
                case {"failed": str(sentence)}:
                    raise MediaError(sentence)
        if await process.wait() != 0 or not found:
            raise MediaError(
                "these slides could not be drawn: the file is damaged, or asks for too much"
            )
        return found
