"""From a file to a course: drives the worker process, and enters each rendition as it is ready.

The course is in the catalogue, and plays, as soon as its best rendition is; the others are added.
Stopped at any moment and started again, it goes on where it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from . import intake as jobs
from . import ladder_worker as worker
from .course import Attachment, Course, Rendition, Subtitles
from .errors import MediaError
from .intake import Intake
from .library import Library
from .manifest import Manifest
from .pieces import assemble, pieces_in, write_whole
from .subtitles import BadSubtitles, webvtt_of

log = logging.getLogger("media.ingest")

ENTRIES_FILE: Final = "entries.json"
SILENT_S: Final = 300.0
"""A worker that says nothing for so long hangs."""
MOST_DEATHS: Final = 3
"""A worker that dies so often without getting further dies of the file."""

_ENTRIES: Final = TypeAdapter(dict[str, Rendition])
_LINE_BYTES: Final = 64 * 1024
_T = TypeVar("_T")


class IngestError(MediaError):
    """The file cannot become a course; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job is, for who waits.

    done:     0 to 1
    said:     a sentence about what is being done, "" where there is nothing new to say
    playable: the course is in the catalogue
    """

    done: float
    said: str = ""
    playable: bool = False


OnStep = Callable[[Step], None]


async def _to_its_end(work: Awaitable[_T]) -> _T:
    """Wait for work on another thread, also when cancelled: what it writes may be removed next."""
    job = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        await asyncio.wait({job})
        raise


async def run(library: Library, folder: Path, on_step: OnStep = lambda _: None) -> Course:
    """Do the job in `folder` and return the course; the job is gone afterwards.

    Raises IngestError when it cannot be done, which is noted in the folder, Busy when another
    process is at it, and StoreError or another MediaError when it may work later.
    """
    job = jobs.read(folder)
    with jobs.claimed(folder):
        try:
            course = await _Ingest(library, folder, job, on_step).run()
        except IngestError as error:
            jobs.fail(folder, str(error))
            raise
        await asyncio.to_thread(jobs.done, folder, job)
    return course


class _Ingest:
    """One job, from its file to its course."""

    def __init__(self, library: Library, folder: Path, job: Intake, on_step: OnStep) -> None:
        self._library = library
        self._job = job
        self._folder = folder
        self._making = folder / jobs.MAKING
        self._log_file = folder / "worker.log"
        self._on_step = on_step
        self._done = 0.0
        self._course: Course | None = None
        self._subtitles: list[tuple[Subtitles, bytes]] = []

    async def run(self) -> Course:
        await asyncio.to_thread(self._making.mkdir, parents=True, exist_ok=True)
        self._subtitles = await asyncio.to_thread(self._read_subtitles)
        deaths, furthest = 0, -1.0
        while not await self._worker():
            deaths = deaths + 1 if self._done <= furthest else 1
            furthest = max(furthest, self._done)
            log.warning("worker-died course=%s done=%.3f deaths=%d", self._job.id, furthest, deaths)
            if deaths >= MOST_DEATHS:
                raise IngestError(
                    f"{self._job.source.name} makes the decoder break down at "
                    f"{furthest:.0%}: convert it with another program and try again"
                )
        if self._course is None:
            raise IngestError("no rendition came out")
        return self._course

    async def _worker(self) -> bool:
        """Let a worker run; false if it died before the end. Raises IngestError."""
        with self._log_file.open("wb") as log_file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "media.ladder_worker",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log_file,
                limit=_LINE_BYTES,
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            order = worker.Job(
                source=self._job.source.absolute(),
                follows=[(one.file.absolute(), one.start_s) for one in self._job.follows],
                folder=self._making.absolute(),
            )
            process.stdin.write(order.model_dump_json().encode() + b"\n")
            while True:
                try:
                    async with asyncio.timeout(SILENT_S):
                        line = await process.stdout.readline()
                    event = worker.Event.validate_json(line) if line else None
                except (TimeoutError, ValueError, ValidationError):
                    return False
                if event is None:
                    return False
                if isinstance(event, worker.Failed):
                    raise (IngestError if event.final else MediaError)(event.sentence)
                if await self._take(event):
                    return True
        except (BrokenPipeError, ConnectionResetError):
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _take(self, event: worker.Planned | worker.Progress | worker.Ready) -> bool:
        """Act on what the worker says; true when all is done."""
        if isinstance(event, worker.Planned):
            self._on_step(Step(self._done, event.sentence))
            return False
        if isinstance(event, worker.Progress):
            self._done = max(self._done, event.done)
            self._on_step(Step(self._done))
            return False
        entries = await asyncio.to_thread(self._entries)
        for name in event.renditions:
            if name not in entries:
                entries[name] = await self._enter(name)
        await asyncio.to_thread(
            write_whole, self._making / ENTRIES_FILE, _ENTRIES.dump_json(entries)
        )
        self._course = await self._save(entries, complete=event.last)
        self._on_step(
            Step(1.0 if event.last else self._done, f"{', '.join(event.renditions)} ready", True)
        )
        return event.last

    def _entries(self) -> dict[str, Rendition]:
        """The renditions of this job that are in the library."""
        try:
            return _ENTRIES.validate_json((self._making / ENTRIES_FILE).read_bytes())
        except (OSError, ValidationError):
            return {}

    async def _enter(self, name: str) -> Rendition:
        """Join the pieces of one rendition and put it in the library."""
        out = self._making / f"{name}.mp4"

        def join() -> Manifest:
            header = worker.read_header(self._making / name)
            return assemble(
                self._making / name,
                out,
                course=self._job.id,
                rendition=name,
                picture=header.picture,
                sound=header.sound,
            )

        try:
            manifest = await _to_its_end(asyncio.to_thread(join))
            signed = await asyncio.to_thread(self._library.sign_manifest, manifest)
            return await self._library.put_rendition(signed, out)
        finally:
            await asyncio.to_thread(out.unlink, missing_ok=True)

    async def _save(self, entries: dict[str, Rendition], *, complete: bool) -> Course:
        async with self._library.writing:
            # Read again: somebody may have corrected the title of a course that plays already.
            job = await asyncio.to_thread(jobs.read, self._folder)
            return await self._save_as(job.details, entries, complete=complete)

    async def _save_as(
        self, details: jobs.Details, entries: dict[str, Rendition], *, complete: bool
    ) -> Course:
        plan = await asyncio.to_thread(worker.read_plan, self._making)
        renditions = tuple(entries[one.name] for one in plan.made if one.name in entries)
        duration_s = 0.0
        for one in renditions[:1]:
            duration_s = await asyncio.to_thread(self._duration_s, one.name)
        return await self._library.save(
            Course(
                id=self._job.id,
                revision=1,
                title=details.title,
                teacher=details.teacher,
                unit=details.unit,
                description=details.description,
                tags=details.tags,
                language=details.language,
                created=details.created or datetime.now(UTC),
                duration_s=duration_s,
                renditions=renditions,
                complete=complete,
                chapters=details.chapters,
                poster=await self._poster(),
                subtitles=await self._enter_subtitles(),
                missing=details.missing,
            )
        )

    def _duration_s(self, name: str) -> float:
        last = pieces_in(self._making / name)[-1]
        return last[1] + last[2]

    async def _poster(self) -> Attachment | None:
        try:
            data = await asyncio.to_thread((self._making / worker.POSTER_FILE).read_bytes)
        except FileNotFoundError:
            return None
        sha256 = hashlib.sha256(data).hexdigest()
        attachment = Attachment(file="poster.jpg", size_bytes=len(data), sha256=sha256)
        await self._library.put_attachment(self._job.id, attachment, data)
        return attachment

    def _read_subtitles(self) -> list[tuple[Subtitles, bytes]]:
        """The job's subtitles as WebVTT. Raises IngestError, before any work is done."""
        found = []
        for one in self._job.details.subtitles:
            try:
                data = webvtt_of(one.file.read_bytes())
            except OSError as error:
                raise IngestError(f"{one.file} cannot be read: {error.strerror}") from error
            except BadSubtitles as error:
                raise IngestError(f"{one.file.name}: {error}") from error
            entry = Subtitles(
                file=f"{one.lang}.vtt",
                lang=one.lang,
                label=one.shown,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
            )
            found.append((entry, data))
        return found

    async def _enter_subtitles(self) -> tuple[Subtitles, ...]:
        for entry, data in self._subtitles:
            await self._library.put_attachment(self._job.id, entry, data)
        return tuple(entry for entry, _ in self._subtitles)
