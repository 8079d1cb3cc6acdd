"""What the operator of a county reads in each fault, in both languages (a browser, real faults).

SHOTS_FOLDER, if it is set, gets a picture of each page.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Page, async_playwright

from relay import access
from tests.live.processes import relay
from tests.live.tabs import Tab
from tests.live.test_crowd import STREAM, publishing
from tests.live.test_crowd_browser import on_air, reads, shot, viewer
from tests.live.wanderers import Crowd
from web.pages import load_locales

pytestmark = [pytest.mark.live, pytest.mark.alone]

WORDS = load_locales()


async def in_both(page: Page, url: str, state: str, name: str) -> None:
    """The state's title stands on the page in both languages."""
    for language in ("en", "zh"):
        await page.goto(f"{url}/watch/{STREAM}?lang={language}")
        said = await reads(page, state)
        title = WORDS[language][f"watch.{state}.title"]
        for part in title.replace("{stream}", "{node}").split("{node}"):
            assert part in said
        assert WORDS[language][f"watch.{state}.detail"].split("{")[0] in said
        await shot(page, f"{name}-{language}")


@contextlib.asynccontextmanager
async def county(folder: Path, *arguments: str) -> AsyncIterator[tuple[str, str]]:
    """A centre and a county below it: their URLs."""
    async with (
        relay(folder, "--name", "centre") as centre,
        relay(
            folder, "--name", "longhua", "--tier", "county", "--parent", centre.url, *arguments
        ) as low,
    ):
        yield centre.url, low.url


async def test_a_full_node(tmp_path: Path) -> None:
    async with (
        county(tmp_path, "--max-viewers", "1") as (top, low),
        on_air(top) as (playwright, _),
        Crowd(low, STREAM) as crowd,
    ):
        await crowd.come(1, within_s=0)
        await crowd.until(1, 10)
        async with viewer(playwright, low) as watching:
            await in_both(watching.chromium.page, low, "full", "full")


async def test_a_drained_node(tmp_path: Path) -> None:
    async with (
        county(tmp_path) as (top, low),
        on_air(top) as (playwright, _),
        Crowd(low, STREAM) as crowd,
        aiohttp.ClientSession() as http,
    ):
        await crowd.come(1, within_s=0)
        await crowd.until(1, 10)
        async with http.post(f"{low}/api/drain", json={"seconds": 60}) as answer:
            assert answer.status == 202
        async with viewer(playwright, low) as watching:
            await in_both(watching.chromium.page, low, "drained", "drained")
        # Who has no place to go to stays until the end.
        assert len(crowd.playing()) == 1


async def test_a_dead_parent(tmp_path: Path) -> None:
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        relay(tmp_path, "--name", "longhua", "--parent", centre.url) as low,
        on_air(centre.url) as (playwright, _),
        viewer(playwright, low.url) as watching,
    ):
        await watching.playing()
        centre.process.kill()
        page = watching.chromium.page
        await reads(page, "noparent")
        await shot(page, "parent-dead-while-watching")
        await in_both(page, low.url, "noparent", "parent-dead")
        for language in ("en", "zh"):
            await page.goto(f"{low.url}/tree?lang={language}")
            await page.wait_for_selector('.finding[data-severity="bad"]')
            await shot(page, f"tree-parent-dead-{language}")


async def test_a_publisher_that_is_gone(tmp_path: Path) -> None:
    async with (
        county(tmp_path) as (top, low),
        on_air(top) as (playwright, publisher),
        viewer(playwright, low) as watching,
    ):
        await watching.playing()
        await publisher.close()
        page = watching.chromium.page
        await reads(page, "paused")
        await in_both(page, low, "paused", "publisher-gone")
        for language in ("en", "zh"):
            await page.goto(f"{top}/tree?lang={language}")
            await page.wait_for_selector('.finding[data-severity="bad"]')
            said = await page.inner_text("#findings")
            assert STREAM in said
            await shot(page, f"tree-publisher-gone-{language}")


async def test_an_expired_token(tmp_path: Path) -> None:
    private, public = access.new_key_pair()
    (tmp_path / "public.pem").write_bytes(public)
    token = access.issue(
        private, publish=["*"], view=["*"], relay=True, ttl_s=60, subject="longhua",
        now=time.time() - 3600,
    )  # fmt: skip
    async with (
        relay(tmp_path, "--name", "longhua", "--public-key", str(tmp_path / "public.pem")) as node,
        county(tmp_path) as (top, _),
        on_air(top) as (playwright, _publisher),
        viewer(playwright, node.url, f"#token={token}") as watching,
    ):
        await in_both(watching.chromium.page, node.url, "expired", "token-expired")


@contextlib.contextmanager
def losing(port: int, percent: int) -> Iterator[None]:
    """The kernel drops this share of what leaves a UDP port of this machine."""
    table = f"terrace_test_{port}"
    rules = f"""table inet {table} {{
      chain output {{
        type filter hook output priority 0
        udp sport {port} numgen random mod 100 < {percent} drop
      }}
    }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", table], check=True)


needs_nft = pytest.mark.skipif(
    shutil.which("nft") is None or os.geteuid() != 0, reason="loss is made by nft, as root"
)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


@needs_nft
async def test_a_lossy_line_of_the_viewer_s_own(tmp_path: Path) -> None:
    """The picture plays on, and a line over it says whose line it is."""
    async with (
        county(tmp_path) as (top, low),
        on_air(top) as (playwright, _),
        viewer(playwright, low) as watching,
    ):
        page = watching.chromium.page
        for language in ("en", "zh"):
            await page.goto(f"{low}/watch/{STREAM}?lang={language}")
            await watching.playing()
            with losing(port_of(low), 8):
                start = json.dumps(WORDS[language]["watch.note.lossy"].split("{")[0])
                words = "document.getElementById('note').textContent"
                await Tab(page).until(f"{words}.includes({start})")
                await shot(page, f"lossy-{language}")


def _line_losses(tree: dict[str, Any]) -> list[dict[str, Any]]:
    return [one["values"] for one in tree["findings"] if "line_loss" in one["code"]]


@needs_nft
async def test_the_tree_names_the_lossy_line(tmp_path: Path) -> None:
    """The county is fine, its line from the centre loses 4 %."""
    async with (
        relay(tmp_path, "--name", "centre", "--tier", "centre") as centre,
        publishing(centre.url),
        relay(tmp_path, "--name", "city", "--tier", "city", "--parent", centre.url) as city,
        relay(tmp_path, "--name", "longhua", "--tier", "county", "--parent", city.url) as low,
        relay(tmp_path, "--name", "futian", "--tier", "county", "--parent", city.url) as other,
        Crowd(low.url, STREAM) as crowd,
        Crowd(other.url, STREAM) as others,
    ):
        await crowd.come(3, within_s=0.2)
        await others.come(2, within_s=0.2)
        await crowd.until(3, 10)
        await others.until(2, 10)
        with losing(port_of(centre.url), 4):
            found = await centre.until(
                "/api/tree",
                lambda tree: any("line_loss" in one["code"] for one in tree["findings"]),
                20,
            )
            lines = _line_losses(found)
            assert [(one["node"], one["above"]) for one in lines] == [("city", "centre")]
            assert 1 < lines[0]["percent"] < 9
            # For as long as the figures reach back, the lines below must not be blamed for it.
            for _ in range(20):
                tree = await centre.get("/api/tree")
                blamed = {v["node"] for v in _line_losses(tree)}
                assert blamed <= {"city"}
                await asyncio.sleep(0.5)
            async with async_playwright() as playwright, viewer(playwright, low.url) as watching:
                page = watching.chromium.page
                await page.set_viewport_size({"width": 1280, "height": 620})
                for language in ("en", "zh"):
                    await page.goto(f"{centre.url}/tree?lang={language}")
                    await page.wait_for_selector("#tree path")
                    await shot(page, f"tree-lossy-{language}")
