"""A site at the foot of the tree is given the floor: how long until everybody hears it.

The site publishes on demand at its county; the director at the centre taps once, which raises the
site's stream (the command needs one hop after the other to get there) and switches the programme to
it. Then its sound is muted. All over lines with a delay between the nodes; the county's site and
viewers may have one of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.lab.line import Conditions
from tests.lab.listener import Listener, listening
from tests.lab.loss import Chain, Lag, Say, chain
from tests.lab.ports import Ports
from tests.lab.site import site
from tests.live.viewers import BareViewer

PROGRAMME, PRESENTER = "class-5", "class-5.presenter"
HOPS = 4
PROGRAM = "tests.live.raising"
# Of Opus: silence takes a few bytes, a tone some hundred.
LOUD_BYTES = 20
WITHIN_S = 8.0
SETTLED_S, SETTLE_TRIES = 0.1, 30


@dataclass(slots=True)
class Floor:
    """One floor; all times in ms from the tap. `heard_ms`, `silent_ms`: of each viewer, the first
    packet of the site's sound and the last one that is to be heard. `buffer_ms`: how long sound
    waited in Chromium's jitter buffer, on the average.
    """

    number: int
    cut_ms: float
    heard_ms: list[float]
    silent_ms: list[float]
    chromium_heard_ms: float
    chromium_silent_ms: float
    buffer_ms: float
    lag_max_ms: float

    @property
    def all_heard_ms(self) -> float:
        """When the last of them heard it; Chromium's jitter buffer counts."""
        return max(*self.heard_ms, self.chromium_heard_ms)

    @property
    def all_silent_ms(self) -> float:
        """When it was silent everywhere."""
        return max(*self.silent_ms, self.chromium_silent_ms)


@dataclass(slots=True)
class FloorRow:
    """One run."""

    delay_ms: float
    last_ms: float
    viewers: int
    chromium: bool = True
    rounds: list[Floor] = field(default_factory=list)

    def heard_ms(self) -> float:
        """From tap to heard by all, in the median."""
        return statistics.median(r.all_heard_ms for r in self.rounds)

    def arrived_ms(self) -> float:
        """From tap to the first packet at the last viewer, in the median: no jitter buffer."""
        return statistics.median(max(r.heard_ms) for r in self.rounds)

    def ended_ms(self) -> float:
        """From tap to the last packet that is to be heard, in the median."""
        return statistics.median(max(r.silent_ms) for r in self.rounds)

    def silent_ms(self) -> float:
        """From tap to silence, in the median."""
        return statistics.median(r.all_silent_ms for r in self.rounds)


async def floor(
    times: int, delay_ms: float, last_ms: float, viewers: int, ports: Ports, seed: int, say: Say
) -> FloorRow:
    """Give the floor so many times, to another site each time; `last_ms` is the sites' own line."""
    row = FloorRow(delay_ms, last_ms, viewers)
    async with contextlib.AsyncExitStack() as stack:
        tree = await stack.enter_async_context(chain(HOPS, ports, seed, program=PROGRAM))
        await tree.lines.set_all(Conditions(delay_ms=delay_ms))
        last = Conditions(delay_ms=last_ms)
        await tree.lines.set(tree.lines.edges[-1].port, down=last, up=last)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        centre = tree.nodes[0].url
        await stack.enter_async_context(site(centre, PRESENTER, 60, 0))
        await switch(http, centre, PRESENTER)
        foot = tree.last_url
        watching = [
            await stack.enter_async_context(BareViewer(foot, PROGRAMME)) for _ in range(viewers)
        ]
        page = await stack.enter_async_context(listening(f"{foot}/whep/{PROGRAMME}"))
        for viewer in watching:
            await viewer.receiving(20)
        await _settled(page, say)
        for number in range(1, times + 1):
            name = f"{PROGRAMME}.site-{number}"
            async with site(foot, name, 190, 440, on_demand=True):
                await _at_county(tree, name)
                one = await _floor(number, tree, http, watching, page, name, delay_ms)
            row.rounds.append(one)
            say(f"floor {number}: heard by all after {one.all_heard_ms:.0f} ms, "
                f"silent after {one.all_silent_ms:.0f} ms")  # fmt: skip
    return row


async def _floor(
    number: int,
    tree: Chain,
    http: aiohttp.ClientSession,
    viewers: list[BareViewer],
    page: Listener,
    name: str,
    delay_ms: float,
) -> Floor:
    centre, county = tree.nodes[0].url, tree.nodes[-1].url
    lag = Lag()
    watch = asyncio.create_task(lag.watch())
    try:
        waited = await page.buffered()
        tapped, tapped_unix = time.monotonic(), time.time()
        async with asyncio.TaskGroup() as group:
            # The hub's command goes down three lines.
            group.create_task(_raise(http, county, name, "full", (HOPS - 1) * delay_ms / 1000))
            cut = group.create_task(switch(http, centre, name))
        heard = [await _until(_first_loud(v, tapped), "a site is heard") for v in viewers]
        in_chromium = await page.turn(tapped_unix, loud=True)
        await asyncio.sleep(0.7)
        muted, muted_unix = time.monotonic(), time.time()
        await switch(http, centre, name, muted=True)
        silent_in_chromium = await page.turn(muted_unix, loud=False)
        await asyncio.sleep(0.5)
        silent = [_last_loud(v) - muted for v in viewers]
        delay_s, samples = [b - a for a, b in zip(waited, await page.buffered(), strict=True)]
        await switch(http, centre, PRESENTER)
        await _raise(http, county, name, "", 0.0)
    finally:
        watch.cancel()
    for viewer in viewers:
        viewer.packets["audio"].clear()
        viewer.packets["video"].clear()
    return Floor(
        number,
        round(1000 * (cut.result()["cut_at"] - tapped_unix)),
        [round(1000 * (at - tapped)) for at in heard],
        [round(1000 * at) for at in silent],
        round(in_chromium - 1000 * tapped_unix),
        round(silent_in_chromium - 1000 * muted_unix),
        round(1000 * delay_s / max(1, samples)),
        lag.max_ms,
    )


async def _settled(page: Listener, say: Say) -> None:
    """Wait until Chromium's buffer has forgotten how its processes and the nodes' were started."""
    before = await page.buffered()
    for _ in range(SETTLE_TRIES):
        await asyncio.sleep(2.0)
        after = await page.buffered()
        buffer_s = (after[0] - before[0]) / max(1.0, after[1] - before[1])
        if buffer_s < SETTLED_S:
            return
        before = after
    say(f"Chromium's buffer did not settle: {1000 * buffer_s:.0f} ms")


def _first_loud(viewer: BareViewer, since_s: float) -> Callable[[], float | None]:
    def look() -> float | None:
        found = (p.at_s for p in viewer.packets["audio"] if len(p.payload) > LOUD_BYTES)
        return next((at for at in found if at >= since_s), None)

    return look


def _last_loud(viewer: BareViewer) -> float:
    return max(p.at_s for p in viewer.packets["audio"] if len(p.payload) > LOUD_BYTES)


async def _until(look: Callable[[], float | None], what: str) -> float:
    for _ in range(round(WITHIN_S / 0.01)):
        found = look()
        if found is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(f"not within {WITHIN_S:g} s: {what}")


async def switch(
    http: aiohttp.ClientSession, url: str, source: str, *, muted: bool = False
) -> dict[str, Any]:
    order = {"source": source, "muted": muted}
    async with http.put(f"{url}/api/switch/{PROGRAMME}", json=order) as answer:
        assert answer.status == 200, await answer.text()
        return dict(await answer.json())


async def _raise(
    http: aiohttp.ClientSession, url: str, site: str, layers: str, after_s: float
) -> None:
    await asyncio.sleep(after_s)
    async with http.put(f"{url}/test/raised/{site}", data=layers) as answer:
        assert answer.status == 200, await answer.text()


async def _at_county(tree: Chain, site: str) -> None:
    """Wait until a site's picture and sound are at its county."""
    for _ in range(round(WITHIN_S / 0.05)):
        streams = (await tree.nodes[-1].get("/api/node"))["streams"]
        if any(s["name"] == site and all(t["packets"] for t in s["tracks"]) for s in streams):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{site} did not come to its county")
