"""`terrace` as processes of a test: nodes that are ready, and what they say about themselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.lab.ports import is_free, seldom
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    """A number that is free for TCP and UDP at this moment, and the three after it."""
    return next(base for base in seldom() if all(is_free(base + step) for step in range(4)))


class Relay:
    """A running node; `log` is where its output goes."""

    def __init__(self, url: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.url = url
        self.process = process
        self.log = log

    async def get(self, path: str = "/api/node") -> Any:
        """What the node answers, as JSON."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return await response.json()

    async def text(self, path: str) -> str:
        """What the node answers, as text."""
        async with aiohttp.ClientSession() as http, http.get(self.url + path) as response:
            return await response.text()

    async def until(self, path: str, fits: Any, seconds: float = 15.0) -> Any:
        """Ask until the answer fits. Raises TimeoutError."""
        async with asyncio.timeout(seconds * PATIENCE):
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    answer = await self.get(path)
                    if fits(answer):
                        return answer
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def relay(folder: Path, *arguments: str, **variables: str) -> AsyncIterator[Relay]:
    """A `terrace relay` process that is ready; it is ended with the block."""
    port = free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "web.cli", "relay", "--port", str(port), *arguments,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "TERRACE_CONFIG": os.devnull} | variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    node = Relay(f"http://127.0.0.1:{port}", process, log)
    try:
        async with asyncio.timeout(20 * PATIENCE):
            while "ready url" not in log.read_text():
                if process.returncode is not None:
                    raise AssertionError(log.read_text())
                await asyncio.sleep(0.05)
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(6 * PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
