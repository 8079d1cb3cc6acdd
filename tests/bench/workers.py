"""What `--workers 2` serves beside one process: by the CPU time of each process at its viewers.

Two cores for the node and one for the load are more than most machines have, so the processes share
core 0 here and are told apart by their own CPU time: a process that takes a share s of a core for N
viewers would have 0.9 N / s of them on a core of its own.
"""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tests.bench import machine
from tests.bench.audience import Audience
from tests.bench.dtls import Identity
from tests.bench.meter import Meter
from tests.bench.node import Node
from tests.bench.runs import USABLE_CORE, Options, Say, on_air
from tests.bench.signalling import Client

STREAM = "bench"
# Less is not worth a second process.
LEAST_GAIN = 1.7
# Of the packets sent, what each viewer must get: a node that gives less was paid for less.
_LEAST_DELIVERED = 0.98
_JOIN_AT_ONCE = 8
_READY_WITHIN_S = 30.0
# Joins are still paid for, and the counts of the workers are half a second old.
_SETTLE_S = 3.0


@dataclass(slots=True)
class Process:
    """One process of a node: its viewers, and the share of a core that it took, in percent."""

    viewers: int
    percent: float

    @property
    def viewers_per_core(self) -> float:
        """An estimate: its cost per viewer falls as they grow."""
        return USABLE_CORE * self.viewers / max(self.percent / 100, 1e-9)


@dataclass(slots=True)
class WorkersRow:
    """A node of one process, and one of two. `gain`: viewers of the two over those of the one."""

    alone: Process
    front: Process
    worker: Process
    us_per_packet: float
    us_per_packet_alone: float
    load_percent: float
    problems: list[str] = field(default_factory=list)

    @property
    def served(self) -> float:
        """Viewers of a node of two: the front gives each as many, so the dearer one fills first."""
        return 2 * min(self.front.viewers_per_core, self.worker.viewers_per_core)

    @property
    def gain(self) -> float:
        """How many times the viewers of one process."""
        return self.served / max(self.alone.viewers_per_core, 1e-9)


async def workers(options: Options, say: Say) -> WorkersRow:
    """N viewers of one process, then N of each of two; N is the middle of the ladder."""
    viewers = sorted(options.ladder)[len(options.ladder) // 2]
    (alone,), single = await _served(1, viewers, options)
    both, double = await _served(2, 2 * viewers, options)
    problems = [*single.problems, *double.problems]
    short = [w.delivered for w in (single, double) if w.delivered < _LEAST_DELIVERED]
    problems += [f"INVALID: only {share:.1%} of the packets arrived" for share in short]
    if len(both) != 2 or min(p.viewers for p in both) < 0.8 * viewers:
        problems.append(f"INVALID: viewers are spread unevenly, {[p.viewers for p in both]}")
    row = WorkersRow(
        alone=alone,
        front=both[0],
        worker=both[-1],
        us_per_packet=double.us_per_packet,
        us_per_packet_alone=single.us_per_packet,
        load_percent=max(single.load_percent, double.load_percent),
        problems=problems,
    )
    if row.gain < LEAST_GAIN:
        row.problems.append(f"INVALID: {row.gain:.2f} times one process; {LEAST_GAIN} is the least")
    say(f"workers: two processes serve {row.gain:.2f} times the viewers of one")
    return row


@dataclass(slots=True)
class _Window:
    us_per_packet: float
    delivered: float
    load_percent: float
    problems: list[str]


async def _served(count: int, viewers: int, options: Options) -> tuple[list[Process], _Window]:
    """Each process of a node with its viewers, the front first, and the node as a whole."""
    async with (
        on_air(1, options, workers=count) as ((node,), publisher),
        Audience(Identity(options.profile), viewers, options.sweep_s) as audience,
    ):
        await _until_ready(node, count)
        joins = await audience.join(node.url, STREAM, viewers, _JOIN_AT_ONCE)
        await asyncio.sleep(_SETTLE_S)
        pids = [node.pids[0], *(w["pid"] for w in await _workers(node) if "pid" in w)]
        audience.start_recording()
        sent = len((await asyncio.to_thread(publisher.log)).sent)
        before = [machine.cpu_time([pid]) for pid in pids]
        meter, begin = Meter([node], publisher), time.monotonic()
        await asyncio.sleep(options.duration_s)
        cost, seconds = meter.stop(), time.monotonic() - begin
        took = [machine.cpu_time([pid]) - was for pid, was in zip(pids, before, strict=True)]
        packets = len(audience.stop_recording())
        sent = len((await asyncio.to_thread(publisher.log)).sent) - sent
        seen = [w["viewers"] for w in await _workers(node)] or [len(audience)]
        node.check()
    found = [
        Process(count, 100 * cpu.run_s / seconds) for count, cpu in zip(seen, took, strict=True)
    ]
    problems = [f"{len(joins.failures)} joins failed"] if joins.failures else []
    return found, _Window(
        us_per_packet=1e6 * cost.node.run_s / max(packets, 1),
        delivered=packets / max(sent * len(audience), 1),
        load_percent=cost.load_percent,
        problems=[*cost.problems(), *problems],
    )


async def _workers(node: Node) -> list[dict[str, Any]]:
    """The processes as the node tells of them, the front first; none where there is but one."""
    client = Client(node.url)
    try:
        snapshot = json.loads((await client.expect(200, "GET", "/api/node")).body)
    finally:
        await client.close()
    found: list[dict[str, Any]] = snapshot.get("workers") or []
    return found


async def _until_ready(node: Node, count: int) -> None:
    async with asyncio.timeout(_READY_WITHIN_S):
        while count > 1:
            found = await _workers(node)
            if len(found) == count and all(w["state"] == "ready" for w in found):
                return
            await asyncio.sleep(0.1)
