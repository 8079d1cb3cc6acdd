"""A county has on its disk what its stations play within the week, before they ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from media import depot, pairing, programme, signed
from media.blob import Blob
from media.cache import Cache
from media.county import County
from media.depot import Depot, needs_of, reserve
from media.errors import DiskFull
from media.fetch import Fetcher
from media.mirror import Mirror
from media.needs import Need
from media.programme import Item
from media.suppliers import Source
from tests.media.lessons import Lesson, Library, lesson, library
from tests.patience import PATIENCE
from tests.web.village import DAY, STATION, pair, timetable

HOUR = 3600.0


async def until(fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(10 * PATIENCE):
        while not fits():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def items(*rows: tuple[str, str, float]) -> Sequence[Item]:
    """Items as (id, course, hours after DAY), of an hour each."""
    return timetable(
        [{"id": id, "course": course, "at": at * HOUR, "duration_s": 3600}
         for id, course, at in rows]
    ).items  # fmt: skip


def pieces(course: str, name: str, count: int, size_bytes: int = 100) -> list[Blob]:
    path = f"/courses/{course}/{name}.mp4"
    return [Blob(f"{course}-{name}-{i}", size_bytes, path, i * size_bytes) for i in range(count)]


def test_many_stations_need_a_course_once_when_the_first_of_them_plays_it() -> None:
    one = items(("a", "rice", 30), ("b", "soil", 3), ("past", "old", -2))
    other = items(("c", "rice", 5), ("far", "later", 8 * 24))
    found = needs_of([one, other], DAY)
    assert [(n.course, n.due_s, n.until_s) for n in found] == [
        ("soil", DAY + 3 * HOUR, DAY + 4 * HOUR),
        ("rice", DAY + 5 * HOUR, DAY + 31 * HOUR),
    ]


def test_no_more_courses_are_wanted_than_can_be_listed() -> None:
    many = items(*[(f"i{n}", f"c{n}", n * 0.1) for n in range(depot.MOST_COURSES + 50)])
    found = needs_of([many], DAY)
    assert len(found) == depot.MOST_COURSES
    assert found[-1].course == f"c{depot.MOST_COURSES - 1}"


COURSES = {
    "soil": {"720p": pieces("soil", "720p", 4, 900), "240p": pieces("soil", "240p", 4)},
    "rice": {"720p": pieces("rice", "720p", 4, 900), "240p": pieces("rice", "240p", 4)},
}
NEEDS = [
    Need("b", "soil", DAY + 3 * HOUR, DAY + 4 * HOUR),
    Need("a", "rice", DAY + 5 * HOUR, DAY + 6 * HOUR),
]


def names(blobs: Sequence[Blob]) -> list[str]:
    """Course and rendition of these, each once, in order."""
    return list(dict.fromkeys(blob.sha256.rpartition("-")[0] for blob in blobs))


@pytest.mark.parametrize(
    ("room_bytes", "rate_bps", "expected", "too_large"),
    [
        # All of it fits: first the best of each, then what thin lines will ask for.
        (100_000, 1e6, ["soil-720p", "rice-720p", "soil-240p", "rice-240p"], ()),
        # A slow line to the county: the small ones are in time.
        (100_000, 1, ["soil-240p", "rice-240p", "soil-720p", "rice-720p"], ()),
        # A small disk: the first due first, then what still fits.
        (4_500, 1e6, ["soil-720p", "soil-240p", "rice-240p"], ()),
        (500, 1e6, ["soil-240p"], ("rice",)),
    ],
)
def test_what_is_reserved(
    room_bytes: int, rate_bps: float, expected: list[str], too_large: tuple[str, ...]
) -> None:
    made = reserve(NEEDS, COURSES, lambda _: False, DAY, rate_bps, room_bytes)
    assert names(made.missing) == expected
    assert made.size_bytes == made.missing_bytes <= room_bytes
    assert len(made.pinned) == len(made.missing)
    assert made.too_large == too_large


def test_what_is_there_stays_and_is_not_fetched_again() -> None:
    held = {blob.sha256 for blob in COURSES["soil"]["240p"]}
    made = reserve(NEEDS, COURSES, held.__contains__, DAY, 1e6, 100_000)
    assert held < made.pinned
    assert "soil-240p" not in names(made.missing)


# ------------------------------------------------------------ with a county, a library, a disk


@dataclass
class Filled:
    """A county with one station below, and its depot at work."""

    county: County
    depot: Depot
    mirror: Mirror
    above: Library
    one: Lesson

    def issue(self, *rows: tuple[str, str, float], serial: int) -> None:
        plan = timetable([], serial=serial).model_copy(update={"items": tuple(items(*rows))})
        text = signed.sign(plan, self.one.key, programme.TYP)
        self.county.put_timetable(STATION, text)
        self.depot.nudge()

    def holds(self, whole: Lesson) -> bool:
        return all(self.mirror.cache.holds(blob.sha256) for blob in whole.blobs)

    async def until_held(self, whole: Lesson) -> None:
        await until(lambda: self.holds(whole))


@asynccontextmanager
async def filled(folder: Path, *lessons: Lesson, budget_bytes: int) -> AsyncIterator[Filled]:
    keys = [pairing.public_pem(lessons[0].key.public_key())]
    county = County(folder / "county", name="longhua", library_keys=keys)
    county.open()
    if not county.stations():
        pair(county, folder / "box")
    cache = Cache(folder / "cache", budget_bytes, free_bytes=lambda _: 1 << 40)
    cache.open()
    async with (
        library(*lessons) as above,
        Fetcher(cache, lambda: [Source(above.url)]) as fetcher,
    ):
        mirror = Mirror(cache, fetcher, [lessons[0].key.public_key()])

        async def opened() -> Mirror:
            return mirror

        one = Depot(county, opened, now=lambda: DAY)
        running = asyncio.create_task(one.run())
        try:
            yield Filled(county, one, mirror, above, lessons[0])
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            cache.close()
            county.close()


async def test_the_county_has_the_course_before_a_station_asks(tmp_path: Path) -> None:
    """Whole, with its manifest and poster, each byte once; and again after a restart: nothing."""
    rice, soil = lesson("rice-1"), lesson("soil-1", seed=2)
    async with filled(tmp_path, rice, soil, budget_bytes=1_000_000) as at:
        at.issue(("a", "rice-1", 30), serial=1)
        await at.until_held(rice)
        assert at.above.sent[rice.media_path] == rice.size_bytes
        assert not at.above.sent[soil.media_path]
        here = "/courses/rice-1"
        for path in (f"{here}/poster.jpg", f"{here}/240p.manifest", f"{here}/course.jws"):
            assert at.above.sent[path] == len(rice.files[path])
        # Another timetable: the other course comes.
        at.issue(("a", "rice-1", 30), ("b", "soil-1", 40), serial=2)
        await at.until_held(soil)
    async with filled(tmp_path, rice, soil, budget_bytes=1_000_000) as at:
        await until(lambda: at.mirror.cache.shelf.pinned_bytes >= rice.size_bytes + soil.size_bytes)
        assert not at.above.sent[rice.media_path]


async def test_what_passes_through_does_not_push_out_what_the_week_needs(tmp_path: Path) -> None:
    rice, big = lesson("rice-1"), lesson("big-1", seed=3, segments=7)
    async with filled(tmp_path, rice, big, budget_bytes=rice.size_bytes * 3 // 2) as at:
        at.issue(("a", "rice-1", 30), serial=1)
        await at.until_held(rice)
        for blob in big.blobs:
            await at.mirror.fetcher.fetch(blob)
        assert at.holds(rice)
        # Nobody plays it any more: it gives way.
        at.issue(serial=2)
        await until(lambda: not at.depot.state.pinned)
        for blob in big.blobs:
            await at.mirror.fetcher.fetch(blob)
        assert at.holds(big)


async def test_a_week_that_does_not_fit_leaves_room_for_what_is_asked_for(tmp_path: Path) -> None:
    rice, soil = lesson("rice-1"), lesson("soil-1", seed=2)
    async with filled(tmp_path, rice, soil, budget_bytes=rice.size_bytes * 3 // 2) as at:
        at.issue(("a", "rice-1", 3), ("b", "soil-1", 4), serial=1)
        await at.until_held(rice)
        await until(lambda: at.depot.state.too_large == ("soil-1",))
        for blob in soil.blobs:
            await at.mirror.fetcher.fetch(blob)
        huge = Blob("0" * 64, rice.size_bytes, soil.media_path, 0)
        with pytest.raises(DiskFull):
            await at.mirror.fetcher.fetch(huge)
        assert at.holds(rice)
