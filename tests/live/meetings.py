"""A centre with its node in this process: API, events, files and media on real ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from aiohttp import web
from sqlalchemy import select

from relay.access import Access
from relay.node import Node, NodeConfig
from schedule import invitations
from schedule.tables import Occurrence
from tests.live.processes import free_port
from tests.patience import PATIENCE
from tests.schedule.network import Network, build, load
from tests.web.centre.house import opened
from tests.web.centre.people import Browser, give_passwords
from web.app import build_app
from web.centre import app as centre_app
from web.centre import rooms
from web.centre.centre import Centre, wall_clock
from web.centre.file_player import FilePlayer
from web.centre.scene import NodeScene
from web.room.hub import Hub
from web.room_files import RoomFiles


@dataclass
class Client:
    """Somebody at a node, by the event connection."""

    socket: aiohttp.ClientWebSocketResponse
    state: dict[str, Any] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    refused: int = 0

    async def say(self, **message: Any) -> None:
        await self.socket.send_str(json.dumps(message))

    async def follow(self) -> None:
        """Take what comes until the connection ends."""
        async for message in self.socket:
            told = json.loads(message.data)
            if told["t"] == "state":
                self.state |= told["set"]
                self.changed.set()
        self.refused = self.socket.close_code or 0
        self.changed.set()

    async def settled(self) -> int:
        """Wait until it is let in or not; the code with which it was closed, 0: it is in."""
        async with asyncio.timeout(10 * PATIENCE):
            while not self.refused and not self.state:
                self.changed.clear()
                await self.changed.wait()
        return self.refused

    async def until(self, fits: Callable[[dict[str, Any]], bool], seconds: float = 10.0) -> None:
        """Wait until the state fits. Raises TimeoutError."""
        async with asyncio.timeout(seconds * PATIENCE):
            while not fits(self.state):
                self.changed.clear()
                await self.changed.wait()


@dataclass
class House:
    """A meeting that is planned for now, and a host who has signed in."""

    centre: Centre
    network: Network
    node: Node
    url: str
    id: int
    host: Browser

    @property
    def stream(self) -> str:
        return f"class-{self.id}"

    async def ask(self, method: str, rest: str, body: Any = None, **query: Any) -> Any:
        """A command of the host, which is done."""
        path = f"/api/occurrences/{self.id}/room{rest}"
        answer = await self.host.ask(method, path, body, **query)
        assert answer.status < 300, answer.text
        return answer.json

    @contextlib.asynccontextmanager
    async def client(self, who: str, token: str = "") -> AsyncIterator[Client]:
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.url}/room/{self.id}/events") as socket,
        ):
            one = Client(socket)
            seat = secrets.token_urlsafe(16)
            hello = {"t": "hello", "token": token, "as": who, "seat": seat, "receipts": {}}
            await one.say(**hello)
            following = asyncio.create_task(one.follow())
            try:
                yield one
            finally:
                following.cancel()


@contextlib.asynccontextmanager
async def meeting(folder: Path, access: Access) -> AsyncIterator[House]:
    """All of it; `access` is the node's gate, tokens are the centre's."""
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        centre = await stack.enter_async_context(
            opened(str(folder / "centre.db"), wall_clock, folder)
        )
        await build(centre.store)
        await give_passwords(centre.store)
        centre.access = access
        network = await load(centre.store)
        id = await _planned(network)
        node = Node(NodeConfig(access.with_secret("inside"), port=port))
        hub = Hub(node, centre.rooms)
        centre.rooms.hub, centre.rooms.scene = hub, NodeScene(node)
        url = f"http://127.0.0.1:{port}"
        centre.files = FilePlayer(url, "inside", centre.rooms.file_over)
        stack.push_async_callback(centre.files.close)

        def mount(app: web.Application) -> None:
            centre_app.add(app, centre)
            RoomFiles(node, centre.settings.slides, own=True).add(app)

        await node.start()
        stack.push_async_callback(node.stop)
        runner = web.AppRunner(
            build_app(node, mount=mount, rooms=hub), access_log=None, shutdown_timeout=0.5
        )
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await stack.enter_async_context(rooms.running(centre.rooms))
        await centre.rooms.look_around()
        host = Browser(url)
        stack.push_async_callback(host.close)
        await host.sign_in("boss-C")
        yield House(centre, network, node, url, id, host)


async def _planned(network: Network) -> int:
    """A meeting of everybody that has just begun; its number."""
    now = datetime.now(ZoneInfo("Asia/Shanghai")).replace(tzinfo=None, second=0, microsecond=0)
    draft = network.draft(
        "C", kind="meeting", title="County meeting", starts_local=now - timedelta(minutes=1),
        audience=(("subtree", network.units["C"].id),),
    )  # fmt: skip
    await network.confirmed(draft)
    async with network.store.writing() as connection:
        found = await connection.scalar(select(Occurrence.id))
        assert found is not None
        await invitations.invite(connection, found)
    return int(found)
