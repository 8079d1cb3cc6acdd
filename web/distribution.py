"""Courses at a node that has a parent: the same URLs as at the library, out of this node's cache.

What somebody below asks for is fetched from above once, verified, kept within the budget and served
from the disk from then on. A byte range is mapped onto the pieces of the rendition's manifest; a
piece is sent when it is whole and right, never before, while the next one is fetched already.

The cache is made when it is first needed: a node that carries no courses has none. A county with
stations fills it ahead, by their timetables (`media.depot`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from media.blob import Blob, attachment_blob, manifest_blob
from media.cache import Cache
from media.county import County
from media.course import Attachment, Course
from media.depot import Depot
from media.errors import CacheError, DiskFull, FetchError, NotThere, Refusal
from media.fetch import Fetcher, Source
from media.mirror import Entry, Mirror
from media.signed import BadDocument, BadSignature
from media.suppliers import pause_s
from relay.access import Access, AccessError, Grant
from relay.metrics import Text
from web import bearer, filespan, ranges
from web.cache_settings import CacheSettings
from web.courses import WATCH_S, tell_state

log = logging.getLogger("web.distribution")

COURSE: Final = r"{course:[a-z0-9][a-z0-9-]{0,63}}"
RENDITION: Final = r"{rendition:[a-z0-9][a-z0-9-]{0,31}}"
DIGEST: Final = r"{digest:[0-9a-f]{64}}"
TOLD_WITHIN_S: Final = 1.0
"""A piece that cannot be had is said so in the answer's status if that is known so soon."""
PIECE_WITHIN_S: Final = 90.0
WATCH_PAUSE_S: Final = 1.0
WATCH_AGAIN_S: Final = 600.0
"""A node above that cannot tell of changes is asked again after this long."""
AHEAD: Final = 2
MAX_QUERY: Final = 500
_FILE_TYPES: Final = {".jpg": "image/jpeg", ".vtt": "text/vtt; charset=utf-8"}
CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Range, ETag, Accept-Ranges, Retry-After",
}
_STATE: Final = re.compile(r"[a-zA-Z0-9-]{0,64}", re.ASCII)
_CHANCE: Final = random.Random()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Parts = Callable[[int, int], Sequence[tuple[Blob, int, int]]]
"""The blobs that hold bytes from the first up to the second, and from where to where in each."""


class NodeConfig(Protocol):
    """What of a node's configuration matters here; `relay.node.NodeConfig` has it."""

    @property
    def access(self) -> Access: ...
    @property
    def port(self) -> int: ...
    @property
    def parents(self) -> tuple[str, ...]: ...
    @property
    def parent_token(self) -> str: ...


@dataclass(slots=True)
class Served:
    """What this node has sent to those below, since its start."""

    bytes: int = 0
    requests: int = 0
    cut: int = 0
    """Answers that were broken off, because a piece could not be had or the client has gone."""


class Distribution:
    """The cache of one node and the handlers that serve from it."""

    def __init__(
        self, config: NodeConfig, settings: CacheSettings, keys: Sequence[Ed25519PublicKey]
    ) -> None:
        """config: of the node. keys: that sign courses; none where the node runs open."""
        self.config = config
        self.served = Served()
        self._settings = settings
        self._keys = tuple(keys)
        self._mirror: Mirror | None = None
        self.depot: Depot | None = None
        """What fills the cache ahead, at a county."""
        self._state = ""
        self._news = asyncio.Event()
        self._opening = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    async def mirror(self) -> Mirror:
        """The node's copies of courses. Raises CacheError when the folder cannot be used."""
        async with self._opening:
            if self._mirror is None:
                settings = self._settings
                cache = Cache(
                    settings.folder_for(self.config.port),
                    settings.budget_mb * 1_000_000,
                    keep_free_bytes=settings.keep_free_mb * 1_000_000,
                )
                await asyncio.to_thread(cache.open)
                self._stack.callback(cache.close)
                fetcher = await self._stack.enter_async_context(Fetcher(cache, self._sources))
                self._mirror = Mirror(cache, fetcher, self._keys)
                watching = asyncio.create_task(self._watch(self._mirror), name="catalogue-watch")
                self._stack.push_async_callback(_ended, watching)
                log.info("cache-open folder=%s pieces=%d", cache.folder, len(cache.shelf))
        return self._mirror

    async def close(self) -> None:
        """Stop fetching, let the cache go."""
        await self._stack.aclose()

    @property
    def opened(self) -> Mirror | None:
        """The copies, if anybody has asked for one since the start."""
        return self._mirror

    def metrics(self, text: Text) -> None:
        """Adds what the courses have cost so far to the node's metrics."""
        served, mirror = self.served, self._mirror
        text.counter("course_bytes_out_total", "Bytes of courses sent.", served.bytes)
        text.counter("course_requests_total", "Files and ranges of courses asked for.",
                     served.requests)  # fmt: skip
        text.counter("course_cut_total", "Answers that had to be broken off.", served.cut)
        if mirror is None:
            return
        fetched, kept = mirror.fetcher.counters, mirror.cache.counters
        for name, about, value in (
            ("course_bytes_in", "Bytes of courses from the parents.", fetched.parent_bytes),
            ("course_wasted_bytes", "Of these, bytes whose digest was wrong.",
             fetched.wasted_bytes),
            ("course_cuts", "Pieces cut on their way.", fetched.cuts),
            ("course_dead_parents", "How often a parent did not answer.", fetched.dead),
            ("course_hits", "Pieces that were in the cache.", kept.hits),
            ("course_misses", "Pieces that were not.", kept.misses),
            ("course_evicted", "Pieces that gave way.", kept.evicted),
            ("course_spoiled", "Pieces that had gone bad on the disk.", kept.spoiled),
        ):  # fmt: skip
            text.counter(f"{name}_total", about, value)
        shelf = mirror.cache.shelf
        text.gauge("course_cache_bytes", "Bytes of courses on the disk.", shelf.used_bytes)
        text.gauge("course_cache_budget_bytes", "How many it may be.", shelf.budget_bytes)
        if self.depot is not None:
            ahead = self.depot.state
            text.gauge("course_reserved_bytes", "Of what the stations' timetables need.",
                       ahead.size_bytes)  # fmt: skip
            text.gauge("course_reserved_missing_bytes", "Of that, what has not come yet.",
                       ahead.missing_bytes)  # fmt: skip

    # ------------------------------------------------------------ what is new above

    async def _watch(self, mirror: Mirror) -> None:
        """Learns from the node above when the catalogue has changed, and tells those below.

        So a course that was entered or corrected shows at once, and nothing is asked for in vain.
        Where the node above does not tell (it is older, or away), documents age as they would.
        """
        fruitless = 0
        while True:
            pause = 0.0
            try:
                answer = await mirror.fetcher.document(f"/api/catalogue?seen={self._state}")
                said = json.loads(answer.body or b"")
                state = said["state"]
                if not isinstance(state, str) or not _STATE.fullmatch(state):
                    raise BadDocument("the node above does not say how its catalogue stands")
            except (NotThere, Refusal):
                pause = WATCH_AGAIN_S
            except (FetchError, BadDocument, ValueError, KeyError, TypeError) as error:
                log.debug("catalogue-unwatched why=%s", error)
                fruitless, pause = fruitless + 1, pause_s(fruitless, _CHANCE)
            else:
                fruitless = 0
                if state == self._state:
                    pause = WATCH_PAUSE_S
                else:
                    mirror.forget_freshness()
                    if self.depot is not None and self._state:
                        self.depot.look_again()
                    self._state = state
                    self._news.set()
                    self._news = asyncio.Event()
            await asyncio.sleep(pause)

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """GET /api/catalogue: as the library answers, as soon as this node knows."""
        self._grant(request)
        await self.mirror()
        return await tell_state(request, self._changed)

    async def _changed(self, seen: str) -> str:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_S):
                while not self._state or self._state == seen:
                    await self._news.wait()
        return self._state

    def _sources(self) -> list[Source]:
        return [Source(url, token=self.config.parent_token) for url in self.config.parents]

    # ------------------------------------------------------------ small things

    async def listing(self, request: web.Request) -> web.StreamResponse:
        """GET /api/courses?...: as the library answers, or an older answer of it."""
        self._grant(request)
        if len(request.query_string) > MAX_QUERY:
            return _refused(400, "The search is too long: use fewer words.")
        return await self._forwarded(request, request.path_qs)

    async def about(self, request: web.Request) -> web.StreamResponse:
        """GET /api/courses/{id}, and the playlists: as the library writes them."""
        await self._entry(request)
        return await self._forwarded(request, request.path)

    async def uses(self, request: web.Request) -> web.StreamResponse:
        """GET /api/courses/{id}/uses: courses are changed at the library, not here."""
        await self._entry(request)
        return web.json_response({"may_edit": False, "uses": [], "centre": False}, headers=CORS)

    async def _forwarded(self, request: web.Request, path: str) -> web.StreamResponse:
        mirror = await self.mirror()
        kept, stale = await mirror.document(path)
        etag = kept.etag
        headers = _headers(etag, stale=stale)
        if etag and ranges.matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=kept.body, headers=headers | {"Content-Type": _safe_type(kept.content_type)}
        )

    async def course(self, request: web.Request) -> web.StreamResponse:
        """GET /courses/{id}/course.jws: the signed entry."""
        entry = await self._entry(request)
        headers = _headers(entry.etag, stale=entry.stale)
        if entry.etag and ranges.matches(request.headers.get("If-None-Match"), entry.etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=entry.jws, headers=headers | {"Content-Type": "application/jose"})

    # ------------------------------------------------------------ files

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """GET /courses/{id}/{rendition}.manifest: signed."""
        entry = await self._entry(request)
        rendition = entry.course.rendition(request.match_info["rendition"])
        if rendition is None:
            raise NotThere(f"The course {entry.course.id} has no such rendition.")
        blob = manifest_blob(entry.course.id, rendition)
        return await self._small_file(request, blob, "application/jose")

    async def attachment(self, request: web.Request) -> web.StreamResponse:
        """GET the poster or subtitles of a course."""
        entry = await self._entry(request)
        name = request.match_info["file"]
        found = next((one for one in _attachments(entry.course) if one.file == name), None)
        if found is None:
            raise NotThere(f"The course {entry.course.id} has no file {name}.")
        blob = attachment_blob(entry.course.id, found)
        kind = _FILE_TYPES[Path(name).suffix]
        return await self._small_file(request, blob, kind)

    async def rendition(self, request: web.Request) -> web.StreamResponse:
        """GET /courses/{id}/{rendition}.mp4, whole or a range."""
        entry = await self._entry(request)
        mirror = await self.mirror()
        name = request.match_info["rendition"]
        listing = await mirror.listing(entry.course, name, within_s=PIECE_WITHIN_S)
        rendition = entry.course.rendition(name)
        assert rendition is not None
        kind = "video/mp4" if listing.manifest.width else "audio/mp4"
        etag = f'"{rendition.manifest_sha256[:32]}"'
        size = listing.manifest.size_bytes
        return await self._file(request, size, listing.parts, kind, etag)

    async def _small_file(self, request: web.Request, blob: Blob, kind: str) -> web.StreamResponse:
        """A file that is one blob. It is here before its length is told."""
        path = await (await self.mirror()).fetcher.fetch(blob, within_s=PIECE_WITHIN_S)
        size = blob.size_bytes or (await asyncio.to_thread(path.stat)).st_size
        return await self._file(
            request, size, lambda first, end: [(blob, first, end)], kind, f'"{blob.sha256[:32]}"'
        )

    async def _file(
        self, request: web.Request, size: int, parts: Parts, kind: str, etag: str
    ) -> web.StreamResponse:
        """A file of `size` bytes that consists of blobs, or the range of it that is asked for."""
        mirror = await self.mirror()
        headers = _headers(etag) | {"Content-Type": kind, "Accept-Ranges": "bytes"}
        if ranges.matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        asked = request.headers.get("Range")
        if not ranges.holds(request.headers.get("If-Range"), etag):
            asked = None
        try:
            span = ranges.parse(asked, size)
        except ranges.Unsatisfiable:
            return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{size}"})
        first, end = span or (0, size)
        headers["Content-Length"] = str(end - first)
        if span is not None:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        response = web.StreamResponse(status=206 if span else 200, headers=headers)
        if request.method == "HEAD":
            return response
        return await self._send(request, response, mirror, parts(first, end))

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        mirror: Mirror,
        parts: Sequence[tuple[Blob, int, int]],
    ) -> web.StreamResponse:
        self.served.requests += 1
        async with _ahead(mirror.fetcher, [blob for blob, _, _ in parts]) as paths:
            # What fails at once gets a status and a sentence. What takes longer is waited for by a
            # client that knows by the headers that this node is alive.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TOLD_WITHIN_S):
                    await paths.wait(0)
            await response.prepare(request)
            filespan.watch(request)
            try:
                for index, (_, start, stop) in enumerate(parts):
                    await filespan.send(request, await paths.get(index), start, stop)
                    self.served.bytes += stop - start
                await response.write_eof()
            except (FetchError, CacheError, OSError) as error:
                self.served.cut += 1
                if not isinstance(error, ConnectionError):
                    log.warning("course-cut path=%s why=%s", request.path, error)
                # There is no other way to say that what was promised does not come.
                if request.transport is not None:
                    request.transport.abort()
        return response

    # ------------------------------------------------------------ who asks for what

    def _grant(self, request: web.Request) -> Grant:
        return self.config.access.check(bearer.authorization(request))

    async def _entry(self, request: web.Request) -> Entry:
        course = request.match_info["course"]
        self._grant(request).require_view(f"course/{course}")
        return await (await self.mirror()).entry(course)


class _Ahead:
    """The pieces of one answer, fetched a little ahead of what is sent."""

    def __init__(self, fetcher: Fetcher, blobs: Sequence[Blob], group: asyncio.TaskGroup) -> None:
        self._fetcher = fetcher
        self._blobs = blobs
        self._group = group
        self._tasks: dict[int, asyncio.Task[Path | FetchError | CacheError]] = {}

    async def _one(self, blob: Blob) -> Path | FetchError | CacheError:
        # Returned, not raised: one that fails ahead must not end what is still being sent.
        try:
            return await self._fetcher.fetch(blob, within_s=PIECE_WITHIN_S)
        except (FetchError, CacheError) as error:
            return error

    def _task(self, index: int) -> asyncio.Task[Path | FetchError | CacheError]:
        for ahead in range(index, min(index + AHEAD, len(self._blobs))):
            if ahead not in self._tasks:
                self._tasks[ahead] = self._group.create_task(self._one(self._blobs[ahead]))
        return self._tasks[index]

    async def wait(self, index: int) -> None:
        """Until the piece is there. Raises what it failed with; can be cut by a time-out."""
        await self._result(await asyncio.shield(self._task(index)))

    async def get(self, index: int) -> Path:
        """The file of a piece; each is asked for once."""
        result = await self._result(await self._task(index))
        del self._tasks[index]
        return result

    @staticmethod
    async def _result(result: Path | FetchError | CacheError) -> Path:
        if isinstance(result, Path):
            return result
        raise result

    def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()


@contextlib.asynccontextmanager
async def _ahead(fetcher: Fetcher, blobs: Sequence[Blob]) -> AsyncIterator[_Ahead]:
    failed: Exception | None = None
    async with asyncio.TaskGroup() as group:
        ahead = _Ahead(fetcher, blobs, group)
        try:
            yield ahead
        except (FetchError, CacheError) as error:
            failed = error  # Out of the group as itself, not as a group of errors.
        finally:
            ahead.stop()
    if failed is not None:
        raise failed


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _attachments(course: Course) -> list[Attachment]:
    return [*([course.poster] if course.poster else []), *course.subtitles]


def _headers(etag: str, *, stale: bool = False) -> dict[str, str]:
    headers = CORS | {"Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
    if etag:
        headers["ETag"] = etag
    if stale:
        # Nobody above could be asked: so a page or a station can say how sure this is.
        headers["Terrace-Stale"] = "1"
    return headers


def _safe_type(content_type: str) -> str:
    """A type that no browser runs as a page of ours, whatever a parent says."""
    known = ("application/json", "application/vnd.apple.mpegurl", "application/jose", "text/plain")
    return content_type if content_type in known else "application/octet-stream"


def _refused(status: int, sentence: str, retry_after_s: int | None = None) -> web.Response:
    headers = dict(CORS)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(status=status, text=sentence + "\n", headers=headers)


def _said(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def guard(handler: Handler) -> Handler:
    """Turns what goes wrong into a status and one sentence that says what to do."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except AccessError as error:
            return _refused(error.status, error.sentence)
        except NotThere as error:
            return _refused(404, _said(error))
        except Refusal as error:
            return _refused(
                502,
                "The node above refuses this node's token: set parent_token to one made by "
                f"`terrace token --relay`. It said: {_said(error)}",
            )
        except (BadSignature, BadDocument) as error:
            log.warning("course-bad path=%s why=%s", request.path, error)
            return _refused(502, _said(error))
        except DiskFull as error:
            return _refused(507, _said(error))
        except CacheError as error:
            return _refused(500, _said(error))
        except FetchError as error:
            wait = 2 + random.randrange(4)
            return _refused(
                503, f"This course is not here, and it cannot be had now: {_said(error)}", wait
            )

    return guarded


def add(app: web.Application, distribution: Distribution) -> None:
    """Adds the courses' URLs to a node's app."""
    here, get = f"/courses/{COURSE}", app.router.add_get
    get("/api/courses", guard(distribution.listing))
    get("/api/catalogue", guard(distribution.watch))
    get(f"/api/courses/{COURSE}", guard(distribution.about))
    get(f"/api/courses/{COURSE}/uses", guard(distribution.uses))
    get(f"{here}/course.jws", guard(distribution.course))
    get(f"{here}/{RENDITION}.manifest", guard(distribution.manifest))
    get(f"{here}/{RENDITION}.mp4", guard(distribution.rendition))
    get(f"{here}/{RENDITION}.m3u8", guard(distribution.about))
    get(here + r"/{file:[a-z0-9][a-z0-9-]{0,63}\.(?:jpg|vtt)}", guard(distribution.attachment))

    async def close(_app: web.Application) -> None:
        await distribution.close()

    app.on_cleanup.append(close)


def add_depot(app: web.Application, distribution: Distribution, county: County) -> Depot:
    """Has the cache filled by the timetables of this county's stations while the app runs."""
    depot = distribution.depot = Depot(county, distribution.mirror)

    async def live(_app: web.Application) -> AsyncIterator[None]:
        filling = asyncio.create_task(depot.run(), name="depot")
        yield
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)

    app.cleanup_ctx.append(live)
    return depot


def add_pieces(app: web.Application, cache: Callable[[], Cache | None]) -> None:
    """Adds `/pieces/{sha256}` for the neighbours on the LAN: what is held, and nothing else.

    There is no token: only who holds a signed manifest knows a digest. `cache` may be None as long
    as there is none.
    """

    async def piece(request: web.Request) -> web.StreamResponse:
        held, digest = cache(), request.match_info["digest"]
        path = await held.find_digest(digest) if held is not None else None
        if path is None:
            return web.Response(status=404)
        return web.FileResponse(
            path, headers={"Content-Type": "application/octet-stream", "ETag": f'"{digest[:32]}"'}
        )

    app.router.add_get(f"/pieces/{DIGEST}", piece)
