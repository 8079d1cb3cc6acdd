"""One minute of the demo in a real browser (issue 2, must show 1)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Playwright

from tests.live.browser import ChromiumViewer
from tests.live.publishers import live
from tests.live.tree import Node, end_process, free_ports, start_process, until
from web import demo

pytestmark = pytest.mark.live

MINUTE_S = 60.0
SETTLE_S = 3.0
READY_WITHIN_S = 30.0
LEAST_FPS = 24.0
SAMPLE_RATE = 48_000


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Node, Node]]:
    """The highest and the lowest node of a demo that runs as its own processes."""
    base = demo_port()
    log = tmp_path / "demo.log"
    command = [sys.executable, "-m", "web.cli", "demo", "--base-port", str(base)]
    process = start_process(command, log)
    try:
        yield Node("centre", base, log), Node("county", base + 30, log)
    finally:
        end_process(process)
    assert process.returncode == 0, log.read_text()


def demo_port() -> int:
    """A base port whose four ports are free at this moment."""
    while True:
        base = free_ports(1)[0]
        try:
            demo.ports(base)
        except demo.DemoFailed:
            continue
        return base


async def test_the_demo_plays_a_minute_in_chromium_without_a_flaw(
    ends: tuple[Node, Node], browsers: Playwright
) -> None:
    """At least 24 of 25 frames a second decoded, no freeze, no packet lost, sound decoded."""
    centre, county = ends

    async def said() -> bool:
        return f"{county.url}/watch/{demo.STREAM}" in county.log_end()

    await until("the demo says where to watch", said, READY_WITHIN_S)
    await live(centre, demo.STREAM)
    page = await ChromiumViewer.open(browsers, county.url, demo.STREAM)
    await page.playing(READY_WITHIN_S)
    await page.unmute()
    await asyncio.sleep(SETTLE_S)

    before = await page.stats()
    await asyncio.sleep(MINUTE_S)
    after = await page.stats()

    seconds = (after["at"] - before["at"]) / 1000
    assert seconds >= MINUTE_S - 1
    assert (after["framesDecoded"] - before["framesDecoded"]) / seconds >= LEAST_FPS
    assert after["freezeCount"] == before["freezeCount"]
    assert after["packetsLost"] == 0
    samples = after["totalSamplesReceived"] - before["totalSamplesReceived"]
    assert samples == pytest.approx(SAMPLE_RATE * seconds, rel=0.02)
    assert after["concealedSamples"] - before["concealedSamples"] <= 0.01 * samples
    assert after["totalAudioEnergy"] > before["totalAudioEnergy"]
    assert (after["reconnects"], after["state"], len(page.sessions)) == (0, "playing", 1)
    assert page.chromium.complaints == []
