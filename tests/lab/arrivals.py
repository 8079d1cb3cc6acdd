"""What one viewer got of one track: what is missing, what to ask for again, and the figures.

Written apart from `relay.repair`, so that a fault there does not hide itself. Pure: times come in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# As Chromium's NackRequester: a packet is asked for at most ten times, a round trip apart.
MAX_TRIES = 10
REORDER_WAIT_S = 0.008
GIVE_UP_S = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One track of one viewer.

    `expected` packets lie between the first and the last number seen; `unrepaired` of them never
    came, `repaired` came after one with a higher number. `late_p50_ms` and so on are how much later
    than that the repaired ones were. `stall_ms` is the longest time without a new frame (or sound
    packet) beginning to arrive, `wait_ms` the longest between two that were complete in order: what
    a player without any buffer would see.
    """

    expected: int
    unrepaired: int
    repaired: int
    duplicates: int
    asked: int
    late_p50_ms: float
    late_p99_ms: float
    late_max_ms: float
    stall_ms: float
    wait_ms: float
    missing: tuple[int, ...]

    @property
    def unrepaired_share(self) -> float:
        """Of the packets expected, 0 to 1."""
        return self.unrepaired / self.expected if self.expected else 0.0


class Arrivals:
    """Arrival of every packet of one SSRC, by extended sequence number."""

    def __init__(self) -> None:
        self.first_at: dict[int, float] = {}
        self.timestamps: dict[int, int] = {}
        self.repaired: set[int] = set()
        self.duplicates = 0
        self.asked = 0
        self.highest = -1
        self.base = -1
        self.received = 0
        # Per missing number: tries so far, when to ask next, since when.
        self._wants: dict[int, tuple[int, float, float]] = {}

    def arrived(self, sequence: int, timestamp: int, now: float) -> None:
        """Note a packet, original or repeated, by its own number."""
        highest = self.highest
        if highest < 0:
            # One wrap up: what was reordered around the first has a number too.
            position = self.highest = self.base = 0x10000 + sequence
        else:
            position = highest + ((sequence - highest + 0x8000) & 0xFFFF) - 0x8000
            if position > highest:
                for missed in range(highest + 1, position):
                    self._wants[missed] = (0, now + REORDER_WAIT_S, now)
                self.highest = position
        if position in self.first_at:
            self.duplicates += 1
            return
        if position < highest:
            self.repaired.add(position)
            self._wants.pop(position, None)
        self.received += 1
        self.first_at[position] = now
        self.timestamps[position] = timestamp

    def due(self, now: float, rtt_s: float) -> list[int]:
        """Sequence numbers to ask for now."""
        ask, gone = [], []
        for position, (tries, next_s, since_s) in self._wants.items():
            if tries >= MAX_TRIES or now - since_s > GIVE_UP_S:
                gone.append(position)
            elif next_s <= now:
                ask.append(position & 0xFFFF)
                self._wants[position] = (tries + 1, now + max(0.02, 1.2 * rtt_s), since_s)
        for position in gone:
            del self._wants[position]
        self.asked += len(ask)
        return ask

    def figures(self, begin_s: float, end_s: float) -> Figures:
        """Figures of the packets whose turn was between two times; those after must have come.

        A packet's turn is when the first one with its number or a higher one arrived.
        """
        if not self.first_at:
            return Figures(0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, ())
        base = min(self.first_at)
        at = np.full(self.highest - base + 1, np.inf)
        stamp = np.full(len(at), -1, np.int64)
        for position, when in self.first_at.items():
            at[position - base] = when
            stamp[position - base] = self.timestamps[position]
        turn = np.minimum.accumulate(at[::-1])[::-1]
        chosen = (turn >= begin_s) & (turn <= end_s)
        at, stamp, turn = at[chosen], stamp[chosen], turn[chosen]
        lost = np.isinf(at)
        positions = np.flatnonzero(chosen) + base
        late = 1000 * (at - turn)[~lost & (at > turn)]
        came = at[~lost]
        if not len(came):
            return Figures(len(at), len(at), 0, 0, self.asked, 0.0, 0.0, 0.0, 0.0, 0.0, ())
        # A frame begins to arrive with its first packet, whichever that is.
        new = np.flatnonzero(np.diff(stamp[~lost], prepend=-1))
        begins = np.minimum.accumulate(turn[~lost][::-1])[::-1][new]
        ends = np.maximum.accumulate(came)[np.append(new[1:] - 1, len(came) - 1)]
        return Figures(
            expected=len(at),
            unrepaired=int(np.count_nonzero(lost)),
            repaired=len(late),
            duplicates=self.duplicates,
            asked=self.asked,
            late_p50_ms=_percentile(late, 50),
            late_p99_ms=_percentile(late, 99),
            late_max_ms=_percentile(late, 100),
            stall_ms=_gap_ms(begins),
            wait_ms=_gap_ms(ends),
            missing=tuple((positions[lost] & 0xFFFF).tolist()),
        )


def _percentile(values: np.ndarray[tuple[int], np.dtype[np.float64]], q: float) -> float:
    return round(float(np.percentile(values, q)), 1) if len(values) else 0.0


def _gap_ms(times: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    return round(1000 * float(np.max(np.diff(times))), 1) if len(times) > 1 else 0.0
