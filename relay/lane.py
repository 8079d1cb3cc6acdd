"""One unbroken line of numbers for a viewer whose picture changes layers.

An end viewer sees one SSRC. When it goes from one layer to another, sequence numbers go on by
one, timestamps by the true distance of the frames (through both layers' sender reports), and VP8
picture ids and TL0PICIDX by one (RFC 7741 section 4.2). A lane remembers the last few changes, so
that a number the viewer asks for again is found in the layer that it came from.

No number is ever given to two packets: SRTP would encrypt both with the same keystream. Each
splice owns the numbers from its `first` up to the next one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from relay import packet as rtp
from relay.packet import ts_delta
from relay.track import Track

MAX_HISTORY: Final = 8
# Two layers' frames of one moment do not lie further apart; what does is a clock that lies.
MAX_CLOCK_ERROR_S: Final = 1.0
# A keyframe older than this against what the viewer has seen would take its picture back.
MAX_BACKWARDS_S: Final = 0.5
SEARCH_BACK: Final = 64


@dataclass(frozen=True, slots=True)
class Splice:
    """From position `start` of a track on: what is added to its numbers.

    `first` is the viewer's unwrapped number for `start`. `timestamp` is what is added to
    timestamps, `ideal` the same without what kept the line from going backwards. `plain` is true
    for a viewer's first layer, which goes out under its own numbers.
    """

    track: Track
    start: int
    first: int
    timestamp: int = 0
    ideal: int = 0
    picture: int = 0
    tl0: int = 0
    plain: bool = False

    @property
    def shift(self) -> int:
        """What is added to a position."""
        return self.first - self.start

    def apply(self, shaped: bytes, codec: str) -> bytes:
        """One reshaped packet under the viewer's numbers."""
        if self.plain:
            return shaped
        out = bytearray(shaped)
        sequence = (shaped[2] << 8 | shaped[3]) + self.shift & 0xFFFF
        out[2:4] = sequence.to_bytes(2, "big")
        timestamp = int.from_bytes(shaped[4:8], "big") + self.timestamp & 0xFFFFFFFF
        out[4:8] = timestamp.to_bytes(4, "big")
        ids = rtp.vp8_ids(shaped, rtp.payload_offset(shaped)) if codec == "VP8" else None
        if ids is not None:
            rtp.shift_vp8(out, ids, self.picture, self.tl0)
        return bytes(out)


class _Last(NamedTuple):
    """The last packet sent, in the viewer's numbers, and when it had arrived here."""

    timestamp: int
    arrival_s: float
    picture: int
    tl0: int


class Lane:
    """The picture's numbers of one viewer. `current` is None before the first packet."""

    __slots__ = ("_history", "_last", "_next", "current")

    def __init__(self) -> None:
        self.current: Splice | None = None
        self._history: list[Splice] = []
        self._last: _Last | None = None
        self._next = 0

    def leave(self, position: int) -> None:
        """Stop on the present track; `position` is the first one that was not sent."""
        splice = self.current
        if splice is None or position <= splice.start:
            return
        self._next = position + splice.shift
        track = splice.track
        for at in range(position - 1, max(splice.start, position - SEARCH_BACK) - 1, -1):
            kept = track.get(at)
            if kept is not None:
                self._last = _last(splice, kept, track)
                return

    def enter(self, track: Track, start: int) -> Splice | None:
        """Go on with a track from a position (a keyframe's first); None if that would go back.

        `leave` comes first, unless nothing was sent yet.
        """
        kept = track.get(start)
        before, last = self.current, self._last
        if before is None or last is None:
            splice = Splice(track, start, start, plain=True)
        elif kept is None:
            return None
        else:
            found = _timestamps(before, last, track, kept)
            if found is None:
                return None
            timestamp, ideal = found
            ids = rtp.vp8_ids(kept, rtp.payload_offset(kept)) if track.vp8 else None
            picture = tl0 = 0
            if ids is not None and last.picture >= 0:
                picture = last.picture + 1 - ids.picture & 0x7FFF
                tl0 = last.tl0 + 1 - ids.tl0 & 0xFF
            splice = Splice(track, start, self._next, timestamp, ideal, picture, tl0)
        self.current = splice
        self._history = [*self._history[-MAX_HISTORY + 1 :], splice]
        return splice

    def locate(self, sequence: int) -> tuple[Splice, int] | None:
        """The splice and position that a number near the newest stands for; None if forgotten."""
        current = self.current
        if current is None:
            return None
        newest = current.track.highest + current.shift
        number = newest + ((sequence - newest + 0x8000) & 0xFFFF) - 0x8000
        for splice in reversed(self._history):
            # Before its first layer a viewer's numbers are that layer's own as well.
            if number >= splice.first or splice.plain:
                return splice, number - splice.shift
        return None


def _last(splice: Splice, kept: bytes, track: Track) -> _Last:
    timestamp = int.from_bytes(kept[4:8], "big") + splice.timestamp & 0xFFFFFFFF
    ids = rtp.vp8_ids(kept, rtp.payload_offset(kept)) if track.vp8 else None
    if ids is None or not ids.picture_bits:
        return _Last(timestamp, track.last_arrival_s, -1, 0)
    picture, tl0 = ids.picture + splice.picture & 0x7FFF, ids.tl0 + splice.tl0 & 0xFF
    return _Last(timestamp, track.last_arrival_s, picture, tl0)


def _timestamps(before: Splice, last: _Last, track: Track, kept: bytes) -> tuple[int, int] | None:
    """What to add to a track's timestamps: (for the viewer, the ideal), or None to wait."""
    first = int.from_bytes(kept[4:8], "big")
    rate = track.format.clock_rate
    ideal: int | None = None
    # A layer that a ladder made has its picture's timestamps: no clock says it better.
    in_step = track.numbering.keeps_time or before.track.numbering.keeps_time
    if before.track is track or in_step:
        ideal = before.ideal
    elif before.track.clock is not None and track.clock is not None:
        ours, theirs = before.track.clock, track.clock
        # Both reports name the publisher's clock: where would the new layer have stood then?
        apart = ((ours.ntp - theirs.ntp + (1 << 63)) & 0xFFFFFFFFFFFFFFFF) - (1 << 63)
        stood = theirs.timestamp + round(apart / 4294967296 * rate)
        ideal = ours.timestamp + before.ideal - stood & 0xFFFFFFFF
    gone_s = track.keyframe_at_s - last.arrival_s
    if gone_s < -MAX_BACKWARDS_S:
        return None
    elapsed = max(1, round(gone_s * rate))
    if ideal is not None:
        ahead = ts_delta(first + ideal & 0xFFFFFFFF, last.timestamp)
        if in_step or abs(ahead - elapsed) <= MAX_CLOCK_ERROR_S * rate:
            if ahead > 0:
                return ideal, ideal
            if ahead < -MAX_BACKWARDS_S * rate:
                return None
            return last.timestamp + 1 - first & 0xFFFFFFFF, ideal
        if before.track is track and ahead > 0:
            return ideal, ideal
    # No report of one of them yet: by the time that has passed, as Janus does.
    timestamp = last.timestamp + elapsed - first & 0xFFFFFFFF
    return timestamp, timestamp
