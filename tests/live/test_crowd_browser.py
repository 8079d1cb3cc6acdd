"""What a person at a county sees when their node is full, drained, cut off, or asks for a token.

Each test leaves a picture of the page in each language in TERRACE_SHOTS, if that is set.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright

from relay import access
from tests.live.browser import Chromium, ChromiumPublisher, ChromiumViewer
from tests.live.processes import Relay, relay
from tests.live.tree import until
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

STREAM = "lecture"
SHOTS = os.environ.get("SHOTS_FOLDER", "")


@contextlib.asynccontextmanager
async def on_air(url: str, token: str = "") -> AsyncIterator[tuple[Any, ChromiumPublisher]]:
    """Playwright, and a Chromium that presents at a node."""
    async with async_playwright() as playwright:
        publisher = await ChromiumPublisher.open(playwright, url, STREAM, "VP8")
        try:
            yield playwright, publisher
        finally:
            await publisher.close()


@contextlib.asynccontextmanager
async def viewer(playwright: Any, url: str, query: str = "") -> AsyncIterator[ChromiumViewer]:
    """A Chromium on the watch page of a node."""
    watching = ChromiumViewer(await Chromium.start(playwright))
    await watching.chromium.page.goto(f"{url}/watch/{STREAM}{query}")
    try:
        yield watching
    finally:
        await watching.chromium.close()


async def shot(page: Page, name: str) -> None:
    """Keep a picture of the page for a person to look at."""
    if SHOTS:
        await asyncio.to_thread(Path(SHOTS).mkdir, parents=True, exist_ok=True)
        await page.screenshot(path=f"{SHOTS}/{name}.png")


async def reads(page: Page, state: str, within_s: float = 20) -> str:
    """Wait for a state of the watch page; returns what stands on its curtain."""
    at_most_ms = 1000 * within_s * PATIENCE
    await page.wait_for_selector(f'#stage[data-state="{state}"]', timeout=at_most_ms)
    return await page.inner_text("#curtain")


async def longest_stall_ms(page: Page) -> float:
    """The longest time between two pictures shown since `watch_pictures`."""
    return float(await page.evaluate("() => window.longestStallMs"))


async def more_pictures(page: Page, count: int, within_s: float) -> None:
    """Wait for pictures on the screen; unlike a session's frames they go on over a handover."""
    before = await page.evaluate("() => window.picturesShown")

    async def look() -> bool:
        return bool(await page.evaluate("() => window.picturesShown") - before >= count)

    await until(f"{count} more pictures in Chromium", look, within_s)


async def watch_pictures(page: Page) -> None:
    """Note the time between the pictures that are really shown, over all sources of the video."""
    await page.evaluate(
        """() => {
          const video = document.getElementById("video");
          let before = performance.now();
          window.longestStallMs = 0;
          window.picturesShown = 0;
          const shown = (now) => {
            window.longestStallMs = Math.max(window.longestStallMs, now - before);
            before = now;
            window.picturesShown += 1;
            video.requestVideoFrameCallback(shown);
          };
          video.requestVideoFrameCallback(shown);
        }"""
    )


@contextlib.asynccontextmanager
async def two_counties(folder: Path, *first: str) -> AsyncIterator[tuple[Relay, Relay, Relay]]:
    """A centre and two counties below it that know of each other."""
    async with (
        relay(folder, "--name", "centre") as centre,
        relay(folder, "--name", "east", "--tier", "county", "--parent", centre.url, *first) as a,
        relay(folder, "--name", "west", "--tier", "county", "--parent", centre.url) as b,
    ):
        await a.until("/api/node", lambda node: node["load"]["siblings_room"] > 0)
        yield centre, a, b


async def test_chromium_is_handed_over_within_a_second(tmp_path: Path) -> None:
    """The page keeps its last picture, moves to the sibling and plays on."""
    async with (
        two_counties(tmp_path) as (centre, a, b),
        on_air(centre.url) as (playwright, _),
        viewer(playwright, a.url) as watching,
    ):
        await watching.playing()
        page = watching.chromium.page
        await watch_pictures(page)
        await more_pictures(page, 50, 10)
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{a.url}/api/drain", json={"seconds": 4}) as answer,
        ):
            assert answer.status == 202
        async with asyncio.timeout(8 * PATIENCE):
            assert await a.process.wait() == 0
        await more_pictures(page, 50, 10)
        stall = await longest_stall_ms(page)
        assert stall <= 1000 * PATIENCE
        assert (await watching.stats())["state"] == "playing"
        assert (await b.get())["viewers"] == 1


async def test_chromium_follows_a_full_node_to_its_sibling(tmp_path: Path) -> None:
    """Without a token that is a redirect, which the browser follows by itself."""
    async with (
        two_counties(tmp_path, "--max-viewers", "1") as (centre, a, b),
        on_air(centre.url) as (playwright, _),
        viewer(playwright, a.url) as first,
    ):
        await first.playing()
        async with viewer(playwright, a.url) as second:
            await second.playing()
            assert (await a.get())["viewers"] == 1
            assert (await b.get())["viewers"] == 1


async def test_chromium_shows_its_token_to_the_sibling_that_its_node_names(tmp_path: Path) -> None:
    """A redirect would drop the token, so the page asks the sibling itself."""
    private, public = access.new_key_pair()
    key = tmp_path / "public.pem"
    key.write_bytes(public)

    def token(*, relay: bool) -> str:
        return access.issue(
            private, publish=["*"], view=["*"], relay=relay, ttl_s=600, subject="hall",
            now=time.time(),
        )  # fmt: skip

    county = ("--tier", "county", "--public-key", str(key))
    parent = {"TERRACE_PARENT_TOKEN": token(relay=True)}
    shown = f"{STREAM}#token={token(relay=False)}"
    async with (
        relay(tmp_path, "--public-key", str(key)) as top,
        relay(tmp_path, "--parent", top.url, "--max-viewers", "1", *county, **parent) as a,
        relay(tmp_path, "--parent", top.url, *county, **parent) as b,
        async_playwright() as playwright,
    ):
        await a.until("/api/node", lambda node: node["load"]["siblings_room"] > 0)
        publisher = await ChromiumPublisher.open(playwright, top.url, shown, "VP8")
        first = await ChromiumViewer.open(playwright, a.url, shown)
        await first.playing()
        second = await ChromiumViewer.open(playwright, a.url, shown)
        await second.playing()
        assert (await a.get())["viewers"] == 1
        assert (await b.get())["viewers"] == 1
        for one in (second, first):
            await one.chromium.close()
        await publisher.close()
