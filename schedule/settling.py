"""From reports to rows: each unit's part of each class, merged anew when something was reported.

`settle` takes marks away, merges all reports of these units and classes (`schedule.presence`),
replaces the rows and adds the difference to the units' sums of the day, in one transaction. A crash
before its end leaves the marks; so nothing is lost and nothing counted twice, however often it is
done, and by however many processes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import QueryableAttribute

from schedule.presence import Call, Count, Row, Span, Stay, merge, watched
from schedule.store import Store, insert_many, upsert
from schedule.tables import (
    Attendance,
    AttendanceDay,
    HeadCount,
    Join,
    Occurrence,
    RollCall,
    Series,
    Unsettled,
)
from schedule.timetable import day_number

# A class and a unit that took part in it: what is settled as a whole.
Key = tuple[int, int]
# Units and classes that one transaction settles: short, for reports wait meanwhile in SQLite.
SETTLE_AT_ONCE = 200


def among(
    occurrence: QueryableAttribute[int],
    column: QueryableAttribute[Any],
    keys: Collection[tuple[int, Any]],
) -> ColumnElement[bool]:
    """The condition that (occurrence, column) is one of the keys, in a form that uses an index.

    SQLite reads the whole table for "(a, b) IN (VALUES ...)".
    """
    by_class: dict[int, list[Any]] = {}
    for occurrence_id, value in keys:
        by_class.setdefault(occurrence_id, []).append(value)
    return or_(
        False,
        *(and_(occurrence == one, column.in_(values)) for one, values in by_class.items()),
    )


async def settle(store: Store, now: datetime, most: int = 1_000_000) -> int:
    """Merge what has been reported; how many units' parts of classes were settled."""
    done = 0
    while done < most:
        async with store.writing() as connection:
            step = await _settle_some(connection, now, min(SETTLE_AT_ONCE, most - done))
        done += step
        if not step:
            break
    return done


async def _settle_some(connection: AsyncConnection, now: datetime, most: int) -> int:
    marked = (
        await connection.execute(
            select(Unsettled.occurrence_id, Unsettled.unit_id)
            .order_by(Unsettled.occurrence_id, Unsettled.unit_id)
            .limit(most)
            .with_for_update(skip_locked=True)
        )
    ).all()
    if not marked:
        return 0
    keys: list[Key] = [(one, unit_id) for one, unit_id in marked]
    await connection.execute(
        delete(Unsettled).where(among(Unsettled.occurrence_id, Unsettled.unit_id, keys))
    )
    classes = await _classes(connection, {one for one, _ in keys}, now)
    stays = await _stays(
        connection, classes, among(Join.occurrence_id, Join.unit_id, keys), "unit_id"
    )
    counts = await _counts(connection, keys)
    calls, abroad = await _calls(connection, keys, classes)
    before = await _sums(connection, keys)
    fresh: list[dict[str, Any]] = []
    after: dict[Key, dict[str, int]] = {}
    for key in keys:
        rows = merge(
            stays.get(key, ()),
            counts.get(key, ()),
            calls.get(key, ()),
            classes[key[0]].length_s,
            abroad.get(key, ()),
        )
        day = classes[key[0]].day
        fresh.extend(
            asdict(row) | {"occurrence_id": key[0], "unit_id": key[1], "day": day} for row in rows
        )
        after[key] = _added(rows)
    await connection.execute(
        delete(Attendance).where(among(Attendance.occurrence_id, Attendance.unit_id, keys))
    )
    await insert_many(connection, insert(Attendance), fresh)
    await _add_to_days(connection, before, after, classes)
    return len(keys)


@dataclass(frozen=True, slots=True)
class _Class:
    """When a class was on the air, as far as it is known."""

    starts_at: datetime
    length_s: int
    day: int


async def _classes(
    connection: AsyncConnection, occurrence_ids: set[int], now: datetime
) -> dict[int, _Class]:
    found = await connection.execute(
        select(
            Occurrence.id,
            Occurrence.starts_at,
            Occurrence.ends_at,
            Occurrence.on_air_at,
            Occurrence.ended_at,
            Series.time_zone,
        )
        .join(Series, Series.id == Occurrence.series_id)
        .where(Occurrence.id.in_(occurrence_ids))
    )
    classes = {}
    for row in found:
        begins = row.on_air_at or row.starts_at
        # While it is on, what counts ends now or as planned, whichever is later.
        ends = row.ended_at or (max(row.ends_at, now) if row.on_air_at else row.ends_at)
        length_s = max(0, round((ends - begins).total_seconds()))
        # The day is that of the plan: a late start over midnight does not move a row's day.
        classes[row.id] = _Class(begins, length_s, day_number(row.starts_at, row.time_zone))
    return classes


async def _stays(
    connection: AsyncConnection,
    classes: dict[int, _Class],
    which: ColumnElement[bool],
    by: Literal["unit_id", "attendee"],
) -> dict[Any, list[Stay]]:
    """Stays by class and unit, or by class and attendee."""
    rows = await connection.execute(
        select(
            Join.occurrence_id,
            Join.unit_id,
            Join.attendee,
            Join.mode,
            Join.joined_at,
            Join.seen_at,
            Join.left_at,
            Join.from_s,
            Join.to_s,
        ).where(which)
    )
    found: dict[Any, list[Stay]] = {}
    for row in rows:
        if row.mode == "replay":
            stay = Stay(row.attendee, False, row.from_s, row.to_s)
        else:
            begins = classes[row.occurrence_id].starts_at
            left = row.left_at or row.seen_at
            stay = Stay(
                row.attendee,
                True,
                round((row.joined_at - begins).total_seconds()),
                round((left - begins).total_seconds()),
            )
        found.setdefault((row.occurrence_id, getattr(row, by)), []).append(stay)
    return found


async def _counts(connection: AsyncConnection, keys: Sequence[Key]) -> dict[Key, list[Count]]:
    rows = await connection.execute(
        select(
            HeadCount.occurrence_id,
            HeadCount.unit_id,
            HeadCount.attendee,
            HeadCount.people,
            HeadCount.unnamed,
        ).where(among(HeadCount.occurrence_id, HeadCount.unit_id, keys))
    )
    found: dict[Key, list[Count]] = {}
    for row in rows:
        count = Count(row.attendee, row.people, len(row.unnamed))
        found.setdefault((row.occurrence_id, row.unit_id), []).append(count)
    return found


async def _calls(
    connection: AsyncConnection, keys: Sequence[Key], classes: dict[int, _Class]
) -> tuple[dict[Key, list[Call]], dict[Key, list[Stay]]]:
    """Who was called in these units' rooms; their own people elsewhere, with the stays there."""
    columns = (
        RollCall.occurrence_id,
        RollCall.person_id,
        RollCall.attendee,
        RollCall.unit_id,
        RollCall.home_id,
    )
    rows: set[tuple[int, int, str, int, int]] = set()
    for unit in (RollCall.unit_id, RollCall.home_id):
        found = await connection.execute(
            select(*columns).where(among(RollCall.occurrence_id, unit, keys))
        )
        rows.update(found)
    wanted = set(keys)
    calls: dict[Key, list[Call]] = {}
    elsewhere: dict[Key, set[tuple[int, str]]] = {}
    for occurrence_id, person_id, room, unit_id, home_id in sorted(rows):
        for one in {unit_id, home_id}:
            if (occurrence_id, one) in wanted:
                call = Call(f"person:{person_id}", room, one == home_id)
                calls.setdefault((occurrence_id, one), []).append(call)
                if one != unit_id:
                    elsewhere.setdefault((occurrence_id, one), set()).add((occurrence_id, room))
    abroad: dict[Key, list[Stay]] = {}
    rooms = sorted({room for there in elsewhere.values() for room in there})
    if rooms:
        stays = await _stays(
            connection, classes, among(Join.occurrence_id, Join.attendee, rooms), "attendee"
        )
        abroad = {
            key: [stay for room in there for stay in stays.get(room, ())]
            for key, there in elsewhere.items()
        }
    return calls, abroad


async def watched_of(
    connection: AsyncConnection, occurrence_id: int, now: datetime
) -> tuple[int, dict[str, list[Span]]]:
    """The length of a class in seconds, and which parts of it each attendee saw."""
    classes = await _classes(connection, {occurrence_id}, now)
    stays = await _stays(connection, classes, Join.occurrence_id == occurrence_id, "attendee")
    rows = await connection.execute(
        select(RollCall.person_id, RollCall.attendee).where(RollCall.occurrence_id == occurrence_id)
    )
    calls = [Call(f"person:{person_id}", room) for person_id, room in rows]
    length_s = classes[occurrence_id].length_s
    every = (stay for some in stays.values() for stay in some)
    return length_s, watched(every, calls, length_s)


SUMS = ("classes", "attendees", "people", "live_s", "replay_s", "class_s", "person_s")
SUM_OF_ROWS = (
    func.sum(Attendance.first),
    func.count(),
    func.sum(Attendance.people),
    func.sum(Attendance.live_s),
    func.sum(Attendance.replay_s),
    func.sum(Attendance.class_s),
    func.sum(Attendance.people * Attendance.seen_s),
)


def _added(rows: Sequence[Row]) -> dict[str, int]:
    return {
        "classes": sum(row.first for row in rows),
        "attendees": len(rows),
        "people": sum(row.people for row in rows),
        "live_s": sum(row.live_s for row in rows),
        "replay_s": sum(row.replay_s for row in rows),
        "class_s": sum(row.class_s for row in rows),
        "person_s": sum(row.people * row.seen_s for row in rows),
    }


async def _sums(
    connection: AsyncConnection, keys: Sequence[Key]
) -> dict[Key, tuple[int, dict[str, int]]]:
    """What the rows of each key add up to now, with the day that they were counted for."""
    rows = await connection.execute(
        select(Attendance.occurrence_id, Attendance.unit_id, Attendance.day, *SUM_OF_ROWS)
        .where(among(Attendance.occurrence_id, Attendance.unit_id, keys))
        .group_by(Attendance.occurrence_id, Attendance.unit_id, Attendance.day)
    )
    return {
        (row[0], row[1]): (row[2], dict(zip(SUMS, (int(one) for one in row[3:]), strict=True)))
        for row in rows
    }


async def _add_to_days(
    connection: AsyncConnection,
    before: dict[Key, tuple[int, dict[str, int]]],
    after: dict[Key, dict[str, int]],
    classes: dict[int, _Class],
) -> None:
    days: dict[Key, dict[str, int]] = {}

    def add(day: int, unit_id: int, sums: dict[str, int], sign: int) -> None:
        total = days.setdefault((day, unit_id), dict.fromkeys(SUMS, 0))
        for name in SUMS:
            total[name] += sign * sums[name]

    for (_, unit_id), (day, sums) in before.items():
        add(day, unit_id, sums, -1)
    for (occurrence_id, unit_id), sums in after.items():
        add(classes[occurrence_id].day, unit_id, sums, 1)
    rows = [
        {"day": day, "unit_id": unit_id} | sums
        for (day, unit_id), sums in sorted(days.items())
        if any(sums.values())
    ]
    if not rows:
        return
    statement = upsert(AttendanceDay, connection.dialect.name)
    await insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["day", "unit_id"],
            set_={
                name: getattr(AttendanceDay, name) + getattr(statement.excluded, name)
                for name in SUMS
            },
        ),
        rows,
    )
