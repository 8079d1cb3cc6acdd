"""Two cities under one province, a county that prefers the first, and what its viewers notice.

Each round the first city dies (SIGKILL) or falls silent (SIGSTOP); the county must go on from the
second. Then the first comes back, and the county should return to it without a loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from statistics import median

from tests.bench.dtls import Identity
from tests.lab.arrivals import Figures
from tests.lab.loss import STREAM, Lag, Say, publishing
from tests.lab.nodes import Node
from tests.lab.ports import Ports
from tests.lab.probe import KINDS, Probe
from tests.patience import PATIENCE

# What the new parent's ring holds is asked for and delivered well within this time.
SETTLE_S = 5.0
FAILBACK_WITHIN_S = 40.0


@dataclass(slots=True)
class Round:
    """One death and return, as all viewers saw it. Milliseconds are per viewer, worst and median.

    `stall_*`: longest time without the beginning of a new frame (or sound packet). `missing` are
    packets of the whole round that no repair brought, over all viewers; `missing_numbers` those of
    the first viewer, `missing_frames` the pictures of it that lack one. `disturbed`: sessions that
    the node ended, or SSRCs that changed.
    """

    number: int
    stall_video_ms: list[float]
    stall_audio_ms: list[float]
    missing: int
    missing_numbers: dict[str, tuple[int, ...]]
    missing_frames: int
    duplicates: int
    disturbed: int
    switched_ms: float
    failback_s: float = 0.0
    failback_missing: int = 0
    failback_stall_ms: float = 0.0
    lag_max_ms: float = 0.0


@dataclass(slots=True)
class KillRow:
    """All rounds of one run."""

    signal: str
    viewers: int
    rounds: list[Round] = field(default_factory=list)

    @property
    def stalls_ms(self) -> list[float]:
        """Of every viewer in every round, picture or sound, whichever is longer."""
        return [
            max(pair)
            for r in self.rounds
            for pair in zip(r.stall_video_ms, r.stall_audio_ms, strict=True)
        ]

    @property
    def stall_median_ms(self) -> float:
        """The median of `stalls_ms`."""
        return median(self.stalls_ms)


@dataclass(slots=True)
class Fork:
    """province - city1, city2 - county."""

    province: Node
    cities: tuple[Node, Node]
    county: Node

    async def fed_by(self) -> str:
        """The URL of the node from which the county pulls the stream now, or nothing."""
        for stream in (await self.county.get("/api/node"))["streams"]:
            if stream["name"] == STREAM:
                return stream["parent"] or ""
        return ""


@contextlib.asynccontextmanager
async def fork(ports: Ports) -> AsyncIterator[Fork]:
    """Start the four nodes."""
    province = Node("province", ports.take())
    first, second = (Node(f"city{i}", ports.take(), (province.url,)) for i in (1, 2))
    county = Node("county", ports.take(), (first.url, second.url))
    nodes = (province, first, second, county)
    try:
        for node in nodes:
            await node.start()
        yield Fork(province, (first, second), county)
    finally:
        for node in reversed(nodes):
            node.end()


async def kill(
    times: int, viewers: int, how: signal.Signals, ports: Ports, say: Say, *, failback: bool = True
) -> KillRow:
    """Kill the first city so many times under so many viewers of the county."""
    row = KillRow(how.name, viewers)
    async with fork(ports) as tree, _audience(tree, viewers) as probes:
        for number in range(1, times + 1):
            await _until_fed_by(tree, tree.cities[0].url, FAILBACK_WITHIN_S)
            found = await _round(number, tree, probes, how, failback=failback)
            row.rounds.append(found)
            say(
                f"round {number}: stall {max(found.stall_video_ms):.0f} ms,"
                f" missing {found.missing}, back after {found.failback_s:.1f} s with"
                f" {found.failback_missing} missing"
            )
    return row


@dataclass(slots=True)
class Return:
    """One return to the preferred city while both live. Packets over all viewers."""

    after_s: float
    expected: int
    missing: int
    duplicates: int
    stall_ms: float
    disturbed: int
    lag_max_ms: float


@dataclass(slots=True)
class FailbackRow:
    """All returns of one run."""

    viewers: int
    returns: list[Return] = field(default_factory=list)


async def failback(times: int, viewers: int, ports: Ports, say: Say) -> FailbackRow:
    """Let the county fall to the second city so many times, and measure only the way back."""
    row = FailbackRow(viewers)
    async with fork(ports) as tree, _audience(tree, viewers) as probes:
        first, second = tree.cities
        for _ in range(times):
            await _until_fed_by(tree, first.url, FAILBACK_WITHIN_S)
            first.kill()
            await _until_fed_by(tree, second.url, 10.0 * PATIENCE)
            await asyncio.sleep(SETTLE_S)
            await first.start()
            disturbed = sum(p.disturbed for p in probes)
            duplicates = _duplicates(probes)
            lag = Lag()
            watch = asyncio.create_task(lag.watch())
            begin = time.monotonic()
            await _until_fed_by(tree, first.url, FAILBACK_WITHIN_S)
            after_s = time.monotonic() - begin
            await asyncio.sleep(SETTLE_S)
            watch.cancel()
            end = time.monotonic() - 2.0
            all_figures = [p.figures(kind, begin, end) for kind in KINDS for p in probes]
            found = Return(
                after_s=round(after_s, 1),
                expected=sum(f.expected for f in all_figures),
                missing=sum(f.unrepaired for f in all_figures),
                duplicates=_duplicates(probes) - duplicates,
                stall_ms=max(f.stall_ms for f in all_figures),
                disturbed=sum(p.disturbed for p in probes) - disturbed,
                lag_max_ms=lag.max_ms,
            )
            row.returns.append(found)
            say(f"back after {found.after_s} s, missing {found.missing} of {found.expected}")
    return row


def _duplicates(probes: list[Probe]) -> int:
    return sum(track.arrivals.duplicates for p in probes for track in p.tracks.values())


@contextlib.asynccontextmanager
async def _audience(tree: Fork, viewers: int) -> AsyncIterator[list[Probe]]:
    probes: list[Probe] = []
    identity = Identity("aes128-gcm")
    with publishing(tree.province.url):
        try:
            for index in range(viewers):
                probe = Probe(identity, f"probe-{index}")
                probes.append(probe)
                await probe.join(tree.county.url, STREAM)
            await asyncio.sleep(2.0)
            yield probes
        finally:
            for probe in probes:
                await probe.close()


async def _round(
    number: int, tree: Fork, probes: list[Probe], how: signal.Signals, *, failback: bool
) -> Round:
    first, second = tree.cities
    # A random moment within the distance of two keyframes would do; the clock is random enough.
    await asyncio.sleep(1.0)
    lag = Lag()
    watch = asyncio.create_task(lag.watch())
    begin = time.monotonic()
    disturbed = sum(p.disturbed for p in probes)
    if how is signal.SIGKILL:
        first.kill()
    else:
        first.signal(how)
    await _until_fed_by(tree, second.url, 10.0)
    switched = time.monotonic()
    await asyncio.sleep(SETTLE_S)
    end = time.monotonic() - 2.0
    watch.cancel()
    per_kind = {kind: [p.figures(kind, begin - 0.5, end) for p in probes] for kind in KINDS}
    found = Round(
        number=number,
        stall_video_ms=[f.stall_ms for f in per_kind["video"]],
        stall_audio_ms=[f.stall_ms for f in per_kind["audio"]],
        missing=sum(f.unrepaired for figures in per_kind.values() for f in figures),
        missing_numbers={kind: per_kind[kind][0].missing for kind in KINDS},
        missing_frames=_frames_hurt(probes[0], per_kind["video"][0]),
        duplicates=sum(f.duplicates for figures in per_kind.values() for f in figures),
        disturbed=0,
        switched_ms=round(1000 * (switched - begin), 1),
        lag_max_ms=lag.max_ms,
    )
    if how is signal.SIGKILL:
        await first.start()
    else:
        first.signal(signal.SIGCONT)
    if failback:
        await _failback(tree, probes, found)
    found.disturbed = sum(p.disturbed for p in probes) - disturbed
    return found


async def _failback(tree: Fork, probes: list[Probe], found: Round) -> None:
    """Wait until the county is back at the first city; what did that cost?"""
    begin = time.monotonic()
    await _until_fed_by(tree, tree.cities[0].url, FAILBACK_WITHIN_S)
    found.failback_s = round(time.monotonic() - begin, 1)
    await asyncio.sleep(3.0)
    end = time.monotonic() - 1.0
    for kind in KINDS:
        figures = [p.figures(kind, begin, end) for p in probes]
        found.failback_missing += sum(f.unrepaired for f in figures)
        found.failback_stall_ms = max(found.failback_stall_ms, *(f.stall_ms for f in figures))


def _frames_hurt(probe: Probe, figures: Figures) -> int:
    """Pictures around the missing packets: runs of numbers that lie apart count one each."""
    numbers = figures.missing
    return sum(1 for i, n in enumerate(numbers) if not i or (n - numbers[i - 1]) & 0xFFFF > 1)


async def _until_fed_by(tree: Fork, url: str, within_s: float) -> None:
    until = time.monotonic() + within_s
    while await tree.fed_by() != url:
        if time.monotonic() > until:
            raise TimeoutError(f"the county was not fed by {url} within {within_s:g} s")
        await asyncio.sleep(0.05)
