"""Whose unit a request is about: what the table's `where` is made of.

Each function finds, from the path, the question or the body of a request, the path of the unit on
which the person must be allowed what they want. NotFound when it is not there.
"""

from __future__ import annotations

import re

from sqlalchemy import select

from schedule import bookings, people, showings, units
from schedule.clashes import Reach, Reaches
from schedule.errors import NotFound
from schedule.rights import Action, lineage, may, parent_path, places
from schedule.tables import Occurrence, Series, Unit
from schedule.units import Place
from web.centre.table import Ask

_COURSE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


async def unit_at(ask: Ask) -> str:
    """The unit in the address."""
    return (await units.unit(ask.connection, ask.at["unit_id"])).path


async def unit_asked(ask: Ask) -> str:
    """The unit after the question mark."""
    return (await units.unit(ask.connection, ask.query.unit_id)).path


async def unit_said(ask: Ask) -> str:
    """The unit in the body."""
    return (await units.unit(ask.connection, ask.body.unit_id)).path


async def parent_said(ask: Ask) -> str:
    """The unit in the body under which something is put."""
    return (await units.unit(ask.connection, ask.body.parent_id)).path


async def plan_said(ask: Ask) -> str:
    """The unit that organises the plan in the body."""
    return (await units.unit(ask.connection, ask.body.plan.unit_id)).path


async def home_of(ask: Ask, person_id: int) -> str:
    """The path of the unit that a person belongs to."""
    found = await people.person(ask.connection, person_id)
    return (await units.unit(ask.connection, found.unit_id)).path


async def of_person(ask: Ask) -> str:
    """The unit of the person in the address."""
    return await home_of(ask, ask.at["person_id"])


async def of_place(ask: Ask, kind: Place) -> str:
    """The unit of the site or station in the address."""
    found = await units.place(ask.connection, kind, ask.at[f"{kind}_id"])
    return (await units.unit(ask.connection, found.unit_id)).path


async def top(ask: Ask) -> str:
    """The root of the tree that the person belongs to."""
    return lineage((await units.unit(ask.connection, ask.person.unit_id)).path)[0]


async def of_course(ask: Ask) -> str:
    """The unit that gave the class of a course in the library; the root, for what was uploaded."""
    if not _COURSE.fullmatch(ask.at["course"]):
        raise NotFound("there is no such course")
    path = await showings.class_of(ask.connection, ask.at["course"])
    return path if path is not None else await top(ask)


async def series_path(ask: Ask, series_id: int) -> str:
    """The path of the unit that organises a series."""
    path = await ask.connection.scalar(
        select(Unit.path).join(Series, Series.unit_id == Unit.id).where(Series.id == series_id)
    )
    if path is None:
        raise NotFound("there is no such course or meeting")
    return path


async def of_series(ask: Ask) -> str:
    """The unit that organises the series in the address."""
    return await series_path(ask, ask.at["series_id"])


async def above_series(ask: Ask) -> str:
    """The unit that approves the series in the address."""
    path = await of_series(ask)
    return parent_path(path) or path


async def _series_of_occurrence(ask: Ask) -> tuple[int, int | None]:
    row = (
        await ask.connection.execute(
            select(Occurrence.series_id, Occurrence.presenter_id).where(
                Occurrence.id == ask.at["occurrence_id"]
            )
        )
    ).first()
    if row is None:
        raise NotFound("there is no such lesson or meeting")
    return row.series_id, row.presenter_id


async def of_occurrence(ask: Ask) -> str:
    """The unit that organises the occurrence in the address."""
    series_id, _ = await _series_of_occurrence(ask)
    return await series_path(ask, series_id)


async def series_seen(ask: Ask) -> str | None:
    """As `of_series`, or None for those who are asked to attend, or present."""
    series_id = ask.at["series_id"]
    presenter = await ask.connection.scalar(
        select(Series.presenter_id).where(Series.id == series_id)
    )
    return await _seen(ask, series_id, presenter)


async def occurrence_seen(ask: Ask) -> str | None:
    """As `of_occurrence`, or None for those who are asked to attend, or present."""
    return await _seen(ask, *await _series_of_occurrence(ask))


async def _seen(ask: Ask, series_id: int, presenter_id: int | None) -> str | None:
    path = await series_path(ask, series_id)
    if may(ask.session.grants, Action.SEE, path):
        return path
    if presenter_id == ask.person.id:
        return None
    # What is not confirmed concerns nobody yet but those who plan it.
    state = await ask.connection.scalar(select(Series.state).where(Series.id == series_id))
    if state not in ("confirmed", "cancelled"):
        return path
    home = (await units.unit(ask.connection, ask.person.unit_id)).path
    audience = (await bookings.audiences_of(ask.connection, [series_id]))[series_id]
    own = places(ask.session.grants, Action.SEE)
    asked = any(
        _meets(home, reach) or any(_meets(top, reach) or reach.path.startswith(top) for top in own)
        for reach in audience
    )
    return None if asked else path


def _meets(path: str, reach: Reach) -> bool:
    """Whether the unit at a path is asked by this entry of an audience."""
    if reach.kind is Reaches.SUBTREE:
        return path.startswith(reach.path)
    return path == reach.path
