"""What was lost and how late the rest came: received packets matched with those that were sent.

A node may give a track its own SSRC, and shift its sequence numbers and timestamps by constants.
The two shifts are found per viewer and kind: a candidate must map consecutive packets onto sent
ones with the right timestamps, and their sizes, which vary at random, must differ from the sent
ones by a constant. Once found they are tried first for the next viewer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tests.bench.drain import Received
from tests.bench.publisher import Sent
from tests.bench.sdp import AUDIO_PT, VIDEO_PT
from tests.bench.source import Kind

# A packet that comes later than this counts as lost: no player waits longer for a live picture.
LATE_NS = 1_000_000_000
# A joiner starts from the last keyframe, which is up to two seconds old.
_OLDEST_NS = 4_000_000_000
_PROBES = 60
_ENOUGH = 0.9
# A node may pad a packet by a byte or two so that a frame's packets become equal.
_SIZE_SLACK = 4
_PAYLOAD_TYPES = {Kind.AUDIO: AUDIO_PT, Kind.VIDEO: VIDEO_PT}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shift:
    """What a node added to a track's numbers, modulo 2**16 and 2**32."""

    sequence: int
    timestamp: int


@dataclass(slots=True)
class Outcome:
    """Loss and delay of some viewers in one window.

    `picture_ms`: from the publisher's clock before the send of a frame's last packet to the
    kernel's stamp at the viewer. `sound_ms`: the same for every audio packet.
    """

    expected: int = 0
    lost: int = 0
    duplicates: int = 0
    unmatched: int = 0
    losers: int = 0
    picture_ms: Floats = field(default_factory=lambda: np.zeros(0))
    sound_ms: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def loss_percent(self) -> float:
        """Lost packets per hundred expected."""
        return 100 * self.lost / self.expected if self.expected else 100.0


class Track:
    """The sent packets of one kind around a window, and where received ones belong among them."""

    def __init__(self, sent: Sent, kind: Kind, begin_ns: int, end_ns: int) -> None:
        """`sent`: all that was sent; the window is [begin_ns, end_ns) by time of sending."""
        near = (sent["t_ns"] >= begin_ns - _OLDEST_NS) & (sent["t_ns"] < end_ns + LATE_NS)
        self.sent = sent[near & (sent["kind"] == kind)]
        self.kind = kind
        self.in_window = (self.sent["t_ns"] >= begin_ns) & (self.sent["t_ns"] < end_ns)
        self._index_of = np.full(1 << 16, -1, np.int64)
        self._index_of[self.sent["sequence"]] = np.arange(len(self.sent))
        self._known: list[Shift] = []

    def indices(self, rows: Received) -> Ints | None:
        """For each packet of one viewer and this kind the index in `sent`, or -1.

        None when no constant shift explains the packets.
        """
        for shift in self._known:
            if self._fits(rows, shift):
                return self._apply(rows, shift)
        for shift in self._candidates(rows):
            if self._fits(rows, shift):
                self._known.insert(0, shift)
                return self._apply(rows, shift)
        return None

    def _candidates(self, rows: Received) -> Iterator[Shift]:
        """Shifts that map the first closing packet onto one that was sent shortly before it."""
        closing = np.flatnonzero(rows["marker_pt"] >= 128) if self.kind is Kind.VIDEO else [0]
        if not len(rows) or not len(closing):
            return
        first = rows[closing[0]]
        age = int(first["t_ns"]) - self.sent["t_ns"]
        possible = (age >= 0) & (age < _OLDEST_NS)
        if self.kind is Kind.VIDEO:
            possible &= self.sent["marker"]
        for sent in self.sent[possible][::-1]:
            yield Shift(
                (int(first["sequence"]) - int(sent["sequence"])) & 0xFFFF,
                (int(first["timestamp"]) - int(sent["timestamp"])) & 0xFFFFFFFF,
            )

    def _fits(self, rows: Received, shift: Shift) -> bool:
        probes = rows[:: max(1, len(rows) // _PROBES)]
        index = self._apply(probes, shift)
        found = index >= 0
        if np.count_nonzero(found) < _ENOUGH * len(probes):
            return False
        growth = probes["size"][found].astype(np.int64) - self.sent["size"][index[found]]
        alike = np.abs(growth - np.median(growth)) <= _SIZE_SLACK
        return bool(np.count_nonzero(alike) >= _ENOUGH * len(probes))

    def _apply(self, rows: Received, shift: Shift) -> Ints:
        if not len(self.sent):
            return np.full(len(rows), -1, np.int64)
        original = rows["sequence"] - np.uint16(shift.sequence)
        index = self._index_of[original]
        timestamp = rows["timestamp"] - np.uint32(shift.timestamp)
        index[timestamp != self.sent["timestamp"][index]] = -1
        return index


def analyse(
    received: Received, sent: Sent, window: tuple[int, int], viewers: Sequence[int]
) -> Outcome:
    """Loss and delay of `viewers` for what was sent in `window` (begin and end, wall clock, ns).

    A viewer that got nothing has lost everything. One whose packets cannot be matched counts in
    `unmatched` and in nothing else, and makes the result invalid.
    """
    outcome = Outcome()
    delays: dict[Kind, list[Floats]] = {kind: [] for kind in Kind}
    losers = set()
    for kind in Kind:
        track = Track(sent, kind, *window)
        of_kind = received[(received["marker_pt"] & 0x7F) == _PAYLOAD_TYPES[kind]]
        groups = by_viewer(of_kind)
        for viewer in viewers:
            rows = groups.get(viewer, of_kind[:0])
            index = track.indices(rows) if len(rows) else np.zeros(0, np.int64)
            if index is None:
                outcome.unmatched += 1
                continue
            lost, duplicates = _count(track, index, rows)
            outcome.expected += int(np.count_nonzero(track.in_window))
            outcome.lost += lost
            outcome.duplicates += duplicates
            if lost:
                losers.add(viewer)
            delays[kind].append(_delays_ms(track, index, rows))
    outcome.losers = len(losers)
    outcome.picture_ms = _joined(delays[Kind.VIDEO])
    outcome.sound_ms = _joined(delays[Kind.AUDIO])
    return outcome


def arrivals(
    received: Received, sent: Sent, window: tuple[int, int], viewers: Sequence[int]
) -> tuple[Ints, Ints]:
    """When each packet sent in `window` was sent, and when it first reached each viewer.

    Returns (packets,) and (viewers, packets) of wall clock ns, both kinds, 0 where it did not come.
    Raises ValueError when a viewer's packets cannot be matched.
    """
    sent_ns: list[Ints] = []
    first_ns: list[Ints] = []
    for kind in Kind:
        track = Track(sent, kind, *window)
        of_kind = received[(received["marker_pt"] & 0x7F) == _PAYLOAD_TYPES[kind]]
        groups = by_viewer(of_kind)
        table = np.zeros((len(viewers), len(track.sent)), np.int64)
        for line, viewer in enumerate(viewers):
            rows = groups.get(viewer, of_kind[:0])[::-1]
            index = track.indices(rows)
            if index is None:
                raise ValueError(
                    f"viewer {viewer}: {len(rows)} packets match nothing that was sent"
                )
            # Reversed, so that of duplicates the first arrival is written last and stays.
            table[line, index[index >= 0]] = rows["t_ns"][index >= 0]
        sent_ns.append(track.sent["t_ns"][track.in_window])
        first_ns.append(table[:, track.in_window])
    return np.concatenate(sent_ns), np.concatenate(first_ns, axis=1)


def percentile(values: Floats, percent: float) -> float:
    """A percentile, or NaN of nothing."""
    return float(np.percentile(values, percent)) if len(values) else float("nan")


def by_viewer(rows: Received) -> dict[int, Received]:
    """The rows of each viewer, in the order in which they were read."""
    order = np.argsort(rows["viewer"], kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.diff(ordered["viewer"].astype(np.int64))) + 1
    return {int(group["viewer"][0]): group for group in np.split(ordered, starts) if len(group)}


def _count(track: Track, index: Ints, rows: Received) -> tuple[int, int]:
    """Lost and surplus packets of one viewer among those sent in the window."""
    known = index >= 0
    in_time = np.zeros(len(index), bool)
    in_time[known] = rows["t_ns"][known] - track.sent["t_ns"][index[known]] < LATE_NS
    copies = np.bincount(index[in_time], minlength=len(track.sent))[track.in_window]
    return int(np.count_nonzero(copies == 0)), int(np.maximum(copies - 1, 0).sum())


def _delays_ms(track: Track, index: Ints, rows: Received) -> Floats:
    known = index >= 0
    index, rows = index[known], rows[known]
    chosen = track.in_window[index]
    if track.kind is Kind.VIDEO:
        chosen &= track.sent["marker"][index]
    delay_ns: Ints = rows["t_ns"][chosen] - track.sent["t_ns"][index[chosen]]
    return delay_ns / 1e6


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0)
