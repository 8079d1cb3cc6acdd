"""One live stream at this node: its tracks, its viewers, and the way from one to the other.

A viewer is in one of two places. It *catches up*: it gets packets from the rings, paced, from the
last keyframe on. Or it is *live*: member of a group of viewers whose packets are the same. Besides,
it may *wait* for a keyframe of a layer that it does not get yet; it takes that layer up by
catching up from there, and until then goes on with what it has, be it sound alone.

A picture may have layers. An end viewer gets one of them, under one line of numbers (`lane`); a
node below gets those that it asked for, each under its own numbers.

Everything here runs on the forwarding thread, but for the constructor and the figures, which the
asyncio loop reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Protocol

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Target
from relay.groups import Groups
from relay.layers import Needed, named_in_order
from relay.track import Track
from relay.viewer import Viewer

# A joiner's beginning is paced: this many packets per 5 ms, or eight times the stream's own rate.
CATCH_UP_PACKETS = 24
KEYFRAME_EVERY_S = 1.0
# Encoders make no more than three a second, whoever asks.
URGENT_EVERY_S = 0.25
REPORT_EVERY_S = 2.0
# At ten ticks a second 1,000 viewers are through before the next round.
REPORTS_PER_TICK = 50
TRIAL_REPORT_EVERY_S = 0.5
CHOOSE_EVERY_S = 0.25
# After an estimate that fell: a full line should not wait, nor a thousand estimates cost as many
# choices.
CHOOSE_SOON_S = 0.05
MAX_PENDING = 8192
# A node that leaves a layer out still gets one packet of it this often: SRTP counts the turns of
# the sequence number, and would give one keystream to two packets after a turn unseen. It also
# lies within the jump that the node below takes for the same line of numbers.
SILENT_POSITIONS = 2048
# A layer that a node below asks for begins at once when its keyframe is no older than this.
FRESH_S = 0.3
# Keyframes are spread out for so many viewers of a stream at most: each is served by itself then.
MAX_THIN = 64
# A viewer that is further behind than this, in seconds of picture, waits for the next keyframe.
MAX_BEHIND_S = 1.5
# Encoders start uneven: only an order that stays wrong for this long is changed.
DISORDER_S = 3.0
# A node that changes parents is served from where it stopped if that is no further back.
MAX_RESUME = 1500
# It may be quicker than the first packet that comes here: so long it keeps its place.
COLD_S = 2.0


class Upstream(Protocol):
    """Where a stream's packets come from, as the stream sees it."""

    def ask_keyframe(self, track: Track, now: float, urgent: bool = False) -> None:
        """Send a keyframe request to the publisher or parent.

        `urgent`: many wait for it, and nodes on the way are not to hold it back for a second.
        """

    def tick(self, now: float) -> bool:
        """Ask for what is missing, report; True when more is due within milliseconds."""

    def need(self, layers: frozenset[Track]) -> None:
        """Note that these video layers, and no others, are watched from now on."""

    def retire(self) -> None:
        """Take no more packets: another one feeds the stream from now on."""


class Tap(Protocol):
    """What else takes a stream's packets, besides its viewers: a programme."""

    def take(self, stream: Stream, batch: list[tuple[Track, bytes]], now: float) -> None:
        """Take what has arrived since the last time; the list is not to be changed."""

    def needs(self, stream: Stream) -> frozenset[Track]:
        """The video layers of the stream that it takes."""


class PortSide(Protocol):
    """What a stream needs of the port."""

    fanout: Fanout

    def mark(self, forwarder: Stream) -> None:
        """Have `flush` called."""

    def hurry(self) -> None:
        """Have `tick` called soon."""


class Stream:
    """Tracks, viewers, and counters of what went out (in packets).

    `tracks` has one track for each kind, "audio" and "video"; of a picture with layers it is the
    largest when the stream began, under whose SSRC end viewers get every layer. `layers` has all
    video tracks, the smallest picture first. `ladder` is where those come from that are made here
    on demand (`Track.made_from`).
    """

    def __init__(self, name: str, tracks: list[Track], port: PortSide) -> None:
        self.name = name
        self.tracks = {t.kind: t for t in tracks}
        self.layers = [t for t in tracks if t.kind == "video"]
        self.upstream: Upstream | None = None
        self.ladder: Upstream | None = None
        # Layers that are needed here without a viewer: a recorder reads them from the ring.
        self.held: frozenset[Track] = frozenset()
        self.taps: list[Tap] = []
        self.viewers: set[Viewer] = set()
        self.packets_out = 0
        self.bytes_out = 0
        self._port = port
        self._by_ssrc = {t.ssrc: t for t in tracks}
        self._groups = Groups(self.tracks, self._by_ssrc)
        self._catching_up: list[Viewer] = []
        # Whether a tick is due soon for those.
        self._hurried = False
        self._waiting: set[Viewer] = set()
        # Nodes that told what they have before this one had anything: by when it must come.
        self._resuming: dict[Viewer, float] = {}
        self._thin: list[Viewer] = []
        self._pending: list[tuple[Track, bytes]] = []
        self._sending = False
        self._deferred: list[Callable[[], None]] = []
        self._keyframe_asked_s: dict[Track, float] = {}
        self._keyframe_wanted: dict[Track, float] = {}
        self._report_at_s = 0.0
        self._to_report: list[Viewer] = []
        self._choose_at_s = 0.0
        self._disorder_s = 0.0
        self._trials_at_s = 0.0
        self._needed = Needed[Track]()
        self._told: frozenset[Track] = frozenset()

    @property
    def all_tracks(self) -> list[Track]:
        """Every track, layers included."""
        audio = self.tracks.get("audio")
        return [*([audio] if audio is not None else []), *self.layers]

    def add_layer(self, track: Track) -> None:
        """Let the picture have one more layer, smaller than those that it has."""
        if track.ssrc not in self._by_ssrc:
            self._by_ssrc[track.ssrc] = track
            self.layers = [track, *self.layers]

    def fed_by(self, upstream: Upstream) -> None:
        """Take packets from there from now on; it is told at the next tick what is needed."""
        self.upstream = upstream
        self._told = frozenset()

    def made_by(self, ladder: Upstream | None) -> None:
        """Take the layers that are made on demand from there from now on; None: from nowhere."""
        self.ladder = ladder
        self._told = frozenset()

    def _sort_layers(self, now: float) -> None:
        """Put layers whose names tell no order in that of their bitrates, once that is plain."""
        layers = self.layers
        wrong = not named_in_order([t.rid for t in layers]) and any(
            a.known_bps > 1.5 * b.known_bps > 0 for a, b in pairwise(layers)
        )
        if not wrong:
            self._disorder_s = 0.0
        elif not self._disorder_s:
            self._disorder_s = now
        elif now - self._disorder_s > DISORDER_S and all(t.known_bps for t in layers):
            self.layers = sorted(layers, key=lambda t: t.known_bps)

    # ------------------------------------------------------------ packets

    def push(self, track: Track, kept: bytes) -> None:
        """Take a packet that a track has just kept; it leaves with the next flush."""
        if not self._pending:
            self._port.mark(self)
        if len(self._pending) < MAX_PENDING:
            self._pending.append((track, kept))

    def hurry(self) -> None:
        """Have the next tick soon: something is missing and will have to be asked for."""
        self._port.hurry()

    def flush(self, now: float) -> Iterator[None]:
        """Send what has arrived to all live viewers, in chunks."""
        if self._resuming:
            self._resume(now)
        self._admit(now)
        if self._thin:
            self._spread()
        batch, self._pending = self._pending, []
        if self.taps:
            for tap in list(self.taps):
                tap.take(self, batch, now)
        for track in self._by_ssrc.values():
            track.flushed = track.highest + 1
        self._sending = True
        try:
            for group, packets, shifted, vp8 in self._groups.batches(batch):
                count = len(group.targets)
                self.packets_out += count * len(packets)
                self.bytes_out += count * sum(map(len, packets))
                yield from self._port.fanout.send(group, packets, shifted, vp8)
        finally:
            self._sending = False
            for change in self._deferred:
                change()
            self._deferred.clear()
        if self._waiting:
            self._end_waits(now)

    def resend(self, target: Target, packets: list[bytes]) -> None:
        """Send repeats to one viewer."""
        self.packets_out += len(packets)
        self.bytes_out += sum(map(len, packets))
        self._port.fanout.send_to(target, packets)

    def send_control(self, target: Target, compound: bytes) -> None:
        """Send RTCP to one peer."""
        self._port.fanout.send_rtcp([target], compound)

    # ------------------------------------------------------------ viewers

    def detach(self) -> None:
        """Take nothing more from the present source; what comes next goes on after it."""
        if self.upstream is not None:
            self.upstream.retire()
            self.upstream = None
        for track in self.all_tracks:
            track.numbering.restart()
            track.forget_keyframe()
            track.clock = None

    def have(self) -> dict[int, int]:
        """The last sequence number of each track, by SSRC: what a new parent need not send."""
        return {
            t.numbering.source: t.numbering.source_sequence(t.highest)
            for t in self.tracks.values()
            if t.highest >= 0 and t.numbering.source >= 0
        }

    def add_viewer(
        self, viewer: Viewer, have: dict[int, int] | None = None, now: float | None = None
    ) -> None:
        """Begin to serve a connected viewer.

        A node that comes from another parent tells what it has (`have`, sequence numbers by
        SSRC) and gets everything after that from the ring.
        """
        now = time.monotonic() if now is None else now
        self.viewers.add(viewer)
        self._report_to([viewer], now)
        if viewer.is_relay and have:
            viewer.have = dict(have)
        audio = self.tracks.get("audio")
        if audio is not None and "audio" in viewer.legs:
            self._begin(viewer, audio, now)
        for track in self._first_layers(viewer, now):
            self._begin(viewer, track, now)
        if any(track.highest < 0 for track in viewer.resumes):
            self._resuming[viewer] = now + COLD_S
        self._catching_up.append(viewer)
        self._port.hurry()

    def _begin(self, viewer: Viewer, track: Track, now: float) -> None:
        """Let a viewer have a track: from where it stopped elsewhere, or from its beginning."""
        if track.ssrc in viewer.have:
            if track.highest < 0:
                viewer.resumes.add(track)
                return
            position = track.position_of(viewer.have[track.ssrc]) + 1
            if track.highest - position <= MAX_RESUME:
                viewer.flow.append(track)
                viewer.position[track] = min(position, track.flushed)
                return
        if track.kind == "audio":
            viewer.flow.append(track)
            viewer.position[track] = track.flushed
            return
        start = track.start_position(now)
        if start < 0:
            self._wait(viewer, track, now)
        elif start > track.flushed:
            # The keyframe waits to be sent, behind frames that a joiner could not decode.
            viewer.waits[track] = -1
            self._waiting.add(viewer)
        elif viewer.is_relay:
            viewer.flow.append(track)
            viewer.position[track] = start
        else:
            self._enter(viewer, track, start)

    def _resume(self, now: float) -> None:
        """Go on with nodes that were here before the tracks' first packets, or give that up."""
        for viewer, until in list(self._resuming.items()):
            late = now > until
            ready = [t for t in viewer.resumes if late or t.highest >= 0]
            if ready:
                self._groups.leave(viewer)
                for track in ready:
                    viewer.resumes.discard(track)
                    if track.highest < 0:
                        del viewer.have[track.ssrc]
                    if viewer.takes is None or track.kind == "audio" or track.rid in viewer.takes:
                        self._begin(viewer, track, now)
                self._catch_up(viewer)
            if not viewer.resumes:
                del self._resuming[viewer]

    def _first_layers(self, viewer: Viewer, now: float) -> list[Track]:
        """The video layers that a viewer begins with."""
        if "video" not in viewer.legs or not self.layers:
            return []
        if viewer.is_relay:
            return [t for t in self.layers if viewer.takes is None or t.rid in viewer.takes]
        live = self._live_layers(now)
        # The smallest, for a thin line is not yet known; but nobody waits for a layer that would
        # have to be made first.
        viewer.wanted = next((t for t in live if t.flows(now) or not t.on_demand), live[0])
        viewer.begin(live.index(viewer.wanted), now)
        return [viewer.wanted]

    def _live_layers(self, now: float) -> list[Track]:
        """The layers that there are to choose from; all of them while none arrives."""
        if len(self.layers) == 1:
            return self.layers
        return [t for t in self.layers if t.live(now)] or self.layers

    def remove_viewer(self, viewer: Viewer) -> None:
        """Stop serving a viewer (also one that was never added)."""
        self._change(lambda: self._remove(viewer))

    def _remove(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._waiting.discard(viewer)
        self._resuming.pop(viewer, None)
        viewer.waits.clear()
        self._thin = [v for v in self._thin if v is not viewer]
        if viewer in self._catching_up:
            self._catching_up.remove(viewer)
        self._groups.leave(viewer)

    def _change(self, change: Callable[[], None]) -> None:
        """Change a group now, or when the batch that is being sent to it is through."""
        if self._sending:
            self._deferred.append(change)
        else:
            change()

    def _rejoin(self, viewer: Viewer) -> None:
        """Let a live viewer go to the group that fits it now."""
        if viewer.group is not None:
            self._groups.join(viewer)

    def _catch_up(self, viewer: Viewer) -> None:
        """Serve a viewer from the rings until it can join a group again."""
        self._groups.leave(viewer)
        if viewer not in self._catching_up and viewer in self.viewers:
            self._catching_up.append(viewer)
            self._port.hurry()

    def _admit(self, now: float) -> None:
        """Let those live who have caught up: from here on they get what the others get."""
        still: list[Viewer] = []
        for viewer in self._catching_up:
            if self._caught_up(viewer) and not viewer.held:
                if viewer in self.viewers:
                    self._groups.join(viewer)
            else:
                still.append(viewer)
        self._catching_up = still
        if still and not self._hurried:
            # They were there before the stream's first packets: nothing else would wake the tick.
            self._hurried = True
            self._port.hurry()

    def _spread(self) -> None:
        """Take viewers with thin lines out of their groups when a keyframe begins.

        They get it from the ring, paced, and join again once they have caught up. The ring is
        their queue; `_drop_late` bounds it.
        """
        begun = {t for t in self.layers if t.keyframe_position >= t.flushed}
        for viewer in self._thin:
            if viewer.layer in begun and viewer.group is not None:
                self._catch_up(viewer)

    def _drop_late(self, now: float) -> None:
        """Let a viewer that stays behind have no picture until the next keyframe."""
        for viewer in list(self._catching_up):
            layer = viewer.layer
            if viewer.pace_bps and layer is not None and viewer.behind_s(layer) > MAX_BEHIND_S:
                if not viewer.line.strained:
                    viewer.pace_bps = 0.0
                    continue
                self._drop_picture(viewer)
                if viewer.wanted is not None:
                    viewer.waits.clear()
                    self._wait(viewer, viewer.wanted, now)

    def _caught_up(self, viewer: Viewer) -> bool:
        return all(viewer.position[track] >= track.flushed for track in viewer.flow)

    # ------------------------------------------------------------ layers

    def _wait(self, viewer: Viewer, track: Track, now: float) -> None:
        """Let a viewer wait for the next keyframe of a layer."""
        viewer.waits[track] = track.keyframe_position
        self._waiting.add(viewer)
        self.request_keyframe(now, track)

    def _end_waits(self, now: float) -> None:
        """Let those who waited for a keyframe go on from it."""
        for viewer in list(self._waiting):
            for track, since in list(viewer.waits.items()):
                if since < track.keyframe_position <= track.flushed:
                    self._take_up(viewer, track, now)
            if not viewer.waits:
                self._waiting.discard(viewer)

    def _take_up(self, viewer: Viewer, track: Track, now: float) -> None:
        """Begin a layer at its last keyframe; an end viewer leaves the one that it had."""
        self._groups.leave(viewer)
        start = track.keyframe_position
        del viewer.waits[track]
        if viewer.is_relay:
            viewer.flow.append(track)
            viewer.position[track] = start
        elif not self._enter(viewer, track, start):
            # The keyframe is older than what the viewer has seen.
            self._wait(viewer, track, now)
        self._catch_up(viewer)

    def _enter(self, viewer: Viewer, track: Track, start: int) -> bool:
        before = viewer.layer
        if before is not None:
            viewer.lane.leave(viewer.position[before])
        if viewer.lane.enter(track, start) is None:
            return False
        if before is not None:
            viewer.flow.remove(before)
        viewer.layer = track
        viewer.flow.append(track)
        viewer.position[track] = start
        return True

    def _drop_picture(self, viewer: Viewer) -> None:
        """Sound alone from here on."""
        self._groups.leave(viewer)
        if viewer.layer is not None:
            viewer.lane.leave(viewer.position[viewer.layer])
            viewer.flow.remove(viewer.layer)
            viewer.layer = None
        self._catch_up(viewer)

    def want(self, viewer: Viewer, track: Track | None, now: float) -> None:
        """Let an end viewer go to a layer, None for sound alone."""
        viewer.wanted = track
        viewer.waits.clear()
        self._waiting.discard(viewer)
        present = viewer.layer
        if track is None or (present is not None and self._smaller(track, present)):
            # What fills the line stops at once: the smaller layer's keyframe needs the room.
            self._change(lambda: self._drop_picture(viewer))
        if track is not None and track is not present:
            self._wait(viewer, track, now)

    def _smaller(self, track: Track, than: Track) -> bool:
        return self.layers.index(track) < self.layers.index(than)

    def take(
        self,
        viewer: Viewer,
        rids: Iterable[str],
        now: float | None = None,
        fresh_s: float = FRESH_S,
    ) -> None:
        """Let a node below have these layers, and no others, from their next keyframe on.

        From the last one at once, if that is no older than `fresh_s`.
        """
        now = time.monotonic() if now is None else now
        viewer.takes = frozenset(rids)
        if viewer in self.viewers:
            self._change(lambda: self._take(viewer, now, fresh_s))

    def _take(self, viewer: Viewer, now: float, fresh_s: float) -> None:
        takes = viewer.takes or frozenset()
        gone = [t for t in viewer.flow if t.kind == "video" and t.rid not in takes]
        for track in [t for t in viewer.waits if t.rid not in takes]:
            del viewer.waits[track]
        if gone:
            self._groups.leave(viewer)
            for track in gone:
                viewer.flow.remove(track)
                viewer.silent[track] = viewer.position[track]
            self._catch_up(viewer)
        for track in self.layers:
            held = track in viewer.flow or track in viewer.waits or track in viewer.resumes
            if track.rid in takes and not held:
                if now - track.keyframe_at_s < fresh_s and track.start_position(now) >= 0:
                    viewer.waits[track] = -1
                    self._take_up(viewer, track, now)
                else:
                    self._wait(viewer, track, now)

    def choose_soon(self, now: float) -> None:
        """A line may have become thin: do not wait for the next choice's time."""
        self._choose_at_s = min(self._choose_at_s, now - CHOOSE_EVERY_S + CHOOSE_SOON_S)
        self._port.hurry()

    def _choose(self, now: float) -> None:
        """Find the layer of each end viewer; tell upstream which layers are needed."""
        audio = self.tracks.get("audio")
        for track in self._by_ssrc.values():
            track.sample(now)
        self._sort_layers(now)
        live = self._live_layers(now) if self.layers else []
        rates = [t.known_bps for t in live]
        audio_bps = audio.known_bps if audio is not None else 0.0
        used: set[Track] = set(self.held)
        for tap in self.taps:
            used |= tap.needs(self)
        thin: list[Viewer] = []
        for viewer in self.viewers:
            if "video" not in viewer.legs:
                continue
            if viewer.is_relay:
                self._keep_counting(viewer)
            else:
                if viewer.switch_red(audio_bps, now):
                    self._change(partial(self._rejoin, viewer))
                chosen = viewer.choose(live, rates, audio_bps, now)
                if chosen is not viewer.wanted:
                    self.want(viewer, chosen, now)
                viewer.pace_bps = viewer.pace(audio_bps, now)
                if viewer.pace_bps and len(thin) < MAX_THIN:
                    thin.append(viewer)
                    if viewer.held and viewer.group is not None:
                        self._change(partial(self._catch_up, viewer))
            used.update(viewer.waits)
            used.update(t for t in viewer.resumes if t.kind == "video")
            used.update(t for t in viewer.flow if t.kind == "video")
            for track in viewer.waits:
                self.request_keyframe(now, track)
        self._thin = thin
        self._drop_late(now)
        needed = self._needed.update(used, now)
        if needed != self._told and self.upstream is not None and len(self.layers) > 1:
            self._told = needed
            self.upstream.need(needed)
            if self.ladder is not None:
                self.ladder.need(needed)

    def _keep_counting(self, viewer: Viewer) -> None:
        """Send one packet of a layer that a node leaves out, so that SRTP's count goes on."""
        target = viewer.peer.target
        for track, position in viewer.silent.items():
            if track in viewer.flow or target is None:
                continue
            kept = track.get(track.highest)
            if track.highest - position >= SILENT_POSITIONS and kept is not None:
                viewer.silent[track] = track.highest
                self.resend(target, [rtp.reshape(kept, viewer.shapes["video"])])

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> bool:
        """Serve those who catch up, ask for keyframes and missing packets, send reports."""
        soon = False
        for viewer in self._catching_up:
            target = viewer.peer.target
            if target is None:
                continue
            for track in viewer.flow:
                if viewer.pace_bps and track is viewer.layer:
                    packets = viewer.paced(track, now)
                else:
                    packets = viewer.pending(track, CATCH_UP_PACKETS, now)
                if packets:
                    self.resend(target, packets)
            soon = soon or viewer.held or not self._caught_up(viewer)
        self._hurried = soon
        for track, since in list(self._keyframe_wanted.items()):
            if track.keyframe_at_s > since:
                del self._keyframe_wanted[track]
            elif now - self._keyframe_asked_s.get(track, 0.0) >= KEYFRAME_EVERY_S:
                self.request_keyframe(now, track)
        if now - self._choose_at_s >= CHOOSE_EVERY_S:
            self._choose_at_s = now
            self._choose(now)
        if now - self._report_at_s >= REPORT_EVERY_S:
            self._report_at_s = now
            self._to_report = list(self.viewers)
        if self._to_report:
            # A share in each tick: all at once would hold up the packets of everybody.
            due, self._to_report = (
                self._to_report[:REPORTS_PER_TICK],
                self._to_report[REPORTS_PER_TICK:],
            )
            self._report_to([v for v in due if v in self.viewers], now)
        if now - self._trials_at_s >= TRIAL_REPORT_EVERY_S:
            self._trials_at_s = now
            # The answer to a report tells the round trip, and that tells of a queue.
            self._report_to([v for v in self.viewers if v.on_trial(now)][:MAX_THIN], now)
        for upstream in (self.upstream, self.ladder):
            if upstream is not None:
                soon = upstream.tick(now) or soon
        return soon

    def request_keyframe(
        self,
        now: float,
        track: Track | None = None,
        rtt_s: float = 0.0,
        *,
        urgent: bool = False,
    ) -> None:
        """Pass a keyframe request up, merged: at most one a second and layer leaves this node.

        `urgent`: one in a quarter of a second; for a programme that is about to be switched.
        What came here within `rtt_s` was not known to the viewer when it asked, and answers it.
        A request too soon after the last one waits until its second is up, or a keyframe comes.
        """
        track = track or self.tracks.get("video")
        if track is None:
            return
        upstream = self.upstream if track.made_from is None else self.ladder
        if upstream is None:
            return
        if rtt_s and track.keyframe_at_s > now - rtt_s:
            return
        every_s = URGENT_EVERY_S if urgent else KEYFRAME_EVERY_S
        if now - self._keyframe_asked_s.get(track, 0.0) < every_s:
            self._keyframe_wanted[track] = now
            return
        self._keyframe_asked_s[track] = now
        self._keyframe_wanted.pop(track, None)
        upstream.ask_keyframe(track, now, urgent)

    def _report_to(self, viewers: list[Viewer], now: float) -> None:
        """Send the sender reports of all tracks, in the publisher's time (RFC 3550 6.4.1)."""
        made: dict[object, bytes] = {}
        to: dict[bytes, list[Target]] = {}
        for viewer in viewers:
            target = viewer.peer.target
            if target is None:
                continue
            splice = None if viewer.is_relay else viewer.lane.current
            key = (viewer.is_relay, splice and (splice.track.ssrc, splice.timestamp))
            if key not in made:
                made[key] = self._reports(viewer, now)
            to.setdefault(made[key], []).append(target)
        for compound, targets in to.items():
            if compound:
                self._port.fanout.send_rtcp(targets, compound)

    def _reports(self, viewer: Viewer, now: float) -> bytes:
        compound = b""
        splice = None if viewer.is_relay else viewer.lane.current
        tracks = self.all_tracks if viewer.is_relay else list(self.tracks.values())
        for track in tracks:
            source, added = track, 0
            if splice is not None and track.kind == "video":
                source, added = splice.track, splice.timestamp
            clock = source.sender_clock(now)
            if clock is not None:
                timestamp = clock[1] + added & 0xFFFFFFFF
                compound += rtcp.sender_report(
                    track.ssrc, clock[0], timestamp, source.packets, source.bytes
                ) + rtcp.sdes_cname(track.ssrc, self.name)
        return compound

    def goodbye(self) -> None:
        """Tell all viewers that the tracks end (RTCP BYE)."""
        # An empty receiver report opens the compound (RFC 3550 section 6.1).
        compound = rtcp.receiver_report(0, []) + rtcp.bye([t.ssrc for t in self.all_tracks][:31])
        targets = [v.peer.target for v in self.viewers if v.peer.target is not None]
        self._port.fanout.send_rtcp(targets, compound)

    def track_of_ssrc(self, ssrc: int) -> Track | None:
        """The track that has an SSRC."""
        return self._by_ssrc.get(ssrc)

    def clock_changed(self) -> None:
        """The relation of RTP to NTP time has changed: tell everybody at the next tick."""
        self._report_at_s = 0.0
