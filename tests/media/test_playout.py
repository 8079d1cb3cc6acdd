"""What the television shows at `now`: there is always a screen, whatever is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media import playout
from media.playout import Ahead, OnDisk, Screen, Show, State
from media.programme import Item, Programme

NOON = 1795665600.0


class Courses:
    """A shelf with these courses."""

    def __init__(self, *courses: OnDisk) -> None:
        self._courses = {one.course: one for one in courses}

    def course(self, item: Item) -> OnDisk | None:
        return self._courses.get(item.course or "")


RICE = OnDisk("rice", "Rice", "480p", "/courses/rice/480p.mp4", duration_s=1500, whole=True)
TEA = OnDisk("tea", "Tea", duration_s=600, have_bytes=30, size_bytes=90)

DAY = Programme.model_validate(
    {
        "station": "shangping",
        "serial": 1,
        "issued_at": NOON - 86400,
        "valid_until": NOON + 86400,
        "items": [
            {"id": "rice", "title": "Rice", "kind": "course", "course": "rice",
             "starts_at": NOON, "duration_s": 1800},
            {"id": "hall", "title": "Live", "kind": "live", "stream": "hall",
             "starts_at": NOON + 3600, "duration_s": 1800},
            {"id": "tea", "title": "Tea", "kind": "course", "course": "tea",
             "starts_at": NOON + 7200, "duration_s": 600},
        ],
    }
)  # fmt: skip


def at(offset_s: float, *, line_up: bool = True, **more: Ahead) -> Screen:
    return playout.screen(
        NOON + offset_s, DAY, Courses(RICE, TEA), paired=True, line_up=line_up, ahead=more
    )


TIMES = [
    # seconds since noon, what is shown, where in it, when that changes
    (-60, Show.IDLE, None, 0),
    (0, Show.COURSE, 0, 1500),
    (1499.5, Show.COURSE, 1499.5, 1500),
    (1500, Show.IDLE, None, 1800),
    (3600, Show.LIVE, 0, 5400),
    (7201, Show.FAULT, 1, 7800),
    (7800, Show.IDLE, None, None),
]


@pytest.mark.parametrize(("offset_s", "show", "where", "changes"), TIMES)
def test_the_day_goes_by_the_timetable(
    offset_s: float, show: Show, where: float | None, changes: float | None
) -> None:
    screen = at(offset_s)
    assert screen.show is show
    assert (screen.current.offset_s if screen.current else None) == where
    assert screen.changes_at == (None if changes is None else NOON + changes)


def test_a_course_is_shown_from_the_box_and_a_live_class_through_it() -> None:
    course, live = at(10).current, at(3700).current
    assert course is not None
    assert live is not None
    assert (course.src, course.trouble) == ("/courses/rice/480p.mp4", None)
    assert (live.whep, live.trouble) == ("/whep/hall", None)


def test_a_live_class_without_a_line_says_so() -> None:
    screen = at(3700, line_up=False)
    assert screen.current is not None
    assert (screen.show, screen.current.trouble) == (Show.LIVE, "line")


def test_a_course_that_is_not_there_is_told_and_not_black() -> None:
    screen = at(7300)
    assert screen.current is not None
    assert (screen.show, screen.current.trouble) == (Show.FAULT, "missing")


def test_the_next_items_say_how_ready_they_are() -> None:
    states = [(one.id, one.state, one.percent) for one in at(-60).coming]
    assert states == [("rice", "ready", 100), ("hall", "live", None), ("tea", "missing", 33)]
    late = at(-60, line_up=False, tea=Ahead(State.LATE, NOON + 9000)).coming
    assert [(one.state, one.ready_at) for one in late[1:]] == [
        ("live-offline", None), ("late", NOON + 9000)]  # fmt: skip


def test_the_countdown_runs_to_the_next_item() -> None:
    assert at(-60).countdown_s == 60
    assert at(100).countdown_s == 3500
    assert at(8000).countdown_s is None


def test_a_box_that_belongs_to_nobody_shows_its_figures() -> None:
    bare = playout.screen(NOON, None, Courses(), paired=False, line_up=False, ahead={})
    assert bare.show is Show.PAIRING


def test_a_box_without_a_timetable_is_idle() -> None:
    bare = playout.screen(NOON, None, Courses(), paired=True, line_up=False, ahead={})
    assert (bare.show, bare.coming, bare.countdown_s) == (Show.IDLE, (), None)


@given(st.floats(-1e6, 1e6), st.booleans())
def test_there_is_always_a_screen(offset_s: float, line_up: bool) -> None:
    screen = at(offset_s, line_up=line_up)
    assert screen.changes_at is None or screen.changes_at > NOON + offset_s
    assert screen.as_json()["show"] in {one.value for one in Show}
