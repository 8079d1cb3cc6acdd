"""A relay node: owns the port, the channels, and the connection to its parent.

What a WHIP or WHEP request leads to is decided here; `endpoints` only speaks HTTP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import aiohttp
import ifaddr

from relay import __version__, metrics, sdp, tree
from relay.access import Access, Grant
from relay.admission import Limits
from relay.channel import (
    GOODBYE,
    Channel,
    Layers,
    Publisher,
    Session,
    egress_layers,
    lasting_layers,
    leg_repair,
    push_legs,
)
from relay.crowd import Crowd
from relay.director import Director, Switched
from relay.errors import Refused, SettingError
from relay.figures import Figures
from relay.ladder import Ladder
from relay.packet import ABS_SEND_TIME
from relay.parents import Parents
from relay.peer import NodeCertificate, Peer
from relay.port import Port
from relay.sdp import Description, Layer, Leg, Local, Media, SdpError, Setup
from relay.sight import Sight
from relay.source import Source
from relay.stream import Stream
from relay.team import Members
from relay.track import Track
from relay.uplink import Uplink
from relay.viewer import Viewer

log = logging.getLogger("relay.node")

SWEEP_EVERY_S = 0.5
CONSENT_CHECK_EVERY_S = 3.0
CHILD_FORGOTTEN_S = 20.0
MAX_CHANNELS = 1000
MAX_CHILDREN = 1000
RETRY_S = 2


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node is told at start. `parents` are base URLs in order of preference."""

    access: Access
    name: str = "node"
    tier: str = ""
    host: str = "127.0.0.1"
    port: int = 8710
    parents: tuple[str, ...] = ()
    parent_token: str = ""
    advertise: tuple[str, ...] = ()
    linger_s: float = 5.0
    publisher_grace_s: float = 60.0
    limits: Limits = field(default_factory=Limits)
    siblings: tuple[str, ...] = ()
    public_url: str = ""


@dataclass(slots=True)
class Child:
    """A node below that says it is there.

    `url` is where this node reaches it, `public_url` where viewers do; `room` is how many more
    viewers it takes.
    """

    id: str
    name: str
    tier: str
    url: str
    seen_s: float
    room: int = 0
    public_url: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """What comes with a WHIP or WHEP request besides the offer."""

    grant: Grant
    path: tuple[str, ...] = ()
    relay_id: str = ""
    publisher: str = ""
    have: dict[int, int] = field(default_factory=dict)
    redirected: bool = False
    push: str = ""


class Node:
    """One relay process. All methods belong to the asyncio loop."""

    def __init__(self, config: NodeConfig) -> None:
        self.config = config
        self.id = secrets.token_hex(8)
        self.channels: dict[str, Channel] = {}
        self.sessions: dict[str, Session] = {}
        self.children: dict[str, Child] = {}
        self.started_s = time.monotonic()
        self.stopping = asyncio.Event()
        self.draining = False
        self.figures = Figures()
        self.sight = Sight()
        self.crowd = Crowd(self)
        self.director = Director(self)
        self.team: Members | None = None
        self.more_metrics: list[Callable[[metrics.Text], None]] = []
        self._certificate = NodeCertificate.generateCertificate()
        self._pulls: dict[str, asyncio.Task[Channel]] = {}
        self._raised: dict[str, Layers] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ends: set[asyncio.Task[None]] = set()
        self._port: Port | None = None
        self.parents: Parents | None = None

    @property
    def port(self) -> Port:
        """The node's socket; only after `start`."""
        assert self._port is not None
        return self._port

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Open the socket and start forwarding; SettingError when that is not possible."""
        config = self.config
        try:
            self._port = Port(config.host, config.port, asyncio.get_running_loop())
        except OSError as exc:
            raise SettingError(
                f"cannot open UDP {config.host}:{config.port}: {exc.strerror}. "
                "Choose another --port or stop the program that uses it."
            ) from exc
        self._port.start()
        if config.parents:
            uplinks = [
                Uplink(
                    url, config.parent_token, self.id, self._port, self._certificate,
                    self.candidates,
                )
                for url in config.parents
            ]  # fmt: skip
            self.parents = Parents(uplinks, self.id, self._about, self.crowd.heard_from_above)
            self._tasks += self.parents.tasks()
        self._tasks.append(asyncio.create_task(self._sweep(), name="sweep"))
        if config.siblings:
            self._tasks.append(asyncio.create_task(self.crowd.ask_siblings(), name="siblings"))
        log.info(
            "node-start name=%s id=%s udp=%d gso=%s", config.name, self.id, self._port.number,
            self._port.fanout.abilities.gso,
        )  # fmt: skip

    async def stop(self) -> None:
        """Tell every peer, end everything, close the socket; takes at most 3 s."""
        self.stopping.set()
        self.director.stop()
        for task in [*self._tasks, *self._pulls.values()]:
            task.cancel()
        ends = [c.end("this node is stopping") for c in self.channels.values()]
        try:
            async with asyncio.timeout(2.0):
                await asyncio.gather(*ends, *self._ends, return_exceptions=True)
                await self.port.finished()
        except TimeoutError:
            log.warning("stop-late channels=%d", len(self.channels))
        if self.parents is not None:
            await self.parents.close()
        self.port.stop()
        log.info("node-stop name=%s", self.config.name)

    def candidates(self) -> tuple[tuple[str, int], ...]:
        """The addresses that an answer names, as far as they are known."""
        number = self.port.number
        if self.config.advertise:
            return tuple((host, number) for host in self.config.advertise)
        host = self.config.host
        if host not in ("0.0.0.0", "::"):
            return ((host if _is_ip(host) else socket.gethostbyname(host), number),)
        return tuple((a, number) for a in _own_addresses(v6=host == "::"))

    def _end(self, channel: Channel) -> None:
        """Let a channel go; its peers are told in the background, for a dead parent takes time."""
        del self.channels[channel.name]
        log.info("stream-end stream=%s", channel.name)
        task = asyncio.create_task(channel.end("the broadcast has ended"), name="end")
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _sweep(self) -> None:
        """End channels that are over; forget children that are gone."""
        next_consent = 0.0
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            now = time.monotonic()
            if now >= next_consent:
                next_consent = now + CONSENT_CHECK_EVERY_S
                for channel in self.channels.values():
                    channel.check_consent(now)
            for channel in [c for c in self.channels.values() if c.over(now)]:
                self._end(channel)
            for session in [s for s in self.sessions.values() if s not in s.channel.sessions]:
                del self.sessions[session.id]
            for child in [c for c in self.children.values() if now - c.seen_s > CHILD_FORGOTTEN_S]:
                del self.children[child.id]
            self.figures.sample(self, now)
            self.crowd.sample(now)
            self.sight.sample(self, now)

    def _about(self) -> dict[str, object]:
        """What a parent is told about this node."""
        config = self.config
        # A node that listens everywhere is reached where its request came from.
        host = "" if config.host in ("0.0.0.0", "::") else config.host
        return {
            "id": self.id, "name": config.name, "tier": config.tier,
            "host": host, "port": config.port, "public_url": config.public_url,
            "room": self.crowd.room(time.monotonic()),
        }  # fmt: skip

    @property
    def ancestors(self) -> tuple[str, ...]:
        """The ids of all nodes above this one, as far as the parents have told."""
        if self.parents is None:
            return ()
        return tuple(dict.fromkeys(i for p in self.parents.all for i in p.ancestors))

    def note_child(self, child: Child) -> tuple[str, ...]:
        """Take a child's sign of life; returns the ids from this node up to the root."""
        id = child.id
        if id == self.id or id in self.ancestors:
            raise Refused(
                508, "The parents form a loop: this node is below its own child. Check --parent."
            )
        if id not in self.children and len(self.children) >= MAX_CHILDREN:
            raise Refused(503, "This node has as many children as it can keep track of.", 30)
        self.children[id] = child
        return self.line()

    def line(self) -> tuple[str, ...]:
        """The ids from this node up to the root."""
        return (self.id, *self.ancestors)

    # ------------------------------------------------------------ viewing

    async def view(self, name: str, offer_text: str, request: Request) -> Session:
        """Answer a viewer's offer (WHEP); Refused with status and sentence."""
        self._check_open()
        # Before the offer is read: to refuse must cost far less than to serve.
        self.crowd.admit(name, request)
        offer, transport = _read_offer(offer_text)
        is_new = name not in self.channels
        channel = await self._channel_to_view(name, request)
        if is_new:
            self.crowd.admit(name, request)
        stream = channel.stream
        assert stream is not None
        legs = _egress_legs(offer, {k: t.format for k, t in stream.tracks.items()})
        for index, leg in enumerate(legs):
            if leg is not None:
                track = stream.tracks[leg.format.kind]
                rtx_ssrc = Channel.new_ssrc() if leg.rtx_type >= 0 else 0
                legs[index] = replace(leg, ssrc=track.ssrc, rtx_ssrc=rtx_ssrc)
                if request.relay_id and track.kind == "video":
                    # Those on demand it learns of by the way of its wishes.
                    layers = egress_layers(lasting_layers(stream))
                    repair = leg_repair(layers, track.ssrc) or rtx_ssrc
                    legs[index] = replace(legs[index] or leg, layers=layers, rtx_ssrc=repair)
        chosen = {leg.format.kind: leg for leg in legs if leg is not None}
        if not chosen:
            has = " and ".join(t.format.codec for t in stream.tracks.values())
            raise Refused(
                400, f"The offer has no receiving section for what this stream carries: {has}."
            )
        peer = self._peer(f"whep {name}", transport)
        session = Session(
            secrets.token_urlsafe(12), "whep", channel, peer, request.grant.subject,
            relay_id=request.relay_id, have=request.have,
        )  # fmt: skip
        session.viewer = Viewer(stream, peer, chosen, is_relay=bool(request.relay_id))
        if request.relay_id and len(stream.layers) > 1:
            # A node says which layers it takes once its first viewer is there. One that comes from
            # another parent has had some.
            had = frozenset(t.rid for t in stream.layers if t.ssrc in request.have)
            first = next(iter(lasting_layers(stream)), stream.layers[0])
            session.viewer.takes = had or frozenset({first.rid})
        self._open(session, offer, legs, transport)
        self.crowd.joined(session)
        return session

    def take_layers(self, session: Session, rids: list[str]) -> list[dict[str, object]]:
        """Let a node below have these layers; returns what there is, the smallest first."""
        viewer = session.viewer
        if viewer is None or not viewer.is_relay:
            raise Refused(403, "Only a node chooses its layers; a viewer's line chooses for it.")
        stream, now = viewer.stream, time.monotonic()
        video = viewer.legs.get("video")
        if video is None:
            return []
        layers = egress_layers(stream.layers, video.layers)
        if layers != video.layers:
            viewer.legs = viewer.legs | {"video": replace(video, layers=layers)}
        if layers and rids:
            self.port.call(stream.take, viewer, rids)
        return [
            {
                "rid": track.rid, "ssrc": track.ssrc, "bitrate_bps": round(track.known_bps),
                "rtx_ssrc": leg_repair(layers, track.ssrc), "live": track.live(now),
                "on_demand": track.on_demand,
            }
            for track in stream.layers
        ]  # fmt: skip

    async def _channel_to_view(self, name: str, request: Request) -> Channel:
        own_path = tree.extend_path(request.path, self.id)
        channel = self.channels.get(name)
        if channel is not None and channel.over(time.monotonic()):
            # What it still holds is old, and it would end under its new viewer.
            self._end(channel)
            channel = None
        if channel is not None and channel.stream is not None:
            if channel.puller is not None and channel.puller.refused is not None:
                raise _from_above(channel.puller.refused)
            return channel
        if self.parents is None:
            raise Refused(404, f"Nobody is publishing '{name}' here.", RETRY_S)
        pull = self._pulls.get(name)
        if pull is None:
            if len(self.channels) >= MAX_CHANNELS:
                raise Refused(503, "This node carries as many streams as it can.", 10)
            pull = asyncio.create_task(self._pull(name, own_path, request.have), name=f"ask-{name}")
            self._pulls[name] = pull
            pull.add_done_callback(lambda _: self._pulls.pop(name, None))
        return await asyncio.shield(pull)

    async def _pull(self, name: str, path: tuple[str, ...], have: dict[int, int]) -> Channel:
        """Ask the parent, once for all who wait."""
        assert self.parents is not None
        if all(p.state == "loop" for p in self.parents.all):
            raise Refused(508, self.parents.all[0].error, reason="loop")
        channel = Channel(name, self.port, self.config.linger_s, self.config.publisher_grace_s)
        try:
            await channel.start_pull(self.parents, path, have)
        except Refused as exc:
            raise _from_above(exc) from exc
        present = self.channels.get(name)
        if present is not None and present.stream is not None:
            # A publisher has entered here meanwhile.
            await channel.end("the broadcast begins at this node now")
            return present
        self.channels[name] = channel
        return channel

    # ------------------------------------------------------------ publishing

    async def publish(self, name: str, offer_text: str, request: Request) -> Session:
        """Answer a publisher's offer (WHIP); Refused with status and sentence."""
        self._check_open()
        self.crowd.check_draining(request)
        own_path = tree.extend_path(request.path, self.id)
        offer, transport = _read_offer(offer_text)
        publisher = self._publisher(request)
        channel = self.channels.get(name)
        if channel is not None:
            if channel.on_programme is not None:
                sentence = f"'{name}' is switched between sources: publish one of these."
                raise Refused(409, sentence, 10)
            _check_takeover(channel, publisher)
        elif len(self.channels) >= MAX_CHANNELS:
            raise Refused(503, "This node carries as many streams as it can.", 10)
        present = channel.stream.tracks if channel is not None and channel.stream else {}
        legs = _ingest_legs(offer, {k: t.format.codec for k, t in present.items()})
        accepted = [leg for leg in legs if leg is not None]
        if not accepted:
            raise Refused(400, "The offer has nothing to send in H264, VP8, VP9, AV1 or Opus.")
        is_new = channel is None
        if channel is None:
            channel = Channel(name, self.port, self.config.linger_s, self.config.publisher_grace_s)
            self.channels[name] = channel
        numbered = [
            replace(leg, ssrc=_offered_ssrc(media))
            for media, leg in zip(offer.media, legs, strict=True)
            if leg is not None
        ]
        stream = channel.use_formats(numbered, entering=not request.relay_id)
        channel.announced = request.push == tree.ON_AIR
        if self.parents is not None:
            self._keep(channel, on_demand=request.push == tree.ON_DEMAND)
        if self.parents is not None and not channel.pushing and not channel.on_demand:
            try:
                await channel.start_push(self.parents, push_legs(stream), own_path, publisher)
            except Refused:
                if is_new:
                    # Without a publisher it would keep viewers from what the parent has.
                    del self.channels[name]
                    await channel.end("the broadcast was refused")
                raise
        peer = self._peer(f"whip {name}", transport)
        session = Session(
            secrets.token_urlsafe(12), "whip", channel, peer, request.grant.subject,
            publisher=publisher, relay_id=request.relay_id,
        )  # fmt: skip
        estimate = not request.relay_id and any(
            "goog-remb" in leg.feedback and leg.extension_id(ABS_SEND_TIME) for leg in accepted
        )
        # A node below sends all its streams from one address: its SSRCs tell which is which.
        peer.ssrcs.update(ssrc for media in offer.media for ssrc in media.ssrcs)
        session.source = Source(
            stream, peer, accepted, Channel.new_ssrc(), estimate=estimate,
            from_node=bool(request.relay_id),
        )  # fmt: skip
        self._open(session, offer, legs, transport)
        self.director.arrived(name)
        return session

    # ------------------------------------------------------------ push on demand

    def raise_up(self, stream: str, layers: str) -> None:
        """Push a stream that entered here with `Terrace-Push: on-demand` to the parent.

        `layers` is "low" for its smallest layer (and sound) or "full" for all; ValueError for
        anything else. It holds until `lower`, also for a publisher who comes again, or comes later.
        """
        wanted = Layers(layers)
        if stream not in self._raised and len(self._raised) >= MAX_CHANNELS:
            raise Refused(503, "This node raises as many streams as it can.", 10)
        self._raised[stream] = wanted
        channel = self.channels.get(stream)
        if channel is not None and self.parents is not None:
            channel.raise_up(self.parents, self.id, wanted)

    def lower(self, stream: str) -> None:
        """Keep a stream here again that `raise_up` had pushed."""
        self._raised.pop(stream, None)
        channel = self.channels.get(stream)
        if channel is not None:
            channel.lower()

    def _keep(self, channel: Channel, *, on_demand: bool) -> None:
        """Note whether a publisher wants its stream kept here until it is raised."""
        if on_demand and not channel.on_demand:
            # It may have been pushed of itself up to now.
            channel.on_demand = True
            channel.lower()
        channel.on_demand = on_demand
        wanted = self._raised.get(channel.name)
        if on_demand and wanted is not None and self.parents is not None:
            channel.raise_up(self.parents, self.id, wanted)

    # ------------------------------------------------------------ a programme

    async def switch(self, stream: str, source: str | None, muted: bool = False) -> Switched:
        """Let a stream show another stream of this node, cut at a keyframe, without a seam.

        `source` None gives it back to whoever publishes it, `muted` leaves the source's sound out.
        Refused (504) if the source is not here, or has no picture to begin with, within 2 s.
        """
        return await self.director.switch(stream, source, muted)

    def channel_to_feed(self, name: str) -> Channel:
        """The channel of that name, a new one if there is none; Refused when there are too many."""
        channel = self.channels.get(name)
        if channel is not None and channel.over(time.monotonic()):
            self._end(channel)
            channel = None
        if channel is None:
            if len(self.channels) >= MAX_CHANNELS:
                raise Refused(503, "This node carries as many streams as it can.", 10)
            channel = Channel(name, self.port, self.config.linger_s, self.config.publisher_grace_s)
            self.channels[name] = channel
        return channel

    # ------------------------------------------------------------ a ladder

    async def climb(self, name: str, offer_text: str, request: Request) -> Session:
        """Answer a ladder's offer to make the lower layers of a stream; Refused with a sentence."""
        self._check_open()
        offer, transport = _read_offer(offer_text)
        channel = self.channels.get(name)
        stream = channel.stream if channel is not None else None
        if channel is None or stream is None or channel.over(time.monotonic()):
            raise Refused(404, f"Nobody is publishing '{name}' here.", RETRY_S)
        main = stream.tracks.get("video")
        _check_ladder(channel, main)
        assert main is not None
        picture = _egress_legs(offer, {"video": main.format})
        made = _ingest_legs(offer, {"video": main.format.codec})
        legs = [one or other for one, other in zip(picture, made, strict=True)]
        taken = next((leg for leg in made if leg is not None), None)
        sent = next((leg for leg in picture if leg is not None), None)
        if sent is None or taken is None or taken.format.codec != main.format.codec:
            codec = main.format.codec
            raise Refused(400, f"A ladder takes and sends {codec} for this stream, on two m-lines.")
        # The picture itself is the largest of the layers from now on.
        whole = Layer(main.rid or "f", main.ssrc)
        _check_layers(stream, taken.layers, whole)
        rtx_ssrc = Channel.new_ssrc() if sent.rtx_type >= 0 else 0
        outgoing = replace(sent, ssrc=main.ssrc, rtx_ssrc=rtx_ssrc)
        legs = [outgoing if leg is sent else leg for leg in legs]
        peer = self._peer(f"ladder {name}", transport)
        peer.ssrcs.update(ssrc for media in offer.media for ssrc in media.ssrcs)
        channel.extend(stream, replace(taken, layers=(*taken.layers, whole)), entering=True)
        session = Session(secrets.token_urlsafe(12), "ladder", channel, peer, request.grant.subject)
        session.ladder = Ladder(stream, peer, outgoing, taken, Channel.new_ssrc())
        channel.ladder = session
        return self._open(session, offer, legs, transport)

    def _publisher(self, request: Request) -> Publisher:
        now_ms = int(time.time() * 1000)
        if request.relay_id and request.publisher:
            return Publisher.parse(request.publisher, request.grant.subject, now_ms)
        return Publisher(request.grant.subject, now_ms)

    # ------------------------------------------------------------ both

    def _check_open(self) -> None:
        if self.stopping.is_set():
            sentence = "This node is stopping; try again in a moment."
            raise Refused(503, sentence, RETRY_S, reason="stopping")

    def _peer(self, label: str, transport: Media) -> Peer:
        return Peer(
            label,
            self.port,
            self._certificate,
            remote_ufrag=transport.ufrag,
            remote_password=transport.password,
            fingerprints=transport.fingerprints,
            dtls_client=transport.setup == Setup.PASSIVE,
        )

    def _open(
        self, session: Session, offer: Description, legs: list[Leg | None], transport: Media
    ) -> Session:
        peer = session.peer
        setup = Setup.ACTIVE if peer.dtls_client else Setup.PASSIVE
        local = Local(
            peer.ufrag, peer.password, self._certificate.fingerprint, setup, self.candidates()
        )
        name = session.channel.name
        if session.kind == "whip":
            legs = [leg and replace(leg, ssrc=0) for leg in legs]
        session.answer = sdp.write_answer(offer, legs, local, name, secrets.randbits(62))
        self.sessions[session.id] = session
        session.channel.open(session)
        return session

    def close_session(self, session: Session) -> None:
        """End a session at its client's wish (DELETE)."""
        session.peer.why = session.peer.why or GOODBYE
        if session.task is not None:
            session.task.cancel()
        self.sessions.pop(session.id, None)

    @property
    def viewers(self) -> list[Session]:
        """The sessions of those who watch here, nodes below not counted."""
        return [s for c in self.channels.values() for s in c.viewers if not s.relay_id]

    # ------------------------------------------------------------ sight

    def snapshot(self) -> dict[str, object]:
        """What /api/node shows; see the package's README for the fields."""
        snapshot = self.figures.node(self)
        return snapshot if self.team is None else self.team.merge(snapshot)

    async def tree(self, depth: int = tree.MAX_HOPS) -> dict[str, object]:
        """This node and those below, asked for their own trees."""
        snapshot = self.snapshot()
        children = list(self.children.values()) if depth > 0 else []
        timeout = aiohttp.ClientTimeout(total=0.4 + 0.3 * depth)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            snapshot["below"] = await asyncio.gather(
                *(_subtree(http, child, depth - 1) for child in children)
            )
        return snapshot


async def _subtree(http: aiohttp.ClientSession, child: Child, depth: int) -> dict[str, object]:
    known: dict[str, object] = {
        "id": child.id, "name": child.name, "tier": child.tier, "url": child.url, "below": [],
        "last_seen_s": round(time.monotonic() - child.seen_s, 1),
    }  # fmt: skip
    try:
        async with http.get(f"{child.url}/api/tree", params={"depth": str(depth)}) as response:
            answer = await response.json()
            return known | answer if isinstance(answer, dict) else known
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as exc:
        return known | {"error": f"{child.url} does not answer ({type(exc).__name__})"}


def _from_above(exc: Refused) -> Refused:
    """A refusal by the parent as our viewers are told it: not theirs to put right, unless 404.

    A 401 of the parent is about our token; passed on as it is, it would ask the viewer for one.
    """
    if exc.status == 404 or exc.reason:
        return exc
    status = 502 if exc.status in (400, 401, 403, 409) else exc.status
    return Refused(status, exc.sentence, exc.retry_after_s or RETRY_S, reason="parent")


def _read_offer(text: str) -> tuple[Description, Media]:
    try:
        offer = sdp.parse(text)
        return offer, sdp.check_transport(offer)
    except SdpError as exc:
        raise Refused(400, f"The offer cannot be used: {exc}.") from exc


def _egress_legs(offer: Description, formats: dict[str, sdp.Format]) -> list[Leg | None]:
    """For each m-line of a viewer's offer what we would send on it."""
    legs: list[Leg | None] = []
    taken: set[str] = set()
    for media in offer.media:
        wanted = formats.get(media.kind)
        leg = None
        receives = media.direction in ("recvonly", "sendrecv")
        if wanted and media.kind not in taken and receives and media.offered:
            codec = sdp.choose_egress(media, wanted)
            if codec is not None:
                leg = sdp.agree(media, codec, wanted.fmtp, sdp.EXTENSIONS[media.kind])
                if media.kind == "audio" and "nack" not in leg.feedback:
                    # One or the other: a number that went out as RED may not be repeated plain.
                    leg = replace(leg, red_type=media.red_of(codec.payload_type))
                taken.add(media.kind)
        legs.append(leg)
    return legs


def _ingest_legs(offer: Description, present: dict[str, str]) -> list[Leg | None]:
    """For each m-line of a publisher's offer what we take of it."""
    legs: list[Leg | None] = []
    taken: set[str] = set()
    for media in offer.media:
        leg = None
        sends = media.direction in ("sendonly", "sendrecv")
        if media.kind in sdp.EXTENSIONS and media.kind not in taken and sends and media.offered:
            codec = sdp.choose_ingest(media, present.get(media.kind, ""))
            if codec is not None:
                uris = sdp.EXTENSIONS[media.kind] + sdp.INGEST_EXTENSIONS
                leg = sdp.agree(media, codec, codec.fmtp, uris)
                if media.kind == "video":
                    leg = replace(leg, layers=sdp.offered_layers(media))
                taken.add(media.kind)
        legs.append(leg)
    return legs


def _offered_ssrc(media: Media) -> int:
    return media.primary_ssrcs[0] if media.primary_ssrcs else 0


def _check_takeover(channel: Channel, publisher: Publisher) -> None:
    """A stream belongs to whoever publishes it: only the same subject may take over, if newer."""
    # One whose handshake is under way holds it as well.
    for holder in [s.publisher for s in channel.sessions if s.publisher is not None]:
        if holder.subject != publisher.subject:
            raise Refused(409, f"'{channel.name}' is already being published by somebody else.", 10)
        if publisher.since_ms < holder.since_ms:
            raise Refused(409, f"A newer publisher has taken over '{channel.name}'.")


def _check_ladder(channel: Channel, picture: Track | None) -> None:
    """Whether lower layers may be made of a stream here; Refused with the reason if not."""
    name = channel.name
    if channel.fed_by == "parent":
        raise Refused(409, f"'{name}' comes from a parent: its ladder belongs where it enters.", 10)
    if picture is None:
        raise Refused(409, f"'{name}' has no picture to make layers of.", 10)
    if picture.format.codec not in sdp.LADDER_VIDEO:
        known = " and ".join(sdp.LADDER_VIDEO)
        raise Refused(409, f"'{name}' is {picture.format.codec}: a ladder makes {known} only.", 10)
    source = channel.source
    if source is not None and source.layered:
        raise Refused(409, f"The publisher of '{name}' sends layers of its own.", 10)
    if channel.ladder is not None:
        raise Refused(409, f"'{name}' has a ladder already.", RETRY_S)


def _check_layers(stream: Stream, made: tuple[Layer, ...], whole: Layer) -> None:
    """Whether a ladder's layers have names and SSRCs of their own; Refused 400 if not."""
    if not 0 < len(made) < sdp.MAX_LAYERS:
        most = sdp.MAX_LAYERS - 1
        raise Refused(400, f"The offer must name 1 to {most} layers (a=x-terrace-layer).")
    rids = {n.rid for n in made} - {"", whole.rid}
    ssrcs = {n.ssrc for n in made} - {0, *(t.ssrc for t in stream.tracks.values())}
    if len(rids) < len(made) or len(ssrcs) < len(made):
        raise Refused(400, "Each layer needs a name and an SSRC that nothing else here has.")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _own_addresses(v6: bool) -> list[str]:
    """Addresses of this machine's interfaces; loopback only when there is nothing else."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            address = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            ip = ipaddress.ip_address(address)
            if not ip.is_link_local and (v6 or ip.version == 4):
                found.append(address)
    outside = [a for a in found if not ipaddress.ip_address(a).is_loopback]
    return outside or found or ["127.0.0.1"]


__all__ = ["Child", "Node", "NodeConfig", "Request", "__version__"]
