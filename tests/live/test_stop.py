"""SIGTERM: everybody is told, and the process is gone within three seconds."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.publishers import AiortcPublisher, live
from tests.live.tree import Tree, until
from tests.live.viewers import BareViewer, load_viewers
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

STOP_WITHIN_S = 3.0
VIEWERS = 50


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Tree]:
    """A centre and a county below it. At the end it looks for errors in their logs."""
    with Tree(tmp_path, {"centre": "", "county": "centre"}) as nodes:
        yield nodes


async def test_a_node_that_stops_tells_its_viewers_and_lets_go_of_its_parent(
    pair: Tree, stream: str
) -> None:
    """RTCP BYE for both tracks, DTLS close_notify; the parent has one viewer less at once."""
    centre, county = pair["centre"], pair["county"]
    async with AiortcPublisher(centre.url, stream) as publisher:
        await live(centre, stream)
        async with (
            BareViewer(county.url, stream) as viewer,
            load_viewers(county.url, stream, VIEWERS) as load,
        ):
            await viewer.receiving()
            await load.join(VIEWERS)
            tracks = {found[0].ssrc for found in viewer.packets.values()}

            began_s = time.monotonic()
            county.process.send_signal(signal.SIGTERM)

            async def told() -> bool:
                return viewer.byes == tracks and viewer.alerted

            await until("BYE and close_notify", told, STOP_WITHIN_S)
            assert await county.ended(STOP_WITHIN_S) == 0
            assert time.monotonic() - began_s <= STOP_WITHIN_S * PATIENCE

        async def released() -> bool:
            one = await centre.stream(stream)
            return one is not None and one["relays"] == 0

        await until("the parent lets go", released, 2)
        assert publisher.state == "connected"


async def test_a_node_that_stops_tells_its_publisher(pair: Tree, stream: str) -> None:
    centre = pair["centre"]
    async with AiortcPublisher(centre.url, stream) as publisher:
        await live(centre, stream)
        centre.process.send_signal(signal.SIGTERM)

        async def told() -> bool:
            return publisher.state == "closed"

        await until("the publisher's connection is closed", told, STOP_WITHIN_S)
        assert await centre.ended(STOP_WITHIN_S) == 0


async def test_a_node_whose_parent_has_died_stops_as_fast(pair: Tree, stream: str) -> None:
    """It waits for no answer of a parent that cannot give one."""
    centre, county = pair["centre"], pair["county"]
    async with AiortcPublisher(centre.url, stream):
        await live(centre, stream)
        async with BareViewer(county.url, stream) as viewer:
            await viewer.receiving()
            centre.kill()
            began_s = time.monotonic()
            county.process.send_signal(signal.SIGTERM)

            async def told() -> bool:
                return viewer.alerted

            await until("close_notify", told, STOP_WITHIN_S)
            assert await county.ended(STOP_WITHIN_S) == 0
            assert time.monotonic() - began_s <= STOP_WITHIN_S * PATIENCE
