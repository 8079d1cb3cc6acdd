"""`terrace ingest FILE`: makes a course of a video file, here and now, and shows how far it is."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from media import ingest, intake
from media.course import Chapter, new_id
from media.errors import MediaError
from media.intake import Details, Intake, SubtitleFile
from web import settings
from web.library import open_library, work_folder

BAD_USAGE: Final = 2
FAILED: Final = 1
_BAR_CHARACTERS: Final = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `terrace ingest`."""
    parser.add_argument("file", type=Path, metavar="FILE", help="any video or sound")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="settings file with the table [library]"
    )
    parser.add_argument(
        "--library", type=Path, metavar="DIR", help="the library's folder, instead of the settings'"
    )
    parser.add_argument(
        "--objects", metavar="URL", help="where courses are kept, instead of the settings' objects"
    )
    parser.add_argument("--title", metavar="TEXT", help="its title (default: the file's name)")
    parser.add_argument("--teacher", default="", metavar="NAME", help="who teaches")
    parser.add_argument("--unit", default="", metavar="NAME", help="who gives the class")
    parser.add_argument("--description", default="", metavar="TEXT", help="what it is about")
    parser.add_argument(
        "--tag", action="append", default=[], metavar="WORD", help="a tag (may be given often)"
    )
    parser.add_argument("--language", metavar="TAG", help="the language spoken: zh, en, ...")
    parser.add_argument("--date", metavar="DATE", help="when it was taught: 2026-09-21[T08:00]")
    parser.add_argument(
        "--chapter",
        action="append",
        default=[],
        metavar="TIME=TITLE",
        help="where a part begins: 12:30=Sowing (may be given often)",
    )
    parser.add_argument(
        "--subtitles",
        action="append",
        default=[],
        metavar="LANG=FILE",
        help="WebVTT or SubRip: zh=lesson.vtt (may be given often)",
    )
    parser.add_argument("--id", metavar="ID", help="the course's id (default: from its title)")
    parser.add_argument("--json", action="store_true", help="say each step as a line of JSON")


def run(args: argparse.Namespace) -> int:
    """Make the course; returns the status for the shell."""
    try:
        return asyncio.run(_run(args))
    except (MediaError, settings.SettingsError, ValueError) as error:
        print(f"terrace ingest: {_one_line(error)}", file=sys.stderr)
        return BAD_USAGE if isinstance(error, ValueError | settings.SettingsError) else FAILED


async def _run(args: argparse.Namespace) -> int:
    loaded = settings.load(environ=os.environ, file=args.config).library
    if args.library is not None:
        loaded = loaded.model_copy(update={"folder": args.library})
    if args.objects:
        loaded = loaded.model_copy(update={"objects": args.objects})
    library = open_library(loaded)
    work = work_folder(loaded)
    work.mkdir(parents=True, exist_ok=True)
    job = _job(args, work)
    folder = intake.leave(work, job)
    screen = _Screen(as_json=args.json)
    screen.show({"course": job.id, "title": job.details.title})
    course = await ingest.run(library, folder, screen.step)
    screen.show(
        {
            "done": 1.0,
            "course": course.id,
            "duration_s": round(course.duration_s, 3),
            "renditions": {one.name: one.size_bytes for one in course.renditions},
        }
    )
    return 0


def _job(args: argparse.Namespace, work: Path) -> Intake:
    """The job that the arguments describe. Raises ValueError and MediaError."""
    file: Path = args.file
    try:
        mark = intake.fingerprint(file)
    except OSError as error:
        raise MediaError(f"{file} cannot be read: {error.strerror}") from error
    title = args.title or file.stem.replace("_", " ")
    before = intake.find(work, mark)
    course_id = args.id or (before.id if before is not None else new_id(title))
    return Intake(
        id=course_id,
        source=file.absolute(),
        fingerprint=mark,
        details=Details(
            title=title,
            teacher=args.teacher,
            unit=args.unit,
            description=args.description,
            tags=tuple(args.tag),
            language=args.language,
            created=_moment(args.date) if args.date else None,
            chapters=tuple(sorted((_chapter(one) for one in args.chapter), key=_start)),
            subtitles=tuple(_subtitles(one) for one in args.subtitles),
        ),
    )


def _start(chapter: Chapter) -> float:
    return chapter.start_s


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"--date {text!r} must look like 2026-09-21 or 2026-09-21T08:00") from None
    return moment.astimezone() if moment.tzinfo is None else moment.astimezone(UTC)


def _chapter(text: str) -> Chapter:
    time, _, title = text.partition("=")
    try:
        parts = [float(part) for part in time.split(":")]
        if len(parts) > 3 or not title.strip():
            raise ValueError
    except ValueError:
        raise ValueError(f"--chapter {text!r} must look like 12:30=Sowing") from None
    start_s = 0.0
    for part in parts:
        start_s = start_s * 60 + part
    return Chapter(start_s=start_s, title=title)


def _subtitles(text: str) -> SubtitleFile:
    lang, _, file = text.partition("=")
    if not file:
        raise ValueError(f"--subtitles {text!r} must look like zh=lesson.vtt")
    if not Path(file).is_file():
        raise ValueError(f"--subtitles {text!r}: there is no file {file}")
    return SubtitleFile(lang=lang.lower(), file=Path(file).absolute())


def _one_line(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(one) for one in first['loc'])}: {first['msg']}"


class _Screen:
    """How far it is, on one line of a terminal or as lines."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._live = sys.stdout.isatty() and not as_json
        self._shown = -1.0
        self._playable = False

    def step(self, one: ingest.Step) -> None:
        if self._json:
            said = {"said": one.said} if one.said else {}
            print(json.dumps({"done": one.done, "playable": one.playable} | said), flush=True)
            return
        if one.said:
            self._line(f"  {one.said}")
        if self._live:
            filled = round(one.done * _BAR_CHARACTERS)
            bar = "█" * filled + "░" * (_BAR_CHARACTERS - filled)
            print(f"\r{bar} {one.done:4.0%}", end="", flush=True)
        elif one.done - self._shown >= 0.1:
            self._shown = one.done
            print(f"  {one.done:.0%}", flush=True)

    def show(self, values: dict[str, object]) -> None:
        if self._json:
            print(json.dumps(values, ensure_ascii=False), flush=True)
        elif "renditions" in values:
            self._line(f"the course is in the library: /courses/{values['course']}")
        else:
            self._line(f"{values['title']} becomes /courses/{values['course']}")

    def _line(self, text: str) -> None:
        print(f"\r{text:<{_BAR_CHARACTERS + 6}}" if self._live else text, flush=True)
