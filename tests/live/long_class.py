"""A class of some minutes, from a browser at the county to a course at the county, by hand.

    python -m tests.live.long_class --minutes 5

Chromium publishes a lamp that flashes while a tone beeps, at the county of a tree of four nodes;
the centre records it by itself. It prints when the course could be played and was whole, how far
flash and beep are apart over its whole length, what FFmpeg had to say, and how Chromium plays it
at the county, from other places too. `--keep FILE` keeps the best rendition, for other players.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import async_playwright

from tests.live import browser, flashes
from tests.live.processes import Relay, relay
from tests.live.test_recording import recorded
from tests.live.tree import until

STREAM = "flashes"
PLAYABLE_S, MAX_SKEW_MS, WITHIN_S = 60.0, 40.0, 240.0
PLACES = (0.7, 0.3, 0.95)


async def long_class(minutes: float, keep: Path | None) -> bool:
    """The whole of it; whether it was as it should be."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="class-")))
        playwright = await stack.enter_async_context(async_playwright())
        chain: list[Relay] = []
        for name in ("centre", "province", "city", "county"):
            chain.append(await stack.enter_async_context(_node(folder / name, name, chain)))
        centre, county = chain[0], chain[-1]
        publisher = await browser.Chromium.start(playwright)
        try:
            await publisher.page.add_init_script(flashes.PAGE)
            await publisher.page.goto(f"{county.url}/present/{STREAM}")
            await publisher.page.select_option("#size", "360")
            await publisher.page.select_option("#codec", "H264")
            await publisher.page.click("#air-button")
            id = await recorded(centre, STREAM, 60 * minutes, 60 * minutes + 60)
        finally:
            await publisher.close()
        ended_s = time.monotonic()

        async def course(node: Relay, fits: Callable[[dict[str, Any]], bool]) -> Any:
            found = await until(f"the course at {node.url}", _asker(node, id, fits), WITHIN_S)
            return found, time.monotonic() - ended_s

        _, playable_s = await course(centre, lambda one: bool(one["renditions"]))
        one, whole_s = await course(centre, lambda one: bool(one["complete"]))
        _, county_s = await course(county, lambda one: bool(one["complete"]))
        _say(f"playable {playable_s:.1f} s after the class, whole after {whole_s:.1f} s, at the")
        _say(f"county after {county_s:.1f} s; {one['duration_s']:.1f} s long")
        best = max(one["renditions"], key=lambda rendition: rendition["height"])
        path = folder / "course.mp4"
        await _fetch(f"{county.url}/courses/{id}/{best['name']}.mp4", path)
        seen = await asyncio.to_thread(flashes.look, path, flashes.canvas_lamp)
        skews = seen.skews_ms
        worst = max(map(abs, skews))
        _say(f"{best['name']}: {len(seen.beeps_s)} beeps, {len(skews)} of them with their flash;")
        _say(f"skew {statistics.median(skews):.1f} ms in the median, {worst:.1f} at most")
        _say(f"FFmpeg: {seen.complaints or 'no complaint'}")
        viewer = await browser.Chromium.start(playwright)
        try:
            played = await _play(viewer, f"{county.url}/courses/{id}", one["duration_s"])
        finally:
            await viewer.close()
        _say(f"Chromium plays on from {played}")
        if keep is not None:
            shutil.copy(path, keep)
        return (
            playable_s <= PLAYABLE_S
            and worst <= MAX_SKEW_MS
            and len(skews) >= 0.98 * 60 * minutes
            and not seen.complaints
            and len(played) == len(PLACES)
        )


def _node(folder: Path, name: str, chain: list[Relay]) -> Any:
    """A node below the last one, or the centre, which records and has a library."""
    folder.mkdir()
    text = f'[relay]\nname = "{name}"\n'
    if chain:
        text += f'parents = ["{chain[-1].url}"]\n[cache]\nfolder = "{folder / "cache"}"\n'
    else:
        text += f'record = ["{STREAM}"]\nrecordings = "{folder / "kept"}"\n'
        text += f'[library]\nfolder = "{folder / "library"}"\n'
    (folder / "terrace.toml").write_text(text)
    return relay(folder, "--config", str(folder / "terrace.toml"))


def _asker(node: Relay, id: str, fits: Callable[[dict[str, Any]], bool]) -> Any:
    async def look() -> Any:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{node.url}/api/courses/{id}") as answer,
        ):
            found = await answer.json() if answer.status == 200 else None
        return found["course"] if found and fits(found["course"]) else None

    asker: Callable[[], Awaitable[Any]] = look
    return asker


async def _fetch(url: str, path: Path) -> None:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        answer.raise_for_status()
        with path.open("wb") as file:
            async for part in answer.content.iter_chunked(1 << 16):
                file.write(part)


async def _play(viewer: browser.Chromium, url: str, duration_s: float) -> list[str]:
    """Go to some places of the course on its page; from where it has played on for two seconds."""
    page, played = viewer.page, []
    await page.goto(url)

    async def state() -> dict[str, Any]:
        found: dict[str, Any] = await page.evaluate("window.terrace?.state?.() ?? {ready: 0}")
        return found

    def plays_on(from_s: float) -> Callable[[], Awaitable[bool]]:
        async def look() -> bool:
            now = await state()
            there = now["ready"] >= 2 and from_s + 2 <= now.get("at", 0) < from_s + 20
            return there and not now["error"]

        return look

    async def ready() -> bool:
        return bool((await state())["ready"] >= 1)

    await until("the player is ready", ready, 30)
    await page.evaluate("document.getElementById('video').play()")
    for share in PLACES:
        place_s = share * duration_s - 4
        await page.evaluate(f"document.getElementById('video').currentTime = {place_s}")
        await until(f"it plays on from {place_s:.0f} s", plays_on(place_s), 30)
        played.append(f"{place_s:.0f} s")
    return played


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def main() -> int:
    """The class; 1 when something of it is not as it should be."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--keep", type=Path)
    arguments = parser.parse_args()
    return int(not asyncio.run(long_class(arguments.minutes, arguments.keep)))


if __name__ == "__main__":
    sys.exit(main())
