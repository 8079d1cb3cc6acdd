"""The same stream by the slower ways of sending, for systems without GSO or sendmmsg."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.live.publishers import BarePublisher, live
from tests.live.tree import Tree
from tests.live.viewers import BareViewer, load_viewers, losses, missing

pytestmark = pytest.mark.live

VIEWERS = 20
WINDOW_S = 3.0


@pytest.mark.parametrize(
    ("forced", "abilities"),
    [
        pytest.param("messages", (False, True), id="no GSO"),
        pytest.param("packets", (False, False), id="neither"),
    ],
)
async def test_viewers_lose_nothing_on_a_slower_path(
    forced: str, abilities: tuple[bool, bool], stream: str, tmp_path: Path
) -> None:
    parents = {"centre": "", "county": "centre"}
    with Tree(tmp_path, parents, environment={"TERRACE_SEND": forced}) as pair:
        county = pair["county"]
        async with BarePublisher(pair["centre"].url, stream):
            await live(pair["centre"], stream)
            async with (
                load_viewers(county.url, stream, VIEWERS) as load,
                BareViewer(county.url, stream) as one,
            ):
                await load.join(VIEWERS)
                await one.receiving()
                async with load.recorded() as recorded:
                    await asyncio.sleep(WINDOW_S)
                many = losses(recorded[0], range(VIEWERS))
                assert (many.lost, many.twice, many.without) == (0, 0, [])
                assert many.packets >= VIEWERS * WINDOW_S * 100
                for found in one.packets.values():
                    assert missing([packet.sequence for packet in found]) == 0
                assert one.undecipherable == 0
        for node in pair.nodes.values():
            about = await node.about()
            assert (about["transport"]["gso"], about["transport"]["sendmmsg"]) == abilities
            totals = about["totals"]
            assert (totals["send_dropped"], totals["errors"]) == (0, 0)
