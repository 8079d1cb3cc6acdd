"""The rooms of one node on its HTTP server: clients, links from below, the root's keeper.

    GET /room/{id}/events    a client's WebSocket; README.md has the messages
    GET /room/link           a node below (`web.room.link` is its other end)

`Exchange` decides; this is the sockets, the clock and the pace around it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, cast

from aiohttp import WSMsgType, web

from relay import metrics, tree
from relay.access import AccessError, Grant
from relay.endpoints import refusal
from relay.errors import Refused
from relay.node import Node
from web.room import frames, link, messages
from web.room.client import MOST_REFUSED, Client
from web.room.exchange import Desk, Exchange, fault
from web.room.messages import BadMessage, Hello
from web.room.root import Root
from web.room.wanted import Wanted

log = logging.getLogger("web.room")

EVENTS_PATH: Final = "/room/{room:[1-9][0-9]{0,8}}/events"
LINK_PATH: Final = "/room/link"
HELLO_WITHIN_S: Final = 5.0
FLUSH_EVERY_S: Final = 0.2
FLUSH_SHARE: Final = 0.2
"""Of a core that states to clients may take; with many clients they come less often."""
CHUNK: Final = 200
"""Clients that are written to in one go, before others have their turn."""
SETTLE_EVERY_S: Final = 1.0
SWEEP_EVERY_S: Final = 0.5
SITE_PING_S, SITE_LOST_S = 1.2, 3.5
"""The host, and the site itself, are to know within 5 s that its line has gone."""
VIEWER_PING_S, VIEWER_LOST_S = 20.0, 50.0
PING_AND_BEAT: Final = frames.PING + frames.text({"t": "beat"})
"""A browser answers a ping, but does not show it to its page."""
CLOSE_WITHIN_S: Final = 2.0
RETRY_S: Final = (0.5, 1.0, 2.0, 5.0)
SPARE_FILES: Final = 500
"""Descriptors that clients leave to the rest of the node."""
LINK_HEARTBEAT_S: Final = 5.0


class Way:
    """A link from a node below."""

    def __init__(self, node: str, transport: asyncio.Transport) -> None:
        self.node = node
        self._transport = transport
        self.revisions: dict[int, tuple[int, int]] = {}
        """Room -> (epoch, revision) of the state that it was sent last."""
        self.received = 0

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        if self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > messages.MAX_LINK_BYTES:
            self._transport.abort()
            return
        self._transport.write(frames.text(message))


class Hub:
    """The rooms of one node. `root`: who keeps the meetings, at the top of the tree only."""

    def __init__(self, node: Node, root: Root | None = None) -> None:
        self.node = node
        self.root = root
        is_top = node.parents is None and not node.config.parents
        self.exchange = Exchange(node.id, int(time.time() * 1000) if is_top else None)
        self.exchange.wake = self._wake
        self.exchange.state_changed = self._state_changed
        # The root has nobody to push to.
        self._wanted = None if is_top else Wanted(node)
        self.exchange.ended = self._ended
        self.woken = asyncio.Event()
        self._changed: dict[int, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients: set[Client] = set()
        self._ways: set[Way] = set()
        self._sockets = 0
        self._received = 0
        self._keeping = False
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = max(100, limit - SPARE_FILES)

    # ------------------------------------------------------------ for the centre

    def set(self, room: int, key: str, value: object) -> None:
        """Set a key of a room's state, None takes it away; only at the root. JSON values."""
        self.exchange.set(room, key, value, time.monotonic())

    def get(self, room: int, key: str) -> object:
        """A key's value, None if it has none or the room is not here."""
        desk = self.exchange.desks.get(room)
        return None if desk is None else desk.state.get(key)

    def end(self, room: int) -> None:
        """The room is over: its clients are told, and every node forgets it."""
        self.exchange.end(room)

    # ------------------------------------------------------------ life

    def add(self, app: web.Application) -> None:
        """Add the routes, and run as long as the app lives."""
        app.router.add_get(EVENTS_PATH, self._events)
        app.router.add_get(LINK_PATH, self._link)
        app.cleanup_ctx.append(self._live)
        self.node.more_metrics.append(self._metrics)

    async def _live(self, _app: web.Application) -> AsyncIterator[None]:
        self._start(self._sweep(), "room-sweep")
        if self.exchange.is_root:
            self._start(self._keep(), "room-keep")
        else:
            self._start(link.Uplink(self).run(), "room-link")
        yield
        for client in list(self._clients):
            client.end(1012, "This node is stopping.", time.monotonic())
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        self.woken.set()

    def _metrics(self, text: metrics.Text) -> None:
        desks = self.exchange.desks
        text.gauge("room_clients", "Event connections of clients.", len(self._clients))
        text.gauge("room_links", "Links of nodes below.", len(self._ways))
        text.gauge("room_rooms", "Rooms that this node has.", len(desks))
        text.counter("room_reports_total", "Messages of nodes below.", self._received)

    # ------------------------------------------------------------ clients

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if self._sockets >= self._most:
            return refusal(Refused(503, "This node has as many clients as it can take.", 5))
        if self.node.stopping.is_set():
            return refusal(Refused(503, "This node is stopping.", 5))
        socket = web.WebSocketResponse(
            max_msg_size=messages.MAX_CLIENT_BYTES, compress=False, autoping=False, timeout=1.0
        )
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            return socket
        self._sockets += 1
        client: Client | None = None
        try:
            client = await self._greet(socket, transport, int(request.match_info["room"]))
            if client is not None:
                await self._listen(socket, client)
        except ConnectionError:
            pass  # it has gone
        finally:
            self._sockets -= 1
            if client is not None:
                self._clients.discard(client)
                self.exchange.leave(client)
        return socket

    async def _greet(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport, room: int
    ) -> Client | None:
        """The client of a socket that has said who it is; None: it was closed with a sentence."""
        now = time.monotonic()
        try:
            async with asyncio.timeout(HELLO_WITHIN_S):
                message = await socket.receive()
            if message.type is not WSMsgType.TEXT:
                raise BadMessage("hello", "The first message must be a hello.")
            hello = messages.parse(message.data)
            if not isinstance(hello, Hello):
                raise BadMessage("hello", "The first message must be a hello.")
            grant = self._admit(hello, room)
        except TimeoutError:
            await _refuse(socket, 4408, fault("hello", "No hello came in time."))
            return None
        except BadMessage as error:
            await _refuse(socket, 4400, fault(error.code, error.sentence))
            return None
        except AccessError as error:
            code = error.reason or ("token" if error.status == 401 else "rights")
            await _refuse(socket, 4000 + error.status, fault(code, error.sentence))
            return None
        known = room in self.exchange.desks
        if self.exchange.is_root and not known and not (self.root and self.root.knows(room)):
            await _refuse(socket, 4404, fault("unknown", "There is no such meeting now."))
            return None
        client = Client(
            transport, room, hello.as_, hello.seat, hello.receipts, grant.expires_at, now
        )
        client.tell(
            {
                "t": "welcome",
                "node": self.node.id,
                "now": round(time.time(), 3),
                "silent_s": SITE_LOST_S if client.is_site else VIEWER_LOST_S,
            }
        )
        desk = self.exchange.desk(room)
        if desk is None:
            await _refuse(socket, 4503, fault("busy", "This node has too many rooms."))
            return None
        if desk.state.known:
            self._send_state(desk, client, {})
        self._clients.add(client)
        self.exchange.join(client, time.monotonic())
        return client

    def _admit(self, hello: Hello, room: int) -> Grant:
        """What a client may do here. Raises AccessError."""
        grant = self.node.config.access.check(f"Bearer {hello.token}" if hello.token else None)
        kind, _, number = hello.as_.partition(":")
        if kind == "viewer":
            grant.require_view(f"class-{room}")
        elif kind == "site":
            grant.require_publish(f"class-{room}.site-{number}")
        elif not self.node.config.access.open and grant.subject != hello.as_:
            raise AccessError(403, "This token is another person's.")
        else:
            grant.require_view(f"class-{room}")
        return grant

    async def _listen(self, socket: web.WebSocketResponse, client: Client) -> None:
        """Take a client's messages until it goes."""
        while True:
            message = await socket.receive()
            now = time.monotonic()
            client.heard_s = now
            if message.type is WSMsgType.TEXT:
                self._said(client, message.data, now)
            elif message.type is WSMsgType.PING:
                client.write(frames.pong(message.data))
            elif message.type is not WSMsgType.PONG:
                return

    def _said(self, client: Client, text: str, now: float) -> None:
        if client.ended_s:
            return
        if not client.rate.take(now):
            if client.rate.refused > MOST_REFUSED:
                client.end(1008, "Too many messages.", now)
            elif client.rate.refused % 20 == 1:
                client.tell(fault("slow", "Too many messages in a short time; this one is lost."))
            return
        try:
            message = messages.parse(text)
            if isinstance(message, Hello):
                raise BadMessage("hello", "There was a hello already.")
        except BadMessage as error:
            client.tell(fault(error.code, error.sentence))
            return
        self.exchange.said(client, message, now, round(time.time(), 3))

    # ------------------------------------------------------------ state

    def _state_changed(self, desk: Desk) -> None:
        if self._wanted is not None:
            self._wanted.take(desk.room, desk.state.get("wanted"))
        changed = self._changed.get(desk.room)
        if changed is None:
            changed = self._changed[desk.room] = asyncio.Event()
            self._start(self._flush(desk, changed), f"room-flush-{desk.room}")
        changed.set()

    def _ended(self, desk: Desk) -> None:
        if self._wanted is not None:
            self._wanted.take(desk.room, None)
        changed = self._changed.pop(desk.room, None)
        if changed is not None:
            changed.set()
        now = time.monotonic()
        for client in [one for one in self._clients if one.room == desk.room]:
            client.tell(fault("unknown", "There is no such meeting now."))
            client.end(4404, "There is no such meeting now.", now)

    async def _flush(self, desk: Desk, changed: asyncio.Event) -> None:
        """Send what has changed to children and clients, at most five times a second."""
        while self._changed.get(desk.room) is changed:
            await changed.wait()
            changed.clear()
            began = time.thread_time()
            for way in cast(list[Way], list(desk.ways)):
                self._send_way(desk, way)
            made: dict[int, bytes] = {}
            clients = cast(list[Client], list(desk.guests))
            for start in range(0, len(clients), CHUNK):
                for client in clients[start : start + CHUNK]:
                    self._send_state(desk, client, made)
                await asyncio.sleep(0)
            spent = time.thread_time() - began
            await asyncio.sleep(max(FLUSH_EVERY_S, spent / FLUSH_SHARE))

    def _send_way(self, desk: Desk, way: Way) -> None:
        epoch, revision = way.revisions.get(desk.room, (0, 0))
        if epoch != desk.state.version[0]:
            revision = 0
        if revision != desk.state.revision:
            way.revisions[desk.room] = (desk.state.version[0], desk.state.revision)
            way.tell(self.exchange.state_message(desk, revision))

    def _send_state(self, desk: Desk, client: Client, made: dict[int, bytes]) -> None:
        """What a client lacks of the state; `made` has the frames by revision."""
        if client.revision == desk.state.revision or client.behind:
            return
        frame = made.get(client.revision)
        if frame is None:
            told = {
                "t": "state",
                "v": list(desk.state.version),
                "set": desk.state.since(client.revision),
            }
            frame = made[client.revision] = frames.text(told)
        client.revision = desk.state.revision
        client.write(frame)

    # ------------------------------------------------------------ nodes below

    async def _link(self, request: web.Request) -> web.StreamResponse:
        try:
            self.node.config.access.check(request.headers.get("Authorization")).require_relay()
        except AccessError as error:
            return refusal(Refused(error.status, error.sentence, reason=error.reason))
        name = request.headers.get(tree.NODE_HEADER, "")
        if not (8 <= len(name) <= 32 and set(name) <= set("0123456789abcdef")):
            return refusal(Refused(400, f"The header {tree.NODE_HEADER} must be a node's id."))
        if name == self.node.id or name in self.node.ancestors:
            return refusal(Refused(508, "The parents form a loop."))
        if self.node.stopping.is_set():
            return refusal(Refused(503, "This node is stopping.", 2))
        socket = web.WebSocketResponse(
            max_msg_size=messages.MAX_LINK_BYTES,
            compress=False,
            heartbeat=LINK_HEARTBEAT_S,
            timeout=1.0,
        )
        await socket.prepare(request)
        if request.transport is None:
            return socket
        way = Way(name, request.transport)
        self._ways.add(way)
        self.exchange.child_came(way)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._report(way, message.data)
        except ConnectionError:
            pass  # it has gone
        except BadMessage as error:
            log.warning("room-link-refused node=%s why=%r", name, error.sentence)
            await socket.close(code=1008, message=error.code.encode())
        finally:
            self._ways.discard(way)
            self.exchange.child_went(way, time.monotonic())
        return socket

    def _report(self, way: Way, text: str) -> None:
        way.received += 1
        self._received += 1
        up = messages.parse_up(text)
        knows: Callable[[int], bool] = self.root.knows if self.root else lambda _room: False
        before = set(up.rooms)
        self.exchange.from_below(way, up, time.monotonic(), knows)
        for name in before:
            desk = self.exchange.desks.get(int(name)) if name.isdecimal() else None
            if desk is None or way not in desk.ways or desk.room in way.revisions:
                continue
            # The exchange has sent it all when it took the child in.
            if desk.state.known:
                way.revisions[desk.room] = (desk.state.version[0], desk.state.revision)

    # ------------------------------------------------------------ the root's own work

    async def _keep(self) -> None:
        """Hand events and counts to the root's keeper."""
        failures = 0
        not_before = settle_at = time.monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_EVERY_S / 4):
                    await self.woken.wait()
            self.woken.clear()
            now = time.monotonic()
            if now >= settle_at:
                settle_at = now + SETTLE_EVERY_S
                self._settle(now)
            if now >= not_before and len(self.exchange.outbox):
                if await self._take():
                    failures = 0
                else:
                    not_before = now + RETRY_S[min(failures, len(RETRY_S) - 1)]
                    failures += 1

    def _settle(self, now: float) -> None:
        changed, moved = self.exchange.settle(now)
        if self.root is None:
            return
        try:
            for room, poll, counts in changed:
                self.root.tallied(room, poll, counts, sum(counts))
            for desk in moved:
                self.root.present(desk.room, *desk.told)
        except Exception:
            log.exception("room-keeper-fault")

    async def _take(self) -> bool:
        """Have all waiting events kept; False: some were not, and come again."""
        good = True
        for room, events in self.exchange.pending().items():
            ids = [event.id for event in events]
            try:
                if self.root is None:
                    raise RuntimeError("this node has nobody who keeps its rooms")
                await self.root.take(room, events)
            except Exception as error:
                # A database's error may tell what it was given, and a ballot is nobody's business.
                secret = any(event.kind == "ballot" for event in events)
                log.error(
                    "room-events-not-kept room=%d count=%d why=%s",
                    room, len(events), type(error).__name__, exc_info=None if secret else error,
                )  # fmt: skip
                self.exchange.outbox.again(ids)
                good = False
            else:
                self.exchange.kept(ids)
        return good

    # ------------------------------------------------------------ who has gone

    async def _sweep(self) -> None:
        """Ping clients, and let those go that are silent, or whose token has ended."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now, clock = time.monotonic(), time.time()
            for client in list(self._clients):
                self._look_at(client, now, clock)

    def _look_at(self, client: Client, now: float, clock: float) -> None:
        if client.ended_s:
            if now - client.ended_s > CLOSE_WITHIN_S:
                client.abort()
            return
        if client.expires_at is not None and clock >= client.expires_at:
            client.tell(fault("expired", "This token has expired; ask for a new one."))
            client.end(4401, "This token has expired; ask for a new one.", now)
            return
        if now - client.heard_s > (SITE_LOST_S if client.is_site else VIEWER_LOST_S):
            client.abort()
        elif now - client.pinged_s > (SITE_PING_S if client.is_site else VIEWER_PING_S):
            client.pinged_s = now
            client.write(PING_AND_BEAT)
        desk = self.exchange.desks.get(client.room)
        if desk is not None and client.revision != desk.state.revision:
            changed = self._changed.get(client.room)
            if changed is not None and not client.behind:
                changed.set()  # it was behind, and has read since


async def _refuse(socket: web.WebSocketResponse, code: int, message: dict[str, Any]) -> None:
    """Say why, and close."""
    with contextlib.suppress(ConnectionError):
        await socket.send_json(message)
        reason = str(message["sentence"]).encode()[: frames.MAX_REASON_BYTES]
        await socket.close(code=code, message=reason.decode("utf-8", "ignore").encode())
