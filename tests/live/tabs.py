"""The project's pages as tabs of one Chromium, and the node that they talk to.

Tests wait for what a page says or counts, by `Tab.until`; not by playwright's `wait_for_function`,
which evaluates text inside the page: the pages' own policy forbids that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    async_playwright,
)

from relay import access
from tests.live.browser import executable
from tests.live.tree import ROOT, free_ports, start_process, until
from tests.patience import PATIENCE

SHOTS = Path(os.environ.get("SHOTS") or ROOT / "tests/live/output/shots")
"""Where pictures for eyes go."""

FAKE_DEVICES = "--use-fake-device-for-media-stream=fps=25"
FAKE_CONSENT = "--use-fake-ui-for-media-stream"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    FAKE_DEVICES,
    FAKE_CONSENT,
    "--autoplay-policy=no-user-gesture-required",
    "--host-resolver-rules=MAP terrace.test 127.0.0.1",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"phone": (390, 844), "desktop": (1280, 800), "tv": (1920, 1080)}

CUT_OFF = """
    [...document.querySelectorAll('button, .chip, h1, dt, dd')]
        .filter((one) => one.offsetParent && !one.matches('.sr-only'))
        .filter((one) => one.scrollWidth > one.clientWidth + 1)
        .map((one) => one.textContent.trim())
"""


class Relay:
    """One node, a process of its own, that can die and come back on the same port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "relay.log"
        self._command = [sys.executable, "-m", "web.cli", "relay", "--config", os.devnull]
        self._command += ["--port", str(port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = process = start_process(self._command, self._log)

        async def look() -> bool:
            assert process.poll() is None, self._log.read_text()
            return self._get("/healthz") is not None

        await until("the node answers", look, 30)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it, hung or not, and wait until it is gone."""
        if self._process is not None and self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.send(number)
            self._process.wait(10)

    def stream(self, name: str) -> dict[str, Any] | None:
        """The stream's entry in /api/node, None if it is not there."""
        node = json.loads(self._get("/api/node") or b"{}")
        return next((one for one in node["streams"] if one["name"] == name), None)

    def _get(self, path: str) -> bytes | None:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=3 * PATIENCE) as response:
                return bytes(response.read())
        except OSError:
            return None


@contextlib.asynccontextmanager
async def relay(folder: Path, *arguments: str) -> AsyncIterator[Relay]:
    """A node that answers; killed at the end."""
    node = Relay(folder, *arguments)
    try:
        await node.start()
        yield node
    finally:
        node.stop()


@dataclass
class Keys:
    """A node's key pair: `public_file` is for the node, tokens are issued here."""

    private: bytes
    public_file: Path

    @classmethod
    def make(cls, folder: Path) -> Keys:
        private, public = access.new_key_pair()
        public_file = folder / "public.pem"
        public_file.write_bytes(public)
        return cls(private, public_file)

    def issue(
        self, *, publish: tuple[str, ...] = (), view: tuple[str, ...] = (), who: str = ""
    ) -> str:
        return access.issue(
            self.private,
            publish=publish,
            view=view,
            relay=False,
            ttl_s=600,
            subject=who,
            now=time.time(),
        )


@contextlib.asynccontextmanager
async def chromium(*flags: str, without: str = "") -> AsyncIterator[Browser]:
    """A browser with these flags more, and one of FLAGS less."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable(), args=[f for f in FLAGS if f != without] + list(flags)
        )
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def person(browser: Browser) -> AsyncIterator[BrowserContext]:
    """Somebody who reads English, at a desk; their tabs end with them."""
    context = await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB")
    try:
        yield context
    finally:
        await context.close()


class Tab:
    """A page, with what went wrong in it and what it asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[Request] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._heard)
        page.on("request", lambda request: self.requests.append(request))

    def _heard(self, message: ConsoleMessage) -> None:
        # Chromium logs each refused or failed request; those are what some tests are about.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.errors.append(message.text)

    async def stats(self) -> dict[str, Any]:
        """The numbers of the page, see the end of its module."""
        found: dict[str, Any] = await self.page.evaluate("window.terraceStats()")
        return found

    async def until(self, condition: str, within_s: float = 20) -> None:
        """Wait until `condition` holds; `s` in it are the page's numbers."""
        script = f"(() => {{ const s = window.terraceStats?.() ?? {{}}; return {condition}; }})()"
        end = time.monotonic() + within_s * PATIENCE
        while not await self.page.evaluate(script):
            if time.monotonic() > end:
                text = re.sub(r"\s*\n\s*", " | ", await self.page.inner_text("body"))
                raise AssertionError(
                    f"{condition} did not come true: {await self.stats()} {text} {self.errors}"
                )
            await asyncio.sleep(0.1)

    async def until_text(self, selector: str, words: str | re.Pattern[str]) -> None:
        """Wait until this element is seen with these words in it."""
        await self.page.locator(selector).filter(has_text=words).wait_for(timeout=20_000 * PATIENCE)


async def open_tab(context: BrowserContext, url: str) -> Tab:
    tab = Tab(await context.new_page())
    await tab.page.goto(url)
    return tab


async def present(context: BrowserContext, url: str, codec: str = "H264") -> Tab:
    """A presenter who is on air."""
    tab = await open_tab(context, url)
    await tab.until("s.levelDb !== null")
    await tab.page.select_option("#codec", codec)
    await tab.page.click("#air-button")
    await tab.until("s.state === 'on' && s.framesSent > 0")
    return tab


async def photograph(tab: Tab, name: str, *, whole: bool = False) -> None:
    """Take a picture at every size, and check that nothing is wider than its place."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    for size, (width, height) in SIZES.items():
        await tab.page.set_viewport_size({"width": width, "height": height})
        await tab.page.screenshot(
            path=SHOTS / f"{name}-{size}.png", animations="disabled", full_page=whole
        )
        wide = "document.scrollingElement.scrollWidth > window.innerWidth"
        assert not await tab.page.evaluate(wide), f"{name} is wider than a {size}"
        cut = await tab.page.evaluate(CUT_OFF)
        assert cut == [], f"{name}: cut off on a {size}"
