"""Courses by USB stick: the same pieces, and nothing believed without a good signature."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from media import parcel
from media.blob import manifest_blob, small_blobs
from media.cache import Cache
from media.errors import DiskFull, NoSource
from media.fetch import Fetcher
from media.mirror import Mirror
from media.parcel import ParcelError
from media.suppliers import Source
from tests.media.lessons import Lesson, lesson, library

ONE, TWO = lesson("rice-1", seed=1), lesson("rice-2", seed=2)


@asynccontextmanager
async def box(folder: Path, *parents: str, budget: int = 10_000_000) -> AsyncIterator[Mirror]:
    cache = Cache(folder, budget)
    cache.open()
    try:
        async with Fetcher(cache, lambda: [Source(url) for url in parents]) as fetcher:
            yield Mirror(cache, fetcher, [ONE.key.public_key()])
    finally:
        cache.close()


async def fill(mirror: Mirror, *lessons: Lesson) -> None:
    for one in lessons:
        entry = await mirror.entry(one.course.id)
        for blob in await mirror.pieces(entry.course, "240p"):
            await mirror.fetcher.fetch(blob)


async def holds_all(mirror: Mirror, one: Lesson) -> bool:
    wanted = [
        manifest_blob(one.course.id, one.course.renditions[0]),
        *one.blobs,
        *small_blobs(one.course),
    ]
    return all([await mirror.cache.find(blob) is not None for blob in wanted])


async def test_a_stick_brings_courses_to_a_box_that_has_no_line(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with library(ONE, TWO) as above, box(tmp_path / "a", above.url) as here:
        await fill(here, ONE, TWO)
        out = await parcel.export(here, stick)
        assert sorted(out.courses) == ["rice-1", "rice-2"]
        again = await parcel.export(here, stick, ["rice-1", "rice-9"])
        assert (again.copied, again.courses) == (0, ["rice-1"])
        assert again.problems == ["the course rice-9 is not known on this box"]
    async with box(tmp_path / "b") as there:
        taken = await parcel.import_(there, stick)
        assert (sorted(taken.courses), taken.bad, taken.problems) == (["rice-1", "rice-2"], 0, [])
        assert await holds_all(there, ONE)
        assert await holds_all(there, TWO)
        assert [course.id for course in await there.known()] == ["rice-2", "rice-1"]
        again = await parcel.import_(there, stick)
        assert again.copied == 0
    # The entry and the pieces serve without any parent, also after a restart.
    async with box(tmp_path / "b") as there:
        entry = await there.entry("rice-1")
        assert entry.stale
        assert len(await there.pieces(entry.course, "240p")) == len(ONE.blobs) + 1


async def test_what_is_only_half_there_is_carried_as_far_as_it_goes(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with library(ONE) as above, box(tmp_path / "a", above.url) as here:
        entry = await here.entry("rice-1")
        blobs = await here.pieces(entry.course, "240p")
        for blob in blobs[:3]:
            await here.fetcher.fetch(blob)
        await parcel.export(here, stick)
    async with box(tmp_path / "b") as there:
        taken = await parcel.import_(there, stick)
        assert taken.courses == ["rice-1"]
        assert [there.cache.holds(blob.sha256) for blob in ONE.blobs] == [True] * 3 + [False] * 4


async def test_a_bad_piece_on_the_stick_is_left_out_and_counted(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with library(ONE) as above, box(tmp_path / "a", above.url) as here:
        await fill(here, ONE)
        await parcel.export(here, stick)
    victims = [stick / parcel.FOLDER / "pieces" / b.sha256[:2] / b.sha256 for b in ONE.blobs[1:5]]
    victims[0].write_bytes(victims[0].read_bytes()[:-1])
    victims[1].write_bytes(victims[1].read_bytes() + b"x")
    victims[2].write_bytes(bytes(victims[2].stat().st_size))
    victims[3].unlink()
    victims[3].symlink_to("/etc/hostname")
    async with box(tmp_path / "b") as there:
        taken = await parcel.import_(there, stick)
        assert taken.bad == len(taken.problems) == 4
        assert sum(there.cache.holds(blob.sha256) for blob in ONE.blobs) == len(ONE.blobs) - 4


async def test_a_course_with_a_wrong_signature_or_name_is_refused_and_the_others_come(
    tmp_path: Path,
) -> None:
    stick = tmp_path / "stick"
    async with library(ONE, TWO) as above, box(tmp_path / "a", above.url) as here:
        await fill(here, ONE, TWO)
        await parcel.export(here, stick)
    entries = stick / parcel.FOLDER / "entries"
    good = (entries / "rice-1.jws").read_bytes()
    (entries / "rice-2.jws").write_bytes(good)
    (entries / "forged.jws").write_bytes(good[:-8] + b"AAAAAAAA")
    (entries / "half.jws").write_bytes(good[: len(good) // 2])
    (entries / "..jws").write_bytes(good)
    (entries / "Über.jws").write_bytes(good)
    async with box(tmp_path / "b") as there:
        taken = await parcel.import_(there, stick)
        assert taken.courses == ["rice-1"]
        assert len(taken.problems) == 3
        assert taken.problems[0].startswith("the course forged is not taken: the document is not")
        assert "is that of rice-1" in taken.problems[2]
        assert [course.id for course in await there.known()] == ["rice-1"]


async def test_an_older_entry_on_a_stick_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    stick, newer = tmp_path / "stick", lesson("rice-1", revision=2)
    async with library(ONE) as above, box(tmp_path / "a", above.url) as here:
        await fill(here, ONE)
        await parcel.export(here, stick)
    async with library(newer) as above, box(tmp_path / "b", above.url) as there:
        await there.entry("rice-1")
        await parcel.import_(there, stick)
        assert (await there.entry("rice-1")).course.revision == 2


async def test_a_folder_without_courses_and_a_cache_without_room_say_so(tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    async with box(tmp_path / "b") as there:
        with pytest.raises(
            ParcelError, match=r"holds no courses .* `terrace station export` wrote"
        ):
            await parcel.import_(there, stick)
    async with library(ONE) as above, box(tmp_path / "a", above.url) as here:
        await fill(here, ONE)
        await parcel.export(here, stick)
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(ParcelError, match="cannot be written"):
            await parcel.export(here, tmp_path / "file")
    async with box(tmp_path / "c", budget=50_000) as there:
        there.cache.pin("all", [blob.sha256 for blob in ONE.blobs])
        with pytest.raises(DiskFull, match="needed soon"):
            await parcel.import_(there, stick)


async def test_without_a_line_an_unknown_course_is_no_source(tmp_path: Path) -> None:
    async with box(tmp_path / "a") as here:
        with pytest.raises(NoSource, match="no parent is known"):
            await here.entry("rice-1")
