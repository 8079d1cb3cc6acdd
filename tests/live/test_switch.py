"""A programme that is switched between publishers, seen by a viewer that decodes it."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.live.publishers import AiortcPublisher, live
from tests.live.tree import Tree, until
from tests.live.viewers import AiortcViewer, steps
from tests.patience import PATIENCE

pytestmark = [pytest.mark.live, pytest.mark.alone]

DARK, BRIGHT = 60, 190


async def switch(url: str, stream: str, source: str | None, muted: bool = False) -> Any:
    """Have a stream show a source; the answer."""
    order = {"source": source, "muted": muted}
    async with (
        aiohttp.ClientSession() as http,
        http.put(f"{url}/api/switch/{stream}", json=order) as answer,
    ):
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def shade(viewer: AiortcViewer, bright: bool) -> None:
    """Wait until a viewer sees the bright picture, or the dark one."""

    async def look() -> bool:
        return bool(viewer.pictures) and (viewer.pictures[-1][2] > 125) is bright

    await until("the other picture", look, 5)


async def test_viewers_see_one_unbroken_stream_while_it_is_switched(
    chain: Tree, stream: str
) -> None:
    """Same session, one line of numbers, the picture's time never back; at the foot of the tree."""
    centre, county = chain["centre"], chain["county"]
    one, two = f"{stream}.1", f"{stream}.2"
    async with (
        AiortcPublisher(centre.url, one, DARK),
        AiortcPublisher(county.url, two, BRIGHT),
    ):
        await live(centre, one)
        await live(centre, two)
        made = await switch(centre.url, stream, one)
        assert (made["stream"], made["source"]) == (stream, one)
        async with AiortcViewer(county.url, stream) as viewer:
            await viewer.playing()
            await shade(viewer, bright=False)
            for source, bright in ((two, True), (one, False), (two, True)):
                made = await switch(centre.url, stream, source)
                assert made["waited_ms"] < 1000 * PATIENCE
                await shade(viewer, bright)
            state = await centre.stream(stream)
            assert state is not None
            assert state["source"] == "programme"
            assert state["programme"] == {"source": two, "muted": False, "cuts": 4}
            for found in viewer.packets.values():
                assert len({p.ssrc for p in found}) == 1
                in_order = sorted(steps([p.sequence for p in found], 16))
                assert in_order[0] >= -5
            assert viewer.lost == 0
            times = [at for _, at, _ in viewer.pictures]
            assert times == sorted(times)
            # Silence is as long as the sound, and nothing of it.
            made = await switch(centre.url, stream, two, muted=True)
            assert made["waited_ms"] < 200 * PATIENCE

            async def silent() -> bool:
                before, samples = viewer.energy, viewer.samples
                await asyncio.sleep(0.4)
                return viewer.samples > samples and viewer.energy - before < 1e-6

            await until("it is silent once what came before is heard", silent, 5)


async def test_a_switch_to_nobody_leaves_what_is_seen(chain: Tree, stream: str) -> None:
    """504 after two seconds; null gives the stream back, which then is as after a publisher."""
    centre = chain["centre"]
    one = f"{stream}.1"
    async with AiortcPublisher(centre.url, one):
        await live(centre, one)
        await switch(centre.url, stream, one)
        url = f"{centre.url}/api/switch/{stream}"
        async with aiohttp.ClientSession() as http:
            async with http.put(url, json={"source": f"{stream}.2"}) as answer:
                assert answer.status == 504
                assert answer.headers["Terrace-Reason"] == "no-source"
                assert answer.headers["Retry-After"]
            async with http.get(url) as answer:
                shown = await answer.json()
                assert shown == {"stream": stream, "source": one, "muted": False, "state": "live"}
        await switch(centre.url, stream, None)
        state = await centre.stream(stream)
        assert state is not None
        assert state["programme"] is None


async def test_a_publisher_that_was_here_first_comes_back(chain: Tree, stream: str) -> None:
    """It stays connected meanwhile; nobody else may publish under the programme's name."""
    centre = chain["centre"]
    one = f"{stream}.1"
    async with (
        AiortcPublisher(centre.url, stream, DARK) as publisher,
        AiortcPublisher(centre.url, one, BRIGHT),
        AiortcViewer(centre.url, stream) as viewer,
    ):
        await viewer.playing()
        await switch(centre.url, stream, one)
        await shade(viewer, bright=True)
        with pytest.raises(AssertionError, match="409"):
            async with AiortcPublisher(centre.url, stream):
                pass
        assert publisher.state == "connected"
        await switch(centre.url, stream, None)
        await shade(viewer, bright=False)
        assert viewer.lost == 0
