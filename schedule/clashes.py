"""What is asked to be in two places at once, and the ways out (pure).

Four things can clash: the presenter, the room that is presented from, a site or station asked to
attend twice, and the line of a unit that would have to carry more than it can. Back to back is no
clash. Of two that clash, the one of the higher unit goes first; between equals the one that was
there first.

An audience is never spread out into its sites: that two of them meet can be read from the paths of
their units, for 50,000 stations as for five. A line carries each live stream once, however many
watch below it; that is what the tree is for.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from schedule.rights import lineage, overlap
from schedule.units import past

# More are of no use to a person, who has to move the plan anyway.
MOST_CLASHES = 200
# How far the search for a free time goes, and in which steps.
SHIFT_STEP = timedelta(minutes=15)
MOST_SHIFT = timedelta(hours=12)
_NONE = timedelta()


class Reaches(StrEnum):
    """How much of a unit an audience's entry means."""

    UNIT = "unit"  # the sites and stations of the unit itself
    SUBTREE = "subtree"  # these, and those of all units below
    SITE = "site"
    STATION = "station"


@dataclass(frozen=True, slots=True)
class Reach:
    """One entry of an audience. path: of the unit, or of the unit that the place belongs to."""

    kind: Reaches
    target_id: int
    path: str


@dataclass(frozen=True, slots=True)
class Booking:
    """One occurrence, as far as clashes go. series_id 0: not saved yet. rank: 0 is the centre."""

    series_id: int
    occurrence_id: int
    title: str
    unit_id: int
    rank: int
    starts_at: datetime
    ends_at: datetime
    presenter_id: int | None
    room_id: int | None
    audience: tuple[Reach, ...]
    bitrate_bps: int


@dataclass(frozen=True, slots=True)
class Line:
    """A unit whose line is a bottleneck, and what it carries."""

    unit_id: int
    path: str
    line_bps: int


class Clash(StrEnum):
    """What is asked for twice."""

    PRESENTER = "presenter"
    ROOM = "room"
    AUDIENCE = "audience"
    LINE = "line"


@dataclass(frozen=True, slots=True)
class Finding:
    """One clash of one of my occurrences.

    other: whom it clashes with; for a line, the largest of those that share it. mine_yields: the
    other goes first. path: for an audience, the deepest subtree asked twice. lines: the ids of the
    units whose lines are over-booked. free_bps: what the tightest of these lines has left for mine.
    """

    clash: Clash
    mine: Booking
    other: Booking
    mine_yields: bool
    path: str = ""
    lines: tuple[int, ...] = ()
    free_bps: int | None = None


def find(
    mine: Iterable[Booking], others: Iterable[Booking], lines: Sequence[Line] = ()
) -> list[Finding]:
    """The clashes of my occurrences with all others, in the order of time, MOST_CLASHES at most."""
    known = _Others(others, lines)
    found: list[Finding] = []
    for own in sorted(mine, key=lambda booking: booking.starts_at):
        found.extend(known.clashes(own))
        if len(found) >= MOST_CLASHES:
            return found[:MOST_CLASHES]
    return found


class _Others:
    """All others in the order of time, asked about one of mine after the other."""

    def __init__(self, others: Iterable[Booking], lines: Sequence[Line]) -> None:
        self._known = sorted(others, key=lambda booking: booking.starts_at)
        self._starts = [booking.starts_at for booking in self._known]
        self._longest = max((one.ends_at - one.starts_at for one in self._known), default=_NONE)
        self._shared = _Shared()
        self._lines = _Lines(lines)

    def clashes(self, own: Booking) -> Iterator[Finding]:
        """The clashes of one of mine, one by one: who only asks whether need not pay for all."""
        first = bisect.bisect_left(self._starts, own.starts_at - self._longest)
        last = bisect.bisect_left(self._starts, own.ends_at)
        meanwhile = [
            other
            for other in self._known[first:last]
            if other.ends_at > own.starts_at
            and not (other.series_id and other.series_id == own.series_id)
        ]
        for other in meanwhile:
            yield from _between(own, other, self._shared)
        over = self._lines.over_booked(own, meanwhile)
        if over is not None:
            yield over


def yields(mine: Booking, other: Booking) -> bool:
    """Whether mine has to give way: to a higher unit, and to an equal that was there first."""
    return mine.rank >= other.rank


def _between(own: Booking, other: Booking, shared: _Shared) -> Iterator[Finding]:
    gives_way = yields(own, other)
    if own.presenter_id is not None and own.presenter_id == other.presenter_id:
        yield Finding(Clash.PRESENTER, own, other, gives_way)
    if own.room_id is not None and own.room_id == other.room_id:
        yield Finding(Clash.ROOM, own, other, gives_way)
    path = shared.path(own, other)
    if path is not None:
        yield Finding(Clash.AUDIENCE, own, other, gives_way, path=path)


def common(one: Iterable[Reach], other: Sequence[Reach]) -> str | None:
    """Where two audiences meet, as the path of the deepest subtree; None where nowhere.

    When they meet in several places, the first in the order of paths.
    """
    found = (_common(mine, theirs) for mine in one for theirs in other)
    return min((path for path in found if path is not None), default=None)


def _common(one: Reach, other: Reach) -> str | None:
    deep = {Reaches.SUBTREE}
    if one.kind in deep and other.kind in deep:
        return max(one.path, other.path, key=len) if overlap(one.path, other.path) else None
    if one.kind in deep:
        return other.path if other.path.startswith(one.path) else None
    if other.kind in deep:
        return one.path if one.path.startswith(other.path) else None
    if one.path != other.path:
        return None
    same_place = one.kind is other.kind and one.target_id == other.target_id
    return one.path if same_place or Reaches.UNIT in (one.kind, other.kind) else None


class _Shared:
    """`common` for pairs of series, each worked out once."""

    def __init__(self) -> None:
        self._known: dict[tuple[tuple[Reach, ...], tuple[Reach, ...]], str | None] = {}

    def path(self, own: Booking, other: Booking) -> str | None:
        key = (own.audience, other.audience)
        if key not in self._known:
            self._known[key] = common(*key)
        return self._known[key]


class _Lines:
    """The lines that are bottlenecks, in the order of paths, so that a subtree is one stretch."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines = sorted(lines, key=lambda line: line.path)
        self._paths = [line.path for line in self._lines]
        self._at = {path: index for index, path in enumerate(self._paths)}
        self._capacity = np.array([line.line_bps for line in self._lines], dtype=np.int64)
        self._covered: dict[tuple[Reach, ...], npt.NDArray[np.bool_]] = {}

    def over_booked(self, own: Booking, meanwhile: Sequence[Booking]) -> Finding | None:
        """Whether a line would carry more than it can at some moment of mine, and which."""
        if not self._lines or not meanwhile:
            return None
        mine = self._covers(own.audience)
        if not mine.any():
            return None
        most = own.bitrate_bps + sum(other.bitrate_bps for other in meanwhile)
        if most <= self._capacity[mine].min():
            return None
        worst = np.zeros(len(self._lines), dtype=np.int64)
        # The load only grows where something begins.
        for moment in {own.starts_at, *(other.starts_at for other in meanwhile)}:
            if moment >= own.starts_at:
                np.maximum(worst, self._load(meanwhile, moment), out=worst)
        left = self._capacity - worst
        # What is over-booked without mine, where mine does not go, is not mine to solve.
        over = mine & (left < own.bitrate_bps) & (worst > 0)
        if not over.any():
            return None
        there = np.flatnonzero(over)
        tightest = int(there[np.argmin(left[there])])
        sharers = [one for one in meanwhile if self._covers(one.audience)[tightest]]
        other = max(sharers, key=lambda one: (-one.rank, one.bitrate_bps))
        return Finding(
            Clash.LINE,
            own,
            other,
            yields(own, other),
            lines=tuple(self._lines[int(one)].unit_id for one in there),
            free_bps=max(0, int(left[tightest])),
        )

    def _load(self, meanwhile: Sequence[Booking], moment: datetime) -> npt.NDArray[np.int64]:
        load = np.zeros(len(self._lines), dtype=np.int64)
        for other in meanwhile:
            if other.starts_at <= moment < other.ends_at:
                load += self._covers(other.audience) * np.int64(other.bitrate_bps)
        return load

    def _covers(self, audience: tuple[Reach, ...]) -> npt.NDArray[np.bool_]:
        """Which lines a stream to this audience passes: those above its units, and in a subtree."""
        if audience not in self._covered:
            covers = np.zeros(len(self._lines), dtype=np.bool_)
            for reach in audience:
                for path in lineage(reach.path):
                    if path in self._at:
                        covers[self._at[path]] = True
                if reach.kind is Reaches.SUBTREE:
                    first = bisect.bisect_left(self._paths, reach.path)
                    last = bisect.bisect_left(self._paths, past(reach.path))
                    covers[first:last] = True
            self._covered[audience] = covers
        return self._covered[audience]


# Ways out


@dataclass(frozen=True, slots=True)
class WaysOut:
    """What would solve the clashes of one occurrence.

    earlier, later: the nearest starts at which nothing clashes, None where there is none within
    MOST_SHIFT. without: paths to leave out of the audience, whose sites attend the other one.
    other_presenter, other_room: that alone would solve it. bitrate_bps: at which the lines suffice.
    """

    earlier: datetime | None = None
    later: datetime | None = None
    without: tuple[str, ...] = ()
    other_presenter: bool = False
    other_room: bool = False
    bitrate_bps: int | None = None


def ways_out(
    mine: Booking,
    findings: Sequence[Finding],
    others: Sequence[Booking],
    lines: Sequence[Line],
    now: datetime,
) -> WaysOut:
    """The ways out for one of my occurrences.

    findings: its clashes. others: all that happens within MOST_SHIFT of it. Nothing is proposed
    that begins before `now`.
    """
    of_mine = [one for one in findings if one.mine == mine]
    kinds = {one.clash for one in of_mine}
    known = _Others(others, lines)
    earlier, later = (
        _free(mine, direction, known, now) if of_mine else None for direction in (-1, 1)
    )
    rates = [one.free_bps for one in of_mine if one.free_bps]
    # Leaving out everybody is no way out.
    parts = {
        one.path
        for one in of_mine
        if one.path and not all(reach.path.startswith(one.path) for reach in mine.audience)
    }
    return WaysOut(
        earlier=earlier,
        later=later,
        without=tuple(sorted(parts)),
        other_presenter=kinds == {Clash.PRESENTER},
        other_room=kinds == {Clash.ROOM},
        bitrate_bps=min(rates) if rates and Clash.LINE in kinds else None,
    )


def _free(mine: Booking, direction: int, known: _Others, now: datetime) -> datetime | None:
    for step in range(1, MOST_SHIFT // SHIFT_STEP + 1):
        shift = direction * step * SHIFT_STEP
        moved = replace(mine, starts_at=mine.starts_at + shift, ends_at=mine.ends_at + shift)
        if moved.starts_at < now:
            return None
        if next(known.clashes(moved), None) is None:
            return moved.starts_at
    return None
