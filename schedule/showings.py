"""Courses of the library in the plans: of which class one is the recording, and who plays it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.tables import Occurrence, Series, Unit

MOST = 50


@dataclass(frozen=True, slots=True)
class Planned:
    """A time at which a course is played. unit: the name of the one that organises it."""

    title: str
    unit: str
    starts_at: datetime


async def class_of(connection: AsyncConnection, course_id: str) -> str | None:
    """The path of the unit that gave the class of which a course is the recording.

    None: it was no class here, but a film that was entered.
    """
    return await connection.scalar(
        select(Unit.path)
        .join(Series, Series.unit_id == Unit.id)
        .join(Occurrence, Occurrence.series_id == Series.id)
        .where(Occurrence.course == course_id, Series.source == "live")
        .order_by(Occurrence.starts_at)
        .limit(1)
    )


async def planned(
    connection: AsyncConnection, course_id: str, now: datetime, replay: timedelta
) -> list[Planned]:
    """When a course is played from now on, the next time first; at most MOST times.

    replay: so long after a live class its recording is shown again; zero: never.
    """
    again = Occurrence.ends_at > now - replay if replay else Occurrence.id.is_(None)
    rows = await connection.execute(
        select(Occurrence.title, Unit.name, Occurrence.starts_at, Series.source)
        .join(Series, Series.id == Occurrence.series_id)
        .join(Unit, Unit.id == Series.unit_id)
        .where(
            Occurrence.course == course_id,
            Occurrence.state != "cancelled",
            or_(
                and_(Series.source != "live", Occurrence.ends_at > now),
                and_(Series.source == "live", again),
            ),
        )
        .order_by(Occurrence.starts_at, Occurrence.id)
        .limit(MOST)
    )
    found = [
        Planned(title, unit, starts_at + (replay if source == "live" else timedelta()))
        for title, unit, starts_at, source in rows
    ]
    return sorted(found, key=lambda one: one.starts_at)
