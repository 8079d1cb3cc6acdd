"""Uploads over HTTP, resumable: tus 1.0.0 (https://tus.io/protocols/resumable-upload) with creation
and termination, so that its clients work as well as the page does.

    OPTIONS /api/uploads          what is taken
    POST    /api/uploads          Upload-Length, Upload-Metadata; 201 with Location
    HEAD    /api/uploads/{id}     Upload-Offset: how much has come
    PATCH   /api/uploads/{id}     Upload-Offset and the bytes from there on; 204
    DELETE  /api/uploads/{id}     forget it

The metadata are those of the course: `title`, `filename`, `teacher`, `unit`, `description`, `tags`
(one a line), `language`, `chapters` (lines such as `12:30 Sowing`), `subtitles` (the file itself).
When the last byte is there, the video waits to become a course.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from aiohttp import hdrs, web
from pydantic import ValidationError

from media.course import Chapter, new_id
from media.errors import DiskFull, MediaError
from media.intake import Details
from media.subtitles import BadSubtitles
from media.uploads import Held, NoSuchUpload, TooLarge, Upload, Uploads, WrongOffset
from relay.access import Access, AccessError, Grant
from web.courses import refused, said
from web.library import LibraryRoom

log = logging.getLogger("web.uploads")

VERSION: Final = "1.0.0"
UPLOAD: Final = r"{upload:[A-Za-z0-9_-]{22}}"
PART_BYTES: Final = 256 * 1024
SILENT_S: Final = 60.0
"""A client that sends nothing for so long is gone; what it sent is kept."""
MAX_METADATA: Final = 7000
TIDY_EVERY_S: Final = 3600.0

_HEADERS: Final = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}
_CHAPTER: Final = re.compile(r"\s*(?:(\d{1,2}):)?(\d{1,3}):(\d{1,2})\s+(\S.*)")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class UploadDesk:
    """The handlers of one library."""

    def __init__(self, room: LibraryRoom, access: Access) -> None:
        settings = room.settings
        self._room = room
        self._access = access
        self.uploads = Uploads(
            settings.folder / "uploads",
            most_bytes=settings.max_upload_mb * 1_000_000,
            keep_free_bytes=settings.keep_free_mb * 1_000_000,
        )
        self._tidying: asyncio.Task[None] | None = None

    def _grant(self, request: web.Request) -> Grant:
        grant = self._access.check(request.headers.get(hdrs.AUTHORIZATION))
        grant.require_publish("course/*")
        return grant

    async def options(self, _request: web.Request) -> web.StreamResponse:
        """What is taken; asked by clients before they begin."""
        about = {
            "Tus-Version": VERSION,
            "Tus-Extension": "creation,termination",
            "Tus-Max-Size": str(self.uploads.most_bytes),
        }
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_HEADERS | about)

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Begin an upload."""
        grant = self._grant(request)
        length = request.headers.get("Upload-Length", "")
        if not re.fullmatch(r"[0-9]{1,15}", length) or not int(length):
            return self._refused(HTTPStatus.BAD_REQUEST, "Upload-Length must say how many bytes.")
        try:
            told = await _metadata(request)
            details = _details(told)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = first["loc"][0] if first["loc"] else "metadata"
            return self._refused(
                HTTPStatus.BAD_REQUEST, f"The {name} is not taken: {first['msg']}."
            )
        except ValueError as error:
            return self._refused(HTTPStatus.BAD_REQUEST, said(error))
        upload = Upload(
            size_bytes=int(length),
            filename=told.get("filename", "")[:255],
            course=new_id(details.title),
            details=details,
            begun=datetime.now(UTC),
            by=grant.subject[:200],
        )
        lang = details.language or "zh"
        subtitles = told.get("subtitles", "").encode()
        held = await asyncio.to_thread(self.uploads.begin, upload, subtitles, lang)
        log.info("upload-begun id=%s course=%s bytes=%s", held.id, upload.course, length)
        headers = self._place(held) | {hdrs.LOCATION: f"/api/uploads/{held.id}"}
        return web.json_response({"course": upload.course}, status=201, headers=headers)

    async def where(self, request: web.Request) -> web.StreamResponse:
        """How far it is."""
        self._grant(request)
        held = await asyncio.to_thread(self.uploads.find, request.match_info["upload"])
        return web.Response(status=HTTPStatus.OK, headers=self._place(held))

    async def append(self, request: web.Request) -> web.StreamResponse:
        """The next bytes."""
        self._grant(request)
        offset = request.headers.get("Upload-Offset", "")
        if not re.fullmatch(r"[0-9]{1,15}", offset):
            return self._refused(HTTPStatus.BAD_REQUEST, "Upload-Offset must be a number of bytes.")
        if request.content_type != "application/offset+octet-stream":
            return self._refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "The bytes must come as application/offset+octet-stream.",
            )
        upload_id = request.match_info["upload"]
        held = await self.uploads.append(upload_id, int(offset), _parts(request))
        if held.whole:
            await asyncio.to_thread(self._room.leave, self.uploads.job(held))
            self._room.wake()
            log.info("upload-whole id=%s course=%s", held.id, held.upload.course)
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=self._place(held))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """Forget it."""
        self._grant(request)
        await asyncio.to_thread(self.uploads.remove, request.match_info["upload"])
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=_HEADERS)

    def _place(self, held: Held) -> dict[str, str]:
        return _HEADERS | {
            "Upload-Offset": str(held.offset_bytes),
            "Upload-Length": str(held.upload.size_bytes),
        }

    def _refused(self, status: int, sentence: str) -> web.Response:
        answer = refused(status, sentence)
        answer.headers.update(_HEADERS)
        return answer

    def guard(self, handler: Handler) -> Handler:
        """Turn what goes wrong into a status of the protocol and one sentence."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except AccessError as error:
                return self._refused(error.status, error.sentence)
            except NoSuchUpload as error:
                return self._refused(HTTPStatus.NOT_FOUND, said(error))
            except WrongOffset as error:
                return self._refused(HTTPStatus.CONFLICT, said(error))
            except TooLarge as error:
                return self._refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, said(error))
            except BadSubtitles as error:
                return self._refused(HTTPStatus.BAD_REQUEST, said(error))
            except DiskFull as error:
                return self._refused(HTTPStatus.INSUFFICIENT_STORAGE, said(error))
            except MediaError as error:
                return self._refused(HTTPStatus.SERVICE_UNAVAILABLE, said(error))
            except OSError as error:
                log.warning("upload-trouble path=%s why=%s", request.path, error)
                return self._refused(
                    HTTPStatus.INSUFFICIENT_STORAGE, f"It cannot be stored: {error.strerror}."
                )

        return guarded

    async def tidy(self) -> None:
        """Remove what was given up, now and every hour."""
        while True:
            busy = await asyncio.to_thread(self._room.sources)
            await asyncio.to_thread(self.uploads.tidy, time.time(), busy)
            await asyncio.sleep(TIDY_EVERY_S)


async def _parts(request: web.Request) -> AsyncIterator[bytes]:
    """What a client sends, until it ends or breaks off."""
    while True:
        try:
            async with asyncio.timeout(SILENT_S):
                part = await request.content.read(PART_BYTES)
        except (TimeoutError, web.RequestPayloadError, ConnectionError):
            return
        if not part:
            return
        yield part


async def _metadata(request: web.Request) -> dict[str, str]:
    """What the client says about the course: in the header, or as JSON in the body of a page.

    A page may have subtitles and chapters that are longer than a header may be.
    """
    if request.content_type == "application/json":
        told = await request.json()
        if not isinstance(told, dict) or not all(
            isinstance(one, str) for pair in told.items() for one in pair
        ):
            raise ValueError("the metadata must be an object of texts")
        return told
    header = request.headers.get("Upload-Metadata", "")
    if len(header) > MAX_METADATA:
        raise ValueError("the Upload-Metadata are too long")
    told = {}
    for pair in filter(None, (one.strip() for one in header.split(","))):
        name, _, value = pair.partition(" ")
        try:
            told[name] = base64.b64decode(value, validate=True).decode()
        except ValueError:
            raise ValueError(f"the metadata {name[:40]!r} is no base64 of UTF-8") from None
    return told


def _details(told: dict[str, str]) -> Details:
    name = told.get("filename", "").rpartition(".")[0] or told.get("filename", "")
    return Details(
        title=told.get("title", "").strip() or name.replace("_", " ").strip() or "Video",
        teacher=told.get("teacher", ""),
        unit=told.get("unit", ""),
        description=told.get("description", "").strip(),
        tags=tuple(filter(None, (one.strip() for one in told.get("tags", "").splitlines()))),
        language=told.get("language") or None,
        chapters=tuple(chapters(told.get("chapters", ""))),
    )


def chapters(text: str) -> list[Chapter]:
    """Chapters as people write them, one a line: `12:30 Sowing`. Raises ValueError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parts = _CHAPTER.fullmatch(line)
        if parts is None:
            raise ValueError(f"line {number} of the chapters must look like 12:30 Sowing")
        start_s = int(parts[1] or 0) * 3600 + int(parts[2]) * 60 + int(parts[3])
        found.append(Chapter(start_s=float(start_s), title=parts[4]))
    return sorted(found, key=lambda one: one.start_s)


def add(app: web.Application, room: LibraryRoom, access: Access) -> None:
    """Add uploads to the library's app."""
    desk = UploadDesk(room, access)
    router, guard = app.router, desk.guard
    router.add_route("OPTIONS", "/api/uploads", guard(desk.options))
    router.add_post("/api/uploads", guard(desk.create))
    router.add_head(f"/api/uploads/{UPLOAD}", guard(desk.where))
    router.add_patch(f"/api/uploads/{UPLOAD}", guard(desk.append))
    router.add_delete(f"/api/uploads/{UPLOAD}", guard(desk.remove))

    async def start(_app: web.Application) -> None:
        desk._tidying = asyncio.create_task(desk.tidy(), name="uploads-tidy")

    async def close(_app: web.Application) -> None:
        if desk._tidying is not None:
            desk._tidying.cancel()

    app.on_startup.append(start)
    app.on_cleanup.append(close)
