"""`terrace ladder` beside a real node: lower layers for a publisher that sends one picture."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.live.narrows import narrows
from tests.live.processes import Relay, relay
from tests.live.tree import end_process, start_process, until
from tests.live.viewers import CardViewer, missing

pytestmark = pytest.mark.live

TERRACE = (sys.executable, "-m", "web.cli")
WIDE, THIN = 4e6, 250e3


class Ladder:
    """A `terrace ladder` process; `log` is what it says."""

    def __init__(self, node: Relay, log: Path) -> None:
        self.log = log
        self.process = start_process([*TERRACE, "ladder", f"{node.url}/whip/class"], log)

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        # Fields 14 and 15 of proc_pid_stat(5), counted behind the name in brackets.
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


async def ready(node: Relay) -> None:
    async def look() -> bool:
        ladder = await ladder_of(node)
        return ladder is not None and ladder["layers"] == ["q", "h"]

    await until("the ladder is there", look, 60)


async def test_a_thin_line_gets_a_layer_that_is_made_for_it(
    tmp_path: Path, processes: list[subprocess.Popen[bytes]]
) -> None:
    """Publisher without simulcast; the county below has the layer as well; the ladder is killed.

    The picture's numbers and timestamps go on through each change, sound is never missed, and what
    nobody needs is not made.
    """
    publish = [*TERRACE, "publish", "test:", "--size", "640x360", "--video-bitrate", "900k"]
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        relay(tmp_path, "--name", "county", "--parent", centre.url) as county,
        narrows(int(county.url.rpartition(":")[2]), WIDE) as line,
    ):
        url = f"{centre.url}/whip/class"
        processes.append(start_process([*publish, url], tmp_path / "publisher.log"))
        ladder = Ladder(centre, tmp_path / "ladder.log")
        processes.append(ladder.process)
        await ready(centre)
        async with CardViewer(county.url, "class", line.port) as viewer:
            await viewer.sees(640, 60)
            found = await ladder_of(centre)
            assert found is not None
            assert (found["making"], found["bytes_in"]) == ([], 0)

            line.rate_bps = THIN

            async def lower() -> bool:
                return bool(viewer.seen) and viewer.seen[-1].width < 640

            await until("a lower layer", lower, 60)
            line.rate_bps = WIDE
            await viewer.sees(640, 60)
            steps_by_one(viewer)
            aligned(viewer)

            async def idle() -> bool:
                now = await ladder_of(centre)
                return now is not None and now["making"] == []

            await until("the ladder is idle", idle, 30)
            assert "nobody needs a layer: idle" in ladder.log.read_text()

            line.rate_bps = THIN
            await until("a lower layer again", lower, 60)
            ladder.process.send_signal(signal.SIGKILL)
            line.rate_bps = WIDE
            # It goes back to the picture in the very session; the node has noticed by itself.
            await viewer.sees(640, 60)
            steps_by_one(viewer)
        for node in (centre, county):
            totals = (await node.get())["totals"]
            assert (totals["errors"], totals["protect_failed"]) == (0, 0)


def steps_by_one(viewer: CardViewer) -> None:
    """One session, one line of numbers; what the line itself dropped was asked for again."""
    ssrcs = {packet.ssrc for packet in viewer.packets["video"]}
    assert len(ssrcs) == 1
    numbers = [seen.number for seen in viewer.seen]
    assert all(after > before for before, after in pairwise(numbers)), "a picture came twice"


def aligned(viewer: CardViewer) -> None:
    """Each picture has the same time in each layer: 3600 ticks apart, whatever was between."""
    first = viewer.seen[0]
    off = [seen.pts - first.pts - 3600 * (seen.number - first.number) for seen in viewer.seen]
    assert max(map(abs, off)) <= 90, "a millisecond at most"
    assert missing([packet.sequence for packet in viewer.packets["audio"]]) <= 5
