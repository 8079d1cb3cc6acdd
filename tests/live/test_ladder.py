"""`terrace ladder` beside a real node: lower layers for a publisher that sends one picture."""

from __future__ import annotations

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
    """A publisher without simulcast, a viewer two nodes below, a ladder that works and then dies.

    It is one session and one line of pictures through all of it, and sound is not missed.
    """
    publish = [*TERRACE, "publish", "test:", "--size", "640x360", "--video-bitrate", "900k"]
    async with (
        relay(tmp_path, "--name", "centre") as centre,
        relay(tmp_path, "--name", "county", "--parent", centre.url) as county,
        narrows(int(county.url.rpartition(":")[2]), WIDE) as line,
    ):
        url, said = f"{centre.url}/whip/class", tmp_path / "ladder.log"
        processes.append(start_process([*publish, url], tmp_path / "publisher.log"))
        ladder = start_process([*TERRACE, "ladder", url], said)
        processes.append(ladder)
        await ready(centre)
        async with CardViewer(county.url, "class", line.port) as viewer:
            await viewer.sees(640, 60)
            found = await ladder_of(centre)
            assert found is not None
            assert (found["making"], found["bytes_in"]) == ([], 0), "nobody needs it"

            line.rate_bps = THIN

            async def lower() -> bool:
                return viewer.seen[-1].width < 640

            await until("a lower layer", lower, 60)
            assert "making layers of" in said.read_text()
            ladder.send_signal(signal.SIGKILL)
            line.rate_bps = WIDE
            # The nodes notice by themselves, and the picture itself comes back.
            await viewer.sees(640, 60)
            assert await ladder_of(centre) is None
        one_line(viewer)
        for node in (centre, county):
            totals = (await node.get())["totals"]
            assert (totals["errors"], totals["protect_failed"]) == (0, 0)


def one_line(viewer: CardViewer) -> None:
    """One SSRC, time that goes on, and each picture at its own time whatever layer it is of."""
    assert len({packet.ssrc for packet in viewer.packets["video"]}) == 1
    assert all(after.pts > before.pts for before, after in pairwise(viewer.seen))
    first = viewer.seen[0]
    off = [seen.pts - first.pts - 3600 * (seen.number - first.number) for seen in viewer.seen]
    # A layer may begin with a picture that was seen already, of half a second ago at most.
    assert max(map(abs, off)) <= 45_000
    assert abs(off[-1]) <= 90, "back on the top layer there is nothing left of it"
    # What the thin line drops, before the layer is changed, is not all worth repeating.
    heard = [packet.sequence for packet in viewer.packets["audio"]]
    assert missing(heard) <= 0.1 * len(heard)
