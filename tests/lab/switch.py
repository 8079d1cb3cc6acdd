"""A programme is switched under ten viewers, one of them Chromium: what each of them misses.

Three publishers, at the centre and at the foot of the tree, take turns. A viewer without a browser
tells by its packets how long it had no new picture and no sound; Chromium by what it showed and
played.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import aiohttp

from tests.lab.floor import PROGRAMME, switch
from tests.lab.line import Conditions
from tests.lab.listener import Listener, listening
from tests.lab.loss import Lag, Say, chain
from tests.lab.ports import Ports
from tests.lab.site import site
from tests.live.viewers import BareViewer, missing, steps

HOPS = 4
SHADES = (60, 130, 200)
SETTLE_S, AFTER_S = 3.0, 1.2


@dataclass(slots=True)
class Cut:
    """One switch. Times in ms; of the bare viewers the worst.

    `picture_ms` is the longest time between two whole frames, `sound_ms` between two packets of
    sound, `skipped_ms` the longest step of the sound's timestamps above one packet. `shown_ms` and
    `silent_ms` are the longest times without a new picture and without sound in Chromium.
    """

    number: int
    waited_ms: int
    picture_ms: float
    sound_ms: float
    skipped_ms: float
    shown_ms: float
    silent_ms: float
    concealed_ms: float
    lag_max_ms: float


@dataclass(slots=True)
class SwitchRow:
    """One run. `usual_ms` is Chromium's longest time without a new picture before any switch.

    `plis` are Chromium's requests for a keyframe: what it sends when a picture cannot be decoded.
    """

    delay_ms: float
    viewers: int
    usual_ms: float = 0.0
    cuts: list[Cut] = field(default_factory=list)
    missing: int = 0
    repeated: int = 0
    backwards: int = 0
    ended: int = 0
    states: list[str] = field(default_factory=list)
    freezes: int = 0
    plis: int = 0


async def switching(
    times: int, delay_ms: float, viewers: int, ports: Ports, seed: int, say: Say
) -> SwitchRow:
    """Switch so many times; the viewers are at the county, the foot of four nodes."""
    row = SwitchRow(delay_ms, viewers)
    names = [f"{PROGRAMME}.{n}" for n in range(len(SHADES))]
    async with contextlib.AsyncExitStack() as stack:
        tree = await stack.enter_async_context(chain(HOPS, ports, seed))
        await tree.lines.set_all(Conditions(delay_ms=delay_ms))
        await tree.lines.set(tree.lines.edges[-1].port, down=Conditions(), up=Conditions())
        http = await stack.enter_async_context(aiohttp.ClientSession())
        centre, foot = tree.nodes[0].url, tree.last_url
        for number, (name, shade) in enumerate(zip(names, SHADES, strict=True)):
            where = foot if number == 2 else centre
            await stack.enter_async_context(site(where, name, shade, 330 + 110 * number))
        await switch(http, centre, names[0])
        watching = [
            await stack.enter_async_context(BareViewer(foot, PROGRAMME)) for _ in range(viewers)
        ]
        page = await stack.enter_async_context(listening(f"{foot}/whep/{PROGRAMME}"))
        for viewer in watching:
            await viewer.receiving(20)
        await page.turn(0.0, loud=True)
        await asyncio.sleep(SETTLE_S)
        began = time.time()
        await asyncio.sleep(SETTLE_S)
        row.usual_ms = _longest(await page.shown(), 1000 * began)
        before = await page.stats()
        for number in range(1, times + 1):
            one = await _cut(number, http, centre, names[number % len(names)], watching, page)
            row.cuts.append(one)
            say(f"switch {number}: {one}")
        after = await page.stats()
        row.states = await page.states()
        row.freezes = after["video"]["freezeCount"] - before["video"]["freezeCount"]
        row.plis = after["video"]["pliCount"] - before["video"]["pliCount"]
        for viewer in watching:
            row.ended += bool(viewer.byes or viewer.alerted or viewer.undecipherable)
            for found in viewer.packets.values():
                row.missing += missing([p.sequence for p in found])
                row.repeated += len(found) - len({p.sequence for p in found})
                row.backwards += sum(step < 0 for step in steps([p.timestamp for p in found], 32))
    return row


async def _cut(
    number: int,
    http: aiohttp.ClientSession,
    centre: str,
    name: str,
    viewers: Sequence[BareViewer],
    page: Listener,
) -> Cut:
    lag = Lag()
    watch = asyncio.create_task(lag.watch())
    try:
        began, began_unix = time.monotonic(), time.time()
        before = await page.stats()
        made = await switch(http, centre, name)
        await asyncio.sleep(AFTER_S)
        after = await page.stats()
    finally:
        watch.cancel()
    pictures, sounds, skipped = [], [], []
    for viewer in viewers:
        whole = [p.at_s for p in viewer.packets["video"] if p.marker and p.at_s > began - 0.2]
        sound = [p for p in viewer.packets["audio"] if p.at_s > began - 0.2]
        pictures += [b - a for a, b in pairwise(whole)]
        sounds += [b.at_s - a.at_s for a, b in pairwise(sound)]
        skipped += [float(step) / 48 - 20 for step in steps([p.timestamp for p in sound], 32)]
    silent = [
        b[0] - a[0]
        for a, b in pairwise(await page.turns())
        if not a[1] and a[0] > 1000 * began_unix
    ]
    concealed = after["audio"]["concealedSamples"] - before["audio"]["concealedSamples"]
    return Cut(
        number,
        int(made["waited_ms"]),
        round(1000 * max(pictures), 1),
        round(1000 * max(sounds), 1),
        round(max(skipped), 1),
        _longest(await page.shown(), 1000 * began_unix),
        round(max(silent, default=0.0), 1),
        round(concealed / 48, 1),
        lag.max_ms,
    )


def _longest(moments: list[float], since: float) -> float:
    """The longest time between two pictures, in ms."""
    late = [at for at in moments if at >= since]
    return round(max((b - a for a, b in pairwise(late)), default=0.0), 1)
