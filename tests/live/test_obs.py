"""OBS-style simulcast into a real node, seen by a viewer who climbs through its layers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tests.live.obs import SIZES, ObsPublisher
from tests.live.processes import relay
from tests.live.viewers import CardViewer
from tests.patience import PATIENCE

pytestmark = pytest.mark.live


async def test_layers_of_obs_are_told_apart_and_a_viewer_climbs_them(tmp_path: Path) -> None:
    """The smallest at first, then up to the largest, on one line of pictures."""
    large, _, small = (width for width, _ in SIZES)
    async with relay(tmp_path) as node, ObsPublisher(node.url, "class") as publisher:
        # OBS counts the layers that the answer takes, and gives up when there are fewer.
        (taken,) = [n for n in publisher.answer.split("\r\n") if n.startswith("a=simulcast:recv ")]
        assert sorted(taken.partition(" ")[2].split(";")) == ["0", "1", "2"]

        def all_come(about: dict[str, list[dict[str, list[dict[str, object]]]]]) -> bool:
            tracks = about["streams"][0]["tracks"] if about["streams"] else []
            return [t["rid"] for t in tracks if t["kind"] == "video" and t["packets"]] == [
                "2", "1", "0",
            ]  # fmt: skip

        await node.until("/api/node", all_come, 40)
        async with CardViewer(node.url, "class") as viewer:
            await viewer.sees(small, 40)
            await viewer.sees(large, 60)
        assert all(after.number > before.number for before, after in pairwise(viewer.seen))
        assert viewer.lost == 0
        first = viewer.seen[0]
        for seen in viewer.seen:
            off = seen.pts - first.pts - 7200 * (seen.number - first.number)
            # Only the largest layer has sender reports: the place of others is found by arrival.
            assert abs(off) < 22_500 * PATIENCE
        totals = (await node.get())["totals"]
        assert (totals["errors"], totals["protect_failed"]) == (0, 0)
