"""Courses over HTTP at the library: the list, the signed entries, and the files by range.

A node below serves the same URLs out of its cache (`web/distribution.py`). Whatever is asked for by
its name may change when a course is entered again, so it is asked again and answered with 304: the
`ETag` of a file is the digest in the signed course.

    GET /api/courses?q=&tag=&unit=&after=&limit=   the list: the best match, then the newest first
    GET /api/catalogue?seen=                       {"state"}: when it is another than `seen`, or
                                                   after 20 s; another state is another catalogue
    GET /api/courses/{id}                          one course, and its signed text
    GET /courses/{id}/course.jws                   the signed text alone
    GET /courses/{id}/{rendition}.mp4              with Range and If-Range
    GET /courses/{id}/{rendition}.manifest         the signed list of its pieces
    GET /courses/{id}/master.m3u8, {rendition}.m3u8
    GET /courses/{id}/poster.jpg, {lang}.vtt
    GET /api/library                               the public key and the jobs
    GET /api/courses/{id}/uses                     {"may_edit", "uses": [{"title", "where",
                                                   "starts_at"}]}: who plans to play it; "centre":
                                                   who signs in may be allowed more
    PATCH /api/courses/{id}                        {"revision", "title", "teacher", "unit",
                                                   "tags", "description", "language",
                                                   "chapters": [{"start_s", "title"}]}: what is
                                                   given changes; -> the course
    DELETE /api/courses/{id}                       the course, or the job that was to become it;
                                                   409 with its uses while timetables need it,
                                                   ?anyway=1 all the same

Who may publish `course/{id}` may change it; signed in at a centre, `web/centre/library_routes.py`
says who.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field, ValidationError

from media import playlist
from media.course import Changes, Course
from media.errors import MediaError
from media.intake import Busy
from media.library import NoSuchCourse, NotTaken, Outdated, SignedCourse
from media.objects import NoSuchObject
from media.search import Index, Query
from media.signed import BadDocument, BadSignature
from relay.access import Access, AccessError, Grant, matches
from web import bearer, filespan, ranges
from web.library import LibraryRoom, Needed, Use

log = logging.getLogger("web.courses")

COURSE: Final = r"{course:[a-z0-9][a-z0-9-]{0,63}}"
RENDITION: Final = r"{rendition:[a-z0-9][a-z0-9-]{0,31}}"
ATTACHMENT: Final = r"{file:[a-z0-9][a-z0-9-]{0,63}\.(?:jpg|vtt)}"
LISTED: Final = 60
MOST_LISTED: Final = 200
MAX_QUERY: Final = 500
WATCH_S: Final = 20.0
"""A node below waits for a change for so long, then asks again: so both know of each other."""
MAX_CHANGES_BYTES: Final = 512 * 1024
STEP_BYTES: Final = 4 * 1024 * 1024
"""How much of a file is brought into memory before it is sent on."""

_TYPES: Final = {"jpg": "image/jpeg", "vtt": "text/vtt; charset=utf-8"}
_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Range, ETag, Accept-Ranges, Retry-After",
    "Cache-Control": "private, no-cache",
    "X-Content-Type-Options": "nosniff",
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Edit(Changes):
    """A body of PATCH. revision: of the course as it was when somebody began to change it."""

    revision: int | None = Field(default=None, ge=1)

    @property
    def changes(self) -> Changes:
        """What is to change."""
        return Changes.model_validate(self.model_dump(exclude_unset=True, exclude={"revision"}))


class Courses:
    """The handlers of one library."""

    def __init__(self, room: LibraryRoom, access: Access) -> None:
        self._room = room
        self._access = access

    def _grant(self, request: web.Request) -> Grant:
        return self._access.check(bearer.authorization(request))

    async def _course(self, request: web.Request) -> SignedCourse:
        course_id = request.match_info["course"]
        self._grant(request).require_view(f"course/{course_id}")
        if not self._room.exists:
            raise NoSuchCourse(f"there is no course {course_id!r} here")
        return await (await self._room.library()).course(course_id)

    # ------------------------------------------------------------ the catalogue

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/courses`."""
        grant = self._grant(request)
        if len(request.query_string) > MAX_QUERY * 4:
            return refused(HTTPStatus.BAD_REQUEST, "The search is too long: use fewer words.")
        asked = request.query
        try:
            limit = min(MOST_LISTED, max(1, int(asked.get("limit", LISTED))))
        except ValueError:
            return refused(HTTPStatus.BAD_REQUEST, "limit must be a number of courses.")
        index = await (await self._room.library()).catalogue() if self._room.exists else Index()
        query = Query(
            text=asked.get("q", ""), tag=asked.get("tag", ""), unit=asked.get("unit", ""),
            teacher=asked.get("teacher", ""),
        )  # fmt: skip
        found = [one for one in index.find(query) if grant.may_view(f"course/{one.id}")]
        begin = 0
        if asked.get("after"):
            places = (i for i, one in enumerate(found) if one.id == asked["after"])
            begin = next(places, len(found) - 1) + 1
        shown = found[begin : begin + limit]
        more = begin + limit < len(found)
        sees_all = grant.may_view("course/*")
        return _document(
            request,
            {
                "courses": [_brief(one) for one in shown],
                "total": len(found),
                "next": shown[-1].id if shown and more else None,
                # Names of courses that somebody may not see would show in their tags.
                "tags": index.tags() if sees_all else [],
                "units": index.units() if sees_all else [],
            },
        )

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/catalogue`."""
        self._grant(request)
        return await tell_state(request, self._changed)

    async def _changed(self, seen: str) -> str:
        deadline = time.monotonic() + WATCH_S
        while not self._room.exists and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(1.0)
        if not self._room.exists:
            return ""
        library = await self._room.library()
        return await library.changed(seen, max(0.0, deadline - time.monotonic()))

    async def about(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/courses/{id}`."""
        one = await self._course(request)
        return _document(request, {"course": one.course.model_dump(mode="json"), "jws": one.text})

    async def library(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/library`: the key that signs, and what is being made."""
        self._grant(request).require_view("course/*")
        keys = await self._room.public_keys() if self._room.exists else ()
        jobs = [asdict(one) for one in await asyncio.to_thread(self._room.jobs)]
        pems = [
            key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
            for key in keys
        ]
        most = self._room.settings.max_upload_mb * 1_000_000
        return _document(request, {"public_keys": pems, "jobs": jobs, "max_upload_bytes": most})

    # ------------------------------------------------------------ changes

    async def uses(self, request: web.Request) -> web.StreamResponse:
        """`GET /api/courses/{id}/uses`."""
        course = (await self._course(request)).course
        may_edit = _keeps(self._grant(request), course.id)
        uses = await self._room.uses(course.id) if may_edit else []
        shown = [use_json(one) for one in uses]
        told = {"may_edit": may_edit, "uses": shown, "centre": self._room.has_centre}
        return _document(request, told)

    async def edit(self, request: web.Request) -> web.StreamResponse:
        """`PATCH /api/courses/{id}`."""
        course_id = self._kept(request)
        if request.content_type != "application/json":
            # A page of another site can send a form or text without being asked who it is.
            return refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The changes must come as application/json."
            )
        body = bytearray()
        async for part in request.content.iter_chunked(64 * 1024):
            body += part
            if len(body) > MAX_CHANGES_BYTES:
                sentence = "That is too much for a course: use fewer words."
                return refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)
        asked = Edit.model_validate_json(bytes(body))
        course = await self._room.edit(course_id, asked.changes, asked.revision)
        log.info("course-edited id=%s revision=%d", course.id, course.revision)
        return _document(request, {"course": course.model_dump(mode="json")})

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """`DELETE /api/courses/{id}`."""
        course_id = self._kept(request)
        try:
            await self._room.delete(course_id, anyway=request.query.get("anyway") == "1")
        except Needed as error:
            told = {"error": said(error), "uses": [use_json(one) for one in error.uses]}
            return web.json_response(told, status=HTTPStatus.CONFLICT)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _kept(self, request: web.Request) -> str:
        """The course in the address, which the bearer may change."""
        course_id = request.match_info["course"]
        grant = self._grant(request)
        grant.require_publish(f"course/{course_id}")
        if not _keeps(grant, course_id):
            raise AccessError(
                403,
                "A node's token does not change courses; ask for one issued with "
                f"`terrace token --publish course/{course_id}`.",
            )
        return course_id

    # ------------------------------------------------------------ small files

    async def course(self, request: web.Request) -> web.StreamResponse:
        """`GET /courses/{id}/course.jws`."""
        return _small(request, (await self._course(request)).text.encode(), "application/jose")

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """`GET /courses/{id}/{rendition}.manifest`."""
        course = (await self._course(request)).course
        library = await self._room.library()
        found = await library.manifest(course.id, request.match_info["rendition"])
        return _small(request, found.text.encode(), "application/jose", found.sha256)

    async def playlist(self, request: web.Request) -> web.StreamResponse:
        """`GET /courses/{id}/{rendition}.m3u8`, and `master.m3u8`."""
        course = (await self._course(request)).course
        name = request.match_info["rendition"]
        if name == "master":
            text = playlist.master(course)
        else:
            library = await self._room.library()
            text = playlist.media((await library.manifest(course.id, name)).manifest)
        return _small(request, text.encode(), "application/vnd.apple.mpegurl")

    async def attachment(self, request: web.Request) -> web.StreamResponse:
        """`GET /courses/{id}/poster.jpg`, `{lang}.vtt`."""
        course = (await self._course(request)).course
        file = request.match_info["file"]
        found = next(
            (one for one in (course.poster, *course.subtitles) if one and one.file == file), None
        )
        if found is None:
            raise NoSuchCourse(f"the course {course.id!r} has no file {file!r}")
        data = await (await self._room.library()).attachment(course.id, file)
        return _small(request, data, _TYPES[file.rpartition(".")[2]], found.sha256)

    # ------------------------------------------------------------ renditions

    async def rendition(self, request: web.Request) -> web.StreamResponse:
        """`GET /courses/{id}/{rendition}.mp4`, whole or a range (RFC 9110 section 14)."""
        course = (await self._course(request)).course
        library = await self._room.library()
        signed = await library.manifest(course.id, request.match_info["rendition"])
        manifest = signed.manifest
        etag, size = f'"{signed.sha256[:32]}"', manifest.size_bytes
        headers = _HEADERS | {
            "ETag": etag,
            "Accept-Ranges": "bytes",
            "Content-Type": "video/mp4" if manifest.width else "audio/mp4",
        }
        if ranges.matches(request.headers.get(hdrs.IF_NONE_MATCH), etag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        asked = request.headers.get(hdrs.RANGE)
        if not ranges.holds(request.headers.get(hdrs.IF_RANGE), etag):
            asked = None
        try:
            span = ranges.parse(asked, size)
        except ranges.Unsatisfiable:
            headers["Content-Range"] = f"bytes */{size}"
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            return web.Response(status=status, headers=headers)
        first, end = span or (0, size)
        headers["Content-Length"] = str(end - first)
        if span is not None:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        status = HTTPStatus.PARTIAL_CONTENT if span is not None else HTTPStatus.OK
        response = web.StreamResponse(status=status, headers=headers)
        if request.method == hdrs.METH_HEAD:
            return response
        filespan.watch(request)
        path = library.media_path(signed)
        if path is not None and await asyncio.to_thread(path.exists):
            return await _send_file(request, response, path, first, end)
        return await _send_parts(request, response, library.media(signed, first, end))


async def _send_file(
    request: web.Request, response: web.StreamResponse, path: Path, first: int, end: int
) -> web.StreamResponse:
    """The body out of a file."""
    await response.prepare(request)
    try:
        while first < end:
            stop = min(end, first + STEP_BYTES)
            await filespan.send(request, path, first, stop)
            first = stop
        await response.write_eof()
    except OSError as error:
        _cut(request, error)
    return response


async def _send_parts(
    request: web.Request, response: web.StreamResponse, parts: AsyncGenerator[bytes | memoryview]
) -> web.StreamResponse:
    """The body out of a store."""
    try:
        # What fails at once gets a status and a sentence.
        part = await anext(parts, b"")
        await response.prepare(request)
        while part:
            await response.write(part)
            part = await anext(parts, b"")
        await response.write_eof()
    except (MediaError, ConnectionError) as error:
        if not response.prepared and isinstance(error, MediaError):
            raise
        _cut(request, error)
    finally:
        await parts.aclose()
    return response


def _cut(request: web.Request, error: Exception) -> None:
    """Break an answer off: there is no other way to say that what was promised does not come."""
    if not isinstance(error, ConnectionError):
        log.warning("course-cut path=%s why=%s", request.path, error)
    if request.transport is not None:
        request.transport.abort()


def _brief(course: Course) -> dict[str, Any]:
    """A course as the catalogue shows it."""
    poster = f"/courses/{course.id}/{course.poster.file}" if course.poster else None
    return {
        "id": course.id,
        "revision": course.revision,
        "title": course.title,
        "teacher": course.teacher,
        "unit": course.unit,
        "tags": course.tags,
        "language": course.language,
        "created": course.created.isoformat(),
        "duration_s": course.duration_s,
        "complete": course.complete,
        "poster": poster,
        "poster_sha256": course.poster.sha256[:16] if course.poster else "",
        "subtitles": [one.lang for one in course.subtitles],
        "chapters": len(course.chapters),
        "renditions": [
            {
                "name": one.name,
                "height": one.height,
                "bitrate_bps": one.bitrate_bps,
                "size_bytes": one.size_bytes,
            }
            for one in course.renditions
        ],
    }


async def tell_state(
    request: web.Request, changed: Callable[[str], Awaitable[str]]
) -> web.StreamResponse:
    """Answers `/api/catalogue`: the headers at once, so that who waits knows that we are alive."""
    headers = _HEADERS | {"Content-Type": "application/json", "Cache-Control": "no-store"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        state = await changed(request.query.get("seen", "")[:64])
        await response.write(json.dumps({"state": state}).encode())
        await response.write_eof()
    except (MediaError, ConnectionError) as error:
        _cut(request, error)
    return response


def _keeps(grant: Grant, course_id: str) -> bool:
    """Whether the bearer may change a course: a node, which may publish anything, may not."""
    return any(matches(pattern, f"course/{course_id}") for pattern in grant.publish)


def use_json(one: Use) -> dict[str, str]:
    """A planned time as the page shows it."""
    return {"title": one.title, "where": one.where, "starts_at": one.starts_at.isoformat()}


def _document(request: web.Request, value: object) -> web.Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return _small(request, body, "application/json; charset=utf-8")


def _small(request: web.Request, body: bytes, kind: str, sha256: str = "") -> web.Response:
    """A whole body with the digest as its tag, or 304."""
    etag = f'"{(sha256 or hashlib.sha256(body).hexdigest())[:32]}"'
    headers = _HEADERS | {"ETag": etag}
    if ranges.matches(request.headers.get(hdrs.IF_NONE_MATCH), etag):
        return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
    return web.Response(body=body, headers=headers | {"Content-Type": kind})


def refused(status: int, sentence: str) -> web.Response:
    """An answer in plain words."""
    headers = {"Access-Control-Allow-Origin": "*"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers[hdrs.WWW_AUTHENTICATE] = "Bearer"
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers[hdrs.RETRY_AFTER] = "5"
    return web.Response(status=status, text=sentence + "\n", headers=headers)


def guard(handler: Handler) -> Handler:
    """Turn what goes wrong into a status and one sentence."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except AccessError as error:
            return refused(error.status, error.sentence)
        except (NoSuchCourse, NoSuchObject) as error:
            return refused(HTTPStatus.NOT_FOUND, said(error))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"])) or "the body"
            return refused(HTTPStatus.BAD_REQUEST, f"{place}: {first['msg']}.")
        except NotTaken as error:
            return refused(HTTPStatus.BAD_REQUEST, said(error))
        except (Outdated, Busy) as error:
            return refused(HTTPStatus.CONFLICT, said(error))
        except (BadSignature, BadDocument) as error:
            log.warning("course-bad path=%s why=%s", request.path, error)
            return refused(HTTPStatus.BAD_GATEWAY, said(error))
        except MediaError as error:
            log.warning("course-trouble path=%s why=%s", request.path, error)
            return refused(HTTPStatus.SERVICE_UNAVAILABLE, said(error))

    return guarded


def said(error: Exception) -> str:
    """An error as a sentence."""
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def add(app: web.Application, room: LibraryRoom, access: Access) -> None:
    """Add the library's courses to a node's app, and have its jobs done while the app runs."""
    courses = Courses(room, access)
    here, get = f"/courses/{COURSE}", app.router.add_get
    get("/api/courses", guard(courses.listing))
    get("/api/catalogue", guard(courses.watch))
    get(f"/api/courses/{COURSE}", guard(courses.about))
    get(f"/api/courses/{COURSE}/uses", guard(courses.uses))
    app.router.add_patch(f"/api/courses/{COURSE}", guard(courses.edit))
    app.router.add_delete(f"/api/courses/{COURSE}", guard(courses.delete))
    get("/api/library", guard(courses.library))
    get(f"{here}/course.jws", guard(courses.course))
    get(f"{here}/{RENDITION}.manifest", guard(courses.manifest))
    get(f"{here}/{RENDITION}.mp4", guard(courses.rendition))
    get(f"{here}/{RENDITION}.m3u8", guard(courses.playlist))
    get(f"{here}/{ATTACHMENT}", guard(courses.attachment))

    async def start(_app: web.Application) -> None:
        room.start()

    async def close(_app: web.Application) -> None:
        await room.close()

    app.on_startup.append(start)
    app.on_cleanup.append(close)
