"""The lower layers of a picture that came in one: made by a ladder beside this node, on demand.

A publisher without simulcast sends one picture. `terrace ladder` is a peer with two video sections:
on one it gets that picture from us, on the other it sends smaller ones, which become layers of the
stream like those of a browser. The origin's numbering holds for them as for any track.

Nothing flows either way until somebody watches such a layer. Then the ladder gets the picture from
its last keyframe on, and is told by REMB which SSRCs are wanted; it makes those and no others, and
stops when it has not been told so for some seconds. It keeps the picture's timestamps, so that the
picture's sender reports tell the clock of its layers as well.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from relay import rtcp
from relay.sdp import Leg
from relay.source import Source
from relay.track import MAX_KEYFRAME_AGE_S, Track
from relay.viewer import Viewer

if TYPE_CHECKING:
    from relay.peer import Peer
    from relay.stream import Stream

# What a ladder is to make it is told this often, so that a lost report costs little.
TELL_EVERY_S = 1.0
# A ladder that gets the picture and sends nothing for so long stands still: its viewers do, too.
STALLED_S = 3.0
# It sends a check every 2.5 s (uplink.py); three lost in a row are a dead process.
SILENT_S = 8.0
FEEDS_S = 0.5


class Ladder:
    """A ladder's connection: its peer's media handler, and the upstream of its layers.

    `picture` is the leg on which we send, `made` the one with its layers, `ssrc` our own for
    reports. Belongs to the forwarding thread from `begin` to `end`.
    """

    def __init__(self, stream: Stream, peer: Peer, picture: Leg, made: Leg, ssrc: int) -> None:
        self.stream = stream
        self.peer = peer
        self.source = Source(stream, peer, [made], ssrc, estimate=False, from_node=True)
        self.viewer = Viewer(stream, peer, {"video": picture}, is_relay=True)
        self.viewer.takes = frozenset()
        self.tracks: tuple[Track, ...] = ()
        self._picture = stream.tracks["video"]
        self._made = made
        self._wanted: frozenset[Track] = frozenset()
        self._told_s = 0.0
        self._fed_s = 0.0
        self._given_up = False
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Let the stream have the layers."""
        if self._given_up:
            return
        by_rid = {t.rid: t for t in self.stream.layers}
        known = [(n, by_rid[n.rid]) for n in self._made.layers if n.rid in by_rid]
        self.tracks = tuple(track for _, track in known)
        for layer, track in known:
            track.made_from, track.on_demand = self._picture, True
            track.announced_bps = layer.bitrate_bps
            # Another ladder's numbers have nothing to do with these; the time is the picture's.
            track.numbering.restart()
            track.numbering.keeps_time = True
            track.forget_keyframe()
            self.source.know(self._made, layer)
        self.stream.made_by(self)
        self.stream.add_viewer(self.viewer)
        self.peer.serve(self)

    def end(self) -> None:
        """Take the layers out of the choice; who watches one goes elsewhere. May come twice."""
        self._given_up = True
        self.stream.remove_viewer(self.viewer)
        if self.stream.ladder is self:
            self.stream.made_by(None)
            for track in self.tracks:
                track.made_from, track.on_demand = None, False
                track.clock = None

    # ------------------------------------------------------------ media handler

    def on_rtp(self, data: bytes, now: float) -> None:
        """One packet of a layer."""
        self.source.on_rtp(data, now)
        self._align()

    def on_rtcp(self, data: bytes, now: float) -> None:
        """Reports and requests of the ladder for the picture that it gets."""
        self.viewer.on_rtcp(data, now)

    def _align(self) -> None:
        """Let each layer that has begun have the picture's clock."""
        for track in self.tracks:
            if track.numbering.begun:
                track.clock = self._picture.clock

    # ------------------------------------------------------------ upstream

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        """Have a layer's next picture be a keyframe."""
        self.source.ask_keyframe(track, now, urgent)

    def retire(self) -> None:
        """Take no more of its packets."""
        self.source.retire()

    def need(self, layers: frozenset[Track]) -> None:
        """Have these layers made, and no others; with none of them the picture stops as well."""
        wanted = layers.intersection(self.tracks)
        if wanted == self._wanted:
            return
        now = time.monotonic()
        if bool(wanted) != bool(self._wanted):
            self._fed_s = now
            rids = [self._picture.rid] if wanted else []
            # The decoder is far quicker than the picture: it may begin at an old keyframe.
            self.stream.take(self.viewer, rids, now, fresh_s=MAX_KEYFRAME_AGE_S)
        self._wanted = wanted
        self._tell(now)

    def tick(self, now: float) -> bool:
        """Ask for what is missing, tell what is wanted, and notice a ladder that stands still."""
        soon = self.source.tick(now)
        if now - self._told_s >= TELL_EVERY_S:
            self._tell(now)
        if now - self.peer.last_heard_s > SILENT_S:
            self._give_up("the ladder no longer answers")
        elif self._stalled(now):
            self._give_up("the ladder delivers nothing")
        return soon

    def _tell(self, now: float) -> None:
        self._told_s = now
        target = self.peer.target
        if target is None:
            return
        wanted = [n for n in self._made.layers if any(t.rid == n.rid for t in self._wanted)]
        bitrate_bps = sum(n.bitrate_bps for n in wanted)
        report = rtcp.receiver_report(self.source.ssrc, [])
        report += rtcp.remb(self.source.ssrc, bitrate_bps, [n.ssrc for n in wanted])
        self.stream.send_control(target, report)

    def _stalled(self, now: float) -> bool:
        """Whether it has had the picture for long and sent nothing of it."""
        flows = now - self._picture.last_arrival_s < FEEDS_S
        if not self._wanted or not flows or self._picture not in self.viewer.flow:
            self._fed_s = now
        return now - max(self._fed_s, self.source.last_media_s) > STALLED_S

    def _give_up(self, why: str) -> None:
        if not self._given_up:
            self._given_up = True
            self._loop.call_soon_threadsafe(self.peer.lost, why)

    # ------------------------------------------------------------ figures

    def figures(self) -> dict[str, object]:
        """For people (any thread): what it makes now, of what it can make."""
        return {
            "layers": [t.rid for t in self.tracks],
            "making": sorted(t.rid for t in self._wanted),
            "bytes_in": self.source.bytes,
            "rtt_ms": round(1000 * self.viewer.rtt_s, 2),
        }
