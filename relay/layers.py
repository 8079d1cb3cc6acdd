"""Which layer of a picture a viewer gets, and which layers a node needs (pure).

A viewer's line tells three things: the bitrate that its receiver estimates (REMB), the part of the
packets that it lost, and the round-trip time. None is enough alone. An estimate is no more than
about 1.5 times what arrives, and near a bound that it once found it grows by a few kbit/s a second:
a low one does not say that the line is full. A full queue that no longer grows lets the estimate
rise again. Random loss is repaired and says nothing. So a line is full when the estimate *falls*
below what is sent, or is below it while much is lost or the round trip has grown.

Loss counts over a second and fifty packets. A browser reports with every request for a repeat, and
of three packets one lost is no third of the line; a packet that comes late from a hop above counts
as lost in one such report and as found in another, so the totals are compared, not the fractions.

* Down is fast: straight to the layer that fits the estimate, or to sound alone.
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
# A browser estimates once a second while a picture comes, and not at all where only sound does.
# Its last word was seen to stand for minutes, said once or again each second: after so long it says
# nothing of the line.
OLD_S: Final = 5.0
# An estimate that shrinks by this factor between two reports has seen a queue.
FALL: Final = 0.95
FALL_COUNTS_S: Final = 3.0
# While a first sign waits for a second, what is sent is held to this part of the estimate: what a
# full line drops in that time would be sound as well as picture.
DOUBT_S: Final = 1.0
HELD: Final = 0.5
# A second fall this much later confirms the first.
AGAIN_S: Final = 0.3
SLIGHTLY_LOST: Final = 0.03
# Loss that speaks against a layer: alone, beside an estimate below what is sent, and of a trial.
MUCH_LOST: Final = 0.20
FULL_LOST: Final = 0.12
SOME_LOST: Final = 0.06
# A round trip that is longer than the shortest one by this much waits in a queue.
QUEUE_S: Final = 0.25
# The only picture is left when its line has been too thin for this long.
THIN_S: Final = 0.7
# A layer just above what the line carries fills the queue slowly: nothing larger is tried
# meanwhile.
FILLING_S: Final = 0.1
# A queue from before a change of layer takes its time to run empty.
DRAIN_S: Final = 1.5
# One that is so for less than this was a machine that stood still for a moment, here or there.
QUEUE_HOLDS_S: Final = 0.3
# What reports say of loss is put together over this long, and over so many packets; of a line with
# few packets after the longest time in any case.
LOSS_S: Final = 0.9
LOSS_PACKETS: Final = 50
LOSS_MOST_S: Final = 3.0
# Of a line that is full, most is lost: that shows at once.
FLOOD_S: Final = 0.2
FLOOD_LOST: Final = 0.3
FLOOD_PACKETS: Final = 10
# Above what is sent by this factor an estimate says that there is room.
ROOM: Final = 1.15
# A report this soon after a change speaks of what was before.
SETTLE_S: Final = 0.3
# A layer needs this long to show whether the line carries it.
TRIAL_S: Final = 2.0
FIRST_TRIAL_S: Final = 1.0
FIRST_WAIT_S: Final = 5.0
LONGEST_WAIT_S: Final = 10.0
WAIT_GROWTH: Final = 1.6
# A trial that lasted this long was a success, and the next wait is a short one again.
PROVEN_S: Final = 12.0


@dataclass(slots=True)
class LossReports:
    """Receiver reports of one line of numbers, put together until they say something of it."""

    _since: tuple[int, int, float] | None = None
    _lately: tuple[int, int, float] = (0, 0, 0.0)

    def add(self, highest: int, lost: int, now: float) -> float | None:
        """The part that was lost since the last answer, 0 to 1; None while that says too little.

        Where nothing was sent nothing was lost. `highest` is the extended highest sequence number,
        `lost` the packets lost in total (RFC 3550 section 6.4.1).
        """
        report = (highest, lost, now)
        if self._since is None or not 0 <= highest - self._since[0] < 0x10000:
            self._since = self._lately = report
            return None
        expected, missing, gone_s = _between(self._lately, report)
        if missing >= FLOOD_PACKETS and missing > FLOOD_LOST * expected:
            self._since = self._lately = report
            return min(1.0, missing / max(1, expected))
        if gone_s >= FLOOD_S:
            self._lately = report
        expected, missing, gone_s = _between(self._since, report)
        if gone_s < LOSS_S or (0 < expected < LOSS_PACKETS and gone_s < LOSS_MOST_S):
            return None
        self._since = self._lately = report
        return min(1.0, max(0.0, missing / max(1, expected)))


def _between(
    before: tuple[int, int, float], after: tuple[int, int, float]
) -> tuple[int, int, float]:
    """How many packets were expected and lost from one report to another, and in which time."""
    return after[0] - before[0], after[1] - before[1], after[2] - before[2]


@dataclass(slots=True)
class Line:
    """What a viewer's reports say. Bitrates in bit/s, 0 for unknown; `lost` is 0 to 1."""

    remb_bps: int = 0
    lost: float = 0.0
    lossy_reports: int = 0
    fell_s: float = -1e9
    first_fell_s: float = -1e9
    reported_s: float = -1e9
    estimated_s: float = -1e9
    rtt_s: float = 0.0
    shortest_s: float = 1e9
    _took_s: float = -1e9
    _long_since_s: float = 1e9

    def estimated(self, remb_bps: int, now: float) -> bool:
        """Note a REMB; returns whether it is a fall. `estimated_s` is when it was another one."""
        fell = 0 < remb_bps < FALL * self.remb_bps
        if fell:
            if now - self.fell_s > FALL_COUNTS_S:
                self.first_fell_s = now
            self.fell_s = now
        if remb_bps != self.remb_bps:
            self.remb_bps, self.estimated_s = remb_bps, now
        return fell

    def reported(self, lost: float, now: float) -> None:
        """Note what was lost since the last time (`LossReports`)."""
        self.lost, self.reported_s = lost, now
        self.lossy_reports = self.lossy_reports + 1 if lost > MUCH_LOST else 0

    def took(self, rtt_s: float, now: float) -> bool:
        """Note a round-trip time; returns whether it is the first long one."""
        # The shortest one ages slowly: lines change their way.
        self.shortest_s = min(rtt_s, self.shortest_s * 1.01)
        if rtt_s <= self.shortest_s + QUEUE_S:
            self._long_since_s = 1e9
        else:
            self._long_since_s = min(now, self._long_since_s)
        self.rtt_s, self._took_s = rtt_s, now
        return self._long_since_s == now

    def full(self, since_s: float, now: float) -> bool:
        """Whether the estimate fell since then, and something else says so too.

        A receiver that stood still for a moment estimates a fall as well: its machine was busy.
        """
        if self.fell_s < since_s or now - self.fell_s > FALL_COUNTS_S:
            return False
        again = self.fell_s - max(since_s, self.first_fell_s) > AGAIN_S
        heard = self.reported_s > self.first_fell_s
        return again or (heard and (self.lost > SLIGHTLY_LOST or self.queued))

    @property
    def strained(self) -> bool:
        """Whether loss or delay says that more comes than the line carries."""
        return self.lost > FULL_LOST or self.queued

    def strained_since(self, changed_s: float, now: float) -> bool:
        """Whether it is so because of what was sent since then."""
        if self.reported_s > changed_s + SETTLE_S and self.lost > FULL_LOST:
            return True
        return self.queued and (self._long_since_s > changed_s or now - changed_s > DRAIN_S)

    @property
    def queued(self) -> bool:
        """Whether packets wait in a queue before the viewer."""
        return self._took_s - self._long_since_s >= QUEUE_HOLDS_S

    @property
    def filling(self) -> bool:
        """Whether the last round trip was long enough to try nothing larger now."""
        return self.rtt_s > self.shortest_s + FILLING_S

    @property
    def delayed(self) -> bool:
        """Whether the last round trip was a long one: a queue that begins, or a busy machine."""
        return self._long_since_s < 1e9


@dataclass(slots=True)
class Chooser:
    """Chooses for one viewer. `current` is the layer last chosen."""

    began_s: float
    current: int = 0
    _since_s: float = field(init=False)
    _wait_s: float = field(default=FIRST_TRIAL_S, init=False)
    _climbing: bool = field(default=False, init=False)
    _thin_since_s: float = field(default=1e9, init=False)

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
        elif self.current < top and self._may_climb(line, rates, audio_bps, now):
            self._climbing = True
            self._move(self.current + 1, now)
        elif now - self._since_s > PROVEN_S and line.fell_s < self._since_s:
            self._climbing, self._wait_s = False, FIRST_WAIT_S
        return self.current

    def trying(self, line: Line, now: float) -> bool:
        """Whether the line's delay should be looked at closely."""
        return self._climbing or line.delayed or now - line.fell_s < FALL_COUNTS_S

    def doubts(self, line: Line, need_bps: float, now: float) -> bool:
        """Whether something says that the line does not carry what is sent, and not yet enough.

        The estimate fell below it, or lies below it and a round trip was long. Where there is no
        smaller picture nothing is held: it would be the only one that suffers from what was a busy
        machine's mistake.
        """
        fell = line.first_fell_s >= self._since_s and now - line.first_fell_s < DOUBT_S
        return self.current > 0 and line.remb_bps < CARRIES * need_bps and (fell or line.delayed)

    def _too_much(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> bool:
        if self.current < 0:
            return False
        need = rates[self.current] + audio_bps
        here_s = now - self._since_s
        carries = CARRIES if self.current else CARRIES_LOWEST
        thin = False
        if line.remb_bps and line.remb_bps < carries * need:
            thin = line.strained_since(self._since_s, now)
            if self.current and (thin or line.full(self._since_s, now)):
                return True
        # No picture at all is for a line that is known to be full, not for a low estimate, nor for
        # a machine that stands still again and again.
        self._thin_since_s = min(now, self._thin_since_s) if thin else 1e9
        if thin and (self._climbing or now - self._thin_since_s >= THIN_S):
            return True
        # Two lossy reports, and no estimate that would say there is room enough.
        return (
            line.lossy_reports >= 2
            and self.current > 0
            and here_s > 2 * TRIAL_S
            and line.remb_bps < 1.5 * need
        )

    def _down(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> None:
        fitting = self.current - 1
        if line.remb_bps:
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

    def _may_climb(self, line: Line, rates: Sequence[float], audio_bps: float, now: float) -> bool:
        need = audio_bps + (rates[self.current] if self.current >= 0 else 0.0)
        room = line.remb_bps >= ROOM * need
        if line.lost > (MUCH_LOST if room else SOME_LOST) or line.filling:
            return False
        known = line.remb_bps > 0 and now - line.estimated_s < OLD_S
        if self.current == AUDIO_ONLY and known and not room:
            return False
        if now - line.fell_s < self._wait_s:
            return False
        # A trial that goes well may go on climbing before the full wait.
        wait_s = min(TRIAL_S, self._wait_s) if self._climbing else self._wait_s
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
    if rids and all(rid.isdecimal() for rid in rids):
        return sorted(rids, key=int, reverse=True)
    for names in _SMALL_TO_LARGE:
        if set(rids) <= set(names):
            return [n for n in names if n in rids]
    return list(rids)
