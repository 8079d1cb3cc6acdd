"""The library: courses and their renditions in the object store, and the catalogue in memory.

```
catalogue/{id}.jws                        the course, signed; what is here is in the catalogue
courses/{id}/{rendition}.{tag}.mp4        one rendition, and the signed list of its pieces
courses/{id}/{rendition}.{tag}.manifest
courses/{id}/{file}.{tag}                 poster and subtitles
```

`tag` is the beginning of a SHA-256 that the signed course names, so a file never changes under its
name: what belongs to a course is written first, then the course, then what it no longer names is
removed. Other processes may write to the same store; the catalogue is read again when it is old.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel

from . import signed
from .course import Attachment, Changes, Course, Rendition
from .errors import MediaError
from .manifest import Manifest
from .objects import NoSuchObject, Objects
from .search import Index

log = logging.getLogger("media.library")

CATALOGUE: Final = "catalogue"
ORPHAN_AFTER_S: Final = 86400.0
"""What no course names is removed when it is so old: younger, it may belong to one that is made."""
WATCH_EVERY_S: Final = 5.0
"""How often the store is looked at for somebody who waits for a change by another process."""
REREAD_AFTER_S: Final = 3.0
"""How old the catalogue may be before the store is asked what has changed."""
REREAD_FOR_ONE_AFTER_S: Final = 0.5
"""The same for a course that it does not have: another process may just have made it."""

_READ_AT_ONCE: Final = 16
_MANIFESTS_KEPT: Final = 64
_TAG_LETTERS: Final = 16


class NoSuchCourse(MediaError):
    """There is no such course, rendition or file of a course here."""


class NotTaken(MediaError):
    """What somebody wants to change of a course cannot be; the text says why."""


class Outdated(MediaError):
    """Somebody else has changed the course meanwhile."""


@dataclass(frozen=True, slots=True)
class SignedCourse:
    """A course and the text in which its library signed it."""

    course: Course
    text: str


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """A rendition's manifest and the text in which its library signed it."""

    manifest: Manifest
    text: str

    @property
    def sha256(self) -> str:
        """Of the signed text: it names this very version of the rendition."""
        return hashlib.sha256(self.text.encode()).hexdigest()


class Shelf(Protocol):
    """Courses that can be listed and read: a library, or the cache of a node below one.

    All of it raises NoSuchCourse for what is not here, and MediaError for what cannot be had now.
    """

    async def catalogue(self) -> Index:
        """The courses that may be listed."""

    async def course(self, course_id: str) -> SignedCourse:
        """One course."""

    async def manifest(self, course_id: str, rendition: str) -> SignedManifest:
        """The manifest of one rendition of a course."""

    def media(self, manifest: Manifest, start: int, end: int) -> AsyncGenerator[bytes | memoryview]:
        """Bytes `start` up to, not including, `end` of the rendition's file, in parts."""

    async def attachment(self, course_id: str, file: str) -> bytes:
        """A poster, or subtitles."""


class Library:
    """The courses of one store; it signs them if it has the private key."""

    def __init__(
        self,
        objects: Objects,
        public_keys: Iterable[Ed25519PublicKey],
        private_key: Ed25519PrivateKey | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.objects = objects
        self.public_keys = tuple(public_keys)
        self._private_key = private_key
        self._clock = clock
        self._index = Index()
        self._courses: dict[str, tuple[str, SignedCourse]] = {}
        self._unreadable: dict[str, str] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self.writing = asyncio.Lock()
        """Held while a course is read, changed and saved again."""
        self._manifests: OrderedDict[tuple[str, str], SignedManifest] = OrderedDict()
        self._run = secrets.token_hex(6)
        self._changes = 0
        self._news = asyncio.Event()

    # ------------------------------------------------------------ reading

    async def catalogue(self) -> Index:
        """The courses here, at most some seconds old."""
        await self._read_anew(REREAD_AFTER_S)
        return self._index

    async def _read_anew(self, after_s: float) -> None:
        async with self._reading:
            if self._clock() - self._read_at > after_s:
                await self._reread()
                self._read_at = self._clock()

    @property
    def state(self) -> str:
        """Another text whenever the catalogue has changed, and after a start."""
        return f"{self._run}-{self._changes}"

    async def changed(self, seen: str, within_s: float) -> str:
        """The `state` as soon as it is another than `seen`, or as it is after so long."""
        deadline = time.monotonic() + within_s
        while True:
            news = self._news
            await self.catalogue()
            left_s = deadline - time.monotonic()
            if self.state != seen or left_s <= 0:
                return self.state
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, WATCH_EVERY_S)):
                    await news.wait()

    def _note_change(self) -> None:
        self._changes += 1
        self._news.set()
        self._news = asyncio.Event()

    async def course(self, course_id: str) -> SignedCourse:
        """One course. Raises NoSuchCourse."""
        await self.catalogue()
        if course_id not in self._courses:
            await self._read_anew(REREAD_FOR_ONE_AFTER_S)
        known = self._courses.get(course_id)
        if known is None:
            raise NoSuchCourse(f"there is no course {course_id[:64]!r} in this library")
        return known[1]

    async def manifest(self, course_id: str, rendition: str) -> SignedManifest:
        """The manifest of one rendition. Raises NoSuchCourse."""
        entry = (await self.course(course_id)).course.rendition(rendition)
        if entry is None:
            raise NoSuchCourse(f"the course {course_id!r} has no rendition {rendition[:32]!r}")
        cached = self._manifests.get((course_id, entry.manifest_sha256))
        if cached is None:
            text = (
                await self.objects.read(_manifest_key(course_id, entry.name, entry.manifest_sha256))
            ).decode("ascii")
            manifest = signed.read(text, self.public_keys, signed.MANIFEST, Manifest)
            cached = SignedManifest(manifest, text)
            self._manifests[course_id, entry.manifest_sha256] = cached
            while len(self._manifests) > _MANIFESTS_KEPT:
                self._manifests.popitem(last=False)
        return cached

    async def media(
        self, manifest: SignedManifest, start: int, end: int
    ) -> AsyncGenerator[bytes | memoryview]:
        """Bytes of a rendition's file, in parts. Raises NoSuchObject if it was replaced since."""
        one = manifest.manifest
        key = _media_key(one.course, one.rendition, manifest.sha256)
        async for part in self.objects.stream(key, start, end):
            yield part

    def media_path(self, manifest: SignedManifest) -> Path | None:
        """The rendition's file, where it is one of this machine; there or not."""
        one = manifest.manifest
        return self.objects.path_of(_media_key(one.course, one.rendition, manifest.sha256))

    async def attachment(self, course_id: str, file: str) -> bytes:
        """A poster or subtitles. Raises NoSuchCourse."""
        course = (await self.course(course_id)).course
        for one in (course.poster, *course.subtitles):
            if one is not None and one.file == file:
                return await self.objects.read(_attachment_key(course_id, one))
        raise NoSuchCourse(f"the course {course_id!r} has no file {file[:80]!r}")

    async def _reread(self) -> None:
        """Take in what has changed in the store since the last time."""
        found = {
            one.key.removeprefix(f"{CATALOGUE}/").removesuffix(".jws"): one
            for one in await self.objects.list(CATALOGUE)
            if one.key.endswith(".jws")
        }
        for course_id in self._courses.keys() - found.keys():
            del self._courses[course_id]
            self._index.remove(course_id)
            self._note_change()
        changed = [
            (course_id, one.key, one.tag)
            for course_id, one in found.items()
            if self._tag_of(course_id) != one.tag
        ]
        limit = asyncio.Semaphore(_READ_AT_ONCE)

        async def take(course_id: str, key: str, tag: str) -> None:
            async with limit:
                try:
                    text = (await self.objects.read(key)).decode("ascii", "replace")
                    course = signed.read(text, self.public_keys, signed.COURSE, Course)
                except NoSuchObject:
                    return  # removed since it was listed
                except (signed.BadSignature, signed.BadDocument) as error:
                    # One bad entry must not empty the catalogue; it is named once.
                    self._unreadable[course_id] = tag
                    log.warning("course-unreadable id=%s reason=%s", course_id, error)
                    return
                if course.id == course_id:
                    self._take(SignedCourse(course, text), tag)

        async with asyncio.TaskGroup() as group:
            for course_id, key, tag in changed:
                group.create_task(take(course_id, key, tag))

    def _tag_of(self, course_id: str) -> str | None:
        known = self._courses.get(course_id)
        return known[0] if known else self._unreadable.get(course_id)

    def _take(self, one: SignedCourse, tag: str) -> None:
        self._courses[one.course.id] = (tag, one)
        self._unreadable.pop(one.course.id, None)
        self._index.put(one.course)
        self._note_change()

    # ------------------------------------------------------------ writing

    def sign_manifest(self, manifest: Manifest) -> SignedManifest:
        """The manifest with the library's signature. Raises MediaError without a private key."""
        return SignedManifest(manifest, signed.sign(manifest, self._key(), signed.MANIFEST))

    def sign(self, document: BaseModel, typ: str) -> str:
        """Another document with the library's signature, such as a timetable. Raises MediaError."""
        return signed.sign(document, self._key(), typ)

    async def put_rendition(self, manifest: SignedManifest, file: Path) -> Rendition:
        """Store one rendition of a course that `save` will name; returns the course's entry of it.

        Raises StoreError when there is no room.
        """
        one = manifest.manifest
        entry = Rendition(
            name=one.rendition,
            codecs=one.codecs,
            bitrate_bps=one.bitrate_bps,
            peak_bitrate_bps=one.peak_bitrate_bps,
            width=one.width,
            height=one.height,
            size_bytes=one.size_bytes,
            manifest_sha256=manifest.sha256,
        )
        await self.objects.put(_media_key(one.course, entry.name, entry.manifest_sha256), file)
        await self.objects.put(
            _manifest_key(one.course, entry.name, entry.manifest_sha256), manifest.text.encode()
        )
        return entry

    async def put_attachment(self, course_id: str, attachment: Attachment, data: bytes) -> None:
        """Store a poster or subtitles of a course that `save` will name."""
        await self.objects.put(_attachment_key(course_id, attachment), data)

    async def save(self, course: Course) -> Course:
        """Put a course in the catalogue, as the next revision.

        What only the revision before named is removed.
        """
        key = f"{CATALOGUE}/{course.id}.jws"
        old: set[str] = set()
        try:
            text = (await self.objects.read(key)).decode("ascii", "replace")
            before = signed.read(text, self.public_keys, signed.COURSE, Course)
            course = course.model_copy(update={"revision": before.revision + 1})
            old = set(_keys(before))
        except (NoSuchObject, signed.BadSignature, signed.BadDocument):
            pass
        text = signed.sign(course, self._key(), signed.COURSE)
        # Whoever reads the catalogue meanwhile would tell of the change before it is taken in here,
        # and then it would be told again.
        async with self._reading:
            await self.objects.put(key, text.encode())
            self._take(SignedCourse(course, text), (await self.objects.head(key)).tag)
        await self.objects.delete(sorted(old.difference(_keys(course))))
        return course

    async def edit(self, course_id: str, changes: Changes, revision: int | None = None) -> Course:
        """Change what people say about a course.

        Hold `writing`. revision: of the course that was seen by who changes it. Raises
        NoSuchCourse, Outdated, and NotTaken for a chapter beyond the end.
        """
        self._read_at = float("-inf")  # another process may have entered it anew
        course = (await self.course(course_id)).course
        if revision is not None and revision != course.revision:
            raise Outdated(
                f"the course {course_id!r} was changed meanwhile: load it again, then change it"
            )
        late = changes.late(course.duration_s)
        if late is not None:
            raise NotTaken(
                f"the chapter {late.title!r} begins at {late.start_s:g} s and the course ends "
                f"at {course.duration_s:.0f} s"
            )
        return await self.save(course.model_copy(update=changes.given()))

    async def sweep(self, busy: Callable[[], Iterable[str]], now_s: float) -> list[str]:
        """Remove the files that no course names, as deleted and failed ones leave them.

        Returns their keys. busy: the courses that are being made, which may have files that the
        catalogue does not know yet. Nothing of them, nothing that is younger than ORPHAN_AFTER_S,
        and nothing of a course whose entry cannot be read is touched. now_s: Unix seconds.
        """
        # First the files, then who needs them: a course that is saved in between is seen.
        there = await self.objects.list("courses", unfinished=True)
        old = [one for one in there if now_s - one.written_s > ORPHAN_AFTER_S]
        self._read_at = float("-inf")
        await self.catalogue()
        spared = {*await asyncio.to_thread(lambda: set(busy())), *self._unreadable}
        named = {key for _, one in self._courses.values() for key in _keys(one.course)}
        orphans = [
            one.key for one in old if one.key not in named and one.key.split("/")[1] not in spared
        ]
        await self.objects.delete(orphans)
        return orphans

    async def delete(self, course_id: str) -> None:
        """Remove a course: from the catalogue first, then its files. Raises NoSuchCourse."""
        await self.course(course_id)
        async with self._reading:  # as in `save`
            await self.objects.delete([f"{CATALOGUE}/{course_id}.jws"])
            self._courses.pop(course_id, None)
            self._index.remove(course_id)
            self._note_change()
        await self.objects.delete(
            one.key for one in await self.objects.list(f"courses/{course_id}")
        )

    def _key(self) -> Ed25519PrivateKey:
        if self._private_key is None:
            raise MediaError("this library has no private key, so nothing can be entered")
        return self._private_key


def _keys(course: Course) -> list[str]:
    """All that a course names."""
    keys = []
    for one in course.renditions:
        keys.append(_media_key(course.id, one.name, one.manifest_sha256))
        keys.append(_manifest_key(course.id, one.name, one.manifest_sha256))
    attachments = (course.poster, *course.subtitles)
    return keys + [_attachment_key(course.id, one) for one in attachments if one is not None]


def _media_key(course_id: str, rendition: str, sha256: str) -> str:
    return f"courses/{course_id}/{rendition}.{sha256[:_TAG_LETTERS]}.mp4"


def _manifest_key(course_id: str, rendition: str, sha256: str) -> str:
    return f"courses/{course_id}/{rendition}.{sha256[:_TAG_LETTERS]}.manifest"


def _attachment_key(course_id: str, one: Attachment) -> str:
    return f"courses/{course_id}/{one.file}.{one.sha256[:_TAG_LETTERS]}"
