"""A chain of nodes with a bad line at every hop, and what comes out at its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bench.dtls import Identity
from tests.bench.publisher import Plan, Publisher
from tests.bench.signalling import Client
from tests.bench.source import Cut
from tests.lab.arrivals import Figures
from tests.lab.browser import Played, chromium
from tests.lab.line import Conditions
from tests.lab.nodes import Node
from tests.lab.ports import Ports
from tests.lab.probe import KINDS, Probe
from tests.lab.proxy import ROOT, Edge, Lines

STREAM = "lab"
TIERS = ("centre", "province", "city", "county", "township", "village")

# What is still on its way when the window ends must have the time to arrive.
SETTLE_S = 2.5
JOIN_TRIES = 5

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class HopFigures:
    """What one node of the chain says about the line above it, by its own counters."""

    node: str
    kind: str
    packets: int
    lost: int
    repaired: int
    asked: int
    resent: int


@dataclass(slots=True)
class LossRow:
    """One run. `tracks` holds the viewer's figures by kind, `hops` the nodes' own."""

    hops: int
    conditions: Conditions
    seconds: float
    viewers: int
    tracks: dict[str, list[Figures]] = field(default_factory=dict)
    nodes: list[HopFigures] = field(default_factory=list)
    rtt_ms: float = 0.0
    join_ms: list[float] = field(default_factory=list)
    keyframes_missed: int = 0
    proxy_cpu_share: float = 0.0
    lag_max_ms: float = 0.0
    played: Played | None = None
    disturbed: int = 0

    def unrepaired_share(self, kind: str) -> float:
        """Of all viewers together, 0 to 1."""
        expected = sum(f.expected for f in self.tracks[kind])
        return sum(f.unrepaired for f in self.tracks[kind]) / max(1, expected)


class Lag:
    """How late this process was woken at worst: what a busy machine adds to every figure."""

    def __init__(self) -> None:
        self.max_ms = 0.0

    async def watch(self) -> None:
        """Measure until cancelled."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            self.max_ms = max(self.max_ms, round(1000 * (time.monotonic() - before) - 5, 1))


class Chain:
    """Nodes in a row with an edge above each but the first, and one for the viewers."""

    def __init__(self, nodes: list[Node], lines: Lines) -> None:
        self.nodes = nodes
        self.lines = lines

    @property
    def last_url(self) -> str:
        """Where a viewer enters, over the last edge."""
        return self.lines.edges[len(self.nodes) - 1].url

    @property
    def first_url(self) -> str:
        """Where the publisher enters, over a bad line of its own if there is one."""
        bad = len(self.lines.edges) > len(self.nodes)
        return self.lines.edges[-1].url if bad else self.nodes[0].url


@contextlib.asynccontextmanager
async def chain(
    hops: int, ports: Ports, seed: int, *, ingest: bool = False, program: str = "web.cli"
) -> AsyncIterator[Chain]:
    """`hops` bad lines in a row: between `hops` nodes, and from the last one to its viewers.

    `ingest`: one more, between the publisher and the first node. `program` is what runs a node.
    """
    if not 1 <= hops <= len(TIERS):
        raise ValueError(f"from 1 to {len(TIERS)} hops, not {hops}")
    numbers = [ports.take() for _ in range(hops)]
    edges = [Edge(ports.take(), f"http://127.0.0.1:{number}") for number in numbers]
    if ingest:
        edges.append(Edge(ports.take(), f"http://127.0.0.1:{numbers[0]}"))
    async with contextlib.AsyncExitStack() as stack:
        lines = await stack.enter_async_context(Lines(edges, seed))
        nodes = [
            Node(TIERS[index], number, (edges[index - 1].url,) if index else (), program)
            for index, number in enumerate(numbers)
        ]
        for node in nodes:
            stack.callback(node.end)
        await asyncio.gather(*(node.start() for node in nodes))
        yield Chain(nodes, lines)


@contextlib.asynccontextmanager
async def picture(url: str, size: str) -> AsyncIterator[None]:
    """`terrace publish test:` as a process: a real picture, for a browser."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "web.cli", "publish", "test:", f"{url}/whip/{STREAM}",
        "--size", size, "--quiet",
        cwd=ROOT, stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _until_live(url)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_live(url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            client = Client(url)
            node = json.loads((await client.expect(200, "GET", "/api/node")).body)
            await client.close()
            if any(stream["state"] == "live" for stream in node["streams"]):
                return
            await asyncio.sleep(0.1)


@contextlib.contextmanager
def publishing(url: str) -> Any:
    """The bench's publisher as a process: 1 Mbit/s, 160 packets a second."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    publisher = Publisher(Plan(url, STREAM, cores, "aes128-gcm", Cut.EVEN))
    try:
        yield publisher
    finally:
        publisher.stop()


async def loss(
    hops: int, conditions: Conditions, seconds: float, viewers: int, ports: Ports, seed: int,
    say: Say, *, ingest: bool = False,
) -> LossRow:  # fmt: skip
    """Run the chain under the conditions, both ways at every hop; returns what was measured."""
    row = LossRow(hops, conditions, seconds, viewers)
    async with chain(hops, ports, seed, ingest=ingest) as tree:
        with publishing(tree.first_url):
            await tree.lines.set_all(conditions)
            say(f"{hops} hops up, joining {viewers} viewers through them")
            probes = []
            try:
                for index in range(viewers):
                    probe = await _join(tree.last_url, f"probe-{index}", row)
                    probes.append(probe)
                # The first second holds the join's own burst and the beginning of all repair.
                await asyncio.sleep(2.0)
                lag = Lag()
                watch = asyncio.create_task(lag.watch())
                begin, cpu = time.monotonic(), _cpu_s(tree.lines.pid)
                await asyncio.sleep(seconds)
                end = time.monotonic()
                row.proxy_cpu_share = (_cpu_s(tree.lines.pid) - cpu) / (end - begin)
                await asyncio.sleep(SETTLE_S)
                watch.cancel()
                row.lag_max_ms = lag.max_ms
                for kind in KINDS:
                    row.tracks[kind] = [p.figures(kind, begin, end) for p in probes]
                row.rtt_ms = round(1000 * max(p.rtt_s for p in probes), 1)
                row.disturbed = sum(p.disturbed for p in probes)
                for node in tree.nodes:
                    row.nodes += await _hop_figures(node)
            finally:
                for probe in probes:
                    await probe.close()
    return row


async def browser_loss(
    hops: int, conditions: Conditions, seconds: float, ports: Ports, seed: int, say: Say,
    *, audio_nack: bool = False, target_ms: int = 0, page: bool = False,
) -> LossRow:  # fmt: skip
    """The same chain under Chromium, with a real picture; `page`: in the node's own watch page."""
    row = LossRow(hops, conditions, seconds, 1)
    async with chain(hops, ports, seed) as tree, picture(tree.nodes[0].url, "640x360"):
        await tree.lines.set_all(conditions)
        async with chromium() as player:
            say(f"{hops} hops up, Chromium joins through them")
            if page:
                await player.watch(f"{tree.last_url}/watch/{STREAM}")
            else:
                await player.play(
                    f"{tree.last_url}/whep/{STREAM}", audio_nack=audio_nack, target_ms=target_ms
                )
            # Its jitter buffer learns the line for some seconds.
            await asyncio.sleep(5.0)
            lag = Lag()
            watch = asyncio.create_task(lag.watch())
            await player.begin()
            await asyncio.sleep(seconds)
            row.played = await player.played(seconds)
            watch.cancel()
            row.lag_max_ms = lag.max_ms
            for node in tree.nodes:
                row.nodes += await _hop_figures(node)
    return row


async def _join(url: str, name: str, row: LossRow) -> Probe:
    """A viewer over a bad line: a browser's player would try again as well."""
    for attempt in range(JOIN_TRIES):
        probe = Probe(Identity("aes128-gcm"), name)
        begin = time.monotonic()
        try:
            await probe.join(url, STREAM)
        except Exception:
            await probe.close()
            if attempt == JOIN_TRIES - 1:
                raise
            await asyncio.sleep(0.5)
        else:
            row.join_ms.append(round(1000 * (time.monotonic() - begin), 1))
            return probe
    raise AssertionError


async def _hop_figures(node: Node) -> list[HopFigures]:
    return [
        HopFigures(
            node.name, track["kind"], track["packets"], track.get("lost", 0),
            track.get("repaired", 0), track.get("nacks_out", 0), track.get("resent", 0),
        )
        for stream in (await node.get("/api/node"))["streams"]
        for track in stream["tracks"]
    ]  # fmt: skip


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
