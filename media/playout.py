"""What the television of a station shows at `now`: a pure function of what the box knows.

`screen` takes the timetable, what is on the disk (`Shelf`), the line and the clock, and returns a
`Screen`. There is always one, whatever is missing, so the television is never black. The page
shows it, and comes back at `changes_at` at the latest.

    unpaired ........................................ PAIRING  the six figures
    a recorded item is on and its course is there ... COURSE   `current.src` from `offset_s` on
    a recorded item is on, its course is not ........ FAULT    `current.trouble` says why
    a live item is on ............................... LIVE     `current.trouble` "line" in an outage
    else ............................................ IDLE     clock, next item, countdown

The JSON of a screen (`Screen.as_json`) is what `GET /api/station` answers, with more about the
box around it; see web/README.md. All times are Unix seconds of the clock that the box believes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final, Protocol

from media import programme
from media.programme import Item, Kind, Programme

COMING: Final = 5


class Show(StrEnum):
    """Which of its screens the television shows."""

    PAIRING = "pairing"
    IDLE = "idle"
    COURSE = "course"
    LIVE = "live"
    FAULT = "fault"


class State(StrEnum):
    """How ready an item is that has not begun."""

    READY = "ready"
    """Everything is on the disk."""
    FETCHING = "fetching"
    """Pieces arrive, and by the measured rate it will be whole in time."""
    WAITING = "waiting"
    """Its turn or the bandwidth window has not come, and it will be whole in time."""
    LATE = "late"
    """By the measured rate it will not be whole when it begins."""
    MISSING = "missing"
    """Nobody whom the box can reach has it."""
    LIVE = "live"
    """It comes over the line when its time is there, and the line is up."""
    LIVE_OFFLINE = "live-offline"
    """It would come over the line, which is down."""


class Trouble(StrEnum):
    """Why the item that is on cannot be seen."""

    LINE = "line"
    """Live, and the line to the county is down."""
    MISSING = "missing"
    """Recorded, and not on the disk."""


@dataclass(frozen=True, slots=True)
class Subtitle:
    lang: str
    label: str
    src: str


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A course as far as it is at the station.

    rendition: the one to play, "" if none can be played yet
    src:       its path on the box's own server, "" if there is none
    duration_s: how long it plays
    whole:     every piece is there and verified
    holes:     times of the course (from, to in seconds) whose pieces are not there
    have_bytes, size_bytes: of the rendition that is fetched
    """

    course: str
    title: str = ""
    rendition: str = ""
    src: str = ""
    poster: str = ""
    subtitles: tuple[Subtitle, ...] = ()
    duration_s: float = 0.0
    whole: bool = False
    holes: tuple[tuple[float, float], ...] = ()
    have_bytes: int = 0
    size_bytes: int = 0


class Shelf(Protocol):
    """The courses at the box, as playout asks for them. Answers from memory, at once."""

    def course(self, item: Item) -> OnDisk | None:
        """The course of a recorded item, in the rendition that fits it best; None: unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the forecast says of an item: when it will be whole, None if never."""

    state: State
    ready_at: float | None = None


@dataclass(frozen=True, slots=True)
class Current:
    """The item that is on."""

    id: str
    title: str
    kind: str
    starts_at: float
    ends_at: float
    offset_s: float
    """Where in the course (or in the live class) `now` is."""
    course: str = ""
    rendition: str = ""
    src: str = ""
    poster: str = ""
    subtitles: tuple[Subtitle, ...] = ()
    whep: str = ""
    """Path at the box, which passes it on to the county: the page needs no token."""
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Coming:
    """An item that has not begun. `percent` is what of it is on the disk, None if live.

    `src`, `subtitles` and `whep` are as in `Current`, so that the page can load it ahead, and begin
    it on time even if the daemon is being started again at that moment.
    """

    id: str
    title: str
    kind: str
    starts_at: float
    duration_s: int
    state: str
    percent: int | None = None
    ready_at: float | None = None
    poster: str = ""
    src: str = ""
    subtitles: tuple[Subtitle, ...] = ()
    whep: str = ""


@dataclass(frozen=True, slots=True)
class Screen:
    """What the television shows. `changes_at` is None when nothing is to come."""

    show: Show
    current: Current | None
    coming: tuple[Coming, ...]
    countdown_s: float | None
    changes_at: float | None

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"show": self.show.value}


def screen(
    now: float,
    timetable: Programme | None,
    shelf: Shelf,
    *,
    paired: bool,
    line_up: bool,
    ahead: Mapping[str, Ahead],
) -> Screen:
    """What the television shows at `now`. `ahead` is the forecast by item id."""
    items = timetable.items if timetable is not None else ()
    if not paired and not items:
        return Screen(Show.PAIRING, None, (), None, None)
    coming = tuple(
        _coming(one, shelf, line_up=line_up, ahead=ahead.get(one.id))
        for one in programme.coming(items, now, COMING)
    )
    countdown_s = coming[0].starts_at - now if coming else None
    show, current, ends_s = _current(now, items, shelf, line_up=line_up)
    changes_s = min(programme.next_change(items, now), ends_s)
    return Screen(show, current, coming, countdown_s, None if math.isinf(changes_s) else changes_s)


def _current(
    now: float, items: Sequence[Item], shelf: Shelf, *, line_up: bool
) -> tuple[Show, Current | None, float]:
    """The screen of the item that is on, and when a course that is shorter than its time ends."""
    item = programme.playing(items, now)
    if item is None:
        return Show.IDLE, None, math.inf
    offset_s = now - item.start_s
    if item.kind is Kind.LIVE:
        return (
            Show.LIVE,
            Current(
                id=item.id, title=item.title, kind=item.kind.value,
                starts_at=item.start_s, ends_at=item.end_s, offset_s=offset_s,
                whep=f"/whep/{item.stream}",
                trouble=None if line_up else Trouble.LINE.value,
            ),
            math.inf,
        )  # fmt: skip
    course = shelf.course(item)
    if course is not None and course.src and 0 < course.duration_s <= offset_s:
        return Show.IDLE, None, math.inf  # it was shorter than its time and is over
    src = course.src if course is not None else ""
    hole_ends_s, next_hole_s = _holes(course, offset_s)
    there = bool(src) and hole_ends_s is None
    current = Current(
        id=item.id, title=item.title, kind=item.kind.value,
        starts_at=item.start_s, ends_at=item.end_s, offset_s=offset_s,
        course=item.course or "",
        rendition=course.rendition if course else "",
        src=src,
        poster=course.poster if course else "",
        subtitles=course.subtitles if course else (),
        trouble=None if there else Trouble.MISSING.value,
    )  # fmt: skip
    if course is None or not there:
        return Show.FAULT, current, item.start_s + (hole_ends_s or math.inf)
    ends_s = course.duration_s if course.duration_s > 0 else math.inf
    return Show.COURSE, current, item.start_s + min(ends_s, next_hole_s)


def _holes(course: OnDisk | None, offset_s: float) -> tuple[float | None, float]:
    """Where the hole ends in which the course is now (None: in none), and where the next begins."""
    for begin_s, end_s in course.holes if course is not None else ():
        if begin_s <= offset_s < end_s:
            return end_s, math.inf
        if offset_s < begin_s:
            return None, begin_s
    return None, math.inf


def _coming(item: Item, shelf: Shelf, *, line_up: bool, ahead: Ahead | None) -> Coming:
    if item.kind is Kind.LIVE:
        state = State.LIVE if line_up else State.LIVE_OFFLINE
        return Coming(
            item.id, item.title, item.kind.value, item.start_s, item.duration_s, state.value,
            whep=f"/whep/{item.stream}",
        )  # fmt: skip
    course = shelf.course(item)
    percent = 0
    if course is not None:
        if course.whole:
            percent = 100
        elif course.size_bytes:
            percent = min(99, 100 * course.have_bytes // course.size_bytes)
    if course is not None and course.whole:
        state = State.READY
    elif ahead is not None:
        state = ahead.state
    else:
        state = State.MISSING
    return Coming(
        item.id, item.title, item.kind.value, item.start_s, item.duration_s, state.value,
        percent, ahead.ready_at if ahead is not None else None,
        course.poster if course is not None else "",
        course.src if course is not None else "",
        course.subtitles if course is not None else (),
    )  # fmt: skip
