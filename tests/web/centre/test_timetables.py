"""What a station plays of the plans, and who is told; the first administrator."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from media.programme import Kind
from schedule.agenda import OccurrenceInfo
from schedule.clashes import Reach, Reaches
from schedule.errors import Invalid
from schedule.store import open_store
from web import person
from web.centre import signin
from web.centre.timetables import Place, items, reached

START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CLASS = OccurrenceInfo(
    7, 1, START, "course", "live", "Sowing", 1, START, START + timedelta(hours=1), 0,
    "Asia/Shanghai", None, None, "planned", "",
)  # fmt: skip
STATION = Place(9, "box-9", 4, "1/2/4/", "Asia/Shanghai")


def test_a_live_class_is_played_live_and_its_recording_a_day_later() -> None:
    (live,) = items([CLASS], START - DAY, DAY)
    assert (live.kind, live.stream, live.starts_at) == (Kind.LIVE, "class-7", START)
    after = replace(CLASS, state="published", course="class-7-20260302")
    live, again = items([after], START - DAY, DAY)
    assert (again.kind, again.course) == (Kind.COURSE, "class-7-20260302")
    assert again.starts_at == START + DAY
    assert again.priority < live.priority


def test_no_replay_is_planned_where_there_is_to_be_none() -> None:
    after = replace(CLASS, state="published", course="class-7-20260302")
    assert [one.kind for one in items([after], START - DAY, timedelta())] == [Kind.LIVE]


def test_a_recorded_lesson_is_a_course_and_a_missed_class_is_nothing() -> None:
    lesson = replace(CLASS, source="recorded", course="rice-1")
    assert [(one.kind, one.course) for one in items([lesson], START, DAY)] == [
        (Kind.COURSE, "rice-1")
    ]
    assert items([replace(CLASS, state="missed")], START, DAY) == []


def test_what_is_over_is_left_out() -> None:
    assert items([CLASS], START + timedelta(hours=2), DAY) == []


@pytest.mark.parametrize(
    ("reach", "hit"),
    [
        (Reach(Reaches.STATION, 9, "1/2/4/"), True),
        (Reach(Reaches.STATION, 8, "1/2/4/"), False),
        (Reach(Reaches.UNIT, 4, "1/2/4/"), True),
        (Reach(Reaches.UNIT, 2, "1/2/"), False),
        (Reach(Reaches.SUBTREE, 2, "1/2/"), True),
        (Reach(Reaches.SUBTREE, 3, "1/3/"), False),
        (Reach(Reaches.SITE, 9, "1/2/4/"), False),
    ],
)
def test_which_stations_an_audience_means(reach: Reach, hit: bool) -> None:
    assert reached(STATION, [reach]) is hit


async def test_the_first_administrator_can_sign_in_and_get_another_password(tmp_path: Path) -> None:
    database = str(tmp_path / "terrace.db")
    assert await person.is_empty(database)
    first = await person.add(database, "admin", name="", unit="", admin=True)
    assert first.made
    assert not await person.is_empty(database)
    second = await person.add(database, "admin", name="", unit="", admin=True)
    assert (second.made, second.login) == (False, "admin")
    store = await open_store(database)
    async with store.reading() as connection:
        _, hashed = await signin.password_of(connection, "admin")
    await store.close()
    passwords = signin.Passwords()
    assert await passwords.fits(hashed, second.password)
    assert not await passwords.fits(hashed, first.password)


async def test_a_password_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="a password has"):
        await person.add(
            str(tmp_path / "terrace.db"), "admin", name="", unit="", admin=True, password="x"
        )
