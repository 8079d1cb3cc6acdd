"""What waits to become a course: a folder per job, so that nothing is lost when a machine stops.

```
{work}/{course id}/intake.json     what to enter, and how the course is described
                   making/         the renditions so far (media/ladder_worker.py)
                   failed.json     why it cannot be done
                   lock            held by the process that is at it
```

Whoever has a video leaves a job here (`leave`): an upload that is whole, a class that has ended,
`terrace ingest`. Whoever has the library's key takes it up (`media.ingest`).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError

from . import recording
from .course import (
    MAX_CHAPTERS,
    MAX_SUBTITLES,
    MAX_TAGS,
    Changes,
    Chapter,
    LanguageTag,
    Line,
    Missing,
)
from .errors import MediaError
from .manifest import CourseId, Document, Seconds
from .pieces import write_whole

INTAKE_FILE: Final = "intake.json"
FAILED_FILE: Final = "failed.json"
MAKING: Final = "making"
MAX_MISSING: Final = 10_000
"""Of more holes a course names the longest."""

_LANGUAGE_NAMES: Final = {
    "zh": "中文",
    "zh-hans": "简体中文",
    "zh-hant": "繁體中文",
    "en": "English",
}


class SubtitleFile(Document):
    """Subtitles that go with a video: WebVTT or SubRip."""

    lang: LanguageTag
    label: Line = Field(default="", max_length=64)
    file: Path

    @property
    def shown(self) -> str:
        """The label, or the language's own name where there is none."""
        return self.label or _LANGUAGE_NAMES.get(self.lang, self.lang)


class Details(Document):
    """What a person says about a course; the same fields and bounds as in `media.course`."""

    title: Line = Field(min_length=1, max_length=200)
    teacher: Line = Field(default="", max_length=100)
    unit: Line = Field(default="", max_length=100)
    description: str = Field(default="", max_length=4000)
    tags: tuple[Annotated[Line, Field(min_length=1, max_length=40)], ...] = Field(
        default=(), max_length=MAX_TAGS
    )
    language: LanguageTag | None = None
    created: AwareDatetime | None = None
    chapters: tuple[Chapter, ...] = Field(default=(), max_length=MAX_CHAPTERS)
    missing: tuple[Missing, ...] = Field(default=(), max_length=MAX_MISSING)
    subtitles: tuple[SubtitleFile, ...] = Field(default=(), max_length=MAX_SUBTITLES)


class Follows(Document):
    """Another file of the same class; `start_s`: where in the course it begins."""

    file: Path
    start_s: Seconds


class Intake(Document):
    """One job."""

    id: CourseId
    """Of the course that it becomes."""
    source: Path
    follows: tuple[Follows, ...] = Field(default=(), max_length=recording.MAX_PARTS)
    """What goes on after `source`, where a class had to be recorded in several files."""
    remove_source: bool = False
    """The file is ours and goes when the course is there."""
    fingerprint: str = ""
    """Of the file, so that who gives it again goes on with the same job."""
    details: Details


class Failure(Document):
    """Why a job cannot be done."""

    sentence: str


class Busy(MediaError):
    """Another process is at this job."""


def leave(work: Path, intake: Intake) -> Path:
    """Put a job down, in the place of an older one of the same course; returns its folder.

    The older one's renditions are kept only if it is of the same file.
    """
    folder = work / intake.id
    with _alone(work):
        try:
            old = read(folder)
        except MediaError:
            old = None
        if old is None or not intake.fingerprint or old.fingerprint != intake.fingerprint:
            shutil.rmtree(folder / MAKING, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED_FILE).unlink(missing_ok=True)
        write_whole(folder / INTAKE_FILE, intake.model_dump_json().encode())
    return folder


def correct(folder: Path, changes: Changes) -> None:
    """Change what is said about the course of a job, if there is one in the folder."""
    with contextlib.suppress(MediaError, FileNotFoundError), _alone(folder.parent):
        job = read(folder)
        details = job.details.model_copy(update=changes.given())
        changed = job.model_copy(update={"details": details})
        write_whole(folder / INTAKE_FILE, changed.model_dump_json().encode())


def drop(folder: Path) -> bool:
    """Give a job up, with the file if it is ours; whether there was one. Raises Busy."""
    try:
        job = read(folder)
    except MediaError:
        return False
    with claimed(folder):
        done(folder, job)
    return True


def waiting(work: Path) -> list[Path]:
    """The folders of the jobs that can be taken up, the oldest first."""
    if not work.is_dir():
        return []
    found = []
    for folder in work.iterdir():
        with contextlib.suppress(OSError):
            if (folder / INTAKE_FILE).exists() and not (folder / FAILED_FILE).exists():
                found.append(((folder / INTAKE_FILE).stat().st_mtime, folder))
    return [folder for _, folder in sorted(found)]


def read(folder: Path) -> Intake:
    """The job in a folder. Raises MediaError."""
    try:
        return Intake.model_validate_json((folder / INTAKE_FILE).read_bytes())
    except FileNotFoundError:
        raise MediaError(f"there is no job in {folder}") from None
    except (OSError, ValidationError) as error:
        raise MediaError(f"the job in {folder} cannot be read: remove the folder") from error


def find(work: Path, fingerprint: str) -> Intake | None:
    """The job of the file with this fingerprint, None if there is none."""
    for path in work.glob(f"*/{INTAKE_FILE}"):
        with contextlib.suppress(MediaError):
            intake = read(path.parent)
            if intake.fingerprint == fingerprint:
                return intake
    return None


def fail(folder: Path, sentence: str) -> None:
    """Note why a job cannot be done; it is not tried again until it is left again."""
    write_whole(folder / FAILED_FILE, Failure(sentence=sentence).model_dump_json().encode())


def failure(folder: Path) -> str:
    """Why the job in this folder failed, "" if it did not."""
    try:
        return Failure.model_validate_json((folder / FAILED_FILE).read_bytes()).sentence
    except (OSError, ValidationError):
        return ""


def done(folder: Path, intake: Intake) -> None:
    """The course is there: remove the job, and the file if it is ours.

    A job that was left in its place meanwhile stays: a class has gone on.
    """
    with _alone(folder.parent):
        with contextlib.suppress(MediaError):
            now = read(folder)
            if (now.source, now.follows, now.fingerprint) != (
                intake.source, intake.follows, intake.fingerprint,
            ):  # fmt: skip
                return
        (folder / INTAKE_FILE).unlink(missing_ok=True)
        if intake.remove_source:
            intake.source.unlink(missing_ok=True)
            for one in intake.details.subtitles:
                one.file.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Change what waits while nobody else does; for a moment only."""
    handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keep other processes from the job. Raises Busy when one is at it."""
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(
                "another process is making this course already: wait for it, it shows in the "
                "catalogue when it can be played"
            ) from None
        yield
    finally:
        os.close(handle)


def fingerprint(*paths: Path) -> str:
    """Tells a file, or some files, from others, and from themselves when they have changed."""
    lines = []
    for path in paths:
        about = path.stat()
        lines.append(f"{path.resolve()}\n{about.st_size}\n{about.st_mtime_ns}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def of_recording(folder: Path) -> Intake:
    """The job for a class that was recorded in this folder and has ended.

    Raises MediaError when there is nothing in it to play.
    """
    found = recording.load(folder)
    if not found.files:
        raise MediaError(f"the recording {found.id} holds nothing that can be played")
    # One file is the rule; a codec that changed, or sound that came later, begins another one.
    first, *rest = found.files
    source = folder / first.file
    follows = tuple(Follows(file=folder / one.file, start_s=one.start_s) for one in rest)
    missing = sorted(found.missing, key=lambda one: one.duration_s, reverse=True)[:MAX_MISSING]
    return Intake(
        id=found.id,
        source=source,
        follows=follows,
        fingerprint=fingerprint(source, *(one.file for one in follows)),
        details=Details(
            title=found.title or f"{found.stream} {_written(found.began_at)}",
            teacher=found.teacher[:100],
            created=found.began_at,
            missing=tuple(
                Missing(start_s=one.start_s, duration_s=one.duration_s)
                for one in sorted(missing, key=lambda one: one.start_s)
            ),
        ),
    )


def _written(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")
