"""Simulcast from a real browser, through real nodes, to a line that becomes thin and wide again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from tests.live.narrows import narrows
from tests.live.processes import Relay, relay
from tests.patience import PATIENCE

pytestmark = [pytest.mark.live, pytest.mark.alone]

ARGUMENTS = (
    "--autoplay-policy=no-user-gesture-required",
    # The presenter's tab lies behind the viewer's, and must go on at its pace.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--disable-gpu",
    # Chromium will not run in its own sandbox as root, which is who runs tests in a container.
    "--no-sandbox",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")

# A canvas in motion and a tone, in three layers: 240, 480 and 960 pixels wide.
PUBLISH = """async (url) => {
  const { layers, codecsFor, withStartBitrate } = await import(window.whip);
  const canvas = Object.assign(document.createElement("canvas"), { width: 960, height: 540 });
  const pen = canvas.getContext("2d");
  let n = 0;
  setInterval(() => {
    pen.fillStyle = `hsl(${(n += 3) % 360} 70% 50%)`;
    pen.fillRect(0, 0, 960, 540);
    pen.fillStyle = "#fff";
    for (let i = 0; i < 40; i++) pen.fillRect(Math.random() * 960, Math.random() * 540, 20, 20);
  }, 66);
  const audio = new AudioContext();
  const tone = audio.createOscillator();
  const out = audio.createMediaStreamDestination();
  tone.connect(out);
  tone.start();
  const pc = (window.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  pc.addTransceiver(out.stream.getAudioTracks()[0], { direction: "sendonly" });
  const video = pc.addTransceiver(canvas.captureStream(15).getVideoTracks()[0], {
    direction: "sendonly", sendEncodings: layers(1_200_000),
  });
  video.setCodecPreferences(codecsFor("VP8"));
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(url, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
  });
  const sdp = await answer.text();
  if (answer.status !== 201) throw new Error(sdp);
  await pc.setRemoteDescription({ type: "answer", sdp: withStartBitrate(sdp, 2000) });
  return sdp;
}"""

WATCH = """async ([url, node, line]) => {
  const pc = (window.pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  const video = Object.assign(document.createElement("video"), { muted: true, autoplay: true });
  video.srcObject = new MediaStream();
  document.body.append(video);
  pc.ontrack = ({ track }) => video.srcObject.addTrack(track);
  pc.addTransceiver("audio", { direction: "recvonly" });
  pc.addTransceiver("video", { direction: "recvonly" });
  await pc.setLocalDescription(await pc.createOffer());
  const answer = await fetch(url, {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp,
  });
  const sdp = (await answer.text()).replaceAll(`127.0.0.1 ${node} typ`, `127.0.0.1 ${line} typ`);
  await pc.setRemoteDescription({ type: "answer", sdp });
}"""

STATS = """async () => {
  const found = {};
  for (const one of (await pc.getStats()).values())
    if (one.type === "inbound-rtp") found[one.kind] = one;
  return found;
}"""


async def until(what: Callable[[], Any], fits: Callable[[Any], bool], seconds: float) -> float:
    """Seconds until the answer fits. TimeoutError says what it was last.

    `seconds` are those of a quiet machine.
    """
    seconds *= PATIENCE
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        answer = await what()
        if fits(answer):
            return loop.time() - began
        if loop.time() - began > seconds:
            raise TimeoutError(f"after {seconds} s: {answer}")
        await asyncio.sleep(0.1)


def port_of(node: Relay) -> int:
    return int(node.url.rpartition(":")[2])


async def layers_of(node: Relay) -> dict[str, dict[str, Any]]:
    stream = (await node.get())["streams"][0]
    return {track["rid"]: track for track in stream["tracks"] if track["kind"] == "video"}


async def test_a_county_of_thin_lines_takes_the_low_layer_only(tmp_path: Path) -> None:
    """Top layer while there is room; throttled, the low one, on the line and on the edge above;
    sound without a gap; and the top layer again.
    """
    async with (
        relay(tmp_path) as centre,
        relay(tmp_path, "--parent", centre.url) as county,
        narrows(port_of(county), 4e6) as line,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES))), args=list(ARGUMENTS)
        )
        try:
            presenter, viewer = [await page_at(browser, centre) for _ in range(2)]
            answer = await presenter.evaluate(PUBLISH, centre.url + "/whip/class")
            assert "a=simulcast:recv q;h;f" in answer
            await viewer.evaluate(WATCH, [county.url + "/whep/class", port_of(county), line.port])

            async def picture() -> Any:
                return (await viewer.evaluate(STATS)).get("video", {})

            await until(picture, lambda video: video.get("frameWidth") == 960, 20)
            sound = (await viewer.evaluate(STATS))["audio"]

            line.rate_bps = 300_000
            took = await until(picture, lambda video: video["frameWidth"] < 960, 10)

            # The edge: after the linger nothing but the low layer is sent to the county.
            await until(lambda: layers_of(centre), lambda now: now["f"]["relays"] == 0, 10)
            await asyncio.sleep(0.5)  # What was under way has come.
            before = await layers_of(county)
            await asyncio.sleep(4)
            after = await layers_of(county)
            top_bytes = after["f"]["bytes"] - before["f"]["bytes"]
            low_bytes = after["q"]["bytes"] - before["q"]["bytes"]
            assert low_bytes > 5_000
            assert top_bytes <= 1400, "more than the packet that keeps SRTP's count"

            line.rate_bps = 4e6
            back = await until(picture, lambda video: video["frameWidth"] == 960, 25)
            later = (await viewer.evaluate(STATS))["audio"]
            lost = later["packetsLost"] - sound["packetsLost"]
            heard = later["packetsReceived"] - sound["packetsReceived"]
            print(f"down after {took:.1f} s, up after {back:.1f} s, sound {lost} of {heard} lost")  # noqa: T201
            # What the narrow line drops between its first sign of being full and the picture's
            # making room; on a busy machine 9 of 522 were seen.
            assert lost <= 0.03 * heard
            for node in (centre, county):
                totals = (await node.get())["totals"]
                assert (totals["errors"], totals["protect_failed"]) == (0, 0)
        finally:
            await browser.close()


async def test_sound_comes_whole_over_a_last_hop_that_loses_five_per_cent(tmp_path: Path) -> None:
    """Redundant audio (RFC 2198), for Chromium offers it: what is lost is in the next packet."""
    async with (
        relay(tmp_path) as node,
        narrows(port_of(node), 8e6, lost=0.05) as line,
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES))), args=list(ARGUMENTS)
        )
        try:
            presenter, viewer = [await page_at(browser, node) for _ in range(2)]
            await presenter.evaluate(PUBLISH, node.url + "/whip/class")
            await viewer.evaluate(WATCH, [node.url + "/whep/class", port_of(node), line.port])

            async def sound() -> Any:
                return (await viewer.evaluate(STATS)).get("audio", {})

            async def redundant() -> Any:
                (stream,) = (await node.get())["streams"]
                return [below["redundant_audio"] for below in stream["lines_below"]]

            await until(sound, lambda audio: audio.get("packetsReceived", 0) > 150, 20)
            await until(redundant, lambda now: now == [True], 20)

            async def window() -> tuple[float, float]:
                """The share lost, and the share concealed, of 15 s."""
                before = await sound()
                await asyncio.sleep(15)
                after = await sound()

                def grown(name: str) -> float:
                    return float(after[name] - before[name])

                sent = grown("packetsReceived") + grown("packetsLost")
                concealed = grown("concealedSamples") / grown("totalSamplesReceived")
                return grown("packetsLost") / sent, concealed

            # What is left is from gaps of three, and from a machine that is late with the sound;
            # where the estimate falls for that, the node saves the redundancy for a while.
            windows = []
            for _ in range(4):
                lost, concealed = await window()
                windows.append((lost, concealed))
                assert lost > 0.02
                if concealed < 0.8 * lost:
                    break
            else:
                raise AssertionError(windows)
        finally:
            await browser.close()


async def page_at(browser: Any, node: Relay) -> Page:
    page: Page = await browser.new_page()
    # The way to the project's own client stands on the page; its player would be one more viewer.
    await page.goto(node.url + "/watch/class")
    link = page.locator('link[rel=modulepreload][href$="whip.js"]')
    client = await link.get_attribute("href")
    await page.goto(node.url + "/healthz")
    await page.evaluate("client => { window.whip = client; }", client)
    return page
