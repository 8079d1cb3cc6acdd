"""Chromium as a viewer: when each picture was shown, when its sound began and ended.

All moments are Unix milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from playwright.async_api import Page, async_playwright

from tests.lab.browser import CHROMIUM

WITHIN_S = 8.0

# `turns`: when the sound became loud or silent, to 5 ms. `shown`: when a picture was composed.
_LISTEN = """
async (url) => {
  const pc = new RTCPeerConnection();
  Object.assign(window, {pc, turns: [], shown: [], states: []});
  pc.addTransceiver("video", {direction: "recvonly"});
  pc.addTransceiver("audio", {direction: "recvonly"});
  pc.onconnectionstatechange = () => window.states.push(pc.connectionState);
  pc.onnegotiationneeded = () => window.states.push("negotiation");
  const video = document.querySelector("video");
  video.srcObject = new MediaStream();
  const shown = (now) => {
    window.shown.push(performance.timeOrigin + now);
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  pc.ontrack = (event) => {
    video.srcObject.addTrack(event.track);
    if (event.track.kind !== "audio") return;
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    analyser.fftSize = 256;
    context.createMediaStreamSource(new MediaStream([event.track])).connect(analyser);
    const wave = new Float32Array(analyser.fftSize);
    let loud = false;
    setInterval(() => {
      analyser.getFloatTimeDomainData(wave);
      const now = wave.some((one) => Math.abs(one) > 0.02);
      if (now !== loud) window.turns.push([performance.timeOrigin + performance.now(), now]);
      loud = now;
    }, 5);
  };
  await pc.setLocalDescription(await pc.createOffer());
  window.states.length = 0;
  const response = await fetch(url, {method: "POST", body: pc.localDescription.sdp,
    headers: {"Content-Type": "application/sdp"}});
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
  await pc.setRemoteDescription({type: "answer", sdp: await response.text()});
}
"""
_STATS = """
async () => {
  const found = {};
  for (const one of (await window.pc.getStats()).values())
    if (one.type === "inbound-rtp") found[one.kind] = one;
  return found;
}
"""


class Listener:
    """A page that plays one stream."""

    def __init__(self, page: Page) -> None:
        self._page = page

    async def stats(self) -> dict[str, dict[str, Any]]:
        """Chromium's own statistics, `audio` and `video`."""
        return dict(await self._page.evaluate(_STATS))

    async def buffered(self) -> tuple[float, float]:
        """Seconds that samples of sound have waited in the jitter buffer, in sum, and how many."""
        audio = (await self.stats()).get("audio", {})
        # Before its first packets Chromium tells nothing of it.
        waited, samples = (
            audio.get(f"jitterBuffer{what}", 0.0) for what in ("Delay", "EmittedCount")
        )
        return float(waited), float(samples)

    async def shown(self) -> list[float]:
        """When each picture was shown."""
        return [float(at) for at in await self._page.evaluate("window.shown")]

    async def turns(self) -> list[tuple[float, bool]]:
        """When the sound became loud (True) or silent."""
        return [(float(at), bool(loud)) for at, loud in await self._page.evaluate("window.turns")]

    async def states(self) -> list[str]:
        """What became of the connection since its answer."""
        return [str(one) for one in await self._page.evaluate("window.states")]

    async def turn(self, since_unix_s: float, *, loud: bool) -> float:
        """Wait until the sound has become loud, or silent, after a moment; when it did."""
        for _ in range(round(WITHIN_S / 0.02)):
            for at, now in await self.turns():
                if now is loud and at >= 1000 * since_unix_s:
                    return at
            await asyncio.sleep(0.02)
        raise AssertionError(f"Chromium's sound did not become {'loud' if loud else 'silent'}")


@contextlib.asynccontextmanager
async def listening(whep_url: str) -> AsyncIterator[Listener]:
    """A headless Chromium that plays a stream."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--autoplay-policy=no-user-gesture-required", "--no-sandbox"],
        )
        page = await browser.new_page()
        await page.set_content("<video autoplay muted playsinline></video>")
        await page.evaluate(_LISTEN, whep_url)
        try:
            yield Listener(page)
        finally:
            await browser.close()
