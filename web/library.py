"""The library of a node: opened when it is needed, and the jobs that become courses one by one.

A job is left in a folder by whoever has a video: `terrace ingest`, the upload page, a recording
whose class has ended (`media/intake.py`). This node takes the oldest one up, one at a time: two
would only take the processor from each other. After a restart it goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from media import ingest, intake
from media.course import Changes, Course
from media.errors import MediaError, SettingError
from media.intake import Intake
from media.library import Library, NoSuchCourse
from media.objects import open_objects
from media.pieces import write_whole
from relay import access
from web.library_settings import LibrarySettings

log = logging.getLogger("web.library")

LOOK_EVERY_S: Final = 2.0
"""How often the folder of jobs is looked at: another process may have left one."""
AGAIN_AFTER_S: Final = 30.0
"""When a job is taken up again that could not be done now: the disk was full, the store away."""

SWEEP_EVERY_S: Final = 86400.0
SWEEP_FIRST_AFTER_S: Final = 300.0
"""How long after the start it is looked for files that no course names, and how often then."""
MOST_USES: Final = 50

KEY_FILE: Final = "library-key.pem"
PUBLIC_KEY_FILE: Final = "library-public.pem"


@dataclass(slots=True)
class JobState:
    """One job as pages show it. state: "waiting", "working", "trouble" or "failed"."""

    id: str
    title: str
    state: str
    done: float = 0.0
    playable: bool = False
    sentence: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A time at which a course is to be played. where: a unit, a station, a group of them."""

    title: str
    where: str
    starts_at: datetime


class Needed(MediaError):
    """The course stands in timetables, and it was not said that it shall go all the same."""

    def __init__(self, course_id: str, uses: list[Use]) -> None:
        super().__init__(
            f"the course {course_id!r} is in timetables: {len(uses)} coming "
            f"{'item plays' if len(uses) == 1 else 'items play'} it, the next one "
            f"{uses[0].title!r} on {uses[0].starts_at:%Y-%m-%d}; take it out there, or say that it "
            "shall go anyway"
        )
        self.uses = uses


UsesOf = Callable[[str], Awaitable[list[Use]]]


def open_library(settings: LibrarySettings) -> Library:
    """The library of these settings; its folder and its key are made if they are not there.

    Raises SettingError with one sentence.
    """
    home = settings.folder
    private = settings.key or home / KEY_FILE
    try:
        home.mkdir(parents=True, exist_ok=True)
        if settings.key is None and not private.exists():
            _make_key(home)
        key = access.load_private_key(private.read_bytes())
    except OSError as error:
        raise SettingError(
            f"the library cannot use {error.filename or home}: {error.strerror}"
        ) from error
    except access.KeyFileError as error:
        raise SettingError(f"key of [library] is {private}: {error}") from error
    objects = open_objects(settings.objects or str(home / "objects"))
    return Library(objects, [key.public_key()], key)


def work_folder(settings: LibrarySettings) -> Path:
    """Where jobs wait and are worked at."""
    return settings.folder / "work"


def _make_key(home: Path) -> None:
    private, public = access.new_key_pair()
    write_whole(home / PUBLIC_KEY_FILE, public)
    handle = os.open(home / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(private)
        file.flush()
        os.fsync(file.fileno())


class LibraryRoom:
    """A node's library and its work."""

    def __init__(self, settings: LibrarySettings) -> None:
        self.settings = settings
        self.work = work_folder(settings)
        self._library: Library | None = None
        self._opening = asyncio.Lock()
        self._more = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._at: JobState | None = None
        self._trouble: dict[str, str] = {}
        self._doing: asyncio.Task[bool] | None = None
        self._doing_in: Path | None = None
        # Jobs that are being given up: nobody takes them up again meanwhile.
        self._dropping: set[Path] = set()
        self._sweeping: asyncio.Task[None] | None = None
        self.asked_for_uses: list[UsesOf] = []
        """Who knows timetables here: the book of a county, the plans of a centre."""
        self.has_centre = False
        """Whether who has no token may sign in to change a course."""

    # ------------------------------------------------------------ the library

    async def library(self) -> Library:
        """The library. Raises SettingError when it cannot be used."""
        async with self._opening:
            if self._library is None:
                self._library = await asyncio.to_thread(open_library, self.settings)
                log.info("library-open objects=%s", self._library.objects.said)
        return self._library

    @property
    def exists(self) -> bool:
        """Whether anything was ever put in; a node that has no courses makes no folder."""
        opened = self._library is not None
        return opened or bool(self.settings.objects) or self.settings.folder.exists()

    async def public_keys(self) -> tuple[Ed25519PublicKey, ...]:
        """The keys whose signature the library's documents bear."""
        return (await self.library()).public_keys

    # ------------------------------------------------------------ jobs

    def leave(self, job: Intake) -> None:
        """Put a job down, and have it taken up. Blocks for a moment on the disk."""
        self.work.mkdir(parents=True, exist_ok=True)
        intake.leave(self.work, job)
        self._trouble.pop(job.id, None)

    def wake(self) -> None:
        """Look at the jobs now."""
        self._more.set()

    async def recording(self, folder: Path) -> None:
        """Make a course of a recording (`web.recordings.Ingest`). Raises MediaError."""
        job = await asyncio.to_thread(intake.of_recording, folder)
        try:
            known = (await (await self.library()).course(job.id)).course
        except NoSuchCourse:
            pass
        else:
            # The class has gone on since; what somebody has corrected in its course stays.
            said = {name: getattr(known, name) for name in Changes.model_fields}
            job = job.model_copy(update={"details": job.details.model_copy(update=said)})
        await asyncio.to_thread(self.leave, job)
        self.wake()

    def jobs(self) -> list[JobState]:
        """All jobs, the one that is worked at first. Blocks for a moment on the disk."""
        states: list[JobState] = []
        for path in sorted(self.work.glob(f"*/{intake.INTAKE_FILE}")):
            with contextlib.suppress(MediaError):
                job = intake.read(path.parent)
                failed = intake.failure(path.parent)
                trouble = self._trouble.get(job.id, "")
                if self._at is not None and self._at.id == job.id:
                    states.insert(0, self._at)
                elif failed:
                    states.append(JobState(job.id, job.details.title, "failed", sentence=failed))
                elif trouble:
                    states.append(JobState(job.id, job.details.title, "trouble", sentence=trouble))
                else:
                    states.append(JobState(job.id, job.details.title, "waiting"))
        return states

    def sources(self) -> set[Path]:
        """The files that jobs still need. Blocks for a moment on the disk."""
        found: set[Path] = set()
        for path in self.work.glob(f"*/{intake.INTAKE_FILE}"):
            with contextlib.suppress(MediaError):
                job = intake.read(path.parent)
                found.update((job.source, *(one.file for one in job.follows)))
        return found

    # ------------------------------------------------------------ changes

    async def uses(self, course_id: str) -> list[Use]:
        """Who plans to play a course from now on, the next time first; at most MOST_USES."""
        found: dict[tuple[str, datetime], Use] = {}
        for asked in self.asked_for_uses:
            for one in await asked(course_id):
                found.setdefault((one.title, one.starts_at), one)
        return sorted(found.values(), key=lambda one: (one.starts_at, one.title))[:MOST_USES]

    async def edit(self, course_id: str, changes: Changes, revision: int | None) -> Course:
        """Change what is said about a course. Raises NoSuchCourse, Outdated, NotTaken."""
        if not self.exists:
            raise NoSuchCourse(f"there is no course {course_id!r} here")
        library = await self.library()
        async with library.writing:
            course = await library.edit(course_id, changes, revision)
            # Where the next rendition takes it from, or it would come back as it was.
            await asyncio.to_thread(intake.correct, self.work / course_id, changes)
        return course

    async def delete(self, course_id: str, *, anyway: bool) -> None:
        """Remove a course with its files, or the job that was to become it.

        Raises NoSuchCourse, Needed when it is in timetables and not `anyway`, and Busy when another
        process is making it.
        """
        if not self.exists:
            raise NoSuchCourse(f"there is no course {course_id!r} here")
        uses = [] if anyway else await self.uses(course_id)
        if uses:
            raise Needed(course_id, uses)
        folder = self.work / course_id
        self._dropping.add(folder)
        try:
            if self._doing is not None and self._doing_in == folder:
                self._doing.cancel()
                await asyncio.wait([self._doing])
            dropped = await asyncio.to_thread(intake.drop, folder)
        finally:
            self._dropping.discard(folder)
        self._trouble.pop(course_id, None)
        try:
            await (await self.library()).delete(course_id)
        except NoSuchCourse:
            if not dropped:
                raise
        log.info("course-deleted id=%s", course_id)

    async def sweep(self) -> list[str]:
        """Remove what no course names any more (`Library.sweep`)."""
        library = await self.library()
        removed = await library.sweep(self._busy, time.time())
        if removed:
            log.info("library-swept files=%d first=%s", len(removed), removed[0])
        return removed

    def _busy(self) -> set[str]:
        """The courses for which there is a folder of work."""
        return {path.name for path in self.work.iterdir()} if self.work.is_dir() else set()

    async def _sweep(self) -> None:
        await asyncio.sleep(SWEEP_FIRST_AFTER_S)
        while True:
            if self.exists:
                try:
                    await self.sweep()
                except (MediaError, OSError) as error:
                    log.warning("library-unswept why=%r", str(error))
            await asyncio.sleep(SWEEP_EVERY_S)

    # ------------------------------------------------------------ the work

    def start(self) -> None:
        """Begin to take up jobs."""
        self._task = asyncio.create_task(self._run(), name="library")
        self._sweeping = asyncio.create_task(self._sweep(), name="library-sweep")

    async def close(self) -> None:
        """Stop; what was being made goes on at the next start."""
        tasks = [one for one in (self._task, self._sweeping, self._doing) if one is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        not_before: dict[Path, float] = {}
        while True:
            self._more.clear()
            for folder in await asyncio.to_thread(intake.waiting, self.work):
                if folder in self._dropping or loop.time() < not_before.get(folder, 0.0):
                    continue
                # A task of its own: somebody may delete the course while it is made.
                self._doing_in = folder
                self._doing = asyncio.create_task(self._do(folder), name="library-job")
                await asyncio.wait([self._doing])
                if not self._doing.cancelled() and not self._doing.result():
                    not_before[folder] = loop.time() + AGAIN_AFTER_S
                break
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._more.wait()

    async def _do(self, folder: Path) -> bool:
        """Work at a job; false when it has to wait before it is tried again."""
        try:
            job = await asyncio.to_thread(intake.read, folder)
            self._at = state = JobState(job.id, job.details.title, "working")

            def step(one: ingest.Step) -> None:
                state.done, state.playable = one.done, state.playable or one.playable
                state.sentence = one.said or state.sentence

            course = await ingest.run(await self.library(), folder, step)
            self._trouble.pop(job.id, None)
            log.info("course-made id=%s duration_s=%.1f", course.id, course.duration_s)
            return True
        except intake.Busy:
            pass
        except ingest.IngestError as error:
            log.warning("ingest-failed folder=%s reason=%s", folder.name, error)
            return True  # It waits for nothing; who leaves it anew is served at once.
        except MediaError as error:
            self._trouble[folder.name] = str(error)
            log.warning("ingest-later folder=%s reason=%s", folder.name, error)
        except OSError as error:
            self._trouble[folder.name] = f"{error.filename}: {error.strerror}"
            log.warning("ingest-later folder=%s reason=%s", folder.name, error)
        finally:
            self._at = None
        return False
