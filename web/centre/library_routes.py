"""Courses of the library, changed and removed by who plans the classes that they came from.

A course that was a class belongs to the unit that gave the class; what was uploaded belongs to the
root of the tree. Bearers of tokens use `web/courses.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, Field

from media.course import Changes
from media.errors import MediaError
from media.intake import Busy
from media.library import NoSuchCourse, NotTaken, Outdated
from schedule import audit
from schedule.errors import Conflict, Invalid, NotFound
from schedule.rights import Action, may
from web.centre import finding
from web.centre.doors import NotDone
from web.centre.models import Short, Switch
from web.centre.table import Ask, Body, On, Query, Route, SignedIn
from web.library import LibraryRoom, Needed

MOST_CHAPTERS = 500
MOST_TAGS = 32
LONGEST_S = 48 * 3600.0
_T = TypeVar("_T")


class ChapterSaid(Body):
    """Where something begins in a course."""

    start_s: float = Field(ge=0, le=LONGEST_S, allow_inf_nan=False)
    title: Short


class CourseChanges(Body):
    """What is to change of a course; null, or left out: it stays.

    revision: of the course as it was when somebody began to change it.
    """

    revision: int | None = Field(default=None, ge=1, le=1_000_000_000)
    title: Short | None = None
    teacher: Short | None = None
    unit: Short | None = None
    description: str | None = Field(default=None, max_length=4_000)
    language: str | None = Field(default=None, max_length=32)
    tags: list[Short] | None = Field(default=None, max_length=MOST_TAGS)
    chapters: list[ChapterSaid] | None = Field(default=None, max_length=MOST_CHAPTERS)

    def changes(self) -> Changes:
        """The same as the library takes it. ValidationError."""
        return Changes.model_validate(self.model_dump(exclude={"revision"}, exclude_none=True))


class Anyway(Query):
    """anyway: also a course that timetables need."""

    anyway: Switch = "0"


class UseAnswer(BaseModel):
    """A time at which a course is played. where: a unit, a station or a group of them."""

    title: str
    where: str
    starts_at: datetime


class CareAnswer(BaseModel):
    """Whether this person may change a course, and then who plans to play it."""

    may_edit: bool
    uses: list[UseAnswer]


class RevisionAnswer(BaseModel):
    """What a course is now."""

    revision: int


def _room(ask: Ask) -> LibraryRoom:
    if ask.centre.library is None:
        raise NotFound("there is no library here")
    return ask.centre.library


async def _said(work: Awaitable[_T]) -> _T:
    """What the library answers, with its errors as those of this API."""
    try:
        return await work
    except NoSuchCourse as error:
        raise NotFound(str(error)) from error
    except NotTaken as error:
        raise Invalid(str(error), "chapters") from error
    except (Outdated, Needed, Busy) as error:
        raise Conflict(str(error)) from error
    except MediaError as error:
        raise NotDone(503, str(error)) from error


async def _note(ask: Ask, action: str, **detail: object) -> None:
    async with ask.centre.store.writing() as connection:
        await audit.record(
            connection, ask.now, ask.person.id, action, f"library:{ask.at['course']}", detail
        )


async def see_library_course(ask: Ask) -> CareAnswer:
    room = ask.centre.library
    async with ask.centre.store.reading() as connection:
        ask.transaction = connection
        path = await finding.of_course(ask)
    ask.transaction = None
    if room is None or not may(ask.session.grants, Action.PLAN, path):
        return CareAnswer(may_edit=False, uses=[])
    uses = await _said(room.uses(ask.at["course"]))
    shown = [UseAnswer(title=u.title, where=u.where, starts_at=u.starts_at) for u in uses]
    return CareAnswer(may_edit=True, uses=shown)


async def change_library_course(ask: Ask) -> RevisionAnswer:
    changes = ask.body.changes()
    course = await _said(_room(ask).edit(ask.at["course"], changes, ask.body.revision))
    await _note(ask, "change course", fields=sorted(changes.given()))
    return RevisionAnswer(revision=course.revision)


async def remove_library_course(ask: Ask) -> None:
    await _said(_room(ask).delete(ask.at["course"], anyway=ask.query.anyway == "1"))
    await _note(ask, "remove course")


_ONE = "/api/library/courses/{course}"
_WORDS = {"course": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,63}$"}}

ROUTES = [
    Route("GET", _ONE, SignedIn(), see_library_course,
          "Whether I may change a course, and who plans to play it.",
          answer=CareAnswer, by_itself=True, words=_WORDS, also=(404, 503)),
    Route("PATCH", _ONE, On(Action.PLAN, finding.of_course), change_library_course,
          "Change what is said about a course; nodes and stations see it within a minute.",
          answer=RevisionAnswer, body=CourseChanges, by_itself=True, words=_WORDS,
          also=(404, 409, 503)),
    Route("DELETE", _ONE, On(Action.PLAN, finding.of_course), remove_library_course,
          "Remove a course and its files. 409 while timetables need it.",
          query=Anyway, by_itself=True, words=_WORDS, also=(404, 409, 503)),
]  # fmt: skip
