"""A site or presenter in a process of its own: `python -m tests.lab.site URL STREAM SHADE HZ PUSH`.

It publishes until its standard input ends. Beside the viewers of a measurement its clock would be
theirs, and a late packet nobody's fault. PUSH is "on-demand" or "at-once".
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from tests.lab.proxy import ROOT
from tests.live.publishers import AiortcPublisher


@contextlib.asynccontextmanager
async def site(
    url: str, stream: str, shade: int, tone_hz: int, *, on_demand: bool = False
) -> AsyncIterator[None]:
    """Publish from another process; begun when this is entered."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.lab.site", url, stream, str(shade), str(tone_hz),
        "on-demand" if on_demand else "at-once",
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        said = await process.stdout.readline()
        assert said == b"ready\n", f"the publisher of {stream} did not begin"
        yield
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _publish(url: str, stream: str, shade: int, tone_hz: int, push: str) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(0, ended.set)
    on_demand = push == "on-demand"
    async with AiortcPublisher(url, stream, shade, on_demand=on_demand, tone_hz=tone_hz):
        print("ready", flush=True)
        await ended.wait()


if __name__ == "__main__":
    _, where, name, luminance, hz, pushed = sys.argv
    asyncio.run(_publish(where, name, int(luminance), int(hz), pushed))
