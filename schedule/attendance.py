"""Attendance as people look at it: totals of any part of the tree, lists of a class, who is there.

Totals add up the sums of days, not the rows: one question for any part of the tree and any period.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, case, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from schedule.settling import SUMS
from schedule.tables import Attendance, AttendanceDay, Join, Occurrence, Series, Unit
from schedule.units import below


@dataclass(frozen=True, slots=True)
class Total:
    """What a unit and all below it attended in a period.

    classes: attended, once for each unit. units: how many attended any. owing: how many owe a duty
    in this period, met: how many of these have done it. Seconds as in `tables.AttendanceDay`.
    """

    unit_id: int
    units: int
    owing: int
    met: int
    classes: int
    attendees: int
    people: int
    live_s: int
    replay_s: int
    class_s: int
    person_s: int


async def roll_up(
    connection: AsyncConnection, path: str, first_day: int, last_day: int, months: int = 1
) -> list[Total]:
    """The totals of the unit at `path` and of every unit below it, in one question.

    Days as 20260301, both included. months: by how many the monthly duty is multiplied.
    """
    tree = select(Unit.id, Unit.parent_id, Unit.duty_minutes).where(below(path)).cte("tree")
    own = (
        select(
            AttendanceDay.unit_id,
            *(func.sum(getattr(AttendanceDay, name)).label(name) for name in SUMS),
        )
        .where(AttendanceDay.day.between(first_day, last_day))
        .group_by(AttendanceDay.unit_id)
        .cte("own")
    )
    # Each unit with each one above it, up to the top of this part of the tree.
    up = select(tree.c.id.label("unit_id"), tree.c.id.label("above_id")).cte("up", recursive=True)
    above = aliased(tree)
    up = up.union_all(
        select(up.c.unit_id, above.c.parent_id)
        .join(above, above.c.id == up.c.above_id)
        .where(above.c.parent_id.in_(select(tree.c.id)))
    )
    duty_s = tree.c.duty_minutes * 60 * months
    owing = and_(tree.c.duty_minutes.is_not(None), tree.c.duty_minutes > 0)
    met = and_(owing, func.coalesce(own.c.class_s, 0) >= duty_s)
    query = (
        select(
            up.c.above_id,
            func.count(own.c.unit_id),
            func.sum(case((owing, 1), else_=0)),
            func.sum(case((met, 1), else_=0)),
            *(func.coalesce(func.sum(getattr(own.c, name)), 0) for name in SUMS),
        )
        .select_from(up)
        .join(tree, tree.c.id == up.c.unit_id)
        .outerjoin(own, own.c.unit_id == up.c.unit_id)
        .group_by(up.c.above_id)
    )
    return [Total(*(int(one) for one in row)) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Present:
    """One row of a class's attendance list."""

    unit_id: int
    unit_name: str
    attendee: str
    people: int
    live_s: int
    replay_s: int
    seen_s: int


async def present_at(
    connection: AsyncConnection,
    occurrence_id: int,
    path: str,
    *,
    after: tuple[int, str] = (0, ""),
    most: int = 500,
) -> list[Present]:
    """Who attended a class, of a unit and all below it, page by page in the order of units."""
    found = await connection.execute(
        select(
            Attendance.unit_id, Unit.name, Attendance.attendee, Attendance.people,
            Attendance.live_s, Attendance.replay_s, Attendance.seen_s,
        )
        .join(Unit, Unit.id == Attendance.unit_id)
        .where(
            Attendance.occurrence_id == occurrence_id,
            below(path),
            tuple_(Attendance.unit_id, Attendance.attendee) > tuple_(*after),
        )
        .order_by(Attendance.unit_id, Attendance.attendee)
        .limit(most)
    )  # fmt: skip
    return [Present(*row) for row in found]


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One class in a unit's logbook. class_s: what counts for the duty."""

    day: int
    occurrence_id: int
    title: str
    starts_at: datetime
    time_zone: str
    people: int
    live_s: int
    replay_s: int
    class_s: int


async def logbook(
    connection: AsyncConnection, unit_id: int, first_day: int, last_day: int
) -> list[LogEntry]:
    """The classes that a unit attended in a period, in order; days as 20260301, both included."""
    found = await connection.execute(
        select(
            Attendance.day,
            Occurrence.id,
            Occurrence.title,
            Occurrence.starts_at,
            Series.time_zone,
            func.sum(Attendance.people),
            func.sum(Attendance.live_s),
            func.sum(Attendance.replay_s),
            func.sum(Attendance.class_s),
        )
        .join(Occurrence, Occurrence.id == Attendance.occurrence_id)
        .join(Series, Series.id == Occurrence.series_id)
        .where(Attendance.unit_id == unit_id, Attendance.day.between(first_day, last_day))
        .group_by(
            Attendance.day, Occurrence.id, Occurrence.title, Occurrence.starts_at, Series.time_zone
        )
        .order_by(Occurrence.starts_at, Occurrence.id)
    )
    return [LogEntry(*row[:5], *(int(one) for one in row[5:])) for row in found]


async def there_now(
    connection: AsyncConnection, occurrence_id: int, path: str, since: datetime
) -> dict[int, int]:
    """How many sites, stations and persons of each unit are in a class: unit id to number.

    since: a stay counts as long as its last sign of life is not older.
    """
    found = await connection.execute(
        select(Join.unit_id, func.count(Join.attendee.distinct()))
        .join(Unit, Unit.id == Join.unit_id)
        .where(
            Join.occurrence_id == occurrence_id,
            Join.mode == "live",
            Join.left_at.is_(None),
            Join.seen_at >= since,
            below(path),
        )
        .group_by(Join.unit_id)
    )
    return dict(found.all())
