"""`terrace ladder` beside a real node: lower layers for a publisher that sends one picture."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.live.browser import NAMES
from tests.live.narrows import narrows
from tests.live.processes import Relay, relay
from tests.live.test_layers import ARGUMENTS, STATS, WATCH, page_at, port_of
from tests.live.tree import end_process, start_process, until
from tests.live.viewers import BareViewer

pytestmark = [pytest.mark.live, pytest.mark.alone]

TERRACE = (sys.executable, "-m", "web.cli")
WIDE, THIN = 4e6, 250e3

NOTE_FRAMES = """() => {
  const video = document.querySelector("video");
  window.shown = [];
  const note = (_, frame) => {
    window.shown.push([frame.rtpTimestamp, frame.width]);
    video.requestVideoFrameCallback(note);
  };
  video.requestVideoFrameCallback(note);
}"""


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to end with the test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        end_process(process)


async def ladder_of(node: Relay) -> dict[str, Any] | None:
    streams = (await node.get())["streams"]
    found: dict[str, Any] | None = streams[0]["ladder"] if streams else None
    return found


async def test_a_thin_line_gets_a_layer_that_is_made_for_it(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """A publisher without simulcast, Chromium two nodes below, a ladder that works and then dies.

    It is one session throughout. Whatever layer a picture is of, its time is that of the picture
    that the publisher sent: what was seen is neither shown again nor early nor late.
    """
    publish = [*TERRACE, "publish", "test:", "--size", "640x360", "--video-bitrate", "900k"]
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        relay(tmp_path, "--name", "county", "--parent", centre.url) as county,
        narrows(port_of(county), WIDE) as line,
        async_playwright() as playwright,
    ):
        url, said = f"{centre.url}/whip/class", tmp_path / "ladder.log"
        processes.append(start_process([*publish, url], tmp_path / "publisher.log"))
        ladder = start_process([*TERRACE, "ladder", url], said)
        processes.append(ladder)

        async def offered() -> bool:
            found = await ladder_of(centre)
            return found is not None and found["layers"] == ["q", "h"]

        async def idle() -> bool:
            found = await ladder_of(centre)
            return found is not None and found["making"] == []

        await until("the ladder is there", offered, 30)
        browser = await playwright.chromium.launch(
            executable_path=next(filter(None, map(shutil.which, NAMES))), args=list(ARGUMENTS)
        )
        try:
            async with BareViewer(centre.url, "class", "H264") as publisher_s:
                await publisher_s.receiving(30)
                page = await page_at(browser, county)
                await page.evaluate(WATCH, [f"{county.url}/whep/class", port_of(county), line.port])

                async def width(fits: range) -> bool:
                    video = (await page.evaluate(STATS)).get("video", {})
                    return video.get("frameWidth") in fits

                await until("the whole picture", lambda: width(range(640, 641)), 30)
                await until("nobody needs a layer", idle, 30)
                await page.evaluate(NOTE_FRAMES)
                line.rate_bps = THIN
                await until("a lower layer", lambda: width(range(1, 640)), 30)
                assert "making layers of" in said.read_text()
                ladder.send_signal(signal.SIGKILL)
                line.rate_bps = WIDE
                # The nodes notice by themselves, and the picture itself comes back.
                await until("the whole picture again", lambda: width(range(640, 641)), 60)

                async def forgotten() -> bool:
                    return await ladder_of(centre) is None

                await until("the ladder is taken for dead", forgotten, 20)
                shown = await page.evaluate("window.shown")
                sent = {packet.timestamp for packet in publisher_s.packets["video"]}
        finally:
            await browser.close()
        assert len({width for _, width in shown}) > 1
        # A layer that begins with the very picture that was seen last is one tick later.
        off = [stamp for stamp, _ in shown if not sent & {stamp - 1, stamp, stamp + 1}]
        assert off == []
        for node in (centre, county):
            totals = (await node.get())["totals"]
            assert (totals["errors"], totals["protect_failed"]) == (0, 0)
