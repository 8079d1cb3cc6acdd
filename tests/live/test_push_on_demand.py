"""A site's stream stays at its county until it is raised, and comes down again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.live.publishers import AiortcPublisher, live
from tests.live.test_switch import BRIGHT, DARK, shade, switch
from tests.live.tree import Node, Tree, holds, until
from tests.live.viewers import AiortcViewer

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """Four nodes that can be commanded."""
    with Tree(tmp_path_factory.mktemp("raising"), program="tests.live.raising") as nodes:
        yield nodes


async def raised(node: Node, stream: str, layers: str) -> None:
    """Raise a stream at a node, or lower it ("")."""
    async with (
        aiohttp.ClientSession() as http,
        http.put(f"{node.url}/test/raised/{stream}", data=layers) as answer,
    ):
        assert answer.status == 200


async def flows(node: Node, stream: str) -> dict[str, Any] | None:
    """What a node says of a stream if packets of it arrive there."""
    one = await node.stream(stream)
    return one if one is not None and one["state"] == "live" else None


async def test_a_stream_on_demand_goes_up_when_it_is_raised_and_no_longer_when_lowered(
    chain: Tree, stream: str
) -> None:
    """Twice: what the nodes above had of it does not make them ask for what they did not get."""
    centre, city, county = chain["centre"], chain["city"], chain["county"]

    async def not_above() -> bool:
        return await city.stream(stream) is None

    async def quiet() -> bool:
        return await flows(centre, stream) is None

    async with AiortcPublisher(county.url, stream, on_demand=True):
        at_county = await live(county, stream)
        assert at_county["on_demand"] is True
        await holds("it stays at the county", not_above, 0.5)
        for turn in range(2):
            await raised(county, stream, "low")
            await live(centre, stream)
            await until("it flows at the centre", lambda: flows(centre, stream), 5)
            async with AiortcViewer(centre.url, stream) as viewer:
                await viewer.playing()
            for node in (city, centre):
                track = await node.track(stream, "video")
                assert track["nacks_out"] < 50, f"in turn {turn} at {node.name}: {track}"
            await raised(county, stream, "")
            await until("it no longer flows at the centre", quiet, 6)
        assert await flows(county, stream) is not None


async def test_raised_before_its_publisher_comes_it_goes_up_at_once(
    chain: Tree, stream: str
) -> None:
    """A site that reloads its page in the middle of its floor is pushed again by itself."""
    centre, county = chain["centre"], chain["county"]
    await raised(county, stream, "full")
    async with AiortcPublisher(county.url, stream, on_demand=True):
        await live(centre, stream)
    async with AiortcPublisher(county.url, stream, on_demand=True):
        await until("it flows at the centre again", lambda: flows(centre, stream), 5)
    await raised(county, stream, "")


async def test_a_switch_waits_for_a_source_that_is_being_raised(chain: Tree, stream: str) -> None:
    """The floor is given with one tap: raise and switch go out together."""
    centre, county = chain["centre"], chain["county"]
    one, two = f"{stream}.1", f"{stream}.2"
    async with (
        AiortcPublisher(centre.url, one, DARK),
        AiortcPublisher(county.url, two, BRIGHT, on_demand=True),
    ):
        await live(county, two)
        await live(centre, one)
        await switch(centre.url, stream, one)
        async with AiortcViewer(county.url, stream) as viewer:
            await viewer.playing()
            await raised(county, two, "full")
            await switch(centre.url, stream, two)
            await shade(viewer, bright=True)
            assert viewer.lost == 0
