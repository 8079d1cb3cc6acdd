"""A node between a library and stations: one copy comes down, whole and right, to whoever asks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from yarl import URL

from media import pairing, programme, signed
from media.cache import Cache
from media.county import County as CountyBook
from media.course import Changes
from media.fetch import Fetcher
from media.mirror import FRESH_S
from media.programme import Item
from media.suppliers import Source, SourceKind
from relay.access import Access, issue
from tests.media.lessons import Lesson, lesson, library, serving
from tests.media.test_library import published
from tests.patience import PATIENCE
from tests.web.village import STATION, pair, timetable
from web import courses, distribution, stations
from web.cache_settings import CacheSettings
from web.distribution import Distribution
from web.library import LibraryRoom
from web.library_settings import LibrarySettings


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No node counts as dead because the machine stood still for two seconds."""
    monkeypatch.setattr("media.fetch.ANSWER_WITHIN_S", 2.0 * PATIENCE)
    monkeypatch.setattr(distribution, "TOLD_WITHIN_S", 1.0 * PATIENCE)


@dataclass(frozen=True)
class Config:
    parents: tuple[str, ...]
    access: Access
    port: int = 8740
    parent_token: str = ""


@dataclass
class County:
    url: str
    distribution: Distribution
    http: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, bytes, Mapping[str, str]]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.get(self.url + path, headers=names) as response:
            return response.status, await response.read(), response.headers


@asynccontextmanager
async def county(
    folder: Path, *parents: str, lesson: Lesson | None = None, access: Access | None = None
) -> AsyncIterator[County]:
    settings = CacheSettings(folder=folder / "cache", keep_free_mb=0)
    keys = [lesson.key.public_key()] if lesson else []
    config = Config(parents, access or Access.open_mode())
    made, app = Distribution(config, settings, keys), web.Application()
    distribution.add(app, made)
    async with serving(app) as url, aiohttp.ClientSession() as http:
        yield County(url, made, http)


async def test_a_course_comes_through_the_county_once(tmp_path: Path) -> None:
    """Thirty askers of a whole file: the library sends each byte of it once."""
    one = lesson(segments=8)
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        answers = await asyncio.gather(*(node.get(one.media_path) for _ in range(30)))
        assert {status for status, _, _ in answers} == {200}
        assert all(body == one.files[one.media_path] for _, body, _ in answers)
        assert above.sent[one.media_path] == one.size_bytes
        assert above.sent["/courses/rice-1/course.jws"] == len(
            one.files["/courses/rice-1/course.jws"]
        )


async def fetched(node: County, one: Lesson) -> None:
    status, body, _ = await node.get(one.media_path)
    assert (status, body) == (200, one.files[one.media_path])


async def test_every_range_is_cut_from_the_right_pieces(tmp_path: Path) -> None:
    one = lesson(segments=5)
    whole, size = one.files[one.media_path], one.size_bytes
    edges = [blob.offset_bytes or 0 for blob in one.blobs]
    spans = [
        (0, 1),
        (0, size),
        (size - 1, size),
        (edges[1], edges[2]),
        (edges[1] - 1, edges[2] + 1),
    ]
    spans += [(edges[1] + 5, edges[4] + 7), (edges[3], edges[3] + 1)]
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        for first, end in spans:
            status, body, headers = await node.get(one.media_path, Range=f"bytes={first}-{end - 1}")
            assert (status, body) == (206, whole[first:end])
            assert headers["Content-Range"] == f"bytes {first}-{end - 1}/{size}"
            assert headers["Content-Type"] == "video/mp4"
        status, body, _ = await node.get(one.media_path, Range="bytes=-10")
        assert (status, body) == (206, whole[-10:])
        status, _, headers = await node.get(one.media_path, Range=f"bytes={size}-")
        assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")
        etag = headers["ETag"]
        assert (await node.get(one.media_path, If_None_Match=etag))[0] == 304
        mine = await node.get(one.media_path, Range="bytes=0-9", If_Range=etag)
        other = await node.get(one.media_path, Range="bytes=0-9", If_Range='"another"')
        assert (mine[0], other[0]) == (206, 200)
        async with node.http.head(node.url + one.media_path) as head:
            assert (head.status, head.headers["Content-Length"]) == (200, str(size))


async def test_a_range_brings_only_the_pieces_that_it_touches(tmp_path: Path) -> None:
    one = lesson(segments=20)
    blob = one.blobs[7]
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        start = blob.offset_bytes or 0
        status, body, _ = await node.get(one.media_path, Range=f"bytes={start + 5}-{start + 9}")
        assert (status, body) == (206, one.body(blob)[5:10])
        assert above.sent[one.media_path] == blob.size_bytes


async def test_small_files_come_too_and_are_asked_for_once(tmp_path: Path) -> None:
    one = lesson()
    here = "/courses/rice-1"
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        for path in (f"{here}/poster.jpg", f"{here}/240p.manifest", f"{here}/course.jws"):
            for _ in range(3):
                status, body, headers = await node.get(path)
                assert (status, body) == (200, one.files[path])
            assert (await node.get(path, If_None_Match=headers["ETag"]))[0] == 304
            assert above.sent[path] == len(body)
        assert (await node.get(f"{here}/fr.vtt"))[0] == 404
        assert (await node.get(f"{here}/720p.mp4"))[0] == 404
        assert (await node.get("/api/courses?q=稻"))[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/courses/../../etc/passwd",
        "/courses/..%2F..%2Fetc/course.jws",
        "/courses/rice-1/..%2F..%2Fcourse.jws",
        "/courses/rice-1/%2e%2e.mp4",
        "/courses/RICE/course.jws",
        "/courses/rice-1/passwd",
        "/pieces/../lock",
    ],
)
async def test_names_that_lead_elsewhere_are_nothing_here(tmp_path: Path, path: str) -> None:
    one = lesson()
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        url = URL(node.url + path, encoded=True)
        async with node.http.get(url) as response:
            assert response.status == 404
        assert above.ranges == []


async def test_with_the_parent_gone_what_is_here_is_served_and_the_rest_has_a_sentence(
    tmp_path: Path,
) -> None:
    """After a restart too: the entry, the manifest and the pieces are on the disk."""
    one = lesson(segments=5)
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        start = one.blobs[3].offset_bytes or 0
        assert (await node.get(one.media_path, Range=f"bytes=0-{start - 1}"))[0] == 206
        await node.get("/api/courses")
    async with county(tmp_path, above.url, lesson=one) as node:
        status, body, headers = await node.get(one.media_path, Range=f"bytes=0-{start - 1}")
        assert (status, body) == (206, one.files[one.media_path][:start])
        _, _, headers = await node.get("/api/courses")
        assert headers["Terrace-Stale"] == "1"
        status, body, headers = await node.get("/courses/rice-9/course.jws")
        assert (status, headers["Retry-After"].isdecimal()) == (503, True)
        assert b"cannot be had now: " in body
        assert body.count(b"\n") == 1


async def test_a_piece_that_cannot_be_had_breaks_the_answer_off(tmp_path: Path) -> None:
    """What was promised by Content-Length does not come: the client must see that it is cut."""
    one = lesson(segments=5)
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        start = one.blobs[3].offset_bytes or 0
        assert (await node.get(one.media_path, Range=f"bytes=0-{start - 1}"))[0] == 206
        above.status = 404
        with pytest.raises(aiohttp.ClientPayloadError):
            await node.get(one.media_path)
        assert node.distribution.served.cut == 1


async def test_a_course_that_the_library_takes_back_is_gone(tmp_path: Path) -> None:
    one = lesson()
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        await fetched(node, one)
        mirror = await node.distribution.mirror()
        mirror.forget_freshness()
        del above.files["/courses/rice-1/course.jws"]
        assert (await node.get(one.media_path))[0] == 404


async def test_a_new_revision_is_seen_and_an_old_one_is_not_taken_back(tmp_path: Path) -> None:
    old, new = lesson(revision=1), lesson(revision=2, seed=2)
    async with library(old) as above, county(tmp_path, above.url, lesson=old) as node:
        await fetched(node, old)
        mirror = await node.distribution.mirror()
        above.files.update(new.files)
        mirror.forget_freshness()
        await fetched(node, new)
        above.files.update(old.files)
        mirror.forget_freshness()
        await fetched(node, new)


async def test_a_wrong_signature_gets_its_sentence_and_does_not_replace_what_is_good(
    tmp_path: Path,
) -> None:
    good = lesson()
    forged = lesson(key=Ed25519PrivateKey.generate(), revision=9)
    async with library(forged) as above, county(tmp_path, above.url, lesson=good) as node:
        status, body, _ = await node.get("/courses/rice-1/course.jws")
        assert status == 502
        assert b"not signed by a key that is known here" in body
        above.files.update(good.files)
        await fetched(node, good)
        above.files.update(forged.files)
        (await node.distribution.mirror()).forget_freshness()
        await fetched(node, good)


async def test_a_manifest_with_a_wrong_signature_gets_its_sentence(tmp_path: Path) -> None:
    """The entry is right and names it by its digest, but it is signed as something else."""
    one = lesson()
    text = signed.sign(one.manifest, one.key, signed.TIMETABLE).encode()
    rendition = one.course.renditions[0].model_copy(
        update={"manifest_sha256": hashlib.sha256(text).hexdigest()}
    )
    course = one.course.model_copy(update={"renditions": (rendition,)})
    files = one.files | {
        "/courses/rice-1/240p.manifest": text,
        "/courses/rice-1/course.jws": signed.sign(course, one.key, signed.COURSE).encode(),
    }
    async with (
        library(replace(one, files=files)) as above,
        county(tmp_path, above.url, lesson=one) as node,
    ):
        status, body, _ = await node.get(one.media_path)
        assert status == 502
        assert b"'terrace-manifest' is wanted" in body


async def test_a_parent_that_refuses_our_token_is_named(tmp_path: Path) -> None:
    one = lesson()
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        above.status = 401
        status, body, _ = await node.get("/courses/rice-1/course.jws")
        assert status == 502
        assert b"set parent_token" in body
        assert b"Not today." in body


async def test_who_may_not_view_a_course_is_told_so(tmp_path: Path) -> None:
    one, key = lesson(), Ed25519PrivateKey.generate()
    pem = tmp_path / "public.pem"
    pem.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def token(*view: str) -> str:
        return "Bearer " + issue(
            private, publish=[], view=view, relay=False, ttl_s=60, subject="", now=time.time()
        )

    access = Access.from_pem_files([pem])
    async with (
        library(one) as above,
        county(tmp_path, above.url, lesson=one, access=access) as node,
    ):
        path = "/courses/rice-1/poster.jpg"
        assert (await node.get(path))[0] == 401
        assert (await node.get(path, Authorization=token("course/health-*")))[0] == 403
        assert (await node.get(path, Authorization=token("course/*")))[0] == 200
        assert (await node.get("/api/courses"))[0] == 401


async def test_a_full_disk_has_a_sentence_and_what_is_here_is_served(tmp_path: Path) -> None:
    one = lesson(segments=5)
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        start = one.blobs[2].offset_bytes or 0
        assert (await node.get(one.media_path, Range=f"bytes=0-{start - 1}"))[0] == 206
        cache = (await node.distribution.mirror()).cache
        cache.pin("all", [blob.sha256 for blob in one.blobs])
        cache.shelf.budget_bytes = cache.shelf.used_bytes
        assert (await node.get(one.media_path, Range=f"bytes=0-{start - 1}"))[0] == 206
        status, body, _ = await node.get(one.media_path, Range=f"bytes={start}-")
        assert status == 507
        assert b"needed soon: allow it more, or plan less" in body


async def test_a_folder_that_cannot_be_used_has_a_sentence(tmp_path: Path) -> None:
    one = lesson()
    (tmp_path / "cache").write_bytes(b"a file where the folder should be")
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        status, body, _ = await node.get(one.media_path)
        assert status == 500
        assert b"choose a folder" in body


async def test_two_tiers_below_the_library_work_as_one(tmp_path: Path) -> None:
    one = lesson(segments=5)
    async with (
        library(one) as above,
        county(tmp_path / "city", above.url, lesson=one) as city,
        county(tmp_path / "county", city.url, lesson=one) as node,
    ):
        answers = await asyncio.gather(*(node.get(one.media_path) for _ in range(5)))
        assert all(body == one.files[one.media_path] for _, body, _ in answers)
        assert above.sent[one.media_path] == one.size_bytes
        size = one.size_bytes + len(one.files["/courses/rice-1/240p.manifest"])
        async with asyncio.timeout(10 * PATIENCE):
            # Counted when an answer has ended, which its reader may see first.
            while city.distribution.served.bytes < size:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert city.distribution.served.bytes == size


async def test_neighbours_get_pieces_by_digest_and_only_what_is_held(tmp_path: Path) -> None:
    one = lesson()
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        await fetched(node, one)
        mirror, app = await node.distribution.mirror(), web.Application()
        distribution.add_pieces(app, lambda: mirror.cache)
        async with serving(app) as url, node.http.get(f"{url}/pieces/{'0' * 64}") as response:
            assert response.status == 404
        async with serving(app) as url:
            cache = Cache(tmp_path / "other", 10_000_000)
            cache.open()
            near = Source(url, SourceKind.NEIGHBOUR)
            async with Fetcher(cache, lambda: [near]) as fetcher:
                blob = one.blobs[2]
                async with await cache.intake(blob) as intake:
                    await intake.write(one.body(blob)[:999])
                assert (await fetcher.fetch(blob)).read_bytes() == one.body(blob)
                assert fetcher.counters.neighbour_bytes == blob.size_bytes - 999
            cache.close()


# ------------------------------------------------------------ what is new above


@asynccontextmanager
async def real_library(folder: Path) -> AsyncIterator[tuple[str, LibraryRoom]]:
    """A library's own URLs, without the work on its jobs."""
    room = LibraryRoom(LibrarySettings(folder=folder / "library"))
    app = web.Application()
    courses.add(app, room, Access.open_mode())
    async with serving(app) as url:
        yield url, room


async def listed(node: County) -> list[str]:
    _, body, _ = await node.get("/api/courses")
    return [one["title"] for one in json.loads(body)["courses"]]


async def until_listed(node: County, *titles: str) -> None:
    """Wait until the node lists these, not so long that what it had has aged."""
    async with asyncio.timeout(FRESH_S * 0.8):
        while await listed(node) != list(titles):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_what_is_new_in_the_library_is_known_below_at_once(tmp_path: Path) -> None:
    """Entered, corrected and removed, two nodes down: not when copies have aged, but then."""
    async with (
        real_library(tmp_path) as (above, room),
        county(tmp_path / "province", above) as province,
        county(tmp_path / "county", province.url) as node,
    ):
        assert await listed(node) == []
        library = await room.library()
        await published(library, tmp_path / "file", "rice", title="Rice")
        await until_listed(node, "Rice")
        assert (await node.get("/courses/rice/course.jws"))[0] == 200
        await room.edit("rice", Changes(title="Better"), None)
        await until_listed(node, "Better")
        _, body, _ = await node.get("/courses/rice/course.jws")
        assert b"Better" in base64.urlsafe_b64decode(body.split(b".")[1] + b"==")
        await room.delete("rice", anyway=True)
        await until_listed(node)
        assert (await node.get("/courses/rice/course.jws"))[0] == 404
        # While nothing changes, copies are served and nobody is asked.
        mirror = await node.distribution.mirror()
        before = mirror.fetcher.counters.parent_bytes
        for _ in range(5):
            await listed(node)
        assert mirror.fetcher.counters.parent_bytes == before


async def test_a_node_above_that_tells_nothing_costs_nothing_but_age(tmp_path: Path) -> None:
    one = lesson()
    async with library(one) as above, county(tmp_path, above.url, lesson=one) as node:
        await fetched(node, one)
        asked = [path for path, _ in above.ranges if path == "/api/catalogue"]
        assert len(asked) == 1
        await fetched(node, one)


async def test_a_watch_ends_after_a_while_and_tells_how_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courses, "WATCH_S", 0.2)
    async with real_library(tmp_path) as (above, room), aiohttp.ClientSession() as http:

        async def state(seen: str = "") -> str:
            async with http.get(f"{above}/api/catalogue", params={"seen": seen}) as answer:
                return str((await answer.json())["state"])

        assert await state() == ""  # A node that has no library waits for one, in vain.
        await published(await room.library(), tmp_path / "file")
        first = await state()
        assert first
        assert await state(first) == first


# ------------------------------------------------------------ what the stations will ask for


async def test_a_timetable_that_the_county_takes_brings_its_course(tmp_path: Path) -> None:
    """As an operator puts it; its stations then have it with the line to the library cut."""
    one = lesson()
    keys = [pairing.public_pem(one.key.public_key())]
    book = CountyBook(tmp_path / "book", name="longhua", library_keys=keys)
    book.open()
    pair(book, tmp_path / "box")
    gate = Access.open_mode()
    async with library(one) as above:
        settings = CacheSettings(folder=tmp_path / "cache", keep_free_mb=0)
        made = Distribution(Config((above.url,), gate), settings, [one.key.public_key()])
        app = web.Application()
        distribution.add(app, made)
        depot = distribution.add_depot(app, made, book)
        stations.add(app, book, gate, depot.nudge)
        item = {"id": "a", "title": "Rice", "kind": "course", "course": one.course.id,
                "starts_at": time.time() + 3600, "duration_s": 600}  # fmt: skip
        plan = timetable([]).model_copy(update={"items": (Item.model_validate(item),)})
        async with serving(app) as url, aiohttp.ClientSession(url) as http:
            assert made.opened is None  # No timetable, no courses, no cache.
            body = signed.sign(plan, one.key, programme.TYP)
            async with http.put(f"/api/programmes/{STATION}", data=body) as answer:
                assert answer.status == 200

            def held() -> bool:
                mirror = made.opened
                return mirror is not None and all(mirror.cache.holds(b.sha256) for b in one.blobs)

            async with asyncio.timeout(10 * PATIENCE):
                while not held():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert depot.state.size_bytes == one.size_bytes
            above.status = 503
            async with http.get(one.media_path) as answer:
                assert await answer.read() == one.files[one.media_path]
            assert above.sent[one.media_path] == one.size_bytes
    book.close()
