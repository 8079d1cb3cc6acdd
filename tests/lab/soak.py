"""Hours in minutes: viewers come and go, parents die and return, and nothing may pile up.

The tree is that of `kill`. Every few seconds viewers join the county and leave it again; now and
then the city that feeds it is killed and started anew. Memory, descriptors and threads of the nodes
that live through it are taken from /proc, sessions and streams from /api/node, and every line of
every log must be of a kind that such a life explains.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.bench.audience import JOIN_ERRORS
from tests.bench.dtls import Identity
from tests.lab.kill import Fork, fork
from tests.lab.loss import STREAM, Say, publishing
from tests.lab.nodes import Node, NodeError
from tests.lab.ports import Ports
from tests.lab.probe import KINDS, Probe

SAMPLE_EVERY_S = 5.0
# What Python allocates at first and keeps is no leak: the slope is taken after this share.
WARM_SHARE = 0.25
JOIN_EVERY_S = 1.5
STAY_S = (4.0, 30.0)
MOST_VIEWERS = 25

# Events that a life like this one explains, by the name that each log line begins its text with.
EXPECTED = (
    "node-start", "node-stop", "ready", "session-end", "stream-end", "parent", "pull-lost",
    "pull-refused", "move-refused", "move-failed", "moved", "setting", "child",
)  # fmt: skip
_EVENT = re.compile(r"\b(?:INFO|WARNING|ERROR|CRITICAL|DEBUG)\b\s+\S+\s+(\S+)")
_BAD = re.compile(r"Traceback|\bERROR\b|\bCRITICAL\b|never awaited|was destroyed")


@dataclass(frozen=True, slots=True)
class Sample:
    """One node at one moment; `t_s` since the start of the soak."""

    t_s: float
    memory_bytes: int
    descriptors: int
    sockets: int
    threads: int
    tasks: int
    sessions: int


@dataclass(slots=True)
class NodeLife:
    """What became of one node that was never killed."""

    name: str
    samples: list[Sample] = field(default_factory=list)
    slope_kib_per_min: float = 0.0
    slope_error: float = 0.0
    course_mib: tuple[float, ...] = ()
    """The memory at the beginning, after each quarter of the time, and at the end."""
    descriptors: tuple[int, int] = (0, 0)
    threads: tuple[int, int] = (0, 0)
    tasks: tuple[int, int] = (0, 0)

    def close(self) -> None:
        """Draw the line through the memory; compare the beginning with the end."""
        if len(self.samples) < 4:
            return
        late = self.samples[int(len(self.samples) * WARM_SHARE) :]
        t = np.array([s.t_s for s in late]) / 60
        kib = np.array([s.memory_bytes for s in late]) / 1024
        if len(late) > 2:
            (slope, _), covariance = np.polyfit(t, kib, 1, cov=True)
            self.slope_kib_per_min = round(float(slope), 2)
            self.slope_error = round(float(np.sqrt(covariance[0][0])), 2)
        quarters = [self.samples[(len(self.samples) - 1) * n // 4] for n in range(5)]
        self.course_mib = tuple(round(s.memory_bytes / 2**20, 2) for s in quarters)
        first, last = self.samples[0], self.samples[-1]
        self.descriptors = (first.descriptors, last.descriptors)
        self.threads = (first.threads, last.threads)
        self.tasks = (first.tasks, last.tasks)


@dataclass(slots=True)
class SoakRow:
    """A whole soak."""

    minutes: float
    joins: int = 0
    refused: int = 0
    kills: int = 0
    unrepaired: int = 0
    expected: int = 0
    disturbed: int = 0
    lives: list[NodeLife] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    unexplained: list[str] = field(default_factory=list)


async def soak(minutes: float, kill_every_s: float, ports: Ports, seed: int, say: Say) -> SoakRow:
    """Run for so long; viewers that stay over a kill must lose nothing."""
    row = SoakRow(minutes)
    chance = random.Random(seed)
    async with fork(ports) as tree:
        row.lives = [NodeLife(node.name) for node in (tree.province, tree.county)]
        with publishing(tree.province.url):
            stop = asyncio.Event()
            async with asyncio.TaskGroup() as group:
                group.create_task(_visitors(tree, row, chance, stop))
                group.create_task(_killer(tree, row, kill_every_s, chance, stop, say))
                group.create_task(_sampler(tree, row, stop))
                await asyncio.sleep(60 * minutes)
                stop.set()
            # With everybody gone, what is still held is held for good.
            await asyncio.sleep(8.0)
            await _sample(tree, row, 60 * minutes)
        for life in row.lives:
            life.close()
        nodes = (tree.province, *tree.cities, tree.county)
        events: Counter[str] = Counter()
        for node in nodes:
            _read_log(node, events, row)
        row.events = dict(events.most_common())
    return row


async def _visitors(tree: Fork, row: SoakRow, chance: random.Random, stop: asyncio.Event) -> None:
    identity = Identity("aes128-gcm")
    async with asyncio.TaskGroup() as group:
        visits: set[asyncio.Task[None]] = set()
        while not stop.is_set():
            if len(visits) < MOST_VIEWERS:
                visit = group.create_task(_visit(tree, row, chance, identity, stop))
                visits.add(visit)
                visit.add_done_callback(visits.discard)
            await _pause(stop, JOIN_EVERY_S * chance.uniform(0.3, 1.7))


async def _visit(
    tree: Fork, row: SoakRow, chance: random.Random, identity: Identity, stop: asyncio.Event
) -> None:
    probe = Probe(identity, "visitor")
    try:
        await probe.join(tree.county.url, STREAM)
    except JOIN_ERRORS:
        # Between two parents a node may say "in a moment"; that is counted, not a fault here.
        row.refused += 1
        await probe.close()
        return
    row.joins += 1
    begin = time.monotonic() + 1.0
    await _pause(stop, chance.uniform(*STAY_S))
    end = time.monotonic() - 3.0
    if end > begin:
        for kind in KINDS:
            figures = probe.figures(kind, begin, end)
            row.expected += figures.expected
            row.unrepaired += figures.unrepaired
    row.disturbed += probe.disturbed
    # Every third one closes its lid: no DELETE, no alert.
    await (probe.close() if chance.random() < 0.33 else probe.leave())


async def _killer(
    tree: Fork, row: SoakRow, every_s: float, chance: random.Random, stop: asyncio.Event, say: Say
) -> None:
    while not stop.is_set():
        await _pause(stop, every_s * chance.uniform(0.7, 1.3))
        if stop.is_set():
            return
        city = chance.choice(tree.cities)
        city.kill()
        row.kills += 1
        say(f"{city.name} killed ({row.kills}), {row.joins} joins so far")
        await _pause(stop, chance.uniform(1.0, every_s / 3))
        await city.start()


async def _sampler(tree: Fork, row: SoakRow, stop: asyncio.Event) -> None:
    begin = time.monotonic()
    while not stop.is_set():
        await _pause(stop, SAMPLE_EVERY_S)
        await _sample(tree, row, time.monotonic() - begin)


async def _sample(tree: Fork, row: SoakRow, t_s: float) -> None:
    for node, life in zip((tree.province, tree.county), row.lives, strict=True):
        if not node.alive:
            raise NodeError(f"{node.name} has ended:\n{node.log()[-2000:]}")
        use, about = node.use(), await node.get("/api/node")
        life.samples.append(
            Sample(
                round(t_s, 1), use.memory_bytes, use.descriptors, use.sockets, use.threads,
                int(about.get("tasks", 0)), int(about.get("sessions", about["viewers"])),
            )
        )  # fmt: skip


def _read_log(node: Node, events: Counter[str], row: SoakRow) -> None:
    for line in node.log().splitlines():
        found = _EVENT.search(line)
        name = found[1].partition("=")[0] if found else ""
        events[name] += 1
        if _BAD.search(line) or not name.startswith(EXPECTED):
            row.unexplained.append(f"{node.name}: {line[:300]}")


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, or wake at the end of the soak."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
