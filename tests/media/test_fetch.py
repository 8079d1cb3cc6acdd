"""Pieces arrive whole and right from sources that are slow, dead, lying, or cut in the middle."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from media import fetch as engine
from media.blob import Blob
from media.cache import Cache
from media.errors import DiskFull, NoSource, NotThere, Refusal
from media.fetch import Fetcher
from media.suppliers import Source, SourceKind
from media.window import Hours, Line
from tests.media.lessons import lesson, library, serving
from tests.patience import PATIENCE

LESSON = lesson()


@asynccontextmanager
async def fetching(
    folder: Path, *sources: Source, budget: int = 10_000_000, line: Line | None = None
) -> AsyncIterator[Fetcher]:
    cache = Cache(folder / "cache", budget)
    cache.open()
    try:
        async with Fetcher(cache, lambda: sources, line=line, chance=random.Random(1)) as fetcher:
            yield fetcher
    finally:
        cache.close()


async def until(fits: Callable[[], object]) -> None:
    """Wait for it, up to half a minute."""
    deadline = time.monotonic() + 30
    while not fits():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def dead_source() -> Source:
    """A port at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Source(f"http://127.0.0.1:{probe.getsockname()[1]}")


async def stocked(fetcher: Fetcher, blobs: Sequence[Blob], *, parallel: int = 2) -> None:
    """Run `stock` until all of it is there."""
    async with asyncio.timeout(60):
        work = asyncio.create_task(fetcher.stock(lambda: blobs, parallel=parallel))
        try:
            await until(lambda: all(fetcher.cache.holds(blob.sha256) for blob in blobs))
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def test_a_course_comes_in_order_and_each_byte_once(tmp_path: Path) -> None:
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        await stocked(fetcher, LESSON.blobs, parallel=1)
        for blob in LESSON.blobs:
            path = await fetcher.cache.find(blob)
            assert path is not None
            assert path.read_bytes() == LESSON.body(blob)
        assert above.sent[LESSON.media_path] == LESSON.size_bytes
        asked = [int(text[6:].partition("-")[0]) for _, text in above.ranges]
        assert asked == sorted(asked)
        assert fetcher.rate_bps >= 0


async def test_who_asks_meanwhile_waits_for_the_same_flight(tmp_path: Path) -> None:
    blob = LESSON.blobs[1]
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        paths = await asyncio.gather(*(fetcher.fetch(blob) for _ in range(20)))
        assert len(set(paths)) == 1
        assert len(above.ranges) == 1


async def test_one_who_leaves_takes_nobody_along(tmp_path: Path) -> None:
    blob = LESSON.blobs[1]
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        above.mute = asyncio.Event()
        first, second = (asyncio.create_task(fetcher.fetch(blob)) for _ in range(2))
        await until(lambda: above.ranges)
        first.cancel()
        above.mute.set()
        assert (await second).read_bytes() == LESSON.body(blob)
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_flight_that_nobody_waits_for_ends_and_the_next_goes_on(tmp_path: Path) -> None:
    blob = LESSON.blobs[1]
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        above.mute = asyncio.Event()
        for _ in range(3):
            alone = asyncio.create_task(fetcher.fetch(blob))
            await asyncio.sleep(0.01)
            alone.cancel()
        above.mute.set()
        assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)


async def test_a_cut_piece_goes_on_where_it_stopped(tmp_path: Path) -> None:
    blob = LESSON.blobs[2]
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        above.cut[blob.path] = [7000, 0, 5000]
        path = await fetcher.fetch(blob)
        assert path.read_bytes() == LESSON.body(blob)
        assert fetcher.counters.parent_bytes == blob.size_bytes
        starts = [
            int(text[6:].partition("-")[0]) - (blob.offset_bytes or 0) for _, text in above.ranges
        ]
        assert starts == [0, 7000, 7000, 12000]


async def test_a_wrong_byte_costs_one_piece_and_another_source_is_asked(tmp_path: Path) -> None:
    blob = LESSON.blobs[2]
    async with library(LESSON) as bad, library(LESSON) as good:
        bad.spoil[blob.path] = 100
        async with fetching(tmp_path, Source(bad.url), Source(good.url)) as fetcher:
            assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)
            assert len(bad.ranges) == len(good.ranges) == 1
            assert fetcher.counters.bad_blobs == 1
            assert fetcher.counters.wasted_bytes == blob.size_bytes


async def test_a_wrong_byte_of_the_only_source_is_fetched_again(tmp_path: Path) -> None:
    blob = LESSON.blobs[2]
    async with library(LESSON) as above, fetching(tmp_path, Source(above.url)) as fetcher:
        above.spoil[blob.path] = 2
        assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)
        assert fetcher.counters.bad_blobs == 2


async def test_a_file_that_is_another_one_now_is_not_mixed_in(tmp_path: Path) -> None:
    """After a cut the parent has a new file under the name: If-Range says so."""
    blob = LESSON.blobs[2]
    async with library(LESSON) as above, library(LESSON) as other:
        above.cut[blob.path] = [7000]
        sources = [Source(above.url)]
        cache = Cache(tmp_path / "cache", 10_000_000)
        cache.open()
        async with Fetcher(cache, lambda: sources) as fetcher:
            task = asyncio.create_task(fetcher.fetch(blob))
            await until(lambda: fetcher.counters.parent_bytes >= 7000)
            above.files[blob.path] = above.files[blob.path][::-1]
            await until(lambda: fetcher.counters.bad_blobs >= 1)
            sources.append(Source(other.url))
            assert (await task).read_bytes() == LESSON.body(blob)
        cache.close()


async def test_a_dead_source_costs_little_and_is_left_alone(tmp_path: Path) -> None:
    """One that refuses, and one that takes the connection and stays silent: 2 s, once."""
    silent = asyncio.Event()
    async with library(LESSON) as mute, library(LESSON) as good:
        mute.mute = silent
        sources = (dead_source(), Source(mute.url), Source(good.url))
        async with fetching(tmp_path, *sources) as fetcher:
            begin = time.monotonic()
            await fetcher.fetch(LESSON.blobs[1])
            first_s = time.monotonic() - begin
            for blob in LESSON.blobs:
                await fetcher.fetch(blob)
            assert len(mute.ranges) == 1
            assert engine.ANSWER_WITHIN_S <= first_s < engine.ANSWER_WITHIN_S + 5 * PATIENCE
        silent.set()


async def test_a_source_that_falls_silent_is_left_for_another(tmp_path: Path) -> None:
    blob = LESSON.blobs[2]
    still = asyncio.Event()

    async def half(request: web.Request) -> web.StreamResponse:
        body, start = LESSON.body(blob), blob.offset_bytes or 0
        headers = {
            "Content-Length": str(len(body)),
            "Content-Range": f"bytes {start}-{start + len(body) - 1}/{LESSON.size_bytes}",
        }
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        await response.write(body[:9000])
        await still.wait()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", half)
    async with serving(app) as url, library(LESSON) as good:
        async with fetching(tmp_path, Source(url), Source(good.url)) as fetcher:
            assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)
            assert good.sent[blob.path] == blob.size_bytes - 9000
        still.set()


async def test_it_tries_until_the_source_is_there(tmp_path: Path) -> None:
    sources = [dead_source()]
    cache = Cache(tmp_path / "cache", 10_000_000)
    cache.open()
    async with Fetcher(cache, lambda: sources) as fetcher, library(LESSON) as above:
        with pytest.raises(NoSource, match=r"did not come in 2 s: .* does not answer"):
            await fetcher.fetch(LESSON.blobs[1], within_s=2)
        task = asyncio.create_task(fetcher.fetch(LESSON.blobs[1]))
        await until(lambda: fetcher.counters.dead >= 4)
        sources[:] = [Source(above.url)]
        fetcher.nudge()
        assert (await task).read_bytes() == LESSON.body(LESSON.blobs[1])
    cache.close()


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotThere), (401, Refusal), (403, Refusal), (410, NotThere)]
)
async def test_what_all_parents_say_is_said_in_their_words(
    tmp_path: Path, status: int, error: type[Exception]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text="No such course; look at /courses.\nmore")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with serving(app) as url, fetching(tmp_path, Source(url)) as fetcher:
        with pytest.raises(error, match=r"^No such course; look at /courses\.$"):
            await fetcher.fetch(LESSON.blobs[1])
        with pytest.raises(error, match=r"^No such course; look at /courses\.$"):
            await fetcher.document("/courses/rice-1/course.jws")


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 200},
        {"status": 206, "headers": {"Content-Range": "bytes 0-9/100"}},
        {"status": 206, "headers": {"Content-Range": "nonsense"}},
        {"status": 206},
        {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}},
        {"status": 500},
        {"status": 503, "headers": {"Retry-After": "0"}},
        {"status": 416},
    ],
    ids=str,
)
async def test_answers_that_are_none_are_passed_over(
    tmp_path: Path, answer: dict[str, int]
) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(body=bytes(10), **answer)  # type: ignore[arg-type]

    app = web.Application()
    app.router.add_get("/{path:.*}", odd)
    blob = LESSON.blobs[1]
    async with (
        serving(app) as url,
        library(LESSON) as good,
        fetching(tmp_path, Source(url), Source(good.url)) as fetcher,
    ):
        assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)


async def test_a_source_that_sends_without_end_is_cut_off(tmp_path: Path) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(65536))

    app = web.Application()
    app.router.add_get("/{path:.*}", flood)
    whole = replace(LESSON.blobs[1], offset_bytes=None, path="/courses/rice-1/poster.jpg")
    async with serving(app) as url, fetching(tmp_path, Source(url)) as fetcher:
        with pytest.raises(NoSource, match="did not come in 4 s"):
            await fetcher.fetch(whole, within_s=4)
        assert fetcher.counters.bad_blobs >= 1
        with pytest.raises(NoSource, match="sends more than"):
            await fetcher.document("/courses/rice-1/course.jws")


async def test_a_neighbour_is_asked_first_by_digest_and_without_a_token(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []

    async def piece(request: web.Request) -> web.Response:
        asked.append((request.path, request.headers.get("Authorization", "")))
        found = [b for b in LESSON.blobs[:4] if request.path == f"/pieces/{b.sha256}"]
        return web.Response(body=LESSON.body(found[0])) if found else web.Response(status=404)

    app = web.Application()
    app.router.add_get("/{path:.*}", piece)
    async with serving(app) as near, library(LESSON) as above:
        sources = (
            Source(above.url, token="secret"),
            Source(near, SourceKind.NEIGHBOUR, token="secret"),
        )
        async with fetching(tmp_path, *sources) as fetcher:
            for blob in LESSON.blobs:
                assert (await fetcher.fetch(blob)).read_bytes() == LESSON.body(blob)
            assert {token for _, token in asked} == {""}
            assert len(asked) == len(LESSON.blobs)
            assert len(above.ranges) == len(LESSON.blobs) - 4
            assert fetcher.counters.neighbour_bytes == sum(b.size_bytes for b in LESSON.blobs[:4])


async def test_a_full_disk_is_said_and_stock_goes_on_when_there_is_room(tmp_path: Path) -> None:
    first, second = LESSON.blobs[1], LESSON.blobs[2]
    budget = max(first.size_bytes, second.size_bytes) + 100
    async with (
        library(LESSON) as above,
        fetching(tmp_path, Source(above.url), budget=budget) as fetcher,
    ):
        fetcher.cache.pin("now", [first.sha256])
        await fetcher.fetch(first)
        with pytest.raises(DiskFull):
            await fetcher.fetch(second)
        work = asyncio.create_task(fetcher.stock(lambda: [first, second]))
        await until(lambda: fetcher.trouble)
        assert "needed soon" in fetcher.trouble
        fetcher.cache.pin("now", [])
        fetcher.nudge()
        await until(lambda: fetcher.cache.holds(second.sha256) and not fetcher.trouble)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_closed_line_fetches_nothing_from_above(tmp_path: Path) -> None:
    """Hours that begin in twelve: a neighbour is asked, the parent is not."""
    hour = int(time.time() // 3600 + 12) % 24
    line = Line(Hours(60 * hour, 60 * hour + 60))
    async with (
        library(LESSON) as above,
        fetching(tmp_path, Source(above.url), line=line) as fetcher,
    ):
        with pytest.raises(NoSource, match="may not be used now"):
            await fetcher.fetch(LESSON.blobs[1])
        work = asyncio.create_task(fetcher.stock(lambda: LESSON.blobs))
        await asyncio.sleep(0.3)
        assert not above.ranges
        line.hours = Hours()
        fetcher.nudge()
        await until(lambda: all(fetcher.cache.holds(blob.sha256) for blob in LESSON.blobs))
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def test_a_capped_line_is_not_exceeded(tmp_path: Path) -> None:
    """120 kB at 400 kbit/s, of which one second's worth may come at once."""
    line = Line(rate_bps=400_000)
    async with (
        library(LESSON) as above,
        fetching(tmp_path, Source(above.url), line=line) as fetcher,
    ):
        begin = time.monotonic()
        await stocked(fetcher, LESSON.blobs)
        took = time.monotonic() - begin
        assert took >= 8 * LESSON.size_bytes / 400_000 - 1.5


async def test_documents_are_asked_for_conditionally(tmp_path: Path) -> None:
    path = "/courses/rice-1/course.jws"
    async with library(LESSON) as above:
        async with fetching(tmp_path, dead_source(), Source(above.url)) as fetcher:
            answer = await fetcher.document(path)
            assert answer.body == LESSON.files[path]
            again = await fetcher.document(path, etag=answer.etag)
            assert again.body is None
            with pytest.raises(NotThere, match="There is no such course"):
                await fetcher.document("/courses/none/course.jws")
        with pytest.raises(NoSource):
            async with fetching(tmp_path, dead_source()) as fetcher:
                await fetcher.document(path)
