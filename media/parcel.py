"""Courses by hand: a folder on a USB stick that carries the same pieces and signed documents.

```
<folder>/terrace-courses/entries/<course id>.jws   the signed entry of a course
<folder>/terrace-courses/pieces/ab/abcd...         manifests, pieces, posters, subtitles
```

A stick comes from anywhere: nothing on it is believed but what a good signature vouches for, no
name on it becomes a path here, and a piece that is bad is left out and counted. Both ways may be
broken off (the stick is pulled) and done again: what is there already is not copied twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .blob import Blob, course_path, manifest_blob, small_blobs
from .cache import replace_file
from .course import Course
from .errors import BadBlob, MediaError
from .manifest import MAX_SEGMENT_BYTES
from .mirror import Mirror
from .signed import MAX_DOCUMENT_BYTES, BadDocument, BadSignature

log = logging.getLogger("media.parcel")

FOLDER: Final = "terrace-courses"
MAX_COURSES: Final = 10_000
_COURSE_ID: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)


class ParcelError(MediaError):
    """The folder is none of ours, or the stick cannot be read or written."""


@dataclass(slots=True)
class Outcome:
    """What a trip brought. `problems`: one sentence for each course or piece that is not whole."""

    courses: list[str] = field(default_factory=list)
    copied: int = 0
    copied_bytes: int = 0
    present: int = 0
    bad: int = 0
    problems: list[str] = field(default_factory=list)


async def export(mirror: Mirror, folder: Path, courses: Iterable[str] | None = None) -> Outcome:
    """Copies courses (all that are at hand if None) as far as they are held, to `folder`.

    Raises ParcelError when the stick cannot be written.
    """
    outcome = Outcome()
    wanted = None if courses is None else set(courses)
    known = [one for one in await mirror.known() if wanted is None or one.id in wanted]
    for missing in sorted((wanted or set()) - {one.id for one in known}):
        outcome.problems.append(f"the course {missing} is not known on this box")
    for course in known:
        try:
            await _export(mirror, course, folder / FOLDER, outcome)
        except OSError as error:
            raise ParcelError(
                f"{folder} cannot be written: {error.strerror}; is there room on it?"
            ) from error
    return outcome


async def _export(mirror: Mirror, course: Course, root: Path, outcome: Outcome) -> None:
    kept = await mirror.cache.document(course_path(course.id))
    if kept is None:
        return
    for blob in await _held_blobs(mirror, course):
        path = await mirror.cache.find(blob)
        if path is not None:
            size = await asyncio.to_thread(_copy_out, path, root, blob.sha256)
            _count(outcome, size)
    # Last: what is named on the stick is there.
    target = root / "entries" / f"{course.id}.jws"
    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
    await asyncio.to_thread(replace_file, target, kept.body)
    outcome.courses.append(course.id)


async def _held_blobs(mirror: Mirror, course: Course) -> list[Blob]:
    """Everything of a course that is at hand; nobody is asked for the rest."""
    blobs = list(small_blobs(course))
    for rendition in course.renditions:
        listed = manifest_blob(course.id, rendition)
        if mirror.cache.holds(listed.sha256):
            blobs += [listed, *(await mirror.listing(course, rendition.name)).blobs]
    return [blob for blob in blobs if mirror.cache.holds(blob.sha256)]


async def import_(
    mirror: Mirror, folder: Path, *, progress: Callable[[Outcome], None] | None = None
) -> Outcome:
    """Takes over what `folder` holds of good courses.

    Raises ParcelError when there is nothing of ours in it, DiskFull when the cache has no room.
    """
    root = folder / FOLDER
    try:
        names = await asyncio.to_thread(_names, root / "entries")
    except OSError as error:
        raise ParcelError(
            f"{folder} holds no courses ({error.strerror}): choose the folder that "
            "`terrace station export` wrote to"
        ) from error
    outcome = Outcome()
    for name in names[:MAX_COURSES]:
        try:
            await _import(mirror, root, name, outcome)
        except (BadSignature, BadDocument, OSError) as error:
            outcome.problems.append(f"the course {name} is not taken: {error}")
        if progress is not None:
            progress(outcome)
    return outcome


async def _import(mirror: Mirror, root: Path, course_id: str, outcome: Outcome) -> None:
    entry = root / "entries" / f"{course_id}.jws"
    jws = await asyncio.to_thread(_read, entry, MAX_DOCUMENT_BYTES)
    course = await mirror.take_course(jws, course_id)
    for rendition in course.renditions:
        listed = manifest_blob(course_id, rendition)
        if not await _take(mirror, root, listed, outcome):
            continue
        for blob in (await mirror.listing(course, rendition.name)).blobs:
            await _take(mirror, root, blob, outcome)
    for blob in small_blobs(course):
        await _take(mirror, root, blob, outcome)
    outcome.courses.append(course_id)


async def _take(mirror: Mirror, root: Path, blob: Blob, outcome: Outcome) -> bool:
    """Whether the blob is in the cache afterwards."""
    if await mirror.cache.find(blob) is not None:
        outcome.present += 1
        return True
    source = root / "pieces" / blob.sha256[:2] / blob.sha256
    try:
        body = await asyncio.to_thread(_read, source, blob.size_bytes or MAX_SEGMENT_BYTES)
        await mirror.cache.put(blob, body)
    except FileNotFoundError:
        return False
    except (BadBlob, OSError) as error:
        outcome.bad += 1
        outcome.problems.append(f"a piece of {blob.path} on the stick is bad: {error}")
        return False
    _count(outcome, len(body))
    return True


def _count(outcome: Outcome, copied_bytes: int) -> None:
    if copied_bytes:
        outcome.copied += 1
        outcome.copied_bytes += copied_bytes
    else:
        outcome.present += 1


def _read(path: Path, limit_bytes: int) -> bytes:
    # A link on a stick could point anywhere on this box.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(handle, "rb") as stream:  # noqa: PTH123 - a descriptor
        return stream.read(limit_bytes + 1)


def _copy_out(source: Path, root: Path, digest: str) -> int:
    """Copies a piece to the stick; 0 if a right one is there."""
    target = root / "pieces" / digest[:2] / digest
    body = source.read_bytes()
    try:
        there = target.read_bytes()
    except OSError:
        there = b""
    if hashlib.sha256(there).hexdigest() == digest:
        return 0
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, body)
    return len(body)


def _names(entries: Path) -> list[str]:
    """The ids of the courses there. What has another name is somebody else's file."""
    ids = (one.name.removesuffix(".jws") for one in entries.iterdir() if one.suffix == ".jws")
    return sorted(name for name in ids if _COURSE_ID.fullmatch(name))
