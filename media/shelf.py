"""The courses of a station: what is known of them, and what of it is on the disk.

A course is known by its signed entry and the signed manifests of its renditions; both are kept in
the cache, so that a cold start without a line knows what it knew. Nothing is believed that the
library did not sign; what is refused becomes a fault, and what was known before stays.

    media.needs     what to fetch, from `renditions`
    media.playout   what to show, from `course`
    the HTTP server what bytes make up a file, from `manifest`
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from media import blob, cache, signed
from media.blob import Blob
from media.cache import Cache
from media.course import Course
from media.errors import FetchError, MediaError
from media.faults import Code, Faults
from media.fetch import Fetcher
from media.manifest import Manifest
from media.mirror import Entry
from media.playout import OnDisk, Subtitle
from media.programme import Item

log = logging.getLogger("media.shelf")

ASK_WITHIN_S: Final = 60.0
MAX_KNOWN: Final = 2000


class Shelf:
    """The courses that the box knows. All methods belong to one asyncio loop."""

    def __init__(
        self,
        store: Cache,
        keys: Callable[[], Sequence[Ed25519PublicKey]],
        faults: Faults,
        now: Callable[[], float],
    ) -> None:
        """keys: whose signatures are good at this moment."""
        self._cache = store
        self._keys = keys
        self._faults = faults
        self._now = now
        self._courses: dict[str, Course] = {}
        self._manifests: dict[tuple[str, str], Manifest] = {}
        self._texts: dict[str, tuple[bytes, str]] = {}
        """The signed entries with their ETags."""
        self.revision = 0
        """Grows when anything new is known."""

    # ------------------------------------------------------------ learning

    async def load(self) -> None:
        """Takes up what the cache holds, as after a start without a line."""
        for kept in await self._cache.documents():
            if not kept.path.startswith("/courses/") or not kept.path.endswith("/course.jws"):
                continue
            course_id = kept.path.split("/")[2]
            if self._take_course(course_id, kept.body, kept.etag):
                await self._load_manifests(self._courses[course_id])

    async def _load_manifests(self, course: Course) -> None:
        for rendition in course.renditions:
            path = await self._cache.find(blob.manifest_blob(course.id, rendition))
            if path is not None:
                self._take_manifest(
                    course, rendition.name, await asyncio.to_thread(path.read_bytes)
                )

    async def learn(self, course_id: str, fetcher: Fetcher) -> bool:
        """Asks the parents for a course and its manifests; True if anything is new.

        Raises FetchError and CacheError.
        """
        path, before = blob.course_path(course_id), self.revision
        answer = await fetcher.document(path, etag=self._texts.get(course_id, (b"", ""))[1])
        if answer.body is not None and self._take_course(course_id, answer.body, answer.etag):
            await self._cache.keep_document(
                cache.Kept(path, answer.body, answer.etag, answer.content_type, self._now())
            )
        course = self._courses.get(course_id)
        if course is None:
            return False
        for rendition in course.renditions:
            if (course_id, rendition.name) not in self._manifests:
                file = await fetcher.fetch(
                    blob.manifest_blob(course_id, rendition), within_s=ASK_WITHIN_S
                )
                self._take_manifest(
                    course, rendition.name, await asyncio.to_thread(file.read_bytes)
                )
        for small in blob.small_blobs(course):
            try:
                await fetcher.fetch(small, within_s=ASK_WITHIN_S)
            except FetchError as error:
                log.info("course-without course=%s what=%s why=%r", course_id, small.path, error)
        return self.revision != before

    def _take_course(self, course_id: str, text: bytes, etag: str) -> bool:
        try:
            course = signed.read(text, self._keys(), signed.COURSE, Course)
            if course.id != course_id:
                raise signed.BadDocument(f"it is the entry of {course.id}")
        except MediaError as error:
            self._refuse(course_id, error)
            return False
        known = self._courses.get(course_id)
        self._faults.clear(Code.COURSE_SIGNATURE, course_id)
        self._faults.clear(Code.COURSE_UNREADABLE, course_id)
        if known is not None and course.revision < known.revision:
            return False
        if known is None and len(self._courses) >= MAX_KNOWN:
            return False
        self._texts[course_id] = text, etag
        if known is not None and course.revision == known.revision:
            return False
        self._courses[course_id] = course
        for rendition in course.renditions:
            # Another manifest, perhaps; it is read from the cache if it is the same.
            self._manifests.pop((course_id, rendition.name), None)
        self.revision += 1
        return True

    def _take_manifest(self, course: Course, rendition: str, text: bytes) -> None:
        try:
            manifest = signed.read(text, self._keys(), signed.MANIFEST, Manifest)
            if (manifest.course, manifest.rendition) != (course.id, rendition):
                raise signed.BadDocument(
                    f"it lists the pieces of {manifest.course} {manifest.rendition}"
                )
        except MediaError as error:
            self._refuse(course.id, error)
            return
        self._manifests[course.id, rendition] = manifest
        self.revision += 1

    def _refuse(self, course_id: str, error: MediaError) -> None:
        log.warning("course-refused course=%s why=%r", course_id, str(error))
        if isinstance(error, signed.BadSignature):
            self._faults.set(Code.COURSE_SIGNATURE, self._now(), course_id, course=course_id)
        else:
            self._faults.set(
                Code.COURSE_UNREADABLE, self._now(), course_id, course=course_id,
                why=str(error)[:200],
            )  # fmt: skip

    # ------------------------------------------------------------ what is there

    def find(self, course_id: str) -> Course | None:
        """What is known of a course."""
        return self._courses.get(course_id)

    def entry(self, course_id: str) -> Entry | None:
        """The same with its signed text, for the HTTP server."""
        course = self._courses.get(course_id)
        if course is None:
            return None
        text, etag = self._texts[course_id]
        return Entry(course, text, etag)

    def manifest(self, course_id: str, rendition: str) -> Manifest | None:
        """The pieces of a rendition."""
        return self._manifests.get((course_id, rendition))

    def renditions(self, course_ids: Sequence[str]) -> dict[str, Mapping[str, Sequence[Blob]]]:
        """The pieces of these courses by rendition, the best first, as far as they are known."""
        return {
            one: {
                rendition.name: blob.rendition_blobs(manifest)
                for rendition in course.renditions
                if (manifest := self._manifests.get((one, rendition.name))) is not None
            }
            for one in course_ids
            if (course := self._courses.get(one)) is not None
        }

    def pinned(self, course_id: str) -> tuple[list[str], list[str]]:
        """What must stay besides the pieces: digests, and paths of documents."""
        course = self._courses.get(course_id)
        if course is None:
            return [], []
        digests = [one.manifest_sha256 for one in course.renditions]
        digests += [one.sha256 for one in blob.small_blobs(course)]
        return digests, [blob.course_path(course_id)]

    def course(self, item: Item) -> OnDisk | None:
        """A recorded item's course, in the rendition of which the most is there.

        A whole one goes before all others, then the item's own order of preference.
        """
        course = self._courses.get(item.course or "")
        if course is None:
            return None
        best: tuple[float, Manifest, int] | None = None
        for name in item.renditions or [one.name for one in course.renditions]:
            manifest = self._manifests.get((course.id, name))
            if manifest is None:
                continue
            have = sum(
                piece.size_bytes for piece in manifest.pieces() if self._cache.holds(piece.sha256)
            )
            share = have / manifest.size_bytes
            if best is None or share > best[0]:
                best = share, manifest, have
            if share == 1.0:
                break
        base = f"/courses/{course.id}/"
        poster = base + course.poster.file if course.poster else ""
        subtitles = tuple(
            Subtitle(one.lang, one.label, base + one.file) for one in course.subtitles
        )
        if best is None:
            return OnDisk(course.id, course.title, poster=poster, duration_s=course.duration_s)
        share, manifest, have = best
        playable = self._cache.holds(manifest.init.sha256) and have > manifest.init.size_bytes
        return OnDisk(
            course.id, course.title, manifest.rendition,
            base + f"{manifest.rendition}.mp4" if playable else "",
            poster, subtitles, manifest.duration_s, share == 1.0,
            () if share == 1.0 else self._holes(manifest),
            have, manifest.size_bytes,
        )  # fmt: skip

    def _holes(self, manifest: Manifest) -> tuple[tuple[float, float], ...]:
        holes: list[tuple[float, float]] = []
        for one in manifest.segments:
            if self._cache.holds(one.sha256):
                continue
            end_s = one.start_s + one.duration_s
            if holes and one.start_s - holes[-1][1] < 0.5:
                holes[-1] = holes[-1][0], end_s
            else:
                holes.append((one.start_s, end_s))
        return tuple(holes)
