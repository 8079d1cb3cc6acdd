"""OBS-style simulcast into a real node, seen by a viewer who climbs through the layers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.live.narrows import narrows
from tests.live.obs import SIZES, ObsPublisher
from tests.live.processes import relay
from tests.live.tree import until
from tests.live.viewers import CardViewer

pytestmark = pytest.mark.live


async def test_layers_of_obs_are_told_apart_and_a_viewer_goes_up_and_down(tmp_path: Path) -> None:
    """The smallest at first, then the largest; and a smaller one when the line becomes thin."""
    large, _, small = (width for width, _ in SIZES)
    async with (
        relay(tmp_path) as node,
        narrows(int(node.url.rpartition(":")[2]), 4e6) as line,
        ObsPublisher(node.url, "class") as publisher,
    ):
        # OBS counts the layers that the answer takes, and gives up when there are fewer.
        (taken,) = [n for n in publisher.answer.split("\r\n") if n.startswith("a=simulcast:recv ")]
        assert sorted(taken.partition(" ")[2].split(";")) == ["0", "1", "2"]

        def all_come(about: dict[str, list[dict[str, list[dict[str, object]]]]]) -> bool:
            tracks = about["streams"][0]["tracks"] if about["streams"] else []
            return [t["rid"] for t in tracks if t["kind"] == "video" and t["packets"]] == [
                "2", "1", "0",
            ]  # fmt: skip

        await node.until("/api/node", all_come, 15)
        async with CardViewer(node.url, "class", line.port) as viewer:
            await viewer.sees(large, 30)
            assert viewer.seen[0].width == small
            line.rate_bps = 200e3

            async def smaller() -> bool:
                return viewer.seen[-1].width < large

            await until("a smaller layer", smaller, 20)
            assert all(b.number > a.number for a, b in pairwise(viewer.seen))
            first = viewer.seen[0]
            for seen in viewer.seen:
                off = seen.pts - first.pts - 7200 * (seen.number - first.number)
                # Without a sender report for it, a layer's place is found by arrival.
                assert abs(off) < 9000
        totals = (await node.get())["totals"]
        assert (totals["errors"], totals["protect_failed"]) == (0, 0)
