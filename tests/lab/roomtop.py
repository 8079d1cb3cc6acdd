"""The top of a tree with a meeting in it, as a process: a node whose root keeps all in memory.

Commanded by JSON lines on standard input, answers on standard output, ends with it. `{"set": [key,
value]}` sets a key of room 1; `{"ask": "figures"}` answers with the counts and how often children
have reported. Counts of a poll are shown as they come, as a centre does, so that they go down to
every client.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from relay.access import Access
from relay.node import Node, NodeConfig
from web.app import build_app
from web.room.hub import Hub, Way
from web.room.root import Event

ROOM = 1


class Counting(Hub):
    """A hub that notes when each child has reported."""

    def __init__(self, node: Node, root: Keeper) -> None:
        super().__init__(node, root)
        self.reports: list[tuple[float, str]] = []

    def _report(self, way: Way, text: str) -> None:
        self.reports.append((time.monotonic(), way.node))
        super()._report(way, text)


class Keeper:
    """Room 1 and its polls."""

    def __init__(self) -> None:
        self.hub: Hub | None = None
        self.counts: list[int] = []
        self.history: list[tuple[float, int]] = []
        self.events = 0
        self.there = (0, 0)

    def knows(self, room: int) -> bool:
        return room == ROOM

    async def take(self, room: int, events: Sequence[Event]) -> None:
        self.events += len(events)

    def tallied(self, room: int, poll: int, counts: list[int], voters: int) -> None:
        self.counts = counts
        self.history.append((time.monotonic(), voters))
        assert self.hub is not None
        shown = self.hub.get(room, "poll")
        if isinstance(shown, dict) and shown.get("shown"):
            self.hub.set(room, "poll", {**shown, "counts": counts, "voters": voters})

    def present(self, room: int, sites: frozenset[int], viewers: int) -> None:
        self.there = (len(sites), viewers)


def most_in_ten(reports: list[tuple[float, str]]) -> int:
    """The most reports of one child within any ten seconds.

    Within one second two may be read that were sent a second apart, on a machine that is busy.
    """
    most = 0
    by_child: dict[str, list[float]] = {}
    for when, child in reports:
        recent = [one for one in by_child.get(child, []) if when - one < 10.0]
        by_child[child] = [*recent, when]
        most = max(most, len(by_child[child]))
    return most


async def _run(port: int) -> None:
    node = Node(NodeConfig(access=Access.open_mode(), name="centre", tier="centre", port=port))
    await node.start()
    keeper = Keeper()
    hub = Counting(node, keeper)
    keeper.hub = hub
    runner = web.AppRunner(build_app(node, rooms=hub), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    _answer({"ready": True})
    reader = asyncio.StreamReader(limit=2**20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command: dict[str, Any] = json.loads(line)
        if "set" in command:
            hub.set(ROOM, *command["set"])
        if command.get("ask") == "figures":
            _answer(
                {
                    "counts": keeper.counts,
                    "sites": keeper.there[0],
                    "viewers": keeper.there[1],
                    "reports": len(hub.reports),
                    "most_in_ten": most_in_ten(hub.reports),
                    "children": len({child for _, child in hub.reports}),
                    "cpu_s": time.process_time(),
                    "clock_s": time.monotonic(),
                }
            )
    await node.stop()
    await runner.cleanup()


def _answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1])))
