"""A node's link to its parent: one WebSocket, one report a second up, everything else down.

It is opened when the node has its first room, follows the order of `relay.parents`, and goes back
to a preferred parent that is well again. Whatever parent it comes to is told everything anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

import aiohttp
from aiohttp import WSMsgType

from relay.parents import Parent
from web.room import frames, messages
from web.room.messages import BadMessage

if TYPE_CHECKING:
    from web.room.hub import Hub

log = logging.getLogger("web.room")

REPORT_EVERY_S: Final = 1.0
REPORT_MARGIN_S: Final = 0.05
"""So that a parent that reads one a little late has not two within a second."""
HEARTBEAT_S: Final = 5.0
BETTER_EVERY_S: Final = 5.0
AGAIN_S: Final = (0.2, 3.0)
"""Wait before the next parent, at least and at most."""


class Uplink:
    """The link of one node's hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._sent_s = -REPORT_EVERY_S

    async def run(self) -> None:
        """Until cancelled."""
        parents = self._hub.node.parents
        assert parents is not None
        failures = 0
        said = ""
        while True:
            while not self._hub.exchange.desks:
                await self._hub.woken.wait()
                self._hub.woken.clear()
            why = "no parent can be asked"
            for parent in parents.in_order(time.monotonic()):
                began = time.monotonic()
                why = await self._hold(parent)
                if time.monotonic() - began > BETTER_EVERY_S:
                    failures = 0
                    break
            if why != said:
                log.info("room-link why=%r", why)
                said = why
            failures += 1
            await asyncio.sleep(min(AGAIN_S[1], AGAIN_S[0] * 2 ** min(failures, 8)))

    async def _hold(self, parent: Parent) -> str:
        """One connection from its beginning to its end; why it ended."""
        uplink = parent.uplink
        url = f"{uplink.url}/room/link"
        try:
            async with asyncio.timeout(3.0):
                socket = await uplink.http.ws_connect(
                    url,
                    headers=uplink.headers(()),
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=messages.MAX_LINK_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return f"{uplink.url} does not take the link ({type(error).__name__})"
        async with socket:
            self._hub.exchange.new_parent()
            self._hub.woken.set()
            reports = asyncio.create_task(self._report(socket), name="room-report")
            leaves = asyncio.create_task(self._leave(socket, parent), name="room-leave")
            try:
                await self._listen(socket)
            except BadMessage as error:
                return f"{uplink.url} says what this node does not understand: {error.sentence}"
            except (aiohttp.ClientError, OSError) as error:
                return f"the link to {uplink.url} broke ({type(error).__name__})"
            finally:
                for task in (reports, leaves):
                    task.cancel()
                await asyncio.gather(reports, leaves, return_exceptions=True)
        return f"the link to {uplink.url} ended"

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                down = messages.parse_down(message.data)
                self._hub.exchange.from_above(down, time.monotonic())

    async def _report(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Report when there is something to say, a second after the last time at the soonest."""
        hub = self._hub
        while True:
            wait_s = self._sent_s + REPORT_EVERY_S + REPORT_MARGIN_S - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_EVERY_S):
                    await hub.woken.wait()
            hub.woken.clear()
            told = hub.exchange.cut(time.monotonic())
            if told is not None:
                self._sent_s = time.monotonic()
                await socket.send_str(frames.dump(told))

    async def _leave(self, socket: aiohttp.ClientWebSocketResponse, present: Parent) -> None:
        """End the link when a preferred parent is well again, or this one drains."""
        parents = self._hub.node.parents
        while parents is not None:
            await asyncio.sleep(BETTER_EVERY_S)
            now = time.monotonic()
            if parents.better_than(present, now) is not None:
                break
            others = parents.in_order(now)
            if present.draining and others and others[0] is not present:
                break
        await socket.close()
