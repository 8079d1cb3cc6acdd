"""One track at this node: its recent packets, and where its last keyframe begins.

Packets are kept in canonical form under the track's own numbers. Positions count on without
wrapping (`position & 0xFFFF` is the sequence number), so that "before" is a plain comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay import packet as rtp
from relay.numbering import Numbering
from relay.sdp import Format

# Two seconds of repair at 8 Mbit/s; at 1 Mbit/s it reaches back over several keyframes.
VIDEO_RING = 2048
AUDIO_RING = 512
# A layer counts as there for this long after its last packet, or after the parent's last word.
LIVE_S = 1.5
ANNOUNCED_S = 12.0
SAMPLE_S = 0.5
# A joiner is started from a keyframe no older than this: more would be a burst of stale picture.
MAX_KEYFRAME_AGE_S = 5.0
# Packets that came out of order, whose time of forwarding is remembered.
MAX_LATE = 2048


@dataclass(slots=True)
class SenderClock:
    """A sender report on the track's line: this RTP timestamp was at this NTP time.

    `ntp` is 32.32 fixed point seconds of the publisher's clock, `arrival_s` our own clock.
    """

    ntp: int
    timestamp: int
    arrival_s: float


class Track:
    """The packets of one audio or video line.

    A picture may have several: each layer is a track of its own, named by `rid`. `flushed` is the
    position up to which the live viewers were served; a joiner that has caught up with it can join
    them. `bitrate_bps` is measured here, `announced_bps` is what the parent says of a layer that
    does not flow to this node, at `announced_s`.

    A layer that a ladder makes is `on_demand`: it flows only while somebody watches it. At the node
    that the ladder serves, `made_from` is the track that it is made of, as long as the ladder is
    there.
    """

    __slots__ = (
        "_detect",
        "_frame_position",
        "_frame_timestamp",
        "_keyframe_timestamp",
        "_mask",
        "_ring",
        "_sampled_bytes",
        "_sampled_s",
        "announced_bps",
        "announced_s",
        "bitrate_bps",
        "bytes",
        "clock",
        "flushed",
        "format",
        "highest",
        "keyframe_at_s",
        "keyframe_position",
        "keyframes",
        "kind",
        "last_arrival_s",
        "late",
        "made_from",
        "numbering",
        "on_demand",
        "packets",
        "rid",
        "ssrc",
        "vp8",
    )

    def __init__(self, fmt: Format, ssrc: int, rid: str = "") -> None:
        self.format = fmt
        self.kind = fmt.kind
        self.ssrc = ssrc
        self.rid = rid
        self.vp8 = fmt.codec == "VP8"
        self.numbering = Numbering(fmt.clock_rate)
        size = VIDEO_RING if fmt.kind == "video" else AUDIO_RING
        self._ring: list[bytes | None] = [None] * size
        self._mask = size - 1
        self._detect = rtp.keyframe_detector(fmt.codec) if fmt.kind == "video" else None
        self._frame_timestamp = -1
        self._frame_position = 0
        self._keyframe_timestamp = -1
        self.highest = -1
        self.flushed = 0
        self.keyframe_position = -1
        self.keyframe_at_s = 0.0
        self.keyframes = 0
        self.clock: SenderClock | None = None
        self.last_arrival_s = 0.0
        # By position: when a packet that came after a later one was forwarded.
        self.late: dict[int, float] = {}
        self.packets = 0
        self.bytes = 0
        self.bitrate_bps = 0.0
        self.announced_bps = 0.0
        self.announced_s = -1e9
        self.on_demand = False
        self.made_from: Track | None = None
        self._sampled_s = 0.0
        self._sampled_bytes = 0

    def insert(
        self, data: bytes, parsed: rtp.Ingest, source: int, stamp: int, now: float
    ) -> bytes | None:
        """Number and keep a packet; returns it in canonical form, None for one not to forward.

        `source` names the line the packet comes from, `stamp` is this node's abs-send-time. Not
        forwarded are duplicates and what is older than the ring or the present source.
        """
        placed = self.numbering.place(source, parsed.seq, parsed.timestamp, now)
        if placed < 0:
            return None
        sequence, timestamp = placed >> 32, placed & 0xFFFFFFFF
        highest = self.highest
        if highest < 0:
            # Start one wrap up, so that packets reordered around the first have a position.
            position = 0x10000 + sequence
            self.highest = self.flushed = position
        else:
            position = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            if position > highest:
                for missed in range(max(highest + 1, position - self._mask), position):
                    self._ring[missed & self._mask] = None
                self.highest = position
            elif position <= highest - self._mask or self._ring[position & self._mask] is not None:
                return None
            else:
                self.late[position] = now
                if len(self.late) > MAX_LATE:
                    del self.late[next(iter(self.late))]
        kept = rtp.canonical(data, parsed, sequence, timestamp, self.ssrc, stamp)
        self._ring[position & self._mask] = kept
        self.packets += 1
        self.bytes += len(kept)
        self.last_arrival_s = now
        if self._detect is not None:
            self._note_frame(kept, position, timestamp, now)
        return kept

    def follows(self, sequence: int) -> bool:
        """Whether a packet of this number is the next one."""
        return self.highest >= 0 and sequence == (self.highest + 1) & 0xFFFF

    def extend(self, packets: list[bytes], timestamp: int, now: float) -> None:
        """Keep packets of one frame, in canonical form, the first of which follows."""
        ring, mask = self._ring, self._mask
        for kept in packets:
            self.highest += 1
            ring[self.highest & mask] = kept
            self.bytes += len(kept)
            if self._detect is not None:
                self._note_frame(kept, self.highest, timestamp, now)
        self.packets += len(packets)
        self.last_arrival_s = now

    def _note_frame(self, kept: bytes, position: int, timestamp: int, now: float) -> None:
        if timestamp != self._frame_timestamp and position == self.highest:
            self._frame_timestamp = timestamp
            self._frame_position = position
        if timestamp == self._keyframe_timestamp and position < self.keyframe_position:
            # Lost and repaired: without its parameter sets a joiner could not decode the rest.
            self.keyframe_position = position
            return
        assert self._detect is not None
        if self._detect(kept, 16 + 4 * kept[15]):
            # Parameter sets and delimiters go before the slice, under the same timestamp.
            same = timestamp == self._frame_timestamp
            start = min(position, self._frame_position) if same else position
            if start > self.keyframe_position:
                self.keyframe_position = start
                self._keyframe_timestamp = timestamp
                self.keyframe_at_s = now
                self.keyframes += 1

    def get(self, position: int) -> bytes | None:
        """The packet at a position, or None if it is missing or no longer held."""
        if position > self.highest or position <= self.highest - self._mask:
            return None
        return self._ring[position & self._mask]

    @property
    def oldest(self) -> int:
        """The first position that the ring may still hold."""
        return self.highest - self._mask + 1

    def position_of(self, sequence: int) -> int:
        """The position that a sequence number near the newest packet stands for."""
        return self.highest + ((sequence - self.highest + 0x8000) & 0xFFFF) - 0x8000

    def fill(self, position: int, kept: bytes, now: float) -> bool:
        """Keep a packet that came late, at its place; False if that is not empty any more.

        For what is already in canonical form under this track's numbers.
        """
        if position > self.highest or position <= self.highest - self._mask:
            return False
        if self._ring[position & self._mask] is not None:
            return False
        self._ring[position & self._mask] = kept
        self.late[position] = now
        if len(self.late) > MAX_LATE:
            del self.late[next(iter(self.late))]
        self.packets += 1
        self.bytes += len(kept)
        return True

    def whole_keyframe(self) -> int:
        """Where the last keyframe begins if all of it is here, else -1.

        Its end is the marker bit, or the first packet of the next frame.
        """
        start = self.keyframe_position
        if start < 0 or start <= self.highest - self._mask:
            return -1
        first = self._ring[start & self._mask]
        for position in range(start, self.highest + 1):
            kept = self._ring[position & self._mask]
            if kept is None or first is None:
                return -1
            if kept[1] & 0x80 or kept[4:8] != first[4:8]:
                return start
        return -1

    def forget_keyframe(self) -> None:
        """Let joiners wait for the next one: the last shows another publisher's picture."""
        self.keyframe_position = self._keyframe_timestamp = -1

    def start_position(self, now: float) -> int:
        """Where a joiner can begin: at the last keyframe, or -1 when it must wait for the next."""
        if self.keyframe_position < 0 or now - self.keyframe_at_s > MAX_KEYFRAME_AGE_S:
            return -1
        if self.keyframe_position <= self.highest - self._mask:
            return -1
        return self.keyframe_position

    def sample(self, now: float) -> None:
        """Measure the bitrate; called a few times a second."""
        gone = now - self._sampled_s
        if gone < SAMPLE_S:
            return
        rate = 8 * (self.bytes - self._sampled_bytes) / gone
        if not self._sampled_bytes or not rate:
            self._sampled_bytes = self.bytes
        else:
            self._sampled_bytes = self.bytes
            # Rates rise and fall with what is shown: a mean over about two seconds.
            self.bitrate_bps += (rate - self.bitrate_bps) * (0.25 if self.bitrate_bps else 1.0)
        self._sampled_s = now

    @property
    def known_bps(self) -> float:
        """The bitrate as measured, else as announced, else 0."""
        return self.bitrate_bps or self.announced_bps

    def live(self, now: float) -> bool:
        """Whether packets come, or would come if they were asked for."""
        if self.made_from is not None:
            return self.made_from.live(now)
        return self.flows(now) or now - self.announced_s < ANNOUNCED_S

    def flows(self, now: float) -> bool:
        """Whether packets come."""
        return now - self.last_arrival_s < LIVE_S

    def sender_clock(self, now: float) -> tuple[int, int] | None:
        """NTP time and RTP timestamp of this moment, drawn on from the last sender report.

        Both move by the same time since then, so that the relation between them, which holds
        sound and picture together, is the publisher's own.
        """
        clock = self.clock
        if clock is None:
            return None
        gone = now - clock.arrival_s
        timestamp = clock.timestamp + round(gone * self.format.clock_rate)
        return (
            (clock.ntp + round(gone * 4294967296)) & 0xFFFFFFFFFFFFFFFF,
            timestamp & 0xFFFFFFFF,
        )
