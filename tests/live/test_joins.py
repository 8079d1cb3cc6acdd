"""A rush of joiners costs those who already watch nothing (issue 2, must show 4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.publishers import BarePublisher, live
from tests.live.tree import Tree
from tests.live.viewers import load_viewers, losses
from tests.patience import PATIENCE

pytestmark = pytest.mark.live

PRESENT = 20
JOINERS = 400
RUSH_S = 5.0
ALL_WITHIN_S = 20.0 * PATIENCE


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A centre and a county below it."""
    with Tree(tmp_path_factory.mktemp("pair"), {"centre": "", "county": "centre"}) as nodes:
        yield nodes


async def test_those_present_lose_nothing_while_four_hundred_join(pair: Tree, stream: str) -> None:
    """They come within five seconds; each of them gets picture and sound.

    A node that runs short of processor time asks the last ones to wait a little.
    """
    county = pair["county"].url
    async with (
        BarePublisher(pair["centre"].url, stream),
        load_viewers(county, stream, PRESENT) as present,
        load_viewers(county, stream, 2 * JOINERS) as rush,
    ):
        await live(pair["centre"], stream)
        await present.join(PRESENT)
        async with present.recorded() as seen:
            at_once = await rush.join_over(JOINERS, RUSH_S, ALL_WITHIN_S)
            await rush.receiving()
        assert at_once >= JOINERS / 2 / PATIENCE
        before = losses(seen[0], range(PRESENT))
        assert (before.lost, before.twice, before.without) == (0, 0, [])
        assert before.packets >= PRESENT * RUSH_S * 100
        here = await pair["county"].stream(stream)
        assert here is not None
        assert here["viewers"] == PRESENT + JOINERS
