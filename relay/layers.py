"""Which layer of a picture a viewer gets, and which layers a node needs (pure).

A viewer's line tells two things: the bitrate that its receiver estimates (REMB), and the part of
the packets that it lost. The estimate is only a bound: a receiver cannot estimate more than about
1.5 times what it gets, so on a low layer it says nothing about a high one. What is sure is a
*fall* of the estimate: the receiver has seen its queue grow. So:

* Down is fast: the estimate fell and no longer carries the layer, or a lot is lost. The viewer
  goes straight to the layer that fits, or to sound alone.
* Up is a trial: one layer at a time, after a wait that grows with each trial that failed. A line
  that never complains reaches the top layer within some seconds.

Layers count from 0, the smallest; AUDIO_ONLY is below it. Sound is never taken away.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

AUDIO_ONLY: Final = -1
# An estimate below this part of what a layer takes is a line that does not carry it. The lowest
# layer has more grace: what is below it is no picture at all.
CARRIES: Final = 0.9
CARRIES_LOWEST: Final = 0.75
# An estimate that shrinks by this factor between two reports has seen a queue.
FALL: Final = 0.95
FALL_COUNTS_S: Final = 3.0
# Random loss of a few per cent is repaired; this much is a line that is too full.
MUCH_LOST: Final = 0.20
SOME_LOST: Final = 0.08
# A layer needs this long to show whether the line carries it.
TRIAL_S: Final = 1.5
FIRST_WAIT_S: Final = 3.0
LONGEST_WAIT_S: Final = 10.0
WAIT_GROWTH: Final = 1.6
# A trial that lasted this long was a success, and the next wait is a short one again.
PROVEN_S: Final = 12.0


@dataclass(slots=True)
class Line:
    """What a viewer's reports say. Bitrates in bit/s, 0 for unknown; `lost` is 0 to 1."""

    remb_bps: int = 0
    lost: float = 0.0
    lossy_reports: int = 0
    fell_s: float = -1e9

    def estimated(self, remb_bps: int, now: float) -> None:
        """Note a REMB."""
        if self.remb_bps and remb_bps < FALL * self.remb_bps:
            self.fell_s = now
        self.remb_bps = remb_bps

    def reported(self, lost: float) -> None:
        """Note the loss of one receiver report."""
        self.lost = lost
        self.lossy_reports = self.lossy_reports + 1 if lost > MUCH_LOST else 0


@dataclass(slots=True)
class Chooser:
    """Chooses for one viewer. `current` is the layer last chosen."""

    began_s: float
    current: int = 0
    _since_s: float = field(init=False)
    _wait_s: float = field(default=TRIAL_S, init=False)
    _climbing: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._since_s = self.began_s

    def choose(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> int:
        """The layer to send from now on: an index into `rates`, or AUDIO_ONLY.

        `rates` are the layers' bitrates in bit/s, ascending, 0 for one not yet known. Call it a
        few times a second.
        """
        top = len(rates) - 1
        if self.current > top:
            self._move(top, now)
        if self._too_much(line, rates, audio_bps, now):
            self._down(line, rates, audio_bps, now)
        elif self.current < top and self._may_climb(line, now):
            self._climbing = True
            self._move(self.current + 1, now)
        elif now - self._since_s > PROVEN_S and line.fell_s < self._since_s:
            self._climbing, self._wait_s = False, FIRST_WAIT_S
        return self.current

    def _too_much(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> bool:
        if self.current < 0:
            return False
        need = rates[self.current] + audio_bps
        fell = line.fell_s >= self._since_s and now - line.fell_s < FALL_COUNTS_S
        carries = CARRIES if self.current else CARRIES_LOWEST
        if fell and line.remb_bps < carries * need:
            return True
        # Two lossy reports, and no estimate that would say there is room enough.
        return (
            line.lossy_reports >= 2
            and self.current > 0
            and now - self._since_s > 2 * TRIAL_S
            and line.remb_bps < 1.5 * need
        )

    def _down(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> None:
        fitting = self.current - 1
        if line.fell_s >= self._since_s:
            while fitting >= 0:
                share = CARRIES if fitting else CARRIES_LOWEST
                if rates[fitting] + audio_bps <= line.remb_bps / share:
                    break
                fitting -= 1
        line.lossy_reports = 0
        # A trial that failed makes the next one rarer; a line that got worse is tried soon.
        failed = self._climbing and now - self._since_s < PROVEN_S
        self._wait_s = min(LONGEST_WAIT_S, self._wait_s * WAIT_GROWTH) if failed else FIRST_WAIT_S
        self._climbing = False
        self._move(fitting, now)

    def _may_climb(self, line: Line, now: float) -> bool:
        if line.lost > SOME_LOST and not line.remb_bps:
            return False
        if line.lost > MUCH_LOST or now - line.fell_s < self._wait_s:
            return False
        # A trial that goes well may go on climbing before the full wait.
        wait_s = TRIAL_S if self._climbing else self._wait_s
        return now - self._since_s >= wait_s

    def _move(self, layer: int, now: float) -> None:
        self.current = layer
        self._since_s = now


T = TypeVar("T", bound=Hashable)


@dataclass(slots=True)
class Needed(Generic[T]):
    """The layers that somebody below watches, each kept for `linger_s` after its last use.

    A viewer that changes its mind, or one that leaves as another comes, costs no new keyframe.
    """

    linger_s: float = 2.0
    _until_s: dict[T, float] = field(default_factory=dict)

    def update(self, used: Iterable[T], now: float) -> frozenset[T]:
        """Note what is used now; returns what is needed."""
        for layer in used:
            self._until_s[layer] = now + self.linger_s
        self._until_s = {n: until for n, until in self._until_s.items() if until > now}
        return frozenset(self._until_s)


_SMALL_TO_LARGE: Final = (
    ("q", "h", "f"),
    ("l", "m", "h"),
    ("low", "mid", "high"),
    ("s0", "s1", "s2"),
)


def named_in_order(rids: Sequence[str]) -> bool:
    """Whether the names are known ones, and from the smallest picture to the largest."""
    for names in _SMALL_TO_LARGE:
        if set(rids) <= set(names):
            return list(rids) == [n for n in names if n in rids]
    return False


def order(rids: Sequence[str]) -> list[str]:
    """Layer names, the smallest picture first, as far as names can tell.

    Browsers' pages list the smallest first by custom (q, h, f); OBS counts from 0, its largest.
    """
    if rids and all(rid.isdigit() for rid in rids):
        return sorted(rids, key=int, reverse=True)
    for names in _SMALL_TO_LARGE:
        if set(rids) <= set(names):
            return [n for n in names if n in rids]
    return list(rids)
