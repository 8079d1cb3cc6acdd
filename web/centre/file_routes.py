"""A course of the library played into a meeting, as its source "file"."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from media.course import Course
from media.errors import MediaError
from media.library import NoSuchCourse
from schedule.errors import Conflict, NotFound
from schedule.rights import Action
from web.centre import finding
from web.centre.table import Ask, Body, On, Route

# What one core can decode and encode besides a relay's work.
MOST_HEIGHT = 480


class FileSaid(Body):
    """A course of the library."""

    course_id: str = Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9-]*$")


class Played(BaseModel):
    """The source that it is, and its name."""

    source: str
    title: str


async def play_file(ask: Ask) -> Played:
    room = await ask.centre.rooms.opened(ask.at["occurrence_id"])
    if ask.centre.files is None:
        raise Conflict("this centre has no node that could play a file")
    try:
        course, path = await _file(ask)
        await ask.centre.files.start(room.id, path)
    except NoSuchCourse as error:
        raise NotFound(str(error)) from error
    except MediaError as error:
        raise Conflict(str(error)) from error
    room.file_name = course.title
    ask.centre.rooms.tell(room)
    await ask.centre.rooms.note(room, ask.person.id, "play file", {"course": course.id})
    return Played(source="file", title=course.title)


async def _file(ask: Ask) -> tuple[Course, Path]:
    """The course and the largest of its renditions that can be played besides; NotFound."""
    if ask.centre.library is None or not ask.centre.library.exists:
        raise NotFound("this centre has no library")
    library = await ask.centre.library.library()
    course = (await library.course(ask.body.course_id)).course
    fitting = [one for one in course.renditions if one.height <= MOST_HEIGHT]
    best = max(fitting or course.renditions, key=lambda one: one.height, default=None)
    if best is None:
        raise NotFound("this course has nothing that can be played yet")
    path = library.media_path(await library.manifest(course.id, best.name))
    if path is None:
        raise Conflict("the library's courses are not on this machine: files cannot be played")
    return course, path


async def stop_file(ask: Ask) -> None:
    room = await ask.centre.rooms.opened(ask.at["occurrence_id"])
    if ask.centre.files is None or not await ask.centre.files.stop(room.id):
        raise NotFound("no file is played")
    await ask.centre.rooms.file_ended(room.id)
    await ask.centre.rooms.note(room, ask.person.id, "stop file", {})


_ROOM = "/api/occurrences/{occurrence_id}/room"
_CONTROL = On(Action.CONTROL, finding.of_occurrence)
ROUTES = [
    Route("POST", _ROOM + "/file", _CONTROL, play_file,
          "Play a course of the library as the source `file`, from its beginning.",
          answer=Played, body=FileSaid, by_itself=True),
    Route("DELETE", _ROOM + "/file", _CONTROL, stop_file, "End the file.", by_itself=True),
]  # fmt: skip
