"""WHIP (RFC 9725) and WHEP over aiohttp, and what a node tells about itself.

Only HTTP is spoken here: bodies are bounded, headers read, the node's decision written as status,
headers and one sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from relay import diagnosis, ice, metrics, tree
from relay.access import WORKER_SUBJECT, AccessError, Grant
from relay.channel import Session
from relay.errors import Refused
from relay.node import Child, Node, Request
from relay.sdp import MAX_SIZE

log = logging.getLogger("relay.endpoints")

SDP_TYPE = "application/sdp"
# Often enough that a middlebox keeps the connection.
LINK_EVERY_S = 2.0
FRAGMENT_TYPE = "application/trickle-ice-sdpfrag"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Location, ETag, Link, Retry-After, Accept-Post, Accept-Patch, Terrace-Reason"
    ),
}
PREFLIGHT = CORS | {
    "Access-Control-Allow-Methods": "OPTIONS, POST, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Terrace-Push",
    "Access-Control-Max-Age": "86400",
    "Accept-Post": SDP_TYPE,
    "Accept-Patch": FRAGMENT_TYPE,
}
REASON_HEADER = "Terrace-Reason"
FROM = "from"
# Where whoever has read a request's body before us leaves it.
READ_BODY = "body"
PUBLIC_URL = r"^(https?://[0-9A-Za-z.:_\[\]-]+(/[0-9A-Za-z._~/-]*)?)?$"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ChildReport(BaseModel):
    """A child's sign of life."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(pattern=r"^[0-9a-f]{8,32}$")
    name: str = Field(max_length=64)
    tier: str = Field(default="", max_length=32)
    host: str = Field(default="", max_length=255, pattern=r"^[0-9A-Za-z.:_-]*$")
    port: int = Field(ge=1, le=65535)
    public_url: str = Field(default="", max_length=255, pattern=PUBLIC_URL)
    room: int = Field(default=0, ge=0, le=1_000_000)


class DrainOrder(BaseModel):
    """How long a node may take to hand its viewers over.

    `elsewhere` says that they have a place to go to, of which the node itself need not know.
    """

    elsewhere: bool = False
    seconds: float = Field(default=20.0, ge=0, le=3600, allow_inf_nan=False)


class SwitchOrder(BaseModel):
    """What a stream is to show: another stream, or null for whoever publishes it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    source: str | None = Field(max_length=64)
    muted: bool = False


class LayersWish(BaseModel):
    """Which layers a node below takes."""

    model_config = ConfigDict(extra="ignore")

    layers: list[str] = Field(max_length=8)


def refusal(exc: Refused) -> web.Response:
    """An error answer: one sentence, and Retry-After where waiting helps."""
    headers = dict(CORS)
    if exc.retry_after_s is not None:
        headers["Retry-After"] = str(exc.retry_after_s)
    if exc.reason:
        headers[REASON_HEADER] = exc.reason
    if exc.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(status=exc.status, text=exc.sentence + "\n", headers=headers)


def _guard(handler: Handler) -> Handler:
    """Turn a refusal into its answer."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Refused as exc:
            return refusal(exc)
        except AccessError as exc:
            return refusal(Refused(exc.status, exc.sentence, reason=exc.reason))
        except (ConnectionError, web.RequestPayloadError):
            # The client has gone or sends nonsense: no fault of ours, and nothing for the log.
            return refusal(Refused(400, "The request broke off before its end."))

    return guarded


class Endpoints:
    """The handlers of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node

    # ------------------------------------------------------------ WHIP and WHEP

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST an offer, get the answer."""
        kind = request.match_info["kind"]
        grant = self._grant(request)
        name = tree.check_stream_name(request.match_info["stream"])
        if kind == "whip":
            if not grant.relay:
                grant.require_publish(name)
        elif not grant.relay:
            grant.require_view(name)
        offer = await _body(request, SDP_TYPE)
        about = self._about(request, grant)
        action = self.node.publish if kind == "whip" else self.node.view
        if kind == "whip" and tree.LADDER_HEADER in request.headers:
            action = self.node.climb
        try:
            session = await action(name, offer, about)
        except Refused as exc:
            if exc.sibling:
                return self._elsewhere(request, exc)
            raise
        headers = CORS | {
            "Location": f"/{kind}/{name}/{session.id}",
            "ETag": session.etag,
            "Accept-Patch": FRAGMENT_TYPE,
        }
        return web.Response(
            status=201, body=session.answer.encode(), content_type=SDP_TYPE, headers=headers
        )

    def _elsewhere(self, request: web.Request, exc: Refused) -> web.Response:
        """A refusal that names a sibling.

        Without a token it is a redirect, which every client follows by itself (RFC 9725 section
        4.5). With one it is a hint (RFC 8288) on a 503: browsers drop the Authorization header
        when they are redirected to another origin, so the client must ask there by itself.
        `from` in the address says that the request has been sent on once, and ends it there.
        """
        address = f"{exc.sibling}{request.path}?{FROM}={self.node.id}"
        response = refusal(exc)
        response.headers["Link"] = f'<{address}>; rel="alternate"'
        if "Authorization" not in request.headers:
            response.set_status(307)
            response.headers["Location"] = address
        return response

    def _grant(self, request: web.Request) -> Grant:
        return self.node.config.access.check(request.headers.get("Authorization"))

    def _about(self, request: web.Request, grant: Grant) -> Request:
        path = tree.parse_path(request.headers.get(tree.PATH_HEADER, ""))
        relay_id = ""
        if grant.relay and tree.NODE_HEADER in request.headers:
            relay_id = request.headers[tree.NODE_HEADER][:32]
        publisher = request.headers.get(tree.PUBLISHER_HEADER, "")
        have = tree.parse_have(request.headers.get(tree.HAVE_HEADER, "")) if relay_id else {}
        redirected = FROM in request.query
        push = request.headers.get(tree.PUSH_HEADER, "")
        push = tree.check_push(push, from_node=bool(relay_id))
        return Request(grant, path, relay_id, publisher, have, redirected, push)

    def _session(self, request: web.Request) -> Session:
        """The session that a URL names; its URL is its secret, a token must still be valid."""
        self._grant(request)
        session = self.node.sessions.get(request.match_info["session"])
        wanted = (request.match_info["kind"], request.match_info["stream"])
        # A ladder publishes as well: its layers.
        kinds = {"ladder": "whip"}
        if session is None or (
            (kinds.get(session.kind, session.kind), session.channel.name) != wanted
        ):
            raise Refused(404, "There is no such session, or it has ended.")
        return session

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """End a session."""
        self.node.close_session(self._session(request))
        return web.Response(status=200, headers=CORS)

    async def patch(self, request: web.Request) -> web.StreamResponse:
        """Trickle candidates (nothing to do for ICE-lite) or restart ICE (RFC 9725 4.3)."""
        session = self._session(request)
        match = request.headers.get("If-Match", "")
        if match and match not in ("*", session.etag):
            raise Refused(412, "The session has changed since; ask with the newest ETag or *.")
        fragment = await _body(request, FRAGMENT_TYPE)
        ufrag = re.search(r"^a=ice-ufrag:(\S{4,256})\s*$", fragment, re.M)
        password = re.search(r"^a=ice-pwd:(\S{22,256})\s*$", fragment, re.M)
        if ufrag is None or password is None:
            raise Refused(400, "The fragment lacks a=ice-ufrag or a=ice-pwd (RFC 8840).")
        peer = session.peer
        if ufrag[1] == peer.remote_ufrag:
            return web.Response(status=204, headers=CORS | {"ETag": session.etag})
        if match != "*":
            raise Refused(428, "An ICE restart needs the header 'If-Match: *'.")
        peer.remote_ufrag, peer.remote_password = ufrag[1], password[1]
        new_ufrag, new_password = ice.new_credentials()
        self.node.port.call(self.node.port.rename, peer, new_ufrag, new_password)
        await self.node.port.finished()
        session.etag = f'"{new_ufrag}"'
        lines = ["a=ice-lite", f"a=ice-ufrag:{new_ufrag}", f"a=ice-pwd:{new_password}"]
        for number, (host, port) in enumerate(self.node.candidates(), 1):
            lines.append(f"a=candidate:{number} 1 udp {2130706431 - number} {host} {port} typ host")
        lines.append("a=end-of-candidates")
        return web.Response(
            body=("\r\n".join(lines) + "\r\n").encode(),
            content_type=FRAGMENT_TYPE,
            headers=CORS | {"ETag": session.etag},
        )

    async def layers(self, request: web.Request) -> web.StreamResponse:
        """PUT the names of the layers that a node takes; answers which there are."""
        grant = self._grant(request)
        grant.require_relay()
        session = self._session(request)
        try:
            wish = LayersWish.model_validate_json(await request.content.read(4096))
        except ValidationError as exc:
            raise Refused(400, 'The body must be {"layers": ["name", ...]}.') from exc
        there = self.node.take_layers(session, wish.layers)
        return web.json_response({"layers": there})

    async def options(self, request: web.Request) -> web.StreamResponse:
        """CORS preflight, and what may be posted here."""
        return web.Response(status=204, headers=PREFLIGHT)

    async def not_allowed(self, request: web.Request) -> web.StreamResponse:
        """GET, PUT and the like (RFC 9725 section 4.2)."""
        response = refusal(Refused(405, "Use POST to begin, PATCH and DELETE on the Location."))
        response.headers["Allow"] = "OPTIONS, POST, PATCH, DELETE"
        return response

    # ------------------------------------------------------------ about the node

    async def health(self, request: web.Request) -> web.StreamResponse:
        """200 while the node serves, 503 while it stops."""
        if self.node.stopping.is_set():
            return web.Response(status=503, text="stopping\n")
        return web.Response(text="ok\n")

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """Prometheus text."""
        text = metrics.render(self.node)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4"})

    async def about(self, request: web.Request) -> web.StreamResponse:
        """This node."""
        return web.json_response(self.node.snapshot(), headers=CORS)

    async def tree(self, request: web.Request) -> web.StreamResponse:
        """This node and those below."""
        depth = request.query.get("depth", "")
        known = depth.isascii() and depth.isdecimal() and len(depth) <= 4
        levels = min(int(depth), tree.MAX_HOPS) if known else tree.MAX_HOPS
        found = await self.node.tree(levels)
        if not depth.isdecimal():
            # Asked by a person or a page, not by the node above, which sees more of the tree.
            found["findings"] = [one.as_json() for one in diagnosis.diagnose(found)]
        return web.json_response(found, headers=CORS)

    async def access(self, request: web.Request) -> web.StreamResponse:
        """What the presented token may do with a stream."""
        stream = tree.check_stream_name(request.query.get("stream", ""))
        is_open = self.node.config.access.open
        try:
            grant = self._grant(request)
        except AccessError as exc:
            state = {"open": is_open, "publish": False, "view": False, "why": exc.sentence}
            return web.json_response(state, headers=CORS)
        state = {
            "open": is_open,
            "publish": grant.relay or grant.may_publish(stream),
            "view": grant.relay or grant.may_view(stream),
        }
        return web.json_response(state, headers=CORS)

    async def link(self, request: web.Request) -> web.StreamResponse:
        """Held open for a child, who learns by its break that this process has died."""
        self._grant(request).require_relay()
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        # The child may go at any moment: that is no fault of this node.
        with contextlib.suppress(ConnectionError):
            while not self.node.stopping.is_set():
                await response.write(b"draining\n" if self.node.draining else b"here\n")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINK_EVERY_S):
                        await self.node.stopping.wait()
        return response

    async def child(self, request: web.Request) -> web.StreamResponse:
        """A node below reports (POST /api/children)."""
        grant = self._grant(request)
        grant.require_relay()
        try:
            report = ChildReport.model_validate_json(await request.content.read(4096))
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise Refused(400, f"The report's field '{where}': {first['msg']}.") from exc
        host = report.host or (request.remote or "127.0.0.1")
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{report.port}"
        child = Child(
            report.id, report.name, report.tier, url, time.monotonic(),
            report.room, report.public_url.rstrip("/"),
        )  # fmt: skip
        if grant.subject == WORKER_SUBJECT:
            # Part of this node, not a node below: nobody is to see it or to be sent there.
            return web.json_response({"id": self.node.id, "ancestors": self.node.line()})
        ancestors = self.node.note_child(child)
        about = {"id": self.node.id, "ancestors": list(ancestors)}
        return web.json_response(about | self.node.crowd.for_child(child))

    async def switch(self, request: web.Request) -> web.StreamResponse:
        """Let a stream show another source (PUT /api/switch/{stream})."""
        self._grant(request).require_relay()
        if request.content_type != "application/json":
            # See `drain`.
            raise Refused(415, 'The body must be application/json, such as {"source": "NAME"}.')
        try:
            order = SwitchOrder.model_validate_json(await request.content.read(1024))
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise Refused(400, f"{where}: {first['msg']}.") from exc
        made = await self.node.switch(request.match_info["stream"], order.source, order.muted)
        return web.json_response(made.as_json())

    async def switched(self, request: web.Request) -> web.StreamResponse:
        """What a stream shows now (GET /api/switch/{stream})."""
        grant, name = self._grant(request), request.match_info["stream"]
        if not grant.relay:
            grant.require_view(name)
        return web.json_response(self.node.director.state(name), headers=CORS)

    async def room(self, request: web.Request) -> web.StreamResponse:
        """How many more viewers this node takes; its siblings ask."""
        room = self.node.crowd.room(time.monotonic())
        return web.json_response({"id": self.node.id, "room": room})

    async def drain(self, request: web.Request) -> web.StreamResponse:
        """Hand the viewers over and stop (POST /api/drain)."""
        self._grant(request).require_relay()
        if request.content_type != "application/json":
            # A page of another site can post a form or text to this machine, but not this.
            raise Refused(415, 'The body must be application/json, such as {"seconds": 20}.')
        try:
            order = DrainOrder.model_validate_json(await request.content.read(1024) or b"{}")
        except ValidationError as exc:
            raise Refused(400, f"seconds: {exc.errors()[0]['msg']}.") from exc
        self.node.crowd.start_drain(order.seconds, elsewhere=order.elsewhere)
        return web.json_response(
            {"viewers": len(self.node.viewers), "seconds": order.seconds}, status=202
        )


async def _body(request: web.Request, wanted: str) -> str:
    """Read a bounded text body of the wanted type."""
    if request.content_type != wanted:
        raise Refused(415, f"The body must be {wanted}, not {request.content_type[:60]}.")
    if request.content_length is not None and request.content_length > MAX_SIZE:
        raise Refused(413, f"The body is longer than {MAX_SIZE} bytes.")
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > MAX_SIZE:
            raise Refused(413, f"The body is longer than {MAX_SIZE} bytes.")
    data += request.get(READ_BODY, b"")
    if not data:
        raise Refused(400, "The body is empty: an SDP description is expected.")
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise Refused(400, "The body is not UTF-8 text.") from exc


def add_routes(app: web.Application, node: Node) -> None:
    """Add a node's endpoints to an application."""
    ends = Endpoints(node)
    stream, session = "/{kind:whip|whep}/{stream}", "/{kind:whip|whep}/{stream}/{session}"
    router = app.router
    router.add_post(stream, _guard(ends.create))
    router.add_patch(session, _guard(ends.patch))
    router.add_delete(session, _guard(ends.delete))
    router.add_put(session + "/layers", _guard(ends.layers))
    for path in (stream, session):
        router.add_options(path, ends.options)
        router.add_route("*", path, ends.not_allowed)
    router.add_get("/healthz", ends.health)
    router.add_get("/metrics", ends.metrics)
    router.add_get("/api/node", ends.about)
    router.add_get("/api/tree", ends.tree)
    router.add_get("/api/access", _guard(ends.access))
    router.add_post("/api/children", _guard(ends.child))
    router.add_get("/api/link", _guard(ends.link))
    router.add_get("/api/room", ends.room)
    router.add_post("/api/drain", _guard(ends.drain))
    router.add_put("/api/switch/{stream}", _guard(ends.switch))
    router.add_get("/api/switch/{stream}", _guard(ends.switched))
