"""A folder of pieces by digest, within a budget, that survives any crash.

```
<folder>/lock                 held while a process uses the folder
<folder>/pieces/ab/abcd...    a verified piece, named by the SHA-256 of its bytes
<folder>/partial/abcd...      the beginning of one that is on its way or was cut
<folder>/documents/abcd...    a small document with its ETag, named by the digest of its path
```

There is no index to break: the names say what the files hold, the access time when they were last
used. A piece is written aside, checked, synced and renamed; what was cut by a crash is a partial,
and is gone on with. It is checked again when it is first read after a start, when its file has
changed since, and once a day: a disk that rots is found out before a viewer does.

No name on the disk comes from outside: all are digests. Methods that are `async` may touch the
disk, in a thread; the others do not. `media/eviction.py` decides what is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

from . import eviction
from .blob import Blob
from .errors import BadBlob, CacheError, DiskFull

log = logging.getLogger("media.cache")

VERIFY_AGAIN_S: Final = 86400.0
USE_NOTED_EVERY_S: Final = 600.0
SCRUB_PAUSE_S: Final = 0.05
PARTIAL_KEPT_S: Final = 14 * 86400.0
MAX_ABOUT_BYTES: Final = 8192
_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Kept:
    """A small document as it came: `checked_s` is when its source last said that it is right."""

    path: str
    body: bytes
    etag: str = ""
    content_type: str = "application/octet-stream"
    checked_s: float = 0.0


@dataclass(slots=True)
class CacheCounters:
    """Since the start."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0
    spoiled: int = 0
    """Pieces that had gone bad on the disk, and were thrown away."""


class Cache:
    """Pieces and documents on this machine. `open` before use; one process at a time."""

    def __init__(
        self,
        folder: Path,
        budget_bytes: int,
        *,
        keep_free_bytes: int = 0,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        """A cache in `folder` of at most `budget_bytes`.

        keep_free_bytes: so much of the disk is left to others.
        free_bytes: what the disk of a folder still takes; by default the system is asked.
        """
        self.folder = folder
        self.keep_free_bytes = keep_free_bytes
        self.counters = CacheCounters()
        self.shelf = eviction.Shelf(budget_bytes)
        self._free_bytes = free_bytes or (lambda path: shutil.disk_usage(path).free)
        self._lock: int | None = None
        # digest -> (what the file looked like when its bytes were right, when that was)
        self._verified: dict[str, tuple[tuple[int, int, int], float]] = {}
        self._noted: dict[str, float] = {}
        self._checks: dict[str, asyncio.Task[Path | None]] = {}
        self._intakes: dict[str, Intake] = {}

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Make or take the folder and see what is in it; blocks. Raises CacheError."""
        try:
            for name in ("pieces", "partial", "documents"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.close()
                raise CacheError(
                    f"another process uses the cache {self.folder}: give each its own folder"
                ) from None
            self._scan()
        except OSError as error:
            self.close()
            raise CacheError(
                f"the cache {self.folder} cannot be used: {error.strerror}; "
                "choose a folder that this program may write to"
            ) from error

    def close(self) -> None:
        """Let the folder go."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _scan(self) -> None:
        found: dict[str, tuple[int, float]] = {}
        for file in (self.folder / "pieces").glob("??/*"):
            if _DIGEST.fullmatch(file.name):
                about = file.stat()
                found[file.name] = (about.st_size, about.st_atime)
        for file in (self.folder / "documents").iterdir():
            if _DIGEST.fullmatch(file.name):
                about = file.stat()
                found["d-" + file.name] = (about.st_size, about.st_atime)
            else:
                file.unlink(missing_ok=True)  # Written aside, then cut by a crash.
        old = time.time() - PARTIAL_KEPT_S
        for file in (self.folder / "partial").iterdir():
            if file.stat().st_mtime < old:
                file.unlink(missing_ok=True)
        self.shelf = eviction.by_use(found, self.shelf.budget_bytes)

    # ------------------------------------------------------------ pieces

    def holds(self, digest: str) -> bool:
        """Whether a piece is there, as far as is known without reading it."""
        return digest in self.shelf

    def pin(self, owner: str, digests: Iterable[str], documents: Iterable[str] = ()) -> None:
        """`owner` needs these pieces and the documents of these paths; they are not let go."""
        self.shelf.pin(owner, [*digests, *map(_document_key, documents)])

    def _file(self, digest: str) -> Path:
        return self.folder / "pieces" / digest[:2] / digest

    async def find(self, blob: Blob) -> Path | None:
        """The file of a piece whose bytes are right; None if there is none."""
        return await self.find_digest(blob.sha256)

    async def find_digest(self, digest: str) -> Path | None:
        """As `find`, by the digest alone."""
        if digest not in self.shelf:
            self.counters.misses += 1
            return None
        check = self._checks.get(digest)
        if check is None:
            check = asyncio.create_task(self._check(digest), name="check-piece")
            self._checks[digest] = check
            check.add_done_callback(lambda _: self._checks.pop(digest, None))
        path = await asyncio.shield(check)
        if path is None:
            self.counters.misses += 1
        else:
            self.counters.hits += 1
        return path

    async def _check(self, digest: str, *, used: bool = True) -> Path | None:
        file = self._file(digest)
        now = time.monotonic()
        known = self._verified.get(digest)
        fresh = known is not None and now - known[1] < VERIFY_AGAIN_S
        note = used and now - self._noted.get(digest, -USE_NOTED_EVERY_S) >= USE_NOTED_EVERY_S
        stamp = await asyncio.to_thread(
            _inspect, file, digest, known[0] if known and fresh else None, note
        )
        if stamp is None:
            if digest in self.shelf:
                self.counters.spoiled += 1
                log.warning("piece-spoiled digest=%s", digest[:16])
                self._forget(digest)
            return None
        if known is None or stamp != known[0] or not fresh:
            self._verified[digest] = (stamp, now)
        if note:
            self._noted[digest] = now
        if used:
            self.shelf.touch(digest)
        return file

    async def scrub(self, *, pause_s: float = SCRUB_PAUSE_S) -> None:
        """Look at every piece once: what has changed or gone bad is dropped, to be fetched again.

        pause_s: between two pieces, so that a slow disk stays free for others.
        """
        for digest in [key for key in self.shelf if not key.startswith("d-")]:
            if digest in self.shelf and digest not in self._checks:
                await self._check(digest, used=False)
                await asyncio.sleep(pause_s)

    def _forget(self, digest: str) -> None:
        self.shelf.remove(digest)
        self._verified.pop(digest, None)
        self._noted.pop(digest, None)

    async def intake(self, blob: Blob) -> Intake:
        """Begin, or go on, to write a piece; there is one intake per piece at a time.

        Raises DiskFull.
        """
        while (before := self._intakes.get(blob.sha256)) is not None:
            if before.closing is None:
                raise RuntimeError(f"two intakes of {blob.sha256}")
            await asyncio.wait({before.closing})
        intake = Intake(self, blob)
        self._intakes[blob.sha256] = intake
        try:
            await self._make_room(0)
            await intake.start()
        except BaseException:
            await intake.close()
            raise
        return intake

    async def put(self, blob: Blob, body: bytes) -> Path:
        """Keep a whole piece that is at hand. Raises BadBlob and DiskFull."""
        intake = await self.intake(blob)
        try:
            await intake.restart()
            await intake.write(body)
            return await intake.keep()
        finally:
            await intake.close()

    async def _make_room(self, size_bytes: int) -> None:
        """Let go of what must give way to so many bytes, and to those that are on their way."""
        coming = size_bytes + sum(one.missing_bytes for one in self._intakes.values())
        free = await asyncio.to_thread(self._free_bytes, self.folder)
        try:
            leaving = self.shelf.room_for(coming, disk_bytes=free - self.keep_free_bytes)
        except eviction.NoRoom as no_room:
            raise self._full(no_room, free) from None
        files = [self._path_of(key) for key in leaving]
        for key in leaving:
            self._forget(key)
        self.counters.evicted += len(leaving)
        if files:
            await asyncio.to_thread(_unlink_all, files)

    def _full(self, no_room: eviction.NoRoom, free_bytes: int) -> DiskFull:
        if free_bytes - self.keep_free_bytes < self.shelf.budget_bytes - self.shelf.used_bytes:
            return DiskFull(
                f"the disk of {self.folder} is full: {_mb(free_bytes)} MB are free, and "
                f"{_mb(self.keep_free_bytes)} MB stay free; delete something else on it"
            )
        return DiskFull(
            f"the cache {self.folder} holds the {_mb(self.shelf.budget_bytes)} MB that it may, and "
            f"{_mb(no_room.pinned_bytes)} MB of it are needed soon: allow it more, or plan less"
        )

    def _path_of(self, key: str) -> Path:
        if key.startswith("d-"):
            return self.folder / "documents" / key[2:]
        return self._file(key)

    async def _guarded(self, work: Awaitable[_T]) -> _T:
        """Turn what the disk says into one of our errors."""
        try:
            return await work
        except OSError as error:
            if error.errno in _FULL:
                raise DiskFull(
                    f"the disk of {self.folder} is full; delete something else on it"
                ) from error
            raise CacheError(
                f"the disk of {self.folder} does not take what is written: {error.strerror}; "
                "check the disk"
            ) from error

    # ------------------------------------------------------------ documents

    async def document(self, path: str) -> Kept | None:
        """The document that was kept for this path of a node, None if there is none."""
        key = _document_key(path)
        if key not in self.shelf:
            return None
        kept = await asyncio.to_thread(_read_document, self._path_of(key))
        if kept is None or kept.path != path:
            self.shelf.remove(key)
            return None
        self.shelf.touch(key)
        return kept

    async def keep_document(self, kept: Kept) -> None:
        """Keep a document in place of what there was for its path. Raises DiskFull."""
        about = {
            "path": kept.path,
            "etag": kept.etag,
            "type": kept.content_type,
            "checked": kept.checked_s,
        }
        text = json.dumps(about).encode() + b"\n" + kept.body
        key = _document_key(kept.path)
        await self._make_room(len(text))
        await self._guarded(asyncio.to_thread(replace_file, self._path_of(key), text))
        self.shelf.add(key, len(text))

    async def drop_document(self, path: str) -> None:
        """Forget a document: its source says that there is no such thing any more."""
        key = _document_key(path)
        if key in self.shelf:
            self.shelf.remove(key)
            await asyncio.to_thread(_unlink_all, [self._path_of(key)])

    async def documents(self) -> list[Kept]:
        """All documents that are kept."""
        files = [self._path_of(key) for key in self.shelf if key.startswith("d-")]
        found = await asyncio.to_thread(lambda: [_read_document(file) for file in files])
        return [kept for kept in found if kept is not None]


class Intake:
    """A piece on its way to the disk. Close it in any case: what has come stays for later."""

    def __init__(self, cache: Cache, blob: Blob) -> None:
        self.blob = blob
        self.received_bytes = 0
        """From the beginning of the piece, those of earlier tries included."""
        self.etag = ""
        """Of the file that the bytes come from, for If-Range."""
        self.wasted_bytes = 0
        """Thrown away, because they were not what was wanted."""
        self.closing: asyncio.Task[None] | None = None
        self._cache = cache
        self._path = cache.folder / "partial" / blob.sha256
        self._file: int | None = None
        self._hash = hashlib.sha256()
        # The newest work on the disk: its thread goes on when whoever waits for it is cancelled.
        self._job: asyncio.Future[Any] | None = None

    @property
    def is_full(self) -> bool:
        """Whether every byte has come, right or wrong."""
        return 0 < self.blob.size_bytes <= self.received_bytes

    @property
    def missing_bytes(self) -> int:
        return max(1, self.blob.size_bytes - self.received_bytes)

    async def __aenter__(self) -> Intake:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Take up what an earlier try has left."""

        def take_up() -> None:
            self._file, self._hash, self.received_bytes = _take_up(
                self._path, self.blob.limit_bytes
            )

        await self._on_disk(take_up)

    async def write(self, chunk: bytes) -> None:
        """Append. Raises DiskFull, and BadBlob for more than there should be."""
        assert self._file is not None
        if self.received_bytes + len(chunk) > self.blob.limit_bytes:
            raise BadBlob(f"more came than the {self.blob.limit_bytes} bytes of the piece")
        await self._on_disk(_append, self._file, self._hash, chunk)
        self.received_bytes += len(chunk)

    async def restart(self) -> None:
        """Throw away what has come."""
        assert self._file is not None
        await self._on_disk(os.ftruncate, self._file, 0)
        self.wasted_bytes += self.received_bytes
        self._hash, self.received_bytes, self.etag = hashlib.sha256(), 0, ""

    async def keep(self) -> Path:
        """Check the whole, and make it a piece of the cache.

        Raises BadBlob, and has thrown away what came, when it is not what was wanted.
        """
        assert self._file is not None
        blob, cache = self.blob, self._cache
        size_is_right = not blob.size_bytes or self.received_bytes == blob.size_bytes
        if not size_is_right or self._hash.hexdigest() != blob.sha256:
            came = self.received_bytes
            await self.restart()
            raise BadBlob(f"{came} bytes came for piece {blob.sha256[:16]}, and they are not it")
        target = cache._file(blob.sha256)
        stamp = await self._on_disk(_settle, self._file, self._path, target)
        cache.shelf.add(blob.sha256, self.received_bytes)
        cache._verified[blob.sha256] = (stamp, time.monotonic())
        return target

    async def close(self) -> None:
        """Stop writing; what came stays a partial, if it was not kept."""
        if self.closing is None:
            self.closing = asyncio.create_task(self._close(), name="close-intake")
        await asyncio.shield(self.closing)

    async def _close(self) -> None:
        try:
            if self._job is not None:
                await asyncio.wait({self._job})
            if self._file is not None:
                await asyncio.to_thread(_close_partial, self._file, self._path, self.received_bytes)
                self._file = None
        finally:
            self._cache._intakes.pop(self.blob.sha256, None)

    async def _on_disk(self, work: Callable[..., _T], *arguments: Any) -> _T:
        """Run this on another thread; `close` waits for its end. Raises CacheError and DiskFull."""
        self._job = job = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
        return await self._cache._guarded(asyncio.shield(job))


def _document_key(path: str) -> str:
    return "d-" + hashlib.sha256(path.encode()).hexdigest()


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f}"


# ---------------------------------------------------------------- what runs in a thread


def _stamp(about: os.stat_result) -> tuple[int, int, int]:
    return about.st_size, about.st_mtime_ns, about.st_ino


def _inspect(
    file: Path, digest: str, known: tuple[int, int, int] | None, note_use: bool
) -> tuple[int, int, int] | None:
    """What the file looks like if its bytes are right; else it is removed, and None returned."""
    try:
        about = file.stat()
        if known is None or _stamp(about) != known:
            with file.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                    raise ValueError
        if note_use:
            # By hand, for disks are often mounted without: when it was used, and not the change.
            with contextlib.suppress(OSError):
                os.utime(file, ns=(time.time_ns(), about.st_mtime_ns))
    except (OSError, ValueError):
        _unlink_all([file])
        return None
    return _stamp(about)


def _take_up(path: Path, limit_bytes: int) -> tuple[int, hashlib._Hash, int]:
    digest = hashlib.sha256()
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        received = 0
        while chunk := os.pread(file, 1 << 20, received):
            digest.update(chunk)
            received += len(chunk)
            if received > limit_bytes:
                os.ftruncate(file, 0)
                return file, hashlib.sha256(), 0
    except BaseException:
        os.close(file)
        raise
    return file, digest, received


def _append(file: int, digest: hashlib._Hash, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        written = os.write(file, view)
        digest.update(view[:written])
        view = view[written:]


def _settle(file: int, path: Path, target: Path) -> tuple[int, int, int]:
    os.fsync(file)
    target.parent.mkdir(exist_ok=True)
    # The folder is not synced: a name that a power cut takes back costs one piece fetched again.
    path.rename(target)
    return _stamp(target.stat())


def _close_partial(file: int, path: Path, received_bytes: int) -> None:
    os.close(file)
    if not received_bytes:
        path.unlink(missing_ok=True)


def replace_file(path: Path, text: bytes) -> None:
    """Write a file so that after a crash it is the old one or the new one, never half of it."""
    aside = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with aside.open("wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def _read_document(file: Path) -> Kept | None:
    try:
        head, found, body = file.read_bytes().partition(b"\n")
        about = json.loads(head) if found and len(head) <= MAX_ABOUT_BYTES else {}
        return Kept(
            str(about["path"]), body, str(about["etag"]), str(about["type"]),
            float(about["checked"]),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        _unlink_all([file])
        return None


def _unlink_all(files: Iterable[Path]) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
