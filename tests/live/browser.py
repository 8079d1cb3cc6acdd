"""Chromium as a viewer and as a presenter, on the project's own pages.

Every browser here is a process of its own, so that a test can kill one of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from typing import Any

from playwright.async_api import Browser, ConsoleMessage, Page, Playwright

from tests.live.tree import until

FPS = 25
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    f"--use-fake-device-for-media-stream=fps={FPS}",
    "--use-fake-ui-for-media-stream",
    "--disable-gpu",
    # Chromium will not run in its own sandbox as root, which is who runs tests in a container.
    "--no-sandbox",
)


def executable() -> str:
    """The browser of this machine."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found is not None, f"none of {', '.join(NAMES)} is installed"
    return found


class Chromium:
    """One browser process with one page; collects what its console complains about."""

    def __init__(self, browser: Browser, page: Page) -> None:
        self.browser = browser
        self.page = page
        self.complaints: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

    @classmethod
    async def start(cls, playwright: Playwright) -> Chromium:
        browser = await playwright.chromium.launch(
            executable_path=executable(), args=list(ARGUMENTS)
        )
        context = await browser.new_context(viewport={"width": 640, "height": 360}, locale="en-GB")
        return cls(browser, await context.new_page())

    async def stats(self) -> dict[str, Any]:
        """`terraceStats()` of the page, with `now`: the page's clock, ms."""
        return dict(
            await self.page.evaluate("() => ({...window.terraceStats(), now: performance.now()})")
        )

    async def kill(self) -> None:
        """SIGKILL to all processes of the browser: nothing is said to anybody."""
        session = await self.browser.new_browser_cdp_session()
        processes = (await session.send("SystemInfo.getProcessInfo"))["processInfo"]
        # The browser itself last: it would end the others in order.
        for process in sorted(processes, key=lambda one: bool(one["type"] == "browser")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process["id"]), signal.SIGKILL)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await self.browser.close()

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")


class ChromiumViewer:
    """The watch page of a node. `sessions` are the paths of its WHEP sessions."""

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium
        self.sessions: list[str] = []
        chromium.page.on(
            "response",
            lambda answer: (
                self.sessions.append(answer.headers.get("location", ""))
                if answer.request.method == "POST" and answer.status == 201
                else None
            ),
        )

    @classmethod
    async def open(cls, playwright: Playwright, node_url: str, stream: str) -> ChromiumViewer:
        viewer = cls(await Chromium.start(playwright))
        await viewer.chromium.page.goto(f"{node_url}/watch/{stream}")
        return viewer

    async def stats(self) -> dict[str, Any]:
        """See web/static/stats.js; a sample is up to half a second old."""
        return await self.chromium.stats()

    async def playing(self, within_s: float = 20) -> dict[str, Any]:
        """Wait for picture and sound."""

        async def look() -> dict[str, Any] | None:
            stats = await self.stats()
            return stats if stats["framesDecoded"] and stats["totalSamplesReceived"] else None

        return await until("picture and sound in Chromium", look, within_s)

    async def unmute(self) -> None:
        """Tap for sound, as a person must."""
        await self.chromium.page.click("#tap")

    async def advance(self, frames: int, within_s: float) -> tuple[dict[str, Any], dict[str, Any]]:
        """Wait until so many more frames are decoded; the samples before and after."""
        before = await self.stats()

        async def look() -> dict[str, Any] | None:
            stats = await self.stats()
            return stats if stats["framesDecoded"] - before["framesDecoded"] >= frames else None

        return before, await until(f"{frames} more frames in Chromium", look, within_s)


class ChromiumPublisher:
    """The presenter page of a node, with Chromium's own moving picture and beeps.

    `codec`: "VP8" or "H264". The picture is 640x360 at 25 frames a second.
    """

    def __init__(self, chromium: Chromium) -> None:
        self.chromium = chromium

    @classmethod
    async def open(
        cls, playwright: Playwright, node_url: str, stream: str, codec: str
    ) -> ChromiumPublisher:
        publisher = cls(await Chromium.start(playwright))
        page = publisher.chromium.page
        await page.goto(f"{node_url}/present/{stream}")
        await page.select_option("#size", "360")
        await page.select_option("#codec", codec)
        await page.click("#air-button")

        async def look() -> bool:
            return bool((await publisher.stats())["framesSent"])

        await until(f"Chromium publishes {codec}", look, 20)
        return publisher

    async def stats(self) -> dict[str, Any]:
        """See web/static/stats.js; a sample is up to a second old."""
        return await self.chromium.stats()

    async def kill(self) -> float:
        """End it without a word; returns when, on the monotonic clock."""
        await self.chromium.kill()
        return time.monotonic()

    async def close(self) -> None:
        await self.chromium.close()
