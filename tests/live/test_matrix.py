"""Each publisher is seen by each kind of viewer, through four nodes (issue 2, must show 2).

Published at the centre, watched at the county, by all kinds of viewer at the same time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Playwright

from tests.bench.drain import Received
from tests.bench.sdp import VIDEO_PT
from tests.live.browser import ChromiumPublisher, ChromiumViewer
from tests.live.publishers import AiortcPublisher, FfmpegPublisher, live
from tests.live.tree import Tree
from tests.live.viewers import AiortcViewer, LoadViewers, load_viewers, losses

pytestmark = pytest.mark.live

LOAD_VIEWERS = 50
WINDOW_S = 5.0
# The decoders run on the cores that all the rest runs on, and perhaps others' work too. Nothing may
# be lost in any window; one in which they keep up is enough.
WINDOWS = 5
# Chromium makes its own test picture and encodes it, on the same cores as all the rest.
LEAST_FPS = {"Chromium VP8": 12, "Chromium H264": 12, "FFmpeg": 18, "aiortc": 18}
# Of the frames that came, the share that must have been decoded: a sample is half a second old.
DECODED = 0.97
SAMPLE_RATE = 48_000


@contextlib.asynccontextmanager
async def publisher(
    kind: str, browsers: Playwright, url: str, stream: str, folder: Path
) -> AsyncIterator[None]:
    """One publisher of the matrix, on air."""
    if kind.startswith("Chromium"):
        chromium = await ChromiumPublisher.open(browsers, url, stream, kind.split()[1])
        try:
            yield
        finally:
            await chromium.close()
    elif kind == "FFmpeg":
        ffmpeg = FfmpegPublisher(url, stream, folder / "publisher.log")
        try:
            yield
        finally:
            ffmpeg.close()
    else:
        async with AiortcPublisher(url, stream):
            yield


@dataclass(frozen=True, slots=True)
class Window:
    """What was sent and what was decoded in some seconds. Rates are per second."""

    lost: int
    sent_fps: float
    page_fps: float
    page_samples: float
    page_concealed: float
    page_energy: float
    aiortc_fps: float
    aiortc_samples: float
    aiortc_energy: float

    def whole(self) -> bool:
        """Whether nobody lost a packet, and page and aiortc decoded all, picture and sound."""
        fps, samples = DECODED * self.sent_fps, (0.95 * SAMPLE_RATE, 1.05 * SAMPLE_RATE)
        return (
            self.lost == 0
            and min(self.page_fps, self.aiortc_fps) >= fps
            and samples[0] <= self.page_samples <= samples[1]
            and samples[0] <= self.aiortc_samples <= samples[1]
            and self.page_concealed <= 0.02 * SAMPLE_RATE
            and min(self.page_energy, self.aiortc_energy) > 0
        )


async def look(page: ChromiumViewer, aiortc: AiortcViewer, load: LoadViewers) -> Window:
    """Watch for one window."""
    before = await page.stats()
    began_s, samples, pictures = time.monotonic(), aiortc.samples, len(aiortc.pictures)
    energy, lost_before = aiortc.energy, aiortc.lost
    async with load.recorded() as recorded:
        await asyncio.sleep(WINDOW_S)
    took_s = time.monotonic() - began_s
    samples, pictures = aiortc.samples - samples, len(aiortc.pictures) - pictures
    after = await page.stats()

    many = losses(recorded[0], range(LOAD_VIEWERS))
    assert (many.twice, many.without) == (0, [])
    lost = many.lost + aiortc.lost - lost_before + int(after["packetsLost"] - before["packetsLost"])

    seconds: float = (after["at"] - before["at"]) / 1000

    def page_rate(name: str) -> float:
        return float(after[name] - before[name]) / seconds

    return Window(
        lost,
        frames_per_second(recorded[0]),
        page_rate("framesDecoded"),
        page_rate("totalSamplesReceived"),
        page_rate("concealedSamples"),
        page_rate("totalAudioEnergy"),
        pictures / took_s,
        samples / took_s,
        aiortc.energy - energy,
    )


def frames_per_second(received: Received) -> float:
    """Pictures a second at one viewer, by their time stamps."""
    own = received[(received["viewer"] == 0) & ((received["marker_pt"] & 0x7F) == VIDEO_PT)]
    seconds = (int(own["t_ns"].max()) - int(own["t_ns"].min())) / 1e9
    return (len(np.unique(own["timestamp"])) - 1) / seconds


@pytest.mark.parametrize("kind", list(LEAST_FPS))
async def test_a_publisher_at_the_centre_is_seen_whole_at_the_county(
    kind: str, chain: Tree, stream: str, browsers: Playwright, tmp_path: Path
) -> None:
    """By a page in Chromium, by aiortc and by 50 load viewers at once, with nothing lost."""
    centre, county = chain["centre"].url, chain["county"].url
    async with publisher(kind, browsers, centre, stream, tmp_path):
        codec = {t["kind"]: t["codec"] for t in (await live(chain["centre"], stream))["tracks"]}
        assert codec == {
            "audio": "OPUS",
            "video": "VP8" if "VP8" in kind or kind == "aiortc" else "H264",
        }
        page = await ChromiumViewer.open(browsers, county, stream)
        async with (
            AiortcViewer(county, stream) as aiortc,
            load_viewers(county, stream, LOAD_VIEWERS, codec["video"]) as load,
        ):
            await load.join(LOAD_VIEWERS)
            await page.playing()
            await page.unmute()
            await aiortc.playing()

            windows = [await look(page, aiortc, load)]
            while not windows[-1].whole() and len(windows) < WINDOWS:
                windows.append(await look(page, aiortc, load))
            assert windows[-1].whole(), windows
            assert windows[-1].sent_fps >= LEAST_FPS[kind]
            assert page.chromium.complaints == []

            for node in chain.nodes.values():
                about = await node.about()
                here = next(one for one in about["streams"] if one["name"] == stream)
                assert [track["lost"] for track in here["tracks"]] == [0, 0], node.name
                totals = about["totals"]
                assert (totals["send_dropped"], totals["protect_failed"], totals["errors"]) == (
                    0,
                    0,
                    0,
                )
