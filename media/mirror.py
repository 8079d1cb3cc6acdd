"""Copies of courses at this machine: what a node below the library knows and holds of them.

The entry of a course is asked for again when it has aged, and taken only with a good signature and
no older than the copy at hand. Everything else hangs on it by digests (`media/blob.py`) and never
changes, so it is fetched once. With no way up, the copies at hand are served.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ValidationError

from . import signed
from .blob import Blob, course_path, manifest_blob, rendition_blobs, small_blobs
from .cache import Cache, Kept
from .course import Course
from .errors import DiskFull, FetchError, NotThere
from .fetch import Fetcher
from .manifest import Manifest
from .signed import BadDocument, BadSignature

log = logging.getLogger("media.mirror")

FRESH_S: Final = 30.0
ASK_AGAIN_S: Final = 5.0
"""After nobody above has answered, copies are served for so long before they are asked again."""
MANIFESTS_IN_MEMORY: Final = 32
DOCUMENTS_IN_MEMORY: Final = 512
MAX_IN_MEMORY_BYTES: Final = 256 * 1024
_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Entry:
    """A course as this machine knows it.

    jws: the signed text. stale: nobody above could be asked whether it is still right.
    """

    course: Course
    jws: bytes
    etag: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A rendition's manifest, and its pieces with the offsets at which they begin."""

    manifest: Manifest
    blobs: tuple[Blob, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Listing:
        """The listing of a good manifest."""
        offsets = tuple(piece.offset_bytes for piece in manifest.pieces())
        return cls(manifest, rendition_blobs(manifest), offsets)

    def parts(self, first: int, end: int) -> list[tuple[Blob, int, int]]:
        """The pieces that hold bytes `first` to `end` of the file, from where to where in each."""
        found = []
        for index in range(max(0, bisect_right(self.offsets, first) - 1), len(self.blobs)):
            blob, offset = self.blobs[index], self.offsets[index]
            if offset >= end:
                break
            found.append((blob, max(first - offset, 0), min(end - offset, blob.size_bytes)))
        return found


class Mirror:
    """The courses of the library above, through one cache and one fetch engine."""

    def __init__(
        self,
        cache: Cache,
        fetcher: Fetcher,
        keys: Sequence[Ed25519PublicKey],
        *,
        fresh_s: float = FRESH_S,
    ) -> None:
        """A mirror that believes these keys.

        Without keys (a node on loopback that runs open) signatures are not checked; digests are.
        """
        self.cache = cache
        self.fetcher = fetcher
        self._keys = tuple(keys)
        self._fresh_s = fresh_s
        # path -> (what is at hand, until when that is believed, whether nobody could be asked)
        self._checked: dict[str, tuple[Kept, float, bool]] = {}
        self._courses: dict[str, tuple[bytes, Course]] = {}
        self._asking: dict[str, asyncio.Task[Kept]] = {}
        self._listings: OrderedDict[str, Listing] = OrderedDict()
        self._forgotten = 0
        """How often all freshness was forgotten: what was asked before that is not fresh."""

    # ------------------------------------------------------------ documents

    async def document(
        self, path: str, check: Callable[[Kept, Kept | None], Kept] | None = None
    ) -> tuple[Kept, bool]:
        """What the parents serve at a path, and whether it could not be checked with them now.

        check: looks at what came beside what there was, and returns which of them to keep.
        Raises NotThere, Refusal, NoSource (only when there is no copy), and what `check` raises.
        """
        known = self._checked.get(path)
        if known is not None and time.monotonic() < known[1]:
            return known[0], known[2]
        # Whoever asks meanwhile waits for the same answer.
        asking = self._asking.get(path)
        if asking is None:
            asking = asyncio.create_task(self._ask(path, check), name="document")
            self._asking[path] = asking
            asking.add_done_callback(lambda done: self._answered(path, done))
        try:
            return await asyncio.shield(asking), False
        except NotThere:
            self._checked.pop(path, None)
            await self.cache.drop_document(path)
            raise
        except FetchError:
            kept = await self.cache.document(path)
            if kept is None:
                raise
            # Believed for a moment, so that a dead parent does not cost everybody its wait.
            self._believe(kept, ASK_AGAIN_S, stale=True)
            return kept, True

    def _believe(self, kept: Kept, for_s: float, *, stale: bool = False) -> None:
        if len(self._checked) >= DOCUMENTS_IN_MEMORY:
            self._checked.clear()
        if len(kept.body) <= MAX_IN_MEMORY_BYTES:
            self._checked[kept.path] = kept, time.monotonic() + for_s, stale

    def forget_freshness(self) -> None:
        """Ask for everything again when it is next wanted, however short a time ago it came."""
        self._checked.clear()
        self._forgotten += 1

    def _answered(self, path: str, asking: asyncio.Task[Kept]) -> None:
        self._asking.pop(path, None)
        if not asking.cancelled():
            asking.exception()  # Whoever asked has it, if they have not left.

    async def _ask(self, path: str, check: Callable[[Kept, Kept | None], Kept] | None) -> Kept:
        forgotten = self._forgotten
        kept = await self.cache.document(path)
        answer = await self.fetcher.document(path, etag=kept.etag if kept else "")
        if answer.body is None:
            assert kept is not None
        else:
            came = Kept(path, answer.body, answer.etag, answer.content_type, time.time())
            wanted = came if check is None else await asyncio.to_thread(check, came, kept)
            if wanted is not kept:
                kept = wanted
                try:
                    await self.cache.keep_document(kept)
                except DiskFull as error:
                    log.warning("document-not-kept path=%s why=%s", path, error)
        if forgotten == self._forgotten:
            self._believe(kept, self._fresh_s)
        return kept

    # ------------------------------------------------------------ courses

    async def entry(self, course_id: str) -> Entry:
        """A course, verified. Raises NotThere, Refusal, NoSource, BadSignature, BadDocument."""
        path = course_path(course_id)

        def newer(came: Kept, kept: Kept | None) -> Kept:
            try:
                course = self._read_course(came.body, course_id)
            except (BadSignature, BadDocument) as error:
                if kept is None:
                    raise
                log.warning("course-refused course=%s why=%s", course_id, error)
                return kept
            if kept is not None:
                try:
                    if self._read_course(kept.body, course_id).revision > course.revision:
                        return kept
                except (BadSignature, BadDocument):
                    pass  # The keys are others now; what came is good.
            return came

        kept, stale = await self.document(path, newer)
        known = self._courses.get(course_id)
        if known is None or known[0] != kept.body:
            course = await asyncio.to_thread(self._read_course, kept.body, course_id)
            if len(self._courses) >= DOCUMENTS_IN_MEMORY:
                self._courses.clear()
            known = self._courses[course_id] = kept.body, course
        return Entry(known[1], kept.body, kept.etag, stale)

    async def take_course(self, jws: bytes, course_id: str) -> Course:
        """Take an entry that came by another way than the parents', unless there is a newer one.

        Raises BadSignature, BadDocument and DiskFull.
        """
        came = await asyncio.to_thread(self._read_course, jws, course_id)
        path = course_path(course_id)
        kept = await self.cache.document(path)
        if kept is not None:
            try:
                known = await asyncio.to_thread(self._read_course, kept.body, course_id)
            except (BadSignature, BadDocument):
                pass  # It is of no use, so anything good is newer.
            else:
                if known.revision >= came.revision:
                    return known
        await self.cache.keep_document(Kept(path, jws, content_type="application/jose"))
        return came

    async def known(self) -> list[Course]:
        """The courses of which a good entry is at hand, the newest first; asks nobody."""
        found = []
        for kept in await self.cache.documents():
            if not kept.path.endswith("/course.jws"):
                continue
            try:
                found.append(self._read_course(kept.body, kept.path.split("/")[2]))
            except (BadSignature, BadDocument, IndexError):
                continue
        return sorted(found, key=lambda course: (course.created, course.id), reverse=True)

    def _read_course(self, jws: bytes, course_id: str) -> Course:
        course = self._read(jws, signed.COURSE, Course)
        if course.id != course_id:
            raise BadDocument(f"the document of course {course_id} is that of {course.id}")
        return course

    def _read(self, jws: bytes, typ: str, model: type[_Model]) -> _Model:
        if self._keys:
            return signed.read(jws, self._keys, typ, model)
        try:
            payload = jwt.PyJWS().decode(jws.strip(), options={"verify_signature": False})
            return model.model_validate_json(payload)
        except (jwt.PyJWTError, ValidationError, ValueError, RecursionError) as error:
            raise BadDocument(f"what came as {typ} cannot be read") from error

    # ------------------------------------------------------------ renditions

    async def listing(
        self, course: Course, rendition_name: str, *, within_s: float | None = None
    ) -> Listing:
        """What a rendition consists of. Raises NotThere for one that the course does not have."""
        rendition = course.rendition(rendition_name)
        if rendition is None:
            raise NotThere(f"the course {course.id} has no rendition {rendition_name}")
        known = self._listings.get(rendition.manifest_sha256)
        if known is None:
            path = await self.fetcher.fetch(manifest_blob(course.id, rendition), within_s=within_s)
            known = await asyncio.to_thread(self._read_listing, path, course.id, rendition_name)
            self._listings[rendition.manifest_sha256] = known
            while len(self._listings) > MANIFESTS_IN_MEMORY:
                self._listings.popitem(last=False)
        self._listings.move_to_end(rendition.manifest_sha256)
        return known

    def _read_listing(self, path: Path, course_id: str, rendition_name: str) -> Listing:
        manifest = self._read(path.read_bytes(), signed.MANIFEST, Manifest)
        if (manifest.course, manifest.rendition) != (course_id, rendition_name):
            raise BadDocument(
                f"the manifest of {course_id}/{rendition_name} is that of "
                f"{manifest.course}/{manifest.rendition}"
            )
        return Listing.of(manifest)

    async def pieces(self, course: Course, rendition_name: str) -> tuple[Blob, ...]:
        """All that plays this rendition: its pieces, and the course's poster and subtitles."""
        listing = await self.listing(course, rendition_name)
        return (*listing.blobs, *small_blobs(course))
