"""Real nodes with rooms in one process: sockets of this machine, no media."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from relay import endpoints
from relay.access import Access
from relay.node import Node, NodeConfig
from tests.live.tree import free_ports
from tests.patience import PATIENCE
from web.room.hub import Hub
from web.room.root import Event

SEAT = "abcdefghijklmnopqrstu"
"""All but the last character of the seats of tests."""


class Keeper:
    """The centre's side: it has what it was given."""

    def __init__(self, rooms: Sequence[int] = (5,)) -> None:
        self.rooms = set(rooms)
        self.events: list[Event] = []
        self.counts: dict[tuple[int, int], list[int]] = {}
        self.sites: frozenset[int] = frozenset()
        self.viewers = 0
        self.fails = False

    def knows(self, room: int) -> bool:
        return room in self.rooms

    async def take(self, room: int, events: Sequence[Event]) -> None:
        if self.fails:
            raise OSError("the database is away")
        known = {event.id for event in self.events}
        self.events += [event for event in events if event.id not in known]

    def tallied(self, room: int, poll: int, counts: list[int], voters: int) -> None:
        assert sum(counts) == voters
        self.counts[room, poll] = counts

    def present(self, room: int, sites: frozenset[int], viewers: int) -> None:
        self.sites, self.viewers = sites, viewers


class Served:
    """A node on a port."""

    def __init__(self, node: Node, hub: Hub, port: int) -> None:
        self.node = node
        self.hub = hub
        self.port = port
        self.url = f"http://127.0.0.1:{port}"


@asynccontextmanager
async def served(
    parents: tuple[str, ...] = (),
    root: Keeper | None = None,
    access: Access | None = None,
    parent_token: str = "",
) -> AsyncIterator[Served]:
    """A node that answers as long as the block lasts."""
    (port,) = free_ports(1)
    config = NodeConfig(
        access=access or Access.open_mode(), port=port, parents=parents, parent_token=parent_token
    )
    node = Node(config)
    await node.start()
    app = web.Application()
    endpoints.add_routes(app, node)
    hub = Hub(node, root)
    hub.add(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield Served(node, hub, port)
    finally:
        await node.stop()
        await runner.cleanup()


class Visitor:
    """A client of a room. `async with`."""

    def __init__(
        self, node: Served, who: str = "viewer", seat: str = "A", token: str = "",
        receipts: dict[str, Any] | None = None, room: int = 5, hello: str | None = None,
    ) -> None:  # fmt: skip
        self._url = f"{node.url}/room/{room}/events"
        self._hello = hello if hello is not None else json.dumps({
            "t": "hello", "token": token, "as": who, "seat": SEAT + seat,
            "receipts": receipts or {},
        })  # fmt: skip
        self.state: dict[str, Any] = {}
        self.close_code = 0

    async def __aenter__(self) -> Visitor:
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(self._url)
        await self._socket.send_str(self._hello)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self._socket.close()
        await self._http.close()

    async def say(self, message: dict[str, Any]) -> None:
        await self._socket.send_str(json.dumps(message))

    async def hear(self, t: str, within_s: float = 5.0) -> dict[str, Any]:
        """The next message of a kind; states on the way are taken. Fails when closed or late."""
        async with asyncio.timeout(within_s * PATIENCE):
            while True:
                message = await self._socket.receive()
                assert message.type is WSMsgType.TEXT, (message, self._socket.close_code)
                told: dict[str, Any] = json.loads(message.data)
                if told["t"] == "state":
                    for key, value in told["set"].items():
                        if value is None:
                            self.state.pop(key, None)
                        else:
                            self.state[key] = value
                if told["t"] == t:
                    return told

    async def hear_state(self, key: str, value: object, within_s: float = 5.0) -> None:
        """Wait until a key has a value, None: is not there."""
        while self.state.get(key) != value:
            await self.hear("state", within_s)

    async def closed(self, within_s: float = 5.0) -> tuple[int, list[dict[str, Any]]]:
        """Wait for the end: its code, and what was said before, without beats."""
        said: list[dict[str, Any]] = []
        async with asyncio.timeout(within_s * PATIENCE):
            while True:
                message = await self._socket.receive()
                if message.type is not WSMsgType.TEXT:
                    return self._socket.close_code or 0, said
                told = json.loads(message.data)
                if told["t"] != "beat":
                    said.append(told)


async def until(what: str, look: Any, within_s: float = 5.0) -> None:
    """Wait until a look is true."""
    try:
        async with asyncio.timeout(within_s * PATIENCE):
            while not look():  # noqa: ASYNC110 - what is looked at has no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not in time: {what}") from None
