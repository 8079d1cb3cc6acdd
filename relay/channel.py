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
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from relay import sdp, tree
from relay.errors import HandshakeFailed, Refused
from relay.ladder import Ladder
from relay.parents import Parent, Parents
from relay.peer import CLOSED, Peer
from relay.programme import Programme
from relay.pull import Puller
from relay.sdp import Format, Layer, Leg
from relay.source import Source
from relay.stream import Stream
from relay.track import Track
from relay.uplink import Link
from relay.viewer import Viewer

if TYPE_CHECKING:
    from relay.port import Port

log = logging.getLogger("relay.channel")

# RFC 7675 section 5.1: consent expires 30 s after the last authenticated packet.
CONSENT_S = 30.0
# No packet for this long: the publisher is there but silent.
SILENT_S = 3.0
GOODBYE = "the client said goodbye"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who publishes and since when, the same for every node that the stream is pushed to."""

    subject: str
    since_ms: int

    @classmethod
    def parse(cls, header: str, subject: str, now_ms: int) -> Publisher:
        """Read what a pushing node says, `<milliseconds> <subject>`; Refused 400 if malformed."""
        since, _, name = header.partition(" ")
        if not since.isascii() or not since.isdecimal() or len(since) > 15 or len(name) > 200:
            raise Refused(400, f"The {tree.PUBLISHER_HEADER} header is malformed.")
        return cls(name or subject, min(int(since), now_ms + 60_000))

    def header(self) -> str:
        """The form that goes up the tree; only printable ASCII may stand in a header."""
        subject = "".join(c if 32 <= ord(c) < 127 else "?" for c in self.subject)
        return f"{self.since_ms} {subject}"


class Layers(StrEnum):
    """What of a picture is pushed up on demand: its smallest layer, or all that there are."""

    LOW = "low"
    FULL = "full"


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
    ladder: Ladder | None = None
    relay_id: str = ""
    have: dict[int, int] = field(default_factory=dict)
    answer: str = ""
    started_s: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None

    def forget_task(self, _: object) -> None:
        """Be freed at once: a cancelled task knows its frame, which knows the session.

        The garbage collector would leave a hundred of them lying, each with 60 kB of cipher and
        handshake state that it does not see.
        """
        self.task = None


class Channel:
    """See the module."""

    def __init__(self, name: str, port: Port, linger_s: float, grace_s: float) -> None:
        self.name = name
        self.stream: Stream | None = None
        self.publisher: Session | None = None
        self.last_publisher: Publisher | None = None
        self.puller: Puller | None = None
        self.last_pull_source: Source | None = None
        self.push: Link | None = None
        # Kept at this node, where it enters, but for as long as it is `raised`.
        self.on_demand = False
        self.raised: Layers | None = None
        # The node below says that the publisher is there.
        self.announced = False
        self.ladder: Session | None = None
        self.programme: Programme | None = None
        self.on_air = asyncio.Event()
        self.sessions: set[Session] = set()
        self.fed_by = ""
        self.source_gone_s: float | None = None
        # The last publisher left by its own wish, and was not lost.
        self.said_goodbye = False
        self.ended = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()
        self._pulling: asyncio.Task[None] | None = None
        self._pushing: asyncio.Task[None] | None = None
        self._pushed: Viewer | None = None
        self._port = port
        self._linger_s = linger_s
        self._grace_s = grace_s
        self._idle_since_s: float | None = time.monotonic()

    # ------------------------------------------------------------ tracks

    def use_formats(self, legs: list[Leg], *, entering: bool = False) -> Stream:
        """The stream for these legs: the present one if it has the same tracks, else a new one.

        `entering`: they are of a publisher here, not of another node (see `extend`).

        A change of codec cannot be told to a viewer within its session: the viewers of the old
        stream are ended and come again by themselves.
        """
        stream = self.stream
        wanted = {leg.format.kind: leg.format.codec for leg in legs}
        if stream is not None:
            present = {kind: track.format.codec for kind, track in stream.tracks.items()}
            if wanted == present:
                for leg in legs:
                    self.extend(stream, leg, entering=entering)
                return stream
            log.info("formats-changed stream=%s from=%s to=%s", self.name, present, wanted)
            self.end_viewers("the broadcast changed its format")
            self.end_ladder("the broadcast changed its format")
            self._port.call(self._port.remove_forwarder, stream)
        tracks = [
            Track(leg.format, layer.ssrc or self.new_ssrc(), layer.rid)
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

    def extend(self, stream: Stream, leg: Leg, *, entering: bool = False) -> None:
        """Let a stream have the layers of a leg that it does not have yet.

        Between nodes a layer is known by its SSRC. One that is `entering` here may name its layers
        otherwise than the last one did: the tracks that there are take the new names, the largest
        picture first.
        """
        if not leg.layers:
            return
        main = stream.tracks[leg.format.kind]
        if not main.rid:
            # A picture that had one layer: that is the largest of those to come.
            main.rid = leg.layers[-1].rid
        known = {t.rid for t in stream.layers}
        by_ssrc = {t.ssrc: t for t in stream.layers}
        names = {layer.rid for layer in leg.layers}
        free = [t for t in reversed(stream.layers) if entering and t.rid not in names]
        for layer in reversed(leg.layers):
            same = by_ssrc.get(layer.ssrc)
            if same is not None:
                same.rid = layer.rid
            elif layer.rid in known:
                continue
            elif free:
                free.pop(0).rid = layer.rid
            else:
                track = Track(main.format, layer.ssrc or self.new_ssrc(), layer.rid)
                self._port.call(stream.add_layer, track)

    def end_ladder(self, why: str) -> None:
        """Do without the layers that a ladder makes; it may come again by itself."""
        session, self.ladder = self.ladder, None
        if session is not None and session.ladder is not None:
            self._port.call(session.ladder.end)
            session.peer.why = session.peer.why or why
            if session.task is not None:
                session.task.cancel()

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
        programme = self.on_programme
        if programme is not None:
            silent_s = time.monotonic() - programme.last_media_s
            return "live" if silent_s < SILENT_S else "waiting"
        source = self.source
        if source is None:
            return "waiting" if self.source_gone_s is not None else "starting"
        if not source.last_media_s:
            return "starting"
        return "live" if time.monotonic() - source.last_media_s < SILENT_S else "waiting"

    @property
    def source(self) -> Source | None:
        """What feeds the channel now; None for a programme, which other streams feed."""
        if self.on_programme is not None:
            return None
        if self.publisher is not None:
            return self.publisher.source
        return self.puller.source if self.puller is not None else None

    @property
    def on_programme(self) -> Programme | None:
        """The programme that feeds the channel now, if one does."""
        programme = self.programme
        return programme if programme is not None and programme.source else None

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
        runs = {"whip": self._run_publisher, "whep": self._run_viewer, "ladder": self._run_ladder}
        run = runs[session.kind]
        session.task = asyncio.create_task(run(session), name=f"{session.kind}-{session.id}")
        self.tasks.add(session.task)
        session.task.add_done_callback(self._task_ended)
        session.task.add_done_callback(session.forget_task)

    async def _run_viewer(self, session: Session) -> None:
        peer, viewer = session.peer, session.viewer
        assert viewer is not None
        stream = viewer.stream
        try:
            await peer.connect()
            self._port.call(peer.serve, viewer)
            self._port.call(stream.add_viewer, viewer, session.have)
            await peer.closed.wait()
        except HandshakeFailed as exc:
            peer.why = str(exc)
        finally:
            self._port.call(stream.remove_viewer, viewer)
            await self._close(session)

    async def _run_ladder(self, session: Session) -> None:
        peer, ladder = session.peer, session.ladder
        assert ladder is not None
        try:
            await peer.connect()
            self._port.call(ladder.begin)
            await peer.closed.wait()
        except HandshakeFailed as exc:
            peer.why = str(exc)
        finally:
            self._port.call(ladder.end)
            if self.ladder is session:
                self.ladder = None
            await self._close(session)

    async def _run_publisher(self, session: Session) -> None:
        peer, source = session.peer, session.source
        assert source is not None
        try:
            await peer.connect()
            before = self.publisher
            if self._pulling is not None:
                # The stream now comes from here; what the parent sends would be other numbers.
                self._pulling.cancel()
                self._pulling = self.puller = None
            if source.layered:
                self.end_ladder("the publisher sends layers of its own")
            # A node that pushes again goes on in the line of the same publisher.
            anew = session.publisher != self.last_publisher
            self.publisher, self.last_publisher = session, session.publisher
            self.said_goodbye = False
            self.source_gone_s, self.fed_by = None, "push" if session.relay_id else "publisher"
            self._port.call(source.attach, None, anew)
            self.on_air.set()
            if before is not None and before.task is not None:
                before.peer.why = "replaced by a newer publisher"
                before.task.cancel()
            await peer.closed.wait()
        except HandshakeFailed as exc:
            peer.why = str(exc)
        finally:
            if self.publisher is session:
                self.publisher = None
                if self.on_programme is None:
                    self.said_goodbye = peer.why in (GOODBYE, CLOSED)
                    self.source_gone_s = time.monotonic()
            elif not self.fed_by and not any(s.kind == "whip" for s in self.sessions - {session}):
                # Nobody has ever been on air here: who waits had better ask the parent.
                self.fed_by, self.source_gone_s = "nobody", time.monotonic()
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

    # ------------------------------------------------------------ a programme

    def begin_programme(self) -> None:
        """Note that other streams feed this one; a publisher that is here stays, and waits."""
        self.fed_by, self.source_gone_s, self.said_goodbye = "programme", None, False
        self.on_air.set()

    def drop_programme(self) -> None:
        """Let go of a programme that has nothing to show; a channel made for it ends."""
        if self.on_programme is not None:
            return
        self.programme = None
        if not self.fed_by and not any(s.kind == "whip" for s in self.sessions):
            self.fed_by, self.source_gone_s = "nobody", time.monotonic()

    def leave_programme(self) -> None:
        """Give the stream back to its publisher: to the one who waits, or who comes next."""
        if self.programme is None:
            return
        programme, self.programme = self.programme, None
        if self.stream is not None:
            self._port.call(self.stream.detach)
        self.fed_by, session = "publisher", self.publisher
        source = session.source if session is not None else None
        if source is not None and source.stream is self.stream:
            self._port.call(source.attach, None, True)
            return
        self.source_gone_s = time.monotonic()
        # Its director took it off the air, as a publisher does by its own wish.
        self.said_goodbye = bool(programme.source)
        if session is not None and session.task is not None:
            session.peer.why = session.peer.why or "the broadcast changed its format"
            session.task.cancel()

    # ------------------------------------------------------------ pull from a parent

    async def start_pull(
        self, parents: Parents, path: tuple[str, ...], have: dict[int, int]
    ) -> None:
        """Ask the parents for the stream; returns when viewers can be answered, or Refused."""
        puller = Puller(self, parents, path, have)
        await puller.start()
        self.puller = puller
        self._pulling = self.spawn(puller.run(), "pull")

    @property
    def pulled(self) -> bool:
        """Whether a pull from a parent is under way."""
        return self._pulling is not None and not self._pulling.done()

    def attach_pull(self, source: Source, before: Source | None) -> None:
        """Let a pull feed the stream; what `before` was asking for is asked of it from now on."""
        self.fed_by, self.source_gone_s, self.last_pull_source = "parent", None, source
        self._port.call(source.attach, before)

    def run(self, function: Callable[..., object], *args: object) -> None:
        """Run something on the forwarding thread."""
        self._port.call(function, *args)

    def spawn(self, work: Coroutine[object, object, None], what: str) -> asyncio.Task[None]:
        """Run something for this channel, ended with it."""
        task = asyncio.create_task(work, name=f"{what}-{self.name}")
        self.tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("task-failed task=%s", task.get_name(), exc_info=fault)

    @staticmethod
    def new_ssrc() -> int:
        """A random SSRC (RFC 3550 section 8.1)."""
        return secrets.randbelow(0xFFFFFFFE) + 1

    # ------------------------------------------------------------ push to the parent

    async def start_push(
        self, parents: Parents, legs: list[Leg], own_path: tuple[str, ...], publisher: Publisher
    ) -> None:
        """Announce the stream at a parent; Refused when the parent will not have it.

        A parent that is not reached is no reason to refuse the publisher: the push goes on trying
        in the background.
        """
        link: tuple[Parent, Link] | None = None
        try:
            within_s = tree.answer_time(own_path[:-1])
            link = await self._ask_push(parents, legs, own_path, publisher, within_s)
        except Refused as exc:
            if exc.status not in (502, 503):
                raise
            log.warning("push-waits stream=%s why=%r", self.name, exc.sentence)
        self._pushing = self.spawn(self._run_push(parents, legs, own_path, link), "push")

    @property
    def pushing(self) -> bool:
        """Whether a push to a parent is under way."""
        return self._pushing is not None and not self._pushing.done()

    async def _ask_push(
        self,
        parents: Parents,
        legs: list[Leg],
        path: tuple[str, ...],
        publisher: Publisher,
        within_s: float,
    ) -> tuple[Parent, Link]:
        refused: Refused | None = None
        for parent in parents.in_order(time.monotonic()):
            try:
                link = await parent.uplink.push(
                    self.name, legs, path, publisher.header(), within_s,
                    on_air=self.announced or self.on_air.is_set(),
                )  # fmt: skip
            except Refused as exc:
                if exc.status not in (502, 503):
                    raise
                parent.failed()
                refused = exc
            else:
                return parent, link
        raise refused or Refused(503, "This node has no parent that could be asked.", 2)

    async def _run_push(
        self,
        parents: Parents,
        legs: list[Leg],
        path: tuple[str, ...],
        pushed: tuple[Parent, Link] | None,
    ) -> None:
        backoff = tree.Backoff()
        while True:
            if pushed is not None:
                backoff.reset()
                await self._push_until_lost(*pushed)
                pushed = None
            await asyncio.sleep(backoff.wait_s(random.random()))
            publisher = self.last_publisher
            if publisher is None:
                continue
            try:
                within_s = tree.ANSWER_WITHIN_S
                pushed = await self._ask_push(parents, legs, path, publisher, within_s)
            except Refused as exc:
                log.warning("push-refused stream=%s why=%r", self.name, exc.sentence)
                if exc.status == 409:
                    await self._follow(parents, path[-1:])
                    return

    def raise_up(self, parents: Parents, node_id: str, layers: Layers) -> None:
        """Push a stream that is kept here, in these layers from now on."""
        self.raised = layers
        if not self.on_demand:
            return
        if not self.pushing:
            self._pushing = self.spawn(self._raise(parents, (node_id,)), "push")
        elif self._pushed is not None and self.stream is not None:
            self._port.call(self.stream.take, self._pushed, self._lifted(self.stream))

    def lower(self) -> None:
        """Keep it here again."""
        self.raised = None
        if self.on_demand and self._pushing is not None:
            self._pushing.cancel()
            self._pushing = None

    async def _raise(self, parents: Parents, path: tuple[str, ...]) -> None:
        """The owner task of a push on demand."""
        await self.on_air.wait()
        stream, publisher = self.stream, self.last_publisher
        if stream is None or publisher is None:
            return
        # Its numbers have gone on since it was raised last. A newer publisher's begin anew, so that
        # the nodes above do not ask for what they were never to have.
        now_ms = int(time.time() * 1000)
        renewed = replace(publisher, since_ms=max(now_ms, publisher.since_ms + 1))
        self.last_publisher = renewed
        if self.publisher is not None:
            self.publisher.publisher = renewed
        legs, pushed = push_legs(stream, self._lifted(stream)), None
        try:
            within_s = tree.ANSWER_WITHIN_S
            pushed = await self._ask_push(parents, legs, path, renewed, within_s)
        except Refused as exc:
            log.warning("raise-waits stream=%s why=%r", self.name, exc.sentence)
        await self._run_push(parents, legs, path, pushed)

    def _ask_keyframes(self, stream: Stream) -> None:
        """Have keyframes made of what is pushed (on the forwarding thread)."""
        now, rids = time.monotonic(), self._lifted(stream)
        for track in stream.layers:
            if track.rid in rids:
                stream.request_keyframe(now, track, urgent=True)

    def _lifted(self, stream: Stream) -> frozenset[str]:
        """The layers that the parent is to have."""
        # What a ladder makes here stays here and below: the parent may have a ladder of its own.
        lasting = lasting_layers(stream)
        if self.on_demand and self.raised is not Layers.FULL:
            lasting = lasting[:1]
        return frozenset(t.rid for t in lasting)

    async def _follow(self, parents: Parents, path: tuple[str, ...]) -> None:
        """A newer publisher entered elsewhere: from here on the stream comes from the parent.

        Viewers keep their sessions; with none the channel ends, and the next one pulls.
        """
        if self.publisher is not None:
            self.publisher.peer.lost("superseded by a newer publisher elsewhere")
        self.end_ladder("the stream comes from the parent now")
        stream, refused = self.stream, None
        if stream is not None and self.viewers:
            self._port.call(stream.detach)
            await self._port.finished()
            self.last_pull_source = None
            self.on_air.clear()
            try:
                await self.start_pull(parents, path, {})
            except Refused as exc:
                refused = exc
            else:
                return
        log.info("not-followed stream=%s why=%r", self.name, refused and refused.sentence)
        self.fed_by, self.source_gone_s = "parent", self.source_gone_s or time.monotonic()

    async def _push_until_lost(self, parent: Parent, link: Link) -> None:
        stream = self.stream
        assert stream is not None
        uplink = parent.uplink
        viewer = Viewer(stream, link.peer, {g.format.kind: g for g in link.legs}, is_relay=True)
        viewer.takes = frozenset() if self.on_demand else self._lifted(stream)
        try:
            # Until the publisher is really there, the parent keeps the one it has.
            if not self.announced:
                await self.on_air.wait()
            if self.on_demand:
                # By the time that the parent is reached the keyframe is here.
                self._port.call(self._ask_keyframes, stream)
            await uplink.connect(link)
            log.info("push-begin stream=%s parent=%s", self.name, uplink.url)
            self._port.call(link.peer.serve, viewer)
            self.push, self._pushed = link, viewer
            self._port.call(stream.add_viewer, viewer)
            if self.on_demand:
                # Who waits for it wants it as it is now: from a keyframe that is fresh.
                self._port.call(stream.take, viewer, self._lifted(stream))
            why = await uplink.watch(link.peer, lambda: parent.link_broken_s)
            parent.failed()
        except HandshakeFailed as exc:
            parent.failed()
            why = str(exc)
        finally:
            self.push = self._pushed = None
            self._port.call(stream.remove_viewer, viewer)
            await asyncio.shield(uplink.leave(link))
        log.warning("push-lost stream=%s parent=%s why=%r", self.name, uplink.url, why)

    # ------------------------------------------------------------ the end

    def over(self, now: float) -> bool:
        """Whether this channel has nothing more to do."""
        programme = self.on_programme
        if programme is not None:
            # Its source may be gone for long; not all who watch as well.
            silent_s = now - programme.last_media_s
            return not self.sessions and silent_s >= self._grace_s
        if self.publisher is not None or any(s.kind == "whip" for s in self.sessions):
            return False
        if self.pulled:
            lingers = self.puller is not None and self.puller.pull is not None
            linger_s = self._linger_s if lingers else 0.0
            return self._idle_since_s is not None and now - self._idle_since_s >= linger_s
        if self.source_gone_s is None:
            return self._idle_since_s is not None and now - self._idle_since_s > 10
        waits = self.fed_by in ("publisher", "push")
        return not waits or now - self.source_gone_s >= self._grace_s

    async def end(self, why: str) -> None:
        """End all sessions and uplinks of this channel and tell their peers."""
        if self.stream is not None:
            self._port.call(self.stream.goodbye)
        if self.programme is not None:
            self._port.call(self.programme.retire)
        for session in self.sessions:
            session.peer.why = session.peer.why or why
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.stream is not None:
            self._port.call(self._port.remove_forwarder, self.stream)
        self.ended.set()


def push_legs(stream: Stream, lifted: frozenset[str] | None = None) -> list[Leg]:
    """How this node offers its own tracks to its parent.

    `lifted` are the layers that it will get, None for all: a layer that does not come has no
    bitrate.
    """
    legs = []
    for index, track in enumerate(stream.tracks.values()):
        fmt = Format(track.kind, track.format.codec, track.format.fmtp)
        layers = egress_layers(lasting_layers(stream)) if track.kind == "video" else ()
        if lifted is not None:
            layers = tuple(n if n.rid in lifted else replace(n, bitrate_bps=0) for n in layers)
        repair = Channel.new_ssrc() if track.kind == "video" else 0
        leg = sdp.node_leg(str(index), fmt, track.ssrc, repair)
        legs.append(replace(leg, layers=layers, rtx_ssrc=leg_repair(layers, track.ssrc) or repair))
    return legs


def lasting_layers(stream: Stream) -> list[Track]:
    """The layers of a stream that flow whether they are watched or not."""
    return [t for t in stream.layers if not t.on_demand]


def egress_layers(tracks: list[Track], present: tuple[Layer, ...] = ()) -> tuple[Layer, ...]:
    """How the layers of a stream are told to a node; none if there is only one.

    Layers in `present` keep the SSRC that their repeats have.
    """
    if len(tracks) < 2:
        return ()
    repairs = {n.ssrc: n.rtx_ssrc for n in present}
    return tuple(
        Layer(t.rid, t.ssrc, repairs.get(t.ssrc) or Channel.new_ssrc(), round(t.known_bps))
        for t in tracks
    )


def leg_repair(layers: tuple[Layer, ...], ssrc: int) -> int:
    """The SSRC for the repeats of one layer, or 0."""
    return next((n.rtx_ssrc for n in layers if n.ssrc == ssrc), 0)
