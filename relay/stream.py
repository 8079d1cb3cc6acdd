"""One live stream at this node: its tracks, its viewers, and the way from one to the other.

A viewer is in one of three places. It *catches up*: it gets packets from the ring, paced, from the
last keyframe on. It is *live*: member of a group of viewers whose packets are the same. Or it
*waits* for a keyframe: then it is live for sound only.

Everything here runs on the forwarding thread, but for the constructor and the figures, which the
asyncio loop reads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol

from relay import packet as rtp
from relay import rtcp
from relay.fanout import Fanout, Group, Target
from relay.packet import Shape
from relay.track import Track
from relay.viewer import Viewer

# A joiner's beginning is paced: this many packets per 5 ms, or eight times the stream's own rate.
CATCH_UP_PACKETS = 24
KEYFRAME_EVERY_S = 1.0
REPORT_EVERY_S = 2.0
MAX_PENDING = 8192
# A node that changes parents is served from where it stopped if that is no further back.
MAX_RESUME = 1500

GroupKey = tuple[Shape | None, Shape | None, int]


class Upstream(Protocol):
    """Where a stream's packets come from, as the stream sees it."""

    def ask_keyframe(self, track: Track, now: float) -> None:
        """Send a keyframe request to the publisher or parent."""

    def tick(self, now: float) -> bool:
        """Ask for what is missing, report; True when more is due within milliseconds."""

    def retire(self) -> None:
        """Take no more packets: another one feeds the stream from now on."""


class PortSide(Protocol):
    """What a stream needs of the port."""

    fanout: Fanout

    def mark(self, forwarder: Stream) -> None:
        """Have `flush` called."""

    def hurry(self) -> None:
        """Have `tick` called soon."""


class Stream:
    """Tracks by kind ("audio", "video"), viewers, and counters of what went out (in packets)."""

    def __init__(self, name: str, tracks: list[Track], port: PortSide) -> None:
        self.name = name
        self.tracks = {t.kind: t for t in tracks}
        self.upstream: Upstream | None = None
        self.viewers: set[Viewer] = set()
        self.packets_out = 0
        self.bytes_out = 0
        self._port = port
        self._by_ssrc = {t.ssrc: t for t in tracks}
        self._groups: dict[GroupKey, Group] = {}
        self._catching_up: list[Viewer] = []
        self._waiting: dict[Viewer, int] = {}
        self._pending: list[tuple[str, bytes]] = []
        self._sending = False
        self._deferred: list[Callable[[], None]] = []
        self._keyframe_asked_s = 0.0
        self._keyframe_wanted = False
        self._report_at_s = 0.0

    # ------------------------------------------------------------ packets

    def push(self, kind: str, kept: bytes) -> None:
        """Take a packet that a track has just kept; it leaves with the next flush."""
        if not self._pending:
            self._port.mark(self)
        if len(self._pending) < MAX_PENDING:
            self._pending.append((kind, kept))

    def hurry(self) -> None:
        """Have the next tick soon: something is missing and will have to be asked for."""
        self._port.hurry()

    def flush(self, now: float) -> Iterator[None]:
        """Send what has arrived to all live viewers, in chunks."""
        self._admit(now)
        batch, self._pending = self._pending, []
        for track in self.tracks.values():
            track.flushed = track.highest + 1
        self._sending = True
        try:
            for (audio, video, _), group in list(self._groups.items()):
                shapes = {"audio": audio, "video": video}
                packets = [
                    rtp.reshape(kept, shape)
                    for kind, kept in batch
                    if (shape := shapes[kind]) is not None
                ]
                if packets and group.targets:
                    count = len(group.targets)
                    self.packets_out += count * len(packets)
                    self.bytes_out += count * sum(map(len, packets))
                    yield from self._port.fanout.send(group, packets)
        finally:
            self._sending = False
            for change in self._deferred:
                change()
            self._deferred.clear()
        if self._waiting:
            self._end_waits()

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
        for track in self.tracks.values():
            track.numbering.restart()
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
        for kind, track in self.tracks.items():
            viewer.position[kind] = track.flushed
        self._report_to([viewer], now)
        video = self.tracks.get("video")
        if have and self._resume(viewer, have):
            self._catching_up.append(viewer)
            self._port.hurry()
            return
        if video is not None and "video" in viewer.legs:
            start = video.start_position(now)
            if start < 0:
                self._wait(viewer, video.keyframe_position)
                self.request_keyframe(now)
                return
            if start > video.flushed:
                # The keyframe waits to be sent, behind frames that a joiner could not decode.
                self._wait(viewer, -1)
                return
            viewer.position["video"] = start
        self._catching_up.append(viewer)
        self._port.hurry()

    def _resume(self, viewer: Viewer, have: dict[int, int]) -> bool:
        """Place a viewer right after what it has; False when the ring does not reach back."""
        for kind, track in self.tracks.items():
            if track.ssrc in have and track.highest >= 0:
                position = track.position_of(have[track.ssrc]) + 1
                if track.highest - position > MAX_RESUME:
                    return False
                viewer.position[kind] = min(position, track.flushed)
        return all(t.ssrc in have for k, t in self.tracks.items() if k in viewer.legs)

    def remove_viewer(self, viewer: Viewer) -> None:
        """Stop serving a viewer (also one that was never added)."""
        self._change(lambda: self._remove(viewer))

    def _remove(self, viewer: Viewer) -> None:
        self.viewers.discard(viewer)
        self._waiting.pop(viewer, None)
        if viewer in self._catching_up:
            self._catching_up.remove(viewer)
        self._leave_group(viewer)

    def _change(self, change: Callable[[], None]) -> None:
        """Change a group now, or when the batch that is being sent to it is through."""
        if self._sending:
            self._deferred.append(change)
        else:
            change()

    def _leave_group(self, viewer: Viewer) -> None:
        group, target = viewer.group, viewer.peer.target
        if isinstance(group, Group) and target is not None:
            group.remove(target)
            viewer.group = None
            if not group.targets:
                self._groups = {k: g for k, g in self._groups.items() if g is not group}

    def _join_group(self, viewer: Viewer, video: bool) -> None:
        target = viewer.peer.target
        if target is None or viewer not in self.viewers:
            return
        self._leave_group(viewer)
        shapes = viewer.shapes
        key = (shapes.get("audio"), shapes.get("video") if video else None, target.overhead)
        group = self._groups.setdefault(key, Group(target.overhead))
        group.add(target)
        viewer.group = group

    def _wait(self, viewer: Viewer, since: int) -> None:
        """Let a viewer have sound until a keyframe comes that begins after `since`."""
        self._waiting[viewer] = since
        self._change(lambda: self._join_group(viewer, video=False))

    def _end_waits(self) -> None:
        """Let those who waited for a keyframe catch up from it."""
        video = self.tracks["video"]
        for viewer, since in list(self._waiting.items()):
            if since < video.keyframe_position <= video.flushed:
                del self._waiting[viewer]
                self._leave_group(viewer)
                for kind, track in self.tracks.items():
                    viewer.position[kind] = track.flushed
                viewer.position["video"] = video.keyframe_position
                self._catching_up.append(viewer)
                self._port.hurry()

    def _admit(self, now: float) -> None:
        """Let those live who have caught up: from here on they get what the others get."""
        still: list[Viewer] = []
        for viewer in self._catching_up:
            if self._caught_up(viewer):
                self._join_group(viewer, video="video" in viewer.legs)
            else:
                still.append(viewer)
        self._catching_up = still

    def _caught_up(self, viewer: Viewer) -> bool:
        return all(
            viewer.position[kind] >= track.flushed
            for kind, track in self.tracks.items()
            if kind in viewer.legs
        )

    # ------------------------------------------------------------ time

    def tick(self, now: float) -> bool:
        """Serve those who catch up, ask for keyframes and missing packets, send reports."""
        soon = False
        for viewer in self._catching_up:
            target = viewer.peer.target
            if target is None:
                continue
            for kind, track in self.tracks.items():
                if kind in viewer.legs:
                    packets = viewer.pending(track, CATCH_UP_PACKETS)
                    if packets:
                        self.resend(target, packets)
            soon = soon or not self._caught_up(viewer)
        if self._keyframe_wanted:
            self.request_keyframe(now)
        if now - self._report_at_s >= REPORT_EVERY_S:
            self._report_at_s = now
            self._report_to(list(self.viewers), now)
        if self.upstream is not None:
            soon = self.upstream.tick(now) or soon
        return soon

    def request_keyframe(self, now: float) -> None:
        """Pass a keyframe request up, merged: at most one a second leaves this node."""
        video = self.tracks.get("video")
        if video is None or self.upstream is None:
            return
        if now - self._keyframe_asked_s < KEYFRAME_EVERY_S:
            # One that arrived since the last request has answered this one as well.
            self._keyframe_wanted = video.keyframe_at_s < self._keyframe_asked_s
            return
        self._keyframe_asked_s = now
        self._keyframe_wanted = False
        self.upstream.ask_keyframe(video, now)

    def _report_to(self, viewers: list[Viewer], now: float) -> None:
        """Send the sender reports of all tracks, in the publisher's time (RFC 3550 6.4.1)."""
        compound = b""
        for track in self.tracks.values():
            clock = track.sender_clock(now)
            if clock is not None:
                compound += rtcp.sender_report(
                    track.ssrc, clock[0], clock[1], track.packets, track.bytes
                ) + rtcp.sdes_cname(track.ssrc, self.name)
        if compound and viewers:
            targets = [v.peer.target for v in viewers if v.peer.target is not None]
            self._port.fanout.send_rtcp(targets, compound)

    def goodbye(self) -> None:
        """Tell all viewers that the tracks end (RTCP BYE)."""
        # An empty receiver report opens the compound (RFC 3550 section 6.1).
        compound = rtcp.receiver_report(0, []) + rtcp.bye([t.ssrc for t in self.tracks.values()])
        targets = [v.peer.target for v in self.viewers if v.peer.target is not None]
        self._port.fanout.send_rtcp(targets, compound)

    def track_of_ssrc(self, ssrc: int) -> Track | None:
        """The track that goes out under an SSRC."""
        return self._by_ssrc.get(ssrc)

    def clock_changed(self) -> None:
        """The relation of RTP to NTP time has changed: tell everybody at the next tick."""
        self._report_at_s = 0.0
