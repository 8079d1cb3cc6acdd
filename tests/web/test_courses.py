"""The library over HTTP: lists, documents, ranges, tokens and uploads, with a real server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from yarl import URL

from media import intake, signed
from media.course import Course
from media.intake import Details, Intake
from media.library import Library
from media.manifest import Manifest
from media.uploads import UPLOAD_FILE
from relay import access
from relay.access import Access
from tests.media.clips import write_clip
from tests.media.test_library import DATA, published
from tests.patience import PATIENCE
from tests.web.asking import ask
from web import course_pages, courses, pages, uploads
from web.library import LibraryRoom, Use, open_library
from web.library_settings import LibrarySettings


class Config:
    name = "centre"
    tier = "centre"


class Node:
    config = Config()


class Site:
    """A server with a library, and a client."""

    def __init__(self, room: LibraryRoom, server: TestServer, http: aiohttp.ClientSession) -> None:
        self.room = room
        self._http = http
        self.url = str(server.make_url("")).rstrip("/")

    async def ask(self, method: str, url: str, **more: Any) -> aiohttp.ClientResponse:
        """The answer, with its body read."""
        return await ask(self._http, method, url, **more)

    async def get(self, path: str, **headers: str) -> aiohttp.ClientResponse:
        return await self.ask("GET", self.url + path, headers=headers)

    async def library(self) -> Library:
        return await self.room.library()


async def site_of(folder: Path, gate: Access) -> AsyncIterator[Site]:
    room = LibraryRoom(LibrarySettings(folder=folder / "library", keep_free_mb=0, max_upload_mb=1))
    app = web.Application()
    courses.add(app, room, gate)
    uploads.add(app, room, gate)
    course_pages.add(app, pages.add_pages(app, Node()), gate)
    server = TestServer(app)
    async with server, aiohttp.ClientSession() as http:
        yield Site(room, server, http)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async for one in site_of(tmp_path, Access.open_mode()):
        yield one


PRIVATE, PUBLIC = access.new_key_pair()


def token(**allows: list[str]) -> str:
    grants: dict[str, list[str]] = {"publish": [], "view": []} | allows
    return access.issue(PRIVATE, relay=False, ttl_s=60, subject="", now=2e9, **grants)


@pytest_asyncio.fixture
async def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr("relay.access.time.time", lambda: 2e9)
    key = tmp_path / "public.pem"
    key.write_bytes(PUBLIC)
    async for one in site_of(tmp_path, Access.from_pem_files([key])):
        yield one


async def entered(site: Site, tmp_path: Path, course_id: str = "rice", **more: Any) -> Course:
    return await published(await site.library(), tmp_path / "file", course_id, **more)


# ------------------------------------------------------------ the catalogue


async def test_a_node_without_courses_answers_and_makes_no_folder(site: Site) -> None:
    answer = await (await site.get("/api/courses")).json()
    assert (answer["courses"], answer["total"], answer["next"]) == ([], 0, None)
    assert (await site.get("/courses/rice/course.jws")).status == 404
    assert not site.room.settings.folder.exists()


async def test_the_list_is_searched_filtered_and_turned_page_by_page(
    site: Site, tmp_path: Path
) -> None:
    for number in range(5):
        await entered(
            site, tmp_path, f"rice-{number}", title=f"水稻 {number}", tags=["农业"],
            created=f"2026-09-0{number + 1}T08:00:00Z",
        )  # fmt: skip
    await entered(site, tmp_path, "tea", title="Tea", unit="茶厂")
    first = await (await site.get("/api/courses?q=水稻&limit=3")).json()
    assert [one["id"] for one in first["courses"]] == ["rice-4", "rice-3", "rice-2"]
    assert (first["total"], first["next"]) == (5, "rice-2")
    rest = await (await site.get("/api/courses?q=水稻&limit=3&after=rice-2")).json()
    assert [one["id"] for one in rest["courses"]] == ["rice-1", "rice-0"]
    assert rest["next"] is None
    assert first["tags"] == [["农业", 5]]
    assert first["units"] == [["茶厂", 1]]
    narrow = await (await site.get("/api/courses?unit=茶厂")).json()
    assert [one["id"] for one in narrow["courses"]] == ["tea"]
    assert (await site.get("/api/courses?limit=many")).status == 400
    assert (await site.get("/api/courses?q=" + "a" * 3000)).status == 400


async def test_documents_are_signed_by_the_key_that_the_library_tells(
    site: Site, tmp_path: Path
) -> None:
    course = await entered(site, tmp_path)
    told = await (await site.get("/api/library")).json()
    key = load_pem_public_key(told["public_keys"][0].encode())
    text = await (await site.get("/courses/rice/course.jws")).text()
    about = await (await site.get("/api/courses/rice")).json()
    assert about["jws"] == text
    assert signed.read(text, [key], signed.COURSE, Course) == course  # type: ignore[list-item]
    answer = await site.get("/courses/rice/480p.manifest")
    manifest = await answer.read()
    assert hashlib.sha256(manifest).hexdigest() == course.renditions[0].manifest_sha256
    signed.read(manifest, [key], signed.MANIFEST, Manifest)  # type: ignore[list-item]
    again = await site.get("/courses/rice/480p.manifest", **{
        "If-None-Match": answer.headers["ETag"]})  # fmt: skip
    assert again.status == 304


# ------------------------------------------------------------ ranges


@pytest.mark.parametrize(
    ("asked", "status", "data", "told"),
    [
        (None, 200, DATA, None),
        ("bytes=0-9", 206, DATA[:10], "bytes 0-9/30"),
        ("bytes=5-", 206, DATA[5:], "bytes 5-29/30"),
        ("bytes=-4", 206, DATA[-4:], "bytes 26-29/30"),
        ("bytes=20-99", 206, DATA[20:], "bytes 20-29/30"),
        ("bytes=30-", 416, b"", "bytes */30"),
        ("bytes=9-5", 200, DATA, None),
        ("bytes=0-1,4-5", 200, DATA, None),
        ("lines=0-1", 200, DATA, None),
        ("bytes=99999999999999999999-", 200, DATA, None),
    ],
)
async def test_a_rendition_is_had_by_range(
    site: Site, tmp_path: Path, asked: str | None, status: int, data: bytes, told: str | None
) -> None:
    await entered(site, tmp_path)
    answer = await site.get("/courses/rice/480p.mp4", **({"Range": asked} if asked else {}))
    assert (answer.status, answer.headers.get("Content-Range")) == (status, told)
    assert await answer.read() == data
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Type"] == "video/mp4"


async def test_a_range_is_of_the_version_that_is_named(site: Site, tmp_path: Path) -> None:
    course = await entered(site, tmp_path)
    etag = (await site.get("/courses/rice/480p.mp4")).headers["ETag"]
    # The tag is the one that caches below make of the signed course.
    assert etag == f'"{course.renditions[0].manifest_sha256[:32]}"'
    some = await site.get("/courses/rice/480p.mp4", Range="bytes=0-3", **{"If-Range": etag})
    assert some.status == 206
    await entered(site, tmp_path, data=DATA[::-1])
    whole = await site.get("/courses/rice/480p.mp4", Range="bytes=0-3", **{"If-Range": etag})
    assert (whole.status, await whole.read()) == (200, DATA[::-1])
    head = await site.ask("HEAD", f"{site.url}/courses/rice/480p.mp4")
    assert (head.status, head.headers["Content-Length"]) == (200, "30")


@pytest.mark.parametrize(
    "path",
    [
        "/courses/none/480p.mp4", "/courses/rice/999p.mp4", "/courses/rice/zh.vtt",
        "/courses/rice/poster.jpg", "/courses/rice/999p.m3u8", "/courses/rice/..%2fx.mp4",
        "/courses/..%2f..%2fetc/course.jws", "/courses/rice/course.json",
    ],
)  # fmt: skip
async def test_what_is_not_there_is_404(site: Site, tmp_path: Path, path: str) -> None:
    await entered(site, tmp_path)
    assert (await site.get(path)).status == 404


async def test_playlists_name_the_ranges_of_the_manifest(site: Site, tmp_path: Path) -> None:
    await entered(site, tmp_path)
    master = await (await site.get("/courses/rice/master.m3u8")).text()
    assert "RESOLUTION=854x480\n480p.m3u8\n" in master
    media = (await (await site.get("/courses/rice/480p.m3u8")).text()).splitlines()
    assert '#EXT-X-MAP:URI="480p.mp4",BYTERANGE="8@0"' in media
    assert media[-4:] == ["#EXTINF:4.000000,", "#EXT-X-BYTERANGE:10@20", "480p.mp4",
                          "#EXT-X-ENDLIST"]  # fmt: skip


# ------------------------------------------------------------ tokens


async def test_a_token_opens_its_courses_and_no_others(closed: Site, tmp_path: Path) -> None:
    await entered(closed, tmp_path, "rice")
    await entered(closed, tmp_path, "tea")
    assert (await closed.get("/api/courses")).status == 401
    bearer = {"Authorization": f"Bearer {token(view=['course/rice'])}"}
    listed = await (await closed.get("/api/courses", **bearer)).json()
    assert [one["id"] for one in listed["courses"]] == ["rice"]
    assert (listed["tags"], listed["units"]) == ([], [])
    assert (await closed.get("/courses/rice/480p.mp4", **bearer)).status == 200
    assert (await closed.get("/courses/tea/480p.mp4", **bearer)).status == 403
    assert (await closed.get("/api/library", **bearer)).status == 403


async def test_a_page_s_token_goes_with_its_video(closed: Site, tmp_path: Path) -> None:
    """`<video>` sends no header: the page shows its token once, and a cookie does the rest."""
    await entered(closed, tmp_path)
    assert (await closed.ask("POST", f"{closed.url}/courses/session")).status == 401
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        bearer = {"Authorization": f"Bearer {token(view=['course/*'], publish=['course/*'])}"}
        answer = await ask(browser, "POST", f"{closed.url}/courses/session", headers=bearer)
        cookie = answer.headers["Set-Cookie"]
        assert answer.status == 204
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        video = f"{closed.url}/courses/rice/480p.mp4"
        assert (await ask(browser, "GET", video)).status == 200
        # What changes something is never done on a cookie's word.
        uploads = f"{closed.url}/api/uploads"
        begun = await ask(browser, "POST", uploads, headers={"Upload-Length": "5"})
        assert begun.status == 401


# ------------------------------------------------------------ uploads


def told(**values: str) -> str:
    return ",".join(
        f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in values.items()
    )


async def begin(site: Site, size: int, **values: str) -> str:
    answer = await site.ask(
        "POST",
        f"{site.url}/api/uploads",
        headers={"Upload-Length": str(size), "Upload-Metadata": told(**values)},
    )
    assert answer.status == 201, await answer.text()
    return site.url + answer.headers["Location"]


async def send(site: Site, place: str, offset: int, data: object) -> aiohttp.ClientResponse:
    return await site.ask(
        "PATCH",
        place,
        data=data,
        headers={
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
        },
    )


async def test_an_upload_that_breaks_goes_on_and_becomes_a_course(
    site: Site, tmp_path: Path
) -> None:
    """The whole way with a real video: cut in its middle, gone on, made, and played by range."""
    clip = write_clip(tmp_path / "clip.mp4", frames=30, audio="aac").read_bytes()
    place = await begin(site, len(clip), title="育秧", chapters="0:00 开始\n0:01 播种", tags="水稻")
    half = len(clip) // 2

    async def come(bytes_: int) -> None:
        async with asyncio.timeout(30):
            while True:
                where = await site.ask("HEAD", place)
                if where.headers["Upload-Offset"] == str(bytes_):
                    return
                await asyncio.sleep(0.02)

    url = URL(place)
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"PATCH {url.path} HTTP/1.1\r\nHost: {url.authority}\r\nUpload-Offset: 0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nContent-Length: {len(clip)}\r\n\r\n"
    )
    writer.write(head.encode() + clip[:half])
    await come(half)
    writer.transport.abort()
    where = await site.ask("HEAD", place)
    assert where.headers["Upload-Length"] == str(len(clip))
    assert where.headers["Upload-Offset"] == str(half)
    wrong = await send(site, place, half + 1, clip[half + 1 :])
    assert wrong.status == 409
    async with asyncio.timeout(30):
        # The node may not have noticed yet that the other connection is gone.
        while True:
            rest = await send(site, place, half, clip[half:])
            if rest.status != 409:
                break
            await asyncio.sleep(0.05)
    assert (rest.status, rest.headers["Upload-Offset"]) == (204, str(len(clip)))
    async with asyncio.timeout(90):
        while True:
            listed = (await (await site.get("/api/courses?q=育秧")).json())["courses"]
            jobs = (await (await site.get("/api/library")).json())["jobs"]
            if listed and listed[0]["complete"] and not jobs:
                break
            await asyncio.sleep(0.1)
    course = (await (await site.get(f"/api/courses/{listed[0]['id']}")).json())["course"]
    assert [(one["start_s"], one["title"]) for one in course["chapters"]] == [
        (0.0, "开始"), (1.0, "播种"),
    ]  # fmt: skip
    assert (await site.get(f"/courses/{course['id']}/poster.jpg")).status == 200

    # Its data is gone, so nobody goes on with it.
    async def forgotten() -> bool:
        return (await site.ask("HEAD", place)).status == 404

    await until(forgotten)


async def test_an_upload_that_is_no_video_says_so_in_the_list_of_jobs(site: Site) -> None:
    place = await begin(site, 5, title="Letter")
    assert (await send(site, place, 0, b"hello")).status == 204
    async with asyncio.timeout(60):
        while True:
            jobs = (await (await site.get("/api/library")).json())["jobs"]
            if jobs and jobs[0]["state"] == "failed":
                break
            await asyncio.sleep(0.1)
    assert "is no video or sound that can be read" in jobs[0]["sentence"]


@pytest.mark.parametrize(
    ("headers", "status", "said"),
    [
        ({}, 400, "Upload-Length must say"),
        ({"Upload-Length": "0"}, 400, "Upload-Length must say"),
        ({"Upload-Length": "many"}, 400, "Upload-Length must say"),
        ({"Upload-Length": "2000000"}, 413, "1 MB are taken here"),
        ({"Upload-Length": "5", "Upload-Metadata": "title ü"}, 400, "no base64"),
        ({"Upload-Length": "5", "Upload-Metadata": told(title="a\x07")}, 400, "The title"),
        ({"Upload-Length": "5", "Upload-Metadata": told(chapters="now")}, 400, "12:30 Sowing"),
        ({"Upload-Length": "5", "Upload-Metadata": told(subtitles="x")}, 400, "no subtitles"),
        ({"Upload-Length": "5", "Upload-Metadata": told(language="../")}, 400, "The language"),
    ],
)
async def test_an_upload_that_cannot_be_taken_is_refused_in_a_sentence(
    site: Site, headers: dict[str, str], status: int, said: str
) -> None:
    answer = await site.ask("POST", f"{site.url}/api/uploads", headers=headers)
    text = await answer.text()
    assert (answer.status, said in text) == (status, True), text
    assert answer.headers["Tus-Resumable"] == "1.0.0"


async def test_more_bytes_than_announced_are_not_kept(site: Site) -> None:
    place = await begin(site, 5, title="x")
    assert (await send(site, place, 0, b"123456")).status == 413
    assert (await site.ask("HEAD", place)).headers["Upload-Offset"] == "0"
    assert (await site.ask("PATCH", place, data=b"12345")).status == 400
    assert (await site.ask("DELETE", place)).status == 204
    assert (await send(site, place, 0, b"12345")).status == 404
    assert (await site.ask("HEAD", f"{site.url}/api/uploads/{'a' * 22}")).status == 404


async def test_who_may_not_publish_may_not_upload(closed: Site) -> None:
    url = f"{closed.url}/api/uploads"
    for grant, status in (({"view": ["*"]}, 403), ({"publish": ["course/*"]}, 201)):
        bearer = {"Authorization": f"Bearer {token(**grant)}", "Upload-Length": "5"}
        assert (await closed.ask("POST", url, headers=bearer)).status == status
    assert (await closed.ask("POST", url, headers={"Upload-Length": "5"})).status == 401


def test_uploads_that_were_given_up_are_removed(tmp_path: Path) -> None:
    from media.uploads import Uploads

    folder = tmp_path / "uploads"
    for name in ("old", "busy"):
        (folder / name).mkdir(parents=True)
        (folder / name / "data").write_bytes(b"x")
        (folder / name / UPLOAD_FILE).write_text("{}")
    desk = Uploads(folder, most_bytes=10, keep_free_bytes=0)
    now = (folder / "old" / "data").stat().st_mtime
    busy = {(folder / "busy" / "data").absolute()}
    desk.tidy(now + 3600, busy)
    assert len(list(folder.iterdir())) == 2
    desk.tidy(now + 8 * 86400, busy)
    assert [one.name for one in folder.iterdir()] == ["busy"]


def test_the_library_makes_its_own_key_and_keeps_it(tmp_path: Path) -> None:
    settings = LibrarySettings(folder=tmp_path / "library")
    first, second = open_library(settings), open_library(settings)
    assert first.public_keys[0].public_bytes_raw() == second.public_keys[0].public_bytes_raw()
    assert (tmp_path / "library" / "library-key.pem").stat().st_mode & 0o077 == 0


# ------------------------------------------------------------ changes


async def until(look: Callable[[], Awaitable[Any]]) -> Any:
    """Wait for it, and return it."""
    async with asyncio.timeout(30 * PATIENCE):
        while not (found := await look()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def change(site: Site, how: str, path: str, **more: Any) -> tuple[int, Any]:
    answer = await site.ask(how, site.url + path, **more)
    text = await answer.text()
    return answer.status, json.loads(text) if text.startswith("{") else text


async def test_a_course_is_corrected_over_http(site: Site, tmp_path: Path) -> None:
    one = await entered(site, tmp_path)
    body = {"title": " 水稻 二 ", "tags": ["农业"], "revision": one.revision}
    status, said = await change(site, "PATCH", "/api/courses/rice", json=body)
    assert (status, said["course"]["title"], said["course"]["revision"]) == (200, "水稻 二", 2)
    listed = await (await site.get("/api/courses?q=二")).json()
    assert [course["tags"] for course in listed["courses"]] == [["农业"]]
    for wanted, sent, words in (
        (409, {"json": body}, "changed meanwhile"),
        (400, {"json": {"title": ""}}, "title"),
        (400, {"json": {"id": "tea"}}, "id"),
        (400, {"json": {"chapters": [{"start_s": 9e4, "title": "x"}]}}, "the course ends at"),
        (400, {"data": b"{", "headers": {"Content-Type": "application/json"}}, "JSON"),
        (413, {"json": {"description": "x" * 600_000}}, "too much"),
        (415, {"data": b"{}", "headers": {"Content-Type": "text/plain"}}, "application/json"),
    ):
        status, said = await change(site, "PATCH", "/api/courses/rice", **sent)
        assert (status, words in said) == (wanted, True), said
    assert (await change(site, "PATCH", "/api/courses/tea", json={"title": "x"}))[0] == 404


async def test_a_course_that_timetables_need_goes_only_when_it_is_said_twice(
    site: Site, tmp_path: Path
) -> None:
    await entered(site, tmp_path)
    coming = Use("育秧", "shangping-1", datetime(2026, 12, 1, 9, tzinfo=UTC))

    async def uses(course_id: str) -> list[Use]:
        return [coming] if course_id == "rice" else []

    site.room.asked_for_uses.append(uses)
    _, said = await change(site, "GET", "/api/courses/rice/uses")
    shown = {"title": "育秧", "where": "shangping-1", "starts_at": "2026-12-01T09:00:00+00:00"}
    assert said == {"may_edit": True, "uses": [shown], "centre": False}
    status, said = await change(site, "DELETE", "/api/courses/rice")
    assert (status, said["uses"]) == (409, [shown])
    assert "1 coming item plays it, the next one '育秧' on 2026-12-01" in said["error"]
    assert (await change(site, "DELETE", "/api/courses/rice?anyway=1"))[0] == 204
    assert (await change(site, "DELETE", "/api/courses/rice?anyway=1"))[0] == 404
    assert (await site.get("/courses/rice/course.jws")).status == 404
    assert await (await site.library()).objects.list("courses/rice") == []


async def test_who_may_change_a_course(closed: Site, tmp_path: Path) -> None:
    """Who may publish it; not who watches, nor a node, which may publish every stream."""
    await entered(closed, tmp_path)
    node = access.issue(
        PRIVATE, publish=[], view=[], relay=True, ttl_s=60, subject="", now=2e9
    )  # fmt: skip
    editor = token(publish=["course/rice"], view=["course/*"])
    for bearer, status, may in (
        ("", 401, None), (token(view=["course/*"]), 403, False), (node, 403, False),
        (token(publish=["course/tea"], view=["*"]), 403, False), (editor, 200, True),
    ):  # fmt: skip
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        found = await change(closed, "GET", "/api/courses/rice/uses", headers=headers)
        assert may is None or found[1]["may_edit"] is may
        body = {"title": "x"}
        found = await change(closed, "PATCH", "/api/courses/rice", json=body, headers=headers)
        assert found[0] == status
    headers = {"Authorization": f"Bearer {token(view=['*'])}"}
    assert (await change(closed, "DELETE", "/api/courses/rice", headers=headers))[0] == 403
    headers = {"Authorization": f"Bearer {editor}"}
    assert (await change(closed, "DELETE", "/api/courses/rice", headers=headers))[0] == 204


async def test_a_course_that_is_being_made_is_corrected_and_given_up(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renditions that come later do not bring the old title back; nothing of it stays."""
    clip = write_clip(tmp_path / "clip.mp4", frames=25 * 8, size=(854, 480), audio="aac")
    details = Details(title="Clip")
    site.room.leave(Intake(id="clip", source=clip, fingerprint="x", details=details))
    site.room.wake()

    async def course() -> Any:
        answer = await site.get("/api/courses/clip")
        return (await answer.json())["course"] if answer.status == 200 else None

    await until(course)
    status, _ = await change(site, "PATCH", "/api/courses/clip", json={"title": "Better"})
    assert status == 200

    async def complete() -> Any:
        found = await course()
        return found if found["complete"] else None

    found = await until(complete)
    assert (found["title"], len(found["renditions"])) == ("Better", 3)
    site.room.leave(Intake(id="clip", source=clip, fingerprint="y", details=details))
    site.room.wake()

    async def begun() -> bool:
        return site.room._at is not None and (site.room.work / "clip" / "making").exists()

    await until(begun)
    drop = intake.drop

    def late(folder: Path) -> bool:
        # Time enough for the job to be taken up again.
        time.sleep(0.3)
        return drop(folder)

    monkeypatch.setattr(intake, "drop", late)
    assert (await change(site, "DELETE", "/api/courses/clip"))[0] == 204
    assert list(site.room.work.iterdir()) == []
    assert await (await site.library()).objects.list("courses") == []
    assert clip.exists()


async def test_a_job_that_failed_is_put_away(site: Site, tmp_path: Path) -> None:
    text = tmp_path / "notes.mp4"
    text.write_text("no video")
    site.room.leave(Intake(id="notes", source=text, details=Details(title="Notes")))
    site.room.wake()

    async def failed() -> bool:
        return [one.state for one in site.room.jobs()] == ["failed"]

    await until(failed)
    assert (await change(site, "DELETE", "/api/courses/notes"))[0] == 204
    assert site.room.jobs() == []
    assert (await change(site, "DELETE", "/api/courses/notes"))[0] == 404
