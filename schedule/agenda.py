"""What takes place when, and for whom: occurrences as calendars and pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import units
from schedule.errors import NotFound
from schedule.tables import Audience, Occurrence, Series, Unit
from schedule.timetable import LONGEST_S
from schedule.units import below


@dataclass(frozen=True, slots=True)
class OccurrenceInfo:
    """One lesson or meeting, as a calendar shows it."""

    id: int
    series_id: int
    recurrence: datetime
    kind: str
    source: str
    title: str
    unit_id: int
    starts_at: datetime
    ends_at: datetime
    rehearsal_s: int
    time_zone: str
    presenter_id: int | None
    room_id: int | None
    state: str
    course: str


_OCCURRENCE = (
    Occurrence.id,
    Occurrence.series_id,
    Occurrence.recurrence,
    Series.kind,
    Series.source,
    Occurrence.title,
    Series.unit_id,
    Occurrence.starts_at,
    Occurrence.ends_at,
    Series.rehearsal_s,
    Series.time_zone,
    Occurrence.presenter_id,
    Occurrence.room_id,
    Occurrence.state,
    Occurrence.course,
)


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose calendar: of a person who presents, a unit that organises or is asked, a place.

    All None: everything. within: only what units below this path organise.
    """

    person_id: int | None = None
    unit_path: str | None = None
    site_id: int | None = None
    station_id: int | None = None
    within: str | None = None


async def occurrences(
    connection: AsyncConnection,
    whose: Whose,
    since: datetime,
    until: datetime,
    *,
    states: Sequence[str] = (),
    most: int = 2_000,
) -> list[OccurrenceInfo]:
    """What takes place in a window, in order; cancelled ones only when `states` asks for them."""
    query = (
        select(*_OCCURRENCE)
        .join(Series, Series.id == Occurrence.series_id)
        .where(
            Occurrence.starts_at < until,
            Occurrence.starts_at >= since - timedelta(seconds=LONGEST_S),
            Occurrence.ends_at > since,
            Occurrence.state.in_(states) if states else Occurrence.state != "cancelled",
        )
    )
    if whose.within is not None:
        query = query.join(Unit, Unit.id == Series.unit_id).where(below(whose.within))
    condition = await concerns(connection, whose)
    if condition is not None:
        query = query.where(condition)
    rows = await connection.execute(query.order_by(Occurrence.starts_at, Occurrence.id).limit(most))
    return [_occurrence(row) for row in rows]


async def concerns(connection: AsyncConnection, whose: Whose) -> ColumnElement[bool] | None:
    """The condition "this occurrence belongs in their calendar"; None: all do."""
    conditions = []
    if whose.person_id is not None:
        conditions.append(Occurrence.presenter_id == whose.person_id)
    audience = await _asked(connection, whose)
    if audience is not None:
        conditions.append(Occurrence.series_id.in_(audience))
    if whose.site_id is not None:
        conditions.append(Occurrence.room_id == whose.site_id)
    if whose.unit_path is not None:
        unit_id = int(whose.unit_path.rstrip("/").rsplit("/", 1)[-1])
        conditions.append(Series.unit_id == unit_id)
    return or_(*conditions) if conditions else None


def _occurrence(row: Any) -> OccurrenceInfo:
    return OccurrenceInfo(row[0], row[1], datetime.fromisoformat(row[2]), *row[3:])


async def occurrence(connection: AsyncConnection, occurrence_id: int) -> OccurrenceInfo:
    """One occurrence; NotFound."""
    row = (
        await connection.execute(
            select(*_OCCURRENCE)
            .join(Series, Series.id == Occurrence.series_id)
            .where(Occurrence.id == occurrence_id)
        )
    ).first()
    if row is None:
        raise NotFound("there is no such lesson or meeting")
    return _occurrence(row)


async def _asked(connection: AsyncConnection, whose: Whose) -> Any:
    """The series whose audience includes the unit or the place; None when neither is given."""
    place_id, kind = whose.site_id, "site"
    if place_id is None:
        place_id, kind = whose.station_id, "station"
    path = whose.unit_path
    targets = []
    if place_id is not None:
        found = await units.place(connection, "site" if kind == "site" else "station", place_id)
        path = (await units.unit(connection, found.unit_id)).path
        targets.append((Audience.kind == kind) & (Audience.target_id == place_id))
    if path is None:
        return None
    chain = [int(one) for one in path.rstrip("/").split("/")]
    targets.append((Audience.kind == "subtree") & Audience.target_id.in_(chain))
    targets.append((Audience.kind == "unit") & (Audience.target_id == chain[-1]))
    return select(Audience.series_id).where(or_(*targets))
