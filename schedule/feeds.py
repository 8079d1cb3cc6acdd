"""The calendar of a person, a unit, a site or a station, as a feed that others subscribe to."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import calendar
from schedule.agenda import Whose, concerns
from schedule.calendar import Feed, Names
from schedule.series import SeriesInfo, series_list
from schedule.tables import Occurrence, Person, Series, Site, Unit

# What is over stays in a feed for a term; what was cancelled long enough for every calendar to see.
BEHIND = timedelta(days=180)
CANCELLED_FOR = timedelta(days=30)
MOST_PLANS = 2_000


async def feed(
    connection: AsyncConnection, whose: Whose, title: str, now: datetime, page_url: str = ""
) -> Feed:
    """The feed of a calendar. The window is cut at whole days, so that it is the same all day."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    condition = await concerns(connection, whose)
    query = (
        select(Occurrence.series_id, Occurrence.recurrence, Series.presenter_id)
        .join(Series, Series.id == Occurrence.series_id)
        .where(
            Occurrence.ends_at > today - BEHIND,
            or_(
                Series.state == "confirmed",
                and_(Series.state == "cancelled", Series.changed_at > today - CANCELLED_FOR),
            ),
        )
        .order_by(Occurrence.series_id, Occurrence.starts_at)
    )
    if condition is not None:
        query = query.where(condition)
    theirs: dict[int, list[datetime]] = {}
    single: set[int] = set()
    for series_id, recurrence, presenter_id in await connection.execute(query):
        theirs.setdefault(series_id, []).append(datetime.fromisoformat(recurrence))
        if whose.person_id is not None and presenter_id != whose.person_id:
            single.add(series_id)
    plans = await series_list(connection, sorted(theirs)[:MOST_PLANS])
    return calendar.feed(
        title,
        plans,
        await names_of(connection, plans, page_url),
        now,
        presenter_id=whose.person_id,
        recurrences={series_id: theirs[series_id] for series_id in single},
    )


async def names_of(
    connection: AsyncConnection, plans: list[SeriesInfo], page_url: str = ""
) -> Names:
    """What the ids in some plans are called."""
    units = {info.plan.unit_id for info in plans}
    rooms = {info.plan.room_id for info in plans} | {
        edit.room_id for info in plans for edit in info.edits.values()
    }
    people = {info.plan.presenter_id for info in plans} | {
        edit.presenter_id for info in plans for edit in info.edits.values()
    }
    found = []
    for table, ids in ((Unit, units), (Site, rooms), (Person, people)):
        rows = await connection.execute(
            select(table.id, table.name).where(table.id.in_({one for one in ids if one}))
        )
        found.append(dict(rows.all()))
    return Names(found[0], found[1], found[2], page_url)
