"""Videos that come in over a line that breaks: kept byte for byte, gone on with where it stopped.

```
{folder}/{upload id}/upload.json    how long it is and what it is to become
                     data           what has come, from its first byte on
                     subtitles      that go with it, if any
```

The length of `data` is the truth about how far it is. An upload that nothing came for in a week is
removed.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, Field, ValidationError

from .errors import DiskFull, MediaError
from .intake import Details, Intake, SubtitleFile
from .manifest import CourseId, Document
from .opening import opened
from .pieces import write_whole
from .subtitles import webvtt_of

UPLOAD_FILE: Final = "upload.json"
DATA_FILE: Final = "data"
KEPT_S: Final = 7 * 86400.0
MAX_WAITING: Final = 200
"""Uploads that are begun and not over; one more is refused."""

_ID: Final = re.compile(r"[A-Za-z0-9_-]{22}")
_SYNC_EVERY_BYTES: Final = 32 * 1024 * 1024


class UploadError(MediaError):
    """An upload cannot be taken; the message says what to do."""


class NoSuchUpload(UploadError):
    """There is no such upload: it was finished, removed, or never begun."""


class WrongOffset(UploadError):
    """The client is not where the file is; it has to ask how much has come."""


class TooLarge(UploadError):
    """The file is larger than what is taken here."""


class Upload(Document):
    """One upload as it was begun."""

    size_bytes: int = Field(gt=0)
    filename: str = Field(default="", max_length=255)
    course: CourseId
    details: Details
    begun: AwareDatetime
    by: str = Field(default="", max_length=200)


@dataclass(frozen=True, slots=True)
class Held:
    """An upload and how much of it has come."""

    id: str
    upload: Upload
    offset_bytes: int

    @property
    def whole(self) -> bool:
        return self.offset_bytes == self.upload.size_bytes


class Uploads:
    """The folder of uploads of one library. All methods but `append` block for a moment."""

    def __init__(self, folder: Path, *, most_bytes: int, keep_free_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._keep_free_bytes = keep_free_bytes
        self._locks: dict[str, asyncio.Lock] = {}

    def begin(self, upload: Upload, subtitles: bytes = b"", lang: str = "") -> Held:
        """Make room for a new upload.

        Raises TooLarge, DiskFull, BadSubtitles, and UploadError when too many are open.
        """
        if upload.size_bytes > self.most_bytes:
            raise TooLarge(
                f"the file has {_mb(upload.size_bytes)} MB, and {_mb(self.most_bytes)} MB are "
                "taken here: make it smaller, or have max_upload_mb raised"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        held = sum(1 for _ in self.folder.iterdir())
        if held >= MAX_WAITING:
            raise UploadError("too many uploads are open: finish or cancel one and try again")
        self._check_room(upload.size_bytes)
        upload_id = secrets.token_urlsafe(16)
        home = self.folder / upload_id
        if subtitles:
            vtt = webvtt_of(subtitles)
            file = home / "subtitles"
            home.mkdir()
            write_whole(file, vtt)
            with_file = upload.details.model_copy(
                update={"subtitles": (SubtitleFile(lang=lang or "zh", file=file.absolute()),)}
            )
            upload = upload.model_copy(update={"details": with_file})
        home.mkdir(exist_ok=True)
        (home / DATA_FILE).touch()
        write_whole(home / UPLOAD_FILE, upload.model_dump_json().encode())
        return Held(upload_id, upload, 0)

    def find(self, upload_id: str) -> Held:
        """An upload and how far it is. Raises NoSuchUpload."""
        home = self._home(upload_id)
        try:
            upload = Upload.model_validate_json((home / UPLOAD_FILE).read_bytes())
            offset = (home / DATA_FILE).stat().st_size
        except (OSError, ValidationError):
            raise NoSuchUpload("there is no such upload here: begin a new one") from None
        return Held(upload_id, upload, min(offset, upload.size_bytes))

    async def append(self, upload_id: str, offset: int, parts: AsyncIterator[bytes]) -> Held:
        """Add what comes; returns how far it is then. What has come before a break is kept.

        Raises WrongOffset, TooLarge, DiskFull and NoSuchUpload.
        """
        lock = self._locks.setdefault(upload_id, asyncio.Lock())
        if lock.locked():
            raise WrongOffset("this upload is coming in over another connection already")
        async with lock:
            held = await asyncio.to_thread(self.find, upload_id)
            if offset != held.offset_bytes:
                raise WrongOffset(
                    f"{held.offset_bytes} bytes have come, and the next were to be at {offset}"
                )
            path = self._home(upload_id) / DATA_FILE
            file = await opened(lambda: path.open("ab", 0))
            unsynced = 0
            try:
                async for part in parts:
                    if offset + len(part) > held.upload.size_bytes:
                        raise TooLarge("more bytes came than were announced")
                    try:
                        await asyncio.to_thread(file.write, part)
                    except OSError as error:
                        raise DiskFull(
                            f"the upload cannot be written: {error.strerror}; make room, then it "
                            "goes on where it is"
                        ) from error
                    offset += len(part)
                    unsynced += len(part)
                    if unsynced >= _SYNC_EVERY_BYTES:
                        await asyncio.to_thread(os.fsync, file.fileno())
                        await asyncio.to_thread(self._check_room, 0)
                        unsynced = 0
            finally:
                await asyncio.shield(asyncio.to_thread(_close, file))
        return await asyncio.to_thread(self.find, upload_id)

    def job(self, held: Held) -> Intake:
        """The job that a whole upload becomes."""
        return Intake(
            id=held.upload.course,
            source=(self._home(held.id) / DATA_FILE).absolute(),
            remove_source=True,
            fingerprint=f"upload-{held.id}",
            details=held.upload.details,
        )

    def remove(self, upload_id: str) -> None:
        """Forget an upload. Raises NoSuchUpload."""
        self.find(upload_id)
        shutil.rmtree(self._home(upload_id), ignore_errors=True)

    def tidy(self, now: float, busy: set[Path]) -> None:
        """Remove uploads for which nothing has come for long; not those that jobs read (`busy`)."""
        for home in self.folder.iterdir() if self.folder.is_dir() else ():
            data = home / DATA_FILE
            try:
                old = now - data.stat().st_mtime > KEPT_S
            except OSError:
                # Its data is gone: a course was made of it.
                old = not any(home.glob(DATA_FILE)) and now - home.stat().st_mtime > 60.0
            if old and data.absolute() not in busy:
                shutil.rmtree(home, ignore_errors=True)

    def _home(self, upload_id: str) -> Path:
        if not _ID.fullmatch(upload_id):
            raise NoSuchUpload("this is no name of an upload")
        return self.folder / upload_id

    def _check_room(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < size_bytes + self._keep_free_bytes:
            raise DiskFull(
                f"the disk of the library has {_mb(free)} MB left, which is too little for this "
                "file: make room and try again"
            )


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f}"


def _close(file: FileIO) -> None:
    with file:
        os.fsync(file.fileno())
