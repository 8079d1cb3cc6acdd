"""Which picture belongs to which sound: RTP time to the publisher's clock, by sender reports.

Each track has an RTP clock of its own. A sender report says at which moment of the publisher's
clock (NTP) an RTP timestamp was current (RFC 3550 section 6.4.1); two tracks meet there. Single
reports are some milliseconds off, and clocks drift by some ten parts in a million: so the relation
is an average that follows, and a step is a step of the publisher (another one, or its clock set).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

# A report that differs by more than this comes from another clock.
STEP_S: Final = 0.1
# Reports come every second or two: the average follows within some ten seconds.
FOLLOW: Final = 0.2


@dataclass(frozen=True, slots=True)
class Report:
    """At `ntp` (32.32 fixed point seconds) the RTP timestamp was `timestamp` (32 bits)."""

    ntp: int
    timestamp: int


@dataclass(slots=True)
class Ticks:
    """RTP timestamps of one track, counted on without wrapping."""

    _last: int = -1

    def of(self, timestamp: int) -> int:
        """The count for a timestamp within half a turn of the last one asked for."""
        if self._last < 0:
            # One turn up, so that what comes a little earlier is not below 0.
            self._last = timestamp + (1 << 32)
        else:
            ahead = (timestamp - self._last + 0x80000000) & 0xFFFFFFFF
            self._last += ahead - 0x80000000
        return self._last

    def near(self, timestamp: int) -> int:
        """As `of`, and does not move on: a report may speak of a time far ahead."""
        if self._last < 0:
            return self.of(timestamp)
        return self._last + ((timestamp - self._last + 0x80000000) & 0xFFFFFFFF) - 0x80000000


@dataclass(slots=True)
class TrackClock:
    """The publisher's clock as one track tells it. `rate`: ticks a second."""

    rate: int
    ticks: Ticks = field(default_factory=Ticks)
    zero_s: float = 0.0
    """NTP seconds at tick 0; good once `reports` is above 0."""
    reports: int = 0
    steps: int = 0

    def report(self, report: Report) -> None:
        """Take a sender report."""
        zero_s = report.ntp / (1 << 32) - self.ticks.near(report.timestamp) / self.rate
        if self.reports and abs(zero_s - self.zero_s) > STEP_S:
            self.steps += 1
            self.reports = 0
        self.reports += 1
        self.zero_s += (zero_s - self.zero_s) * max(FOLLOW, 1 / self.reports)

    def ntp_s(self, ticks: int) -> float:
        """The publisher's clock at a tick."""
        return self.zero_s + ticks / self.rate
