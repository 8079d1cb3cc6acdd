"""Twenty thousand people answer one question over a tree of real nodes.

centre - provinces - cities - four counties, all processes of this machine; the people are in two
more. With `kill`, a county and a province die in the middle of it (SIGKILL) and come back, and
their clients go to other counties. The count must be exact in the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab.nodes import Node
from tests.lab.ports import Ports
from tests.lab.proxy import ROOT

COUNTIES = 4
LOADS = 2
VOTE_S = 8.0
"""Each answers at a moment of its own within so many seconds."""
SETTLE_S = 150.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class VotersRow:
    """One run. Times in seconds; `answered_s`, `counted_s`: from the opening of the poll."""

    voters: int
    kills: int
    expected: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    answered_s: float = 0.0
    counted_s: float = 0.0
    exact_s: float = 0.0
    wait_p50_s: float = 0.0
    wait_p99_s: float = 0.0
    most_in_ten: int = 0
    root_reports: int = 0
    root_children: int = 0
    root_cpu_share: float = 0.0
    county_cpu_share: float = 0.0
    load_cpu_share: float = 0.0
    county_bytes_per_client: int = 0
    join_s: float = 0.0
    drops: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Helper:
    """A process that is commanded by JSON lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    def say(self, command: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the laboratory has ended")
        return dict(json.loads(line))

    async def figures(self) -> dict[str, Any]:
        self.say({"ask": "figures"})
        return await self.hear()


@asynccontextmanager
async def helper(module: str, argument: int) -> AsyncIterator[Helper]:
    """Start a module as a process; it ends with its standard input."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, str(argument),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=2**24,
    )  # fmt: skip
    try:
        one = Helper(process)
        await one.hear()
        yield one
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def cpu_s(pid: int) -> float:
    """CPU time of a process, from /proc/PID/stat (fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


async def voters(count: int, kills: bool, ports: Ports, say: Callable[[str], None]) -> VotersRow:
    """One run."""
    row = VotersRow(count, 2 if kills else 0)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        root_port = ports.take()
        root = await enter(helper("tests.lab.roomtop", root_port))
        above = f"http://127.0.0.1:{root_port}"
        pair = range(2 if kills else 1)
        provinces = [await enter(Node(f"province{i}", ports.take(), (above,))) for i in pair]
        cities = [await enter(Node(f"city{i}", ports.take(), _turned(provinces, i))) for i in pair]
        counties = [
            await enter(Node(f"county{i}", ports.take(), _turned(cities, i)))
            for i in range(COUNTIES)
        ]
        root.say({"set": ["meeting", {"id": 1, "title": "A village's day"}]})
        loads = [await enter(helper("tests.lab.electorate", i)) for i in range(LOADS)]
        before = [node.use().memory_bytes for node in counties]
        began = time.monotonic()
        nodes = [["127.0.0.1", node.port] for node in counties]
        for i, load in enumerate(loads):
            load.say({"join": count // LOADS + (i < count % LOADS), "nodes": nodes})
        for load in loads:
            await load.hear()
        row.join_s = round(time.monotonic() - began, 1)
        grown = sum(node.use().memory_bytes for node in counties) - sum(before)
        row.county_bytes_per_client = grown // count
        say(f"{count} are there after {row.join_s} s, {row.county_bytes_per_client} bytes each")
        await _seen(root, count, say)

        poll = {
            "id": 1, "question": "Has the seed come?", "options": ["yes", "no", "partly"],
            "open": True, "shown": True, "counts": [0, 0, 0], "voters": 0,
        }  # fmt: skip
        busy = [cpu_s(one.pid) for one in (root, *loads)] + [cpu_s(n.pid) for n in counties]
        opened = time.monotonic()
        root.say({"set": ["poll", poll]})
        for load in loads:
            load.say({"vote": VOTE_S})
        if kills:
            await _kill(counties[1], provinces[0], say)
        await asyncio.sleep(max(0.0, opened + VOTE_S - time.monotonic()))
        await _settle(row, root, loads, opened, say)
        took = time.monotonic() - opened
        row.root_cpu_share = (cpu_s(root.pid) - busy[0]) / took
        row.load_cpu_share = sum(cpu_s(o.pid) for o in loads) / took - sum(busy[1:3]) / took
        if not kills:
            spent = sum(cpu_s(node.pid) for node in counties) - sum(busy[3:])
            row.county_cpu_share = spent / took / COUNTIES
        for node in (*provinces, *cities, *counties):
            node.check()
    return row


def _turned(nodes: list[Node], by: int) -> tuple[str, ...]:
    """All of them as parents, another one first for each."""
    by %= len(nodes)
    return tuple(node.url for node in (*nodes[by:], *nodes[:by]))


async def _seen(root: Helper, count: int, say: Callable[[str], None]) -> None:
    deadline = time.monotonic() + 20
    while True:
        there = (await root.figures())["viewers"]
        if there == count or time.monotonic() > deadline:
            say(f"the centre sees {there}")
            return
        await asyncio.sleep(0.5)


async def _kill(county: Node, province: Node, say: Callable[[str], None]) -> None:
    for node, at_s in ((county, 3.0), (province, 2.0)):
        await asyncio.sleep(at_s)
        say(f"{node.name} is killed")
        node.kill()
    await asyncio.gather(county.start(), province.start())
    say("both are back")


async def _settle(
    row: VotersRow, root: Helper, loads: list[Helper], opened: float, say: Callable[[str], None]
) -> None:
    """Wait until all is counted, or for SETTLE_S; then see that it stays so."""
    deadline = time.monotonic() + SETTLE_S
    spoken = 0.0
    while True:
        told = [await load.figures() for load in loads]
        figures = await root.figures()
        row.expected = [sum(one["expected"][i] for one in told) for i in range(3)]
        row.counts = figures["counts"]
        done = sum(one["counted"] for one in told) == row.voters and all(
            not one["unreceipted"] for one in told
        )
        if row.counts == row.expected and not row.exact_s:
            row.exact_s = round(time.monotonic() - opened, 1)
        if time.monotonic() > spoken + 5.0:
            spoken = time.monotonic()
            there, got = (sum(one[name] for one in told) for name in ("connected", "counted"))
            say(f"after {spoken - opened:.0f} s {there} are connected, {got} have a receipt")
        if (done and row.exact_s) or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    if row.kills:
        # Nothing may be added by whoever comes back late.
        await asyncio.sleep(10.0)
        row.counts = (await root.figures())["counts"]
    row.answered_s = VOTE_S
    row.counted_s = round(max(one["last_counted_s"] for one in told) - opened, 1)
    row.wait_p50_s = round(max(one["wait_p50_s"] for one in told), 3)
    row.wait_p99_s = round(max(one["wait_p99_s"] for one in told), 3)
    row.most_in_ten = figures["most_in_ten"]
    row.root_reports, row.root_children = figures["reports"], figures["children"]
    row.drops = sum(one["drops"] for one in told)
    for one in told:
        for code, number in one["errors"].items():
            row.errors[code] = row.errors.get(code, 0) + number
    say(f"counted {row.counts}, expected {row.expected}")
