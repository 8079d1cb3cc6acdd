"""One stream by name, on the asyncio side: who feeds it, who watches it, when it ends.

A channel is fed by a publisher at this node (WHIP, possibly another node that pushes up) or by
the parent (a pull). It owns its sessions; each session's task owns its peer. It ends when its
publisher has been gone too long, or, when it is pulled, some seconds after its last viewer left.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from relay import sdp, tree
from relay.errors import HandshakeFailed, Refused
from relay.peer import Peer
from relay.sdp import Format, Layer, Leg
from relay.source import Source
from relay.stream import Stream
from relay.track import Track
from relay.uplink import Link, Uplink
from relay.viewer import Viewer

if TYPE_CHECKING:
    from relay.port import Port

log = logging.getLogger("relay.channel")

# RFC 7675 section 5.1: consent expires 30 s after the last authenticated packet.
CONSENT_S = 30.0
# No packet for this long: the publisher is there but silent.
SILENT_S = 3.0
REPULL_FOR_S = 60.0
# The parent is asked this often which layers it has, beside when our own wish changes.
LAYERS_EVERY_S = 4.0


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes and since when, the same for every node that the stream is pushed to."""

    subject: str
    since_ms: int

    @classmethod
    def parse(cls, header: str, subject: str, now_ms: int) -> Publisher:
        """Read what a pushing node says, `<milliseconds> <subject>`; Refused 400 if malformed."""
        since, _, name = header.partition(" ")
        if not since.isdigit() or len(since) > 15 or len(name) > 200:
            raise Refused(400, f"The {tree.PUBLISHER_HEADER} header is malformed.")
        return cls(name or subject, min(int(since), now_ms + 60_000))

    def header(self) -> str:
        """The form that goes up the tree; only printable ASCII may stand in a header."""
        subject = "".join(c if 32 <= ord(c) < 127 else "?" for c in self.subject)
        return f"{self.since_ms} {subject}"


@dataclass(slots=True, eq=False)
class Session:
    """One WHIP or WHEP resource."""

    id: str
    kind: str
    channel: Channel
    peer: Peer
    subject: str
    etag: str = field(default_factory=lambda: f'"{secrets.token_hex(4)}"')
    viewer: Viewer | None = None
    source: Source | None = None
    publisher: Publisher | None = None
    relay_id: str = ""
    answer: str = ""
    started_s: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None


class Channel:
    """See the module. `path` is the request path that led to the pull (for the loop check)."""

    def __init__(self, name: str, port: Port, linger_s: float, grace_s: float) -> None:
        self.name = name
        self.stream: Stream | None = None
        self.publisher: Session | None = None
        self.last_publisher: Publisher | None = None
        self.pull: Link | None = None
        self.pull_source: Source | None = None
        self.pull_refused: Refused | None = None
        self.push: Link | None = None
        self.push_viewer: Viewer | None = None
        self.sessions: set[Session] = set()
        self.fed_by = ""
        self.source_gone_s: float | None = None
        self.ended = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._port = port
        self._linger_s = linger_s
        self._grace_s = grace_s
        self._idle_since_s: float | None = time.monotonic()
        self._needed: frozenset[str] = frozenset()
        self._need_changed = asyncio.Event()

    # ------------------------------------------------------------ tracks

    def use_formats(self, legs: list[Leg]) -> Stream:
        """The stream for these legs: the present one if it has the same tracks, else a new one.

        A change of codec cannot be told to a viewer within its session: the viewers of the old
        stream are ended and come again by themselves.
        """
        stream = self.stream
        wanted = {leg.format.kind: leg.format.codec for leg in legs}
        if stream is not None:
            present = {kind: track.format.codec for kind, track in stream.tracks.items()}
            if wanted == present:
                for leg in legs:
                    self._extend(stream, leg)
                return stream
            log.info("formats-changed stream=%s from=%s to=%s", self.name, present, wanted)
            self.end_viewers("the broadcast changed its format")
            self._port.call(self._port.remove_forwarder, stream)
        tracks = [
            Track(leg.format, layer.ssrc or new_ssrc(), layer.rid)
            for leg in legs
            for layer in leg.layers or (Layer("", leg.ssrc),)
        ]
        for track, layer in zip(
            tracks, (n for g in legs for n in g.layers or (Layer(""),)), strict=True
        ):
            if layer.bitrate_bps:
                track.announced_bps, track.announced_s = layer.bitrate_bps, time.monotonic()
        self.stream = Stream(self.name, tracks, self._port)
        self._port.call(self._port.add_forwarder, self.stream)
        return self.stream

    def _extend(self, stream: Stream, leg: Leg) -> None:
        """Let a stream have the layers of a leg that it does not have yet."""
        if not leg.layers:
            return
        main = stream.tracks[leg.format.kind]
        if not main.rid:
            # A picture that had one layer: that is the largest of those to come.
            main.rid = leg.layers[-1].rid
        known = {t.rid for t in stream.layers}
        for layer in reversed(leg.layers):
            if layer.rid not in known:
                track = Track(main.format, layer.ssrc or new_ssrc(), layer.rid)
                self._port.call(stream.add_layer, track)

    def end_viewers(self, why: str) -> None:
        """End all viewing sessions; each tells its peer."""
        for session in list(self.sessions):
            if session.kind == "whep" and session.task is not None:
                session.peer.why = session.peer.why or why
                session.task.cancel()

    # ------------------------------------------------------------ state

    @property
    def state(self) -> str:
        """live (packets come), starting (none yet) or waiting (the source is gone or silent)."""
        source = self.source
        if source is None:
            return "waiting" if self.source_gone_s is not None else "starting"
        if not source.last_media_s:
            return "starting"
        return "live" if time.monotonic() - source.last_media_s < SILENT_S else "waiting"

    @property
    def source(self) -> Source | None:
        """What feeds the channel now."""
        if self.publisher is not None:
            return self.publisher.source
        return self.pull_source

    @property
    def viewers(self) -> list[Session]:
        """Sessions that watch, those of nodes below included."""
        return [s for s in self.sessions if s.kind == "whep"]

    # ------------------------------------------------------------ sessions

    def open(self, session: Session) -> None:
        """Start the session's owner task."""
        self.sessions.add(session)
        self._idle_since_s = None
        self._port.add(session.peer)
        run = self._run_publisher if session.kind == "whip" else self._run_viewer
        session.task = asyncio.create_task(run(session), name=f"{session.kind}-{session.id}")
        self.tasks.add(session.task)
        session.task.add_done_callback(self.tasks.discard)

    async def _run_viewer(self, session: Session) -> None:
        peer, viewer = session.peer, session.viewer
        assert viewer is not None
        stream = viewer.stream
        try:
            await peer.connect()
            peer.handler = viewer
            self._port.call(stream.add_viewer, viewer)
            await peer.closed.wait()
        except HandshakeFailed as exc:
            peer.why = str(exc)
        finally:
            self._port.call(stream.remove_viewer, viewer)
            await self._close(session)

    async def _run_publisher(self, session: Session) -> None:
        peer, source = session.peer, session.source
        assert source is not None
        try:
            await peer.connect()
            before = self.publisher
            self.publisher, self.last_publisher = session, session.publisher
            self.source_gone_s, self.fed_by = None, "push" if session.relay_id else "publisher"
            self._port.call(source.attach)
            if before is not None and before.task is not None:
                before.peer.why = "replaced by a newer publisher"
                before.task.cancel()
            await peer.closed.wait()
        except HandshakeFailed as exc:
            peer.why = str(exc)
        finally:
            if self.publisher is session:
                self.publisher = None
                self.source_gone_s = time.monotonic()
            await self._close(session)

    def check_consent(self, now: float) -> None:
        """End the sessions whose peers have fallen silent; called every now and then."""
        for session in self.sessions:
            peer = session.peer
            if peer.connected.is_set() and now - peer.last_heard_s > CONSENT_S:
                peer.lost(f"nothing was heard for {CONSENT_S:.0f} s")

    async def _close(self, session: Session) -> None:
        self.sessions.discard(session)
        await session.peer.close(session.peer.why or "the session ended")
        self._port.remove(session.peer)
        lasted = time.monotonic() - session.started_s
        log.info(
            "session-end kind=%s stream=%s id=%s lasted_s=%.1f why=%r profile=%s",
            session.kind, self.name, session.id, lasted, session.peer.why, session.peer.profile,
        )  # fmt: skip
        if not self.sessions:
            self._idle_since_s = time.monotonic()

    # ------------------------------------------------------------ pull from the parent

    async def start_pull(self, uplink: Uplink, path: tuple[str, ...]) -> None:
        """Ask the parent for the stream; returns when viewers can be answered, or Refused."""
        link = await uplink.pull(self.name, path, tree.answer_time(path[:-1]))
        self._attach_pull(link)
        task = asyncio.create_task(self._run_pull(uplink, path, link), name=f"pull-{self.name}")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _attach_pull(self, link: Link) -> None:
        stream = self.use_formats(link.legs)
        source = Source(stream, link.peer, link.legs, new_ssrc(), estimate=False)
        loop = asyncio.get_running_loop()

        def need(layers: frozenset[Track]) -> None:
            loop.call_soon_threadsafe(self._need, layers)

        source.on_need(need)
        for leg in link.legs:
            pairs = [(leg.ssrc, leg.rtx_ssrc), *((n.ssrc, n.rtx_ssrc) for n in leg.layers)]
            link.peer.ssrcs.update(ssrc for pair in pairs for ssrc in pair if ssrc)
        self.pull, self.pull_source, self.pull_refused = link, source, None
        self.fed_by, self.source_gone_s = "parent", None
        self._port.call(source.attach)

    def _need(self, layers: frozenset[Track]) -> None:
        """Note which layers are watched below; `_tell_layers` passes it on."""
        self._needed = frozenset(t.rid for t in layers)
        self._need_changed.set()

    async def _tell_layers(self, uplink: Uplink, link: Link) -> None:
        """Tell the parent which layers we take, when that changes and every now and then.

        The parent's answer tells which layers there are.
        """
        if self._needed:
            self._need_changed.set()
        while True:
            try:
                async with asyncio.timeout(LAYERS_EVERY_S):
                    await self._need_changed.wait()
            except TimeoutError:
                pass
            self._need_changed.clear()
            report = await uplink.take_layers(link, sorted(self._needed))
            if report is not None and self.stream is not None:
                self._layers_known(self.stream, link, report)

    def _layers_known(self, stream: Stream, link: Link, report: list[Layer]) -> None:
        """Take over what the parent says of its layers."""
        now = time.monotonic()
        leg = next((g for g in link.legs if g.format.kind == "video"), None)
        if leg is None or self.pull is not link:
            return
        if len(report) > 1:
            self._extend(stream, replace(leg, layers=tuple(report)))
        by_ssrc = {t.ssrc: t for t in stream.layers}
        for layer in report:
            track = by_ssrc.get(layer.ssrc)
            if track is not None and layer.bitrate_bps:
                track.announced_bps, track.announced_s = layer.bitrate_bps, now
            link.peer.ssrcs.update(n for n in (layer.ssrc, layer.rtx_ssrc) if n)
            if self.pull_source is not None and len(report) > 1:
                self._port.call(self.pull_source.know, leg, layer)

    async def _run_pull(self, uplink: Uplink, path: tuple[str, ...], link: Link) -> None:
        backoff = tree.Backoff()
        gone_s = 0.0
        try:
            while True:
                try:
                    await uplink.connect(link)
                    gone_s = 0.0
                    backoff.reset()
                    telling = asyncio.create_task(self._tell_layers(uplink, link))
                    try:
                        why = await uplink.watch(link.peer)
                    finally:
                        telling.cancel()
                except HandshakeFailed as exc:
                    why = str(exc)
                log.warning("pull-lost stream=%s parent=%s why=%r", self.name, uplink.url, why)
                await uplink.leave(link)
                self.pull = self.pull_source = None
                now = time.monotonic()
                gone_s = gone_s or now
                self.source_gone_s = gone_s
                while self.pull is None:
                    if time.monotonic() - gone_s > REPULL_FOR_S:
                        return
                    await asyncio.sleep(backoff.wait_s(random.random()))
                    try:
                        link = await uplink.pull(self.name, path, tree.ANSWER_WITHIN_S)
                    except Refused as exc:
                        self.pull_refused = exc
                        log.info("pull-refused stream=%s why=%r", self.name, exc.sentence)
                    else:
                        self._attach_pull(link)
        finally:
            if self.pull is not None:
                await uplink.leave(self.pull)
            self.pull = self.pull_source = None

    # ------------------------------------------------------------ push to the parent

    async def start_push(
        self, uplink: Uplink, legs: list[Leg], own_path: tuple[str, ...], publisher: Publisher
    ) -> None:
        """Announce the stream at the parent; Refused when the parent will not have it.

        A parent that is not reached is no reason to refuse the publisher: the push goes on trying
        in the background.
        """
        try:
            within_s = tree.answer_time(own_path[:-1])
            link = await uplink.push(self.name, legs, own_path, publisher.header(), within_s)
        except Refused as exc:
            if exc.status not in (502, 503):
                raise
            log.warning("push-waits stream=%s why=%r", self.name, exc.sentence)
            link = None
        task = asyncio.create_task(
            self._run_push(uplink, legs, own_path, link), name=f"push-{self.name}"
        )
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @property
    def pushing(self) -> bool:
        """Whether a push to the parent is under way."""
        return any(t.get_name() == f"push-{self.name}" for t in self.tasks)

    async def _run_push(
        self, uplink: Uplink, legs: list[Leg], path: tuple[str, ...], link: Link | None
    ) -> None:
        backoff = tree.Backoff()
        try:
            while True:
                if link is not None:
                    backoff.reset()
                    await self._push_until_lost(uplink, link)
                    link = None
                await asyncio.sleep(backoff.wait_s(random.random()))
                publisher = self.last_publisher
                if publisher is None or self.publisher is None:
                    continue
                try:
                    link = await uplink.push(
                        self.name, legs, path, publisher.header(), tree.ANSWER_WITHIN_S
                    )
                except Refused as exc:
                    log.warning("push-refused stream=%s why=%r", self.name, exc.sentence)
                    if exc.status == 409 and self.publisher is not None:
                        # A newer publisher entered elsewhere: ours has been superseded.
                        self.publisher.peer.lost("superseded by a newer publisher elsewhere")
                        return
        finally:
            if link is not None:
                await uplink.leave(link)

    async def _push_until_lost(self, uplink: Uplink, link: Link) -> None:
        stream = self.stream
        assert stream is not None
        viewer = Viewer(stream, link.peer, {g.format.kind: g for g in link.legs}, is_relay=True)
        try:
            await uplink.connect(link)
            link.peer.handler = viewer
            self.push, self.push_viewer = link, viewer
            self._port.call(stream.add_viewer, viewer)
            why = await uplink.watch(link.peer)
        except HandshakeFailed as exc:
            why = str(exc)
        finally:
            self.push = self.push_viewer = None
            self._port.call(stream.remove_viewer, viewer)
            await uplink.leave(link)
        log.warning("push-lost stream=%s parent=%s why=%r", self.name, uplink.url, why)

    # ------------------------------------------------------------ the end

    def over(self, now: float) -> bool:
        """Whether this channel has nothing more to do."""
        if self.publisher is not None or any(s.kind == "whip" for s in self.sessions):
            return False
        if self.pull is not None:
            return self._idle_since_s is not None and now - self._idle_since_s >= self._linger_s
        pulling = any(t.get_name() == f"pull-{self.name}" for t in self.tasks)
        if pulling:
            return self._idle_since_s is not None
        if self.source_gone_s is None:
            return self._idle_since_s is not None and now - self._idle_since_s > 10
        return self.fed_by == "parent" or now - self.source_gone_s >= self._grace_s

    async def end(self, why: str) -> None:
        """End all sessions and uplinks of this channel and tell their peers."""
        if self.stream is not None:
            self._port.call(self.stream.goodbye)
        for session in self.sessions:
            session.peer.why = session.peer.why or why
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.stream is not None:
            self._port.call(self._port.remove_forwarder, self.stream)
        self.ended.set()


def new_ssrc() -> int:
    """A random SSRC (RFC 3550 section 8.1)."""
    return secrets.randbelow(0xFFFFFFFE) + 1


def push_legs(stream: Stream) -> list[Leg]:
    """How this node offers its own tracks to its parent."""
    legs = []
    for index, track in enumerate(stream.tracks.values()):
        fmt = Format(track.kind, track.format.codec, track.format.fmtp)
        layers = egress_layers(stream) if track.kind == "video" else ()
        repair = new_ssrc() if track.kind == "video" else 0
        leg = sdp.node_leg(str(index), fmt, track.ssrc, repair)
        legs.append(replace(leg, layers=layers, rtx_ssrc=leg_repair(layers, track.ssrc) or repair))
    return legs


def egress_layers(stream: Stream, present: tuple[Layer, ...] = ()) -> tuple[Layer, ...]:
    """How the layers of a stream are told to a node; none if there is only one.

    Layers in `present` keep the SSRC that their repeats have.
    """
    if len(stream.layers) < 2:
        return ()
    repairs = {n.ssrc: n.rtx_ssrc for n in present}
    return tuple(
        Layer(t.rid, t.ssrc, repairs.get(t.ssrc) or new_ssrc(), round(t.known_bps))
        for t in stream.layers
    )


def leg_repair(layers: tuple[Layer, ...], ssrc: int) -> int:
    """The SSRC for the repeats of one layer, or 0."""
    return next((n.rtx_ssrc for n in layers if n.ssrc == ssrc), 0)
