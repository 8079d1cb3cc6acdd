"""What a station plays of the plans, and who is told; the first administrator."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from media.programme import Item, Kind
from schedule.agenda import OccurrenceInfo
from schedule.clashes import Reach, Reaches
from schedule.errors import Invalid
from schedule.store import open_store
from web import person
from web.centre import signin
from web.centre.timetables import Place, Reached, in_order, items_of

START = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
DAY = timedelta(days=1)
CLASS = OccurrenceInfo(
    7, 1, START, "course", "live", "Sowing", 1, START, START + timedelta(hours=1), 0,
    "Asia/Shanghai", None, None, "planned", "",
)  # fmt: skip
STATION = Place(9, "box-9", 4, "1/2/4/", "Asia/Shanghai")


def items(found: list[OccurrenceInfo], since: datetime, replay: timedelta) -> list[Item]:
    return list(in_order((item for one in found for item in items_of(one, replay)), since))


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
    found = Reached({1: [Reach(Reaches.UNIT, 77, "1/77/")], 2: [reach]}).series_of(STATION)
    assert found == ({2} if hit else set())


def test_stations_of_one_unit_differ_where_one_of_them_is_named() -> None:
    reached = Reached(
        {1: [Reach(Reaches.SUBTREE, 1, "1/")], 2: [Reach(Reaches.STATION, 9, "1/2/4/")]}
    )
    assert reached.series_of(replace(STATION, id=8)) == {1}
    assert reached.series_of(STATION) == {1, 2}
    assert reached.series_of(replace(STATION, id=8)) == {1}


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
