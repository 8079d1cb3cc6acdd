"""Chromium as a viewer: a page that plays by WHEP, and what its own statistics say of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from playwright.async_api import Page, async_playwright

CHROMIUM = "/usr/bin/chromium"

# Plain WHEP without trickle, as any player of ours does it. `times` are the moments at which the
# compositor showed a new frame: they see what statistics average away. With each stands when its
# last packet had come, and its timestamp.
_PLAY = """
async ([url, audioNack, targetMs]) => {
  const pc = new RTCPeerConnection();
  window.pc = pc; window.times = []; window.states = [];
  pc.addTransceiver("video", {direction: "recvonly"});
  pc.addTransceiver("audio", {direction: "recvonly"});
  const video = document.querySelector("video");
  video.srcObject = new MediaStream();
  pc.ontrack = (event) => {
    if (targetMs) event.receiver.jitterBufferTarget = targetMs;
    video.srcObject.addTrack(event.track);
  };
  pc.onconnectionstatechange = () => window.states.push(pc.connectionState);
  const shown = (now, about) => {
    window.times.push([now, about.receiveTime, about.rtpTimestamp]);
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
  const offer = await pc.createOffer();
  if (audioNack) offer.sdp = offer.sdp.replace(
    /(a=rtpmap:(\\d+) opus\\/48000\\/2\\r\\n)/, "$1a=rtcp-fb:$2 nack\\r\\n");
  await pc.setLocalDescription(offer);
  const response = await fetch(url, {method: "POST", body: pc.localDescription.sdp,
    headers: {"Content-Type": "application/sdp"}});
  if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
  await pc.setRemoteDescription({type: "answer", sdp: await response.text()});
}
"""
# The watch page's own connection, and the moments at which it showed a frame.
_HOOK = """
window.times = []; window.states = [];
const Native = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Native {
  constructor(...settings) {
    super(...settings);
    window.pc = this;
    this.addEventListener("connectionstatechange", () => states.push(this.connectionState));
  }
};
window.begun = new Promise((begun) => addEventListener("DOMContentLoaded", () => {
  const video = document.querySelector("video");
  const shown = (now, about) => {
    times.push([now, about.receiveTime, about.rtpTimestamp]);
    begun();
    video.requestVideoFrameCallback(shown);
  };
  video.requestVideoFrameCallback(shown);
}));
"""
_STATS = """
async () => {
  const found = {times: window.times, states: window.states};
  for (const report of (await window.pc.getStats()).values())
    if (report.type === "inbound-rtp") found[report.kind] = report;
  return found;
}
"""


@dataclass(frozen=True, slots=True)
class Played:
    """What Chromium says of some seconds.

    `gap_max_ms`: longest time between two shown frames. `frame_late_max_ms`: how much later than
    its median, measured by the publisher's clock, a frame was whole. A gap without a late frame is
    the machine's.
    """

    seconds: float
    frames: int
    freezes: int
    freeze_s: float
    gap_max_ms: float
    gaps_over_200: int
    frame_late_max_ms: float
    dropped: int
    jitter_buffer_ms: float
    packets: int
    packets_lost: int
    nacks: int
    plis: int
    audio_lost: int
    audio_concealed_share: float
    reconnects: int


class Player:
    """One page that plays one stream."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._before: dict[str, Any] = {}

    async def play(self, whep_url: str, *, audio_nack: bool = False, target_ms: int = 0) -> None:
        """Connect, and return when the first frame was shown.

        `target_ms` is the least delay that the jitter buffers keep (0: as they like).
        """
        await self._page.evaluate(_PLAY, [whep_url, audio_nack, target_ms])
        await self._page.wait_for_function("window.times.length > 0", timeout=30_000)

    async def watch(self, page_url: str) -> None:
        """Open a node's own watch page, and return when the first frame was shown."""
        await self._page.add_init_script(_HOOK)
        await self._page.goto(page_url)
        async with asyncio.timeout(30):
            await self._page.evaluate("() => window.begun")

    async def begin(self) -> None:
        """Measure from here on."""
        await self._page.evaluate("() => { window.times = []; }")
        self._before = await self._page.evaluate(_STATS)

    async def played(self, seconds: float) -> Played:
        """What happened since `begin`."""
        after: dict[str, Any] = await self._page.evaluate(_STATS)
        before = self._before

        def gone(kind: str, name: str) -> float:
            now, then = after.get(kind, {}), before.get(kind, {})
            return float(now.get(name, 0)) - float(then.get(name, 0))

        times: list[tuple[float, float | None, int]] = after["times"]
        gaps = [later[0] - earlier[0] for earlier, later in itertools.pairwise(times)]
        emitted = gone("video", "jitterBufferEmittedCount")
        samples = gone("audio", "totalSamplesReceived")
        return Played(
            seconds=seconds,
            frames=int(gone("video", "framesDecoded")),
            freezes=int(gone("video", "freezeCount")),
            freeze_s=round(gone("video", "totalFreezesDuration"), 3),
            gap_max_ms=round(max(gaps, default=0.0), 1),
            gaps_over_200=sum(gap > 200 for gap in gaps),
            frame_late_max_ms=_late_max_ms(times),
            dropped=int(gone("video", "framesDropped")),
            jitter_buffer_ms=round(1000 * gone("video", "jitterBufferDelay") / max(1, emitted), 1),
            packets=int(gone("video", "packetsReceived")),
            packets_lost=int(gone("video", "packetsLost")),
            nacks=int(gone("video", "nackCount")),
            plis=int(gone("video", "pliCount")),
            audio_lost=int(gone("audio", "packetsLost")),
            audio_concealed_share=round(gone("audio", "concealedSamples") / max(1, samples), 4),
            reconnects=sum(state in ("disconnected", "failed") for state in after["states"]),
        )


def _late_max_ms(times: list[tuple[float, float | None, int]]) -> float:
    """From frames as (shown at, received at, timestamp), ms and 1/90000 s."""
    took = [at - (rtp - times[0][2]) / 90 for _, at, rtp in times if at is not None]
    return round(max(took) - median(took), 1) if took else 0.0


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Player]:
    """A headless Chromium with one page."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--autoplay-policy=no-user-gesture-required", "--no-sandbox"],
        )
        page = await browser.new_page()
        await page.set_content("<video autoplay muted playsinline></video>")
        try:
            yield Player(page)
        finally:
            await browser.close()
