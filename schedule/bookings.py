"""From plans to occurrences in the store, and from the store to what may clash.

A series is worked out for HORIZON ahead when it is confirmed or changed, and once a day after that
(`roll_on`). Occurrences that have begun are never touched again by a change of their series.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, insert, or_, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.clashes import (
    MOST_SHIFT,
    Booking,
    Finding,
    Line,
    Reach,
    Reaches,
    WaysOut,
    find,
    ways_out,
)
from schedule.errors import NotFound
from schedule.rights import lineage
from schedule.store import insert_many
from schedule.tables import (
    Audience,
    Change,
    Occurrence,
    Series,
    Site,
    Station,
    Unit,
)
from schedule.timetable import Edit, Plan, Slot, slots, stored
from schedule.units import PLACES, past

HORIZON = timedelta(days=400)
# What is looked at for clashes: plans beyond that change before they happen.
CHECKED = timedelta(days=120)

# States of an occurrence in which it takes up people, rooms and lines.
TAKING = ("planned", "rehearsal", "on_air")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a clash check found: how many occurrences, their clashes, ways out of the first."""

    occurrences: int
    findings: Sequence[Finding]
    ways: WaysOut | None


async def plan_of(connection: AsyncConnection, series_id: int) -> Plan:
    """A stored series as a plan; NotFound."""
    found = await plans_of(connection, [series_id])
    if series_id not in found:
        raise NotFound("there is no such course or meeting")
    return found[series_id]


async def plans_of(connection: AsyncConnection, series_ids: Sequence[int]) -> dict[int, Plan]:
    """Stored series as plans, by id."""
    excluded: dict[int, set[datetime]] = {}
    added: dict[int, set[datetime]] = {}
    edits: dict[int, dict[datetime, Edit]] = {}
    for series_id, recurrence, kind, changed in await connection.execute(
        select(Change.series_id, Change.recurrence, Change.kind, Change.fields).where(
            Change.series_id.in_(series_ids)
        )
    ):
        when = datetime.fromisoformat(recurrence)
        if kind == "excluded":
            excluded.setdefault(series_id, set()).add(when)
        elif kind == "added":
            added.setdefault(series_id, set()).add(when)
        if changed:
            edits.setdefault(series_id, {})[when] = read_edit(changed)
    return {
        row.id: Plan(
            datetime.fromisoformat(row.starts_local),
            row.duration_s,
            row.time_zone,
            row.rule,
            frozenset(excluded.get(row.id, ())),
            frozenset(added.get(row.id, ())),
            edits.get(row.id, {}),
        )
        for row in await connection.execute(
            select(
                Series.id, Series.starts_local, Series.duration_s, Series.time_zone, Series.rule
            ).where(Series.id.in_(series_ids))
        )
    }


def read_edit(changed: Mapping[str, Any]) -> Edit:
    """A single change as it stands in the store."""
    values = dict(changed)
    if values.get("starts_local"):
        values["starts_local"] = datetime.fromisoformat(values["starts_local"])
    return Edit(**values)


def stored_edit(edit: Edit) -> dict[str, Any]:
    """A single change as it is put into the store."""
    return {
        name: stored(value) if isinstance(value, datetime) else value
        for name in Edit.__dataclass_fields__
        if (value := getattr(edit, name)) not in (None, False)
    }


async def work_out(connection: AsyncConnection, series_id: int, now: datetime) -> int:
    """Bring the stored occurrences of a series up to its plan; how many lie ahead.

    What is over or under way stays. What the plan no longer has is cancelled, not deleted: people
    were invited to it.
    """
    series = (
        await connection.execute(
            select(
                Series.title,
                Series.presenter_id,
                Series.room_id,
                Series.state,
                Series.course,
            ).where(Series.id == series_id)
        )
    ).one()
    plan = await plan_of(connection, series_id)
    wanted: dict[str, dict[str, Any]] = {}
    if series.state == "confirmed":
        for slot in slots(plan, now, now + HORIZON):
            wanted[stored(slot.recurrence)] = _columns(slot, dict(series._mapping))
    known = {
        row.recurrence: row
        for row in await connection.execute(
            select(
                Occurrence.recurrence,
                Occurrence.id,
                Occurrence.state,
                Occurrence.starts_at,
                Occurrence.ends_at,
                Occurrence.title,
                Occurrence.presenter_id,
                Occurrence.room_id,
            ).where(Occurrence.series_id == series_id)
        )
    }
    for recurrence, row in known.items():
        values = wanted.pop(recurrence, None)
        if row.state not in ("planned", "cancelled"):
            continue
        if values is None:
            if row.state == "planned" and row.ends_at > now:
                values = {"state": "cancelled"}
        elif row.state == "planned" and all(
            values[name] == getattr(row, name)
            for name in ("starts_at", "ends_at", "title", "presenter_id", "room_id")
        ):
            continue
        if values is not None:
            await connection.execute(
                update(Occurrence).where(Occurrence.id == row.id).values(values)
            )
    fresh = [
        values | {"series_id": series_id, "recurrence": recurrence, "course": series.course}
        for recurrence, values in wanted.items()
    ]
    await insert_many(connection, insert(Occurrence), fresh)
    ahead = select(Occurrence.id).where(
        Occurrence.series_id == series_id, Occurrence.state == "planned", Occurrence.ends_at > now
    )
    return len((await connection.execute(ahead)).all())


def _columns(slot: Slot, series: Mapping[str, Any]) -> dict[str, Any]:
    edit = slot.edit or Edit()
    return {
        "starts_at": slot.starts_at,
        "ends_at": slot.ends_at,
        "title": edit.title or series["title"],
        "presenter_id": edit.presenter_id or series["presenter_id"],
        "room_id": edit.room_id or series["room_id"],
        "state": "planned",
    }


async def roll_on(connection: AsyncConnection, now: datetime) -> int:
    """Work out all confirmed series that repeat, so that the horizon moves on; how many."""
    repeating = await connection.execute(
        select(Series.id).where(Series.state == "confirmed", Series.rule != "")
    )
    series = [series_id for (series_id,) in repeating]
    for series_id in series:
        await work_out(connection, series_id, now)
    return len(series)


# What may clash


async def reaches_of(
    connection: AsyncConnection, audience: Iterable[tuple[str, int]]
) -> tuple[Reach, ...]:
    """Entries of an audience with the paths of their units; NotFound when one is not there."""
    wanted: dict[str, list[int]] = {}
    for kind, target_id in audience:
        wanted.setdefault(kind, []).append(target_id)
    found: list[Reach] = []
    for kind, ids in wanted.items():
        query = select(Unit.id, Unit.path).where(Unit.id.in_(ids))
        if kind in ("site", "station"):
            table = Site if kind == "site" else Station
            query = (
                select(table.id, Unit.path)
                .join(Unit, Unit.id == table.unit_id)
                .where(table.id.in_(ids))
            )
        rows = (await connection.execute(query)).all()
        if len(rows) != len(set(ids)):
            raise NotFound(f"a {kind} of the audience is not there any more")
        found.extend(Reach(Reaches(kind), target, path) for target, path in rows)
    return tuple(sorted(found, key=lambda reach: (reach.path, reach.kind, reach.target_id)))


async def audiences_of(
    connection: AsyncConnection, series_ids: Sequence[int]
) -> dict[int, tuple[Reach, ...]]:
    """The audiences of several series."""
    queries = [
        select(Audience.series_id, Audience.kind, Audience.target_id, Unit.path)
        .join(Unit, Unit.id == Audience.target_id)
        .where(Audience.series_id.in_(series_ids), Audience.kind.in_(("unit", "subtree")))
    ]
    for place, table in PLACES.items():
        queries.append(
            select(Audience.series_id, Audience.kind, Audience.target_id, Unit.path)
            .join(table, table.id == Audience.target_id)
            .join(Unit, Unit.id == table.unit_id)
            .where(Audience.series_id.in_(series_ids), Audience.kind == place)
        )
    found: dict[int, list[Reach]] = {series_id: [] for series_id in series_ids}
    if series_ids:
        for series_id, kind, target, path in await connection.execute(union_all(*queries)):
            found[series_id].append(Reach(Reaches(kind), target, path))
    return {
        series_id: tuple(
            sorted(reaches, key=lambda reach: (reach.path, reach.kind, reach.target_id))
        )
        for series_id, reaches in found.items()
    }


_BOOKING = (
    Occurrence.series_id,
    Occurrence.id,
    Occurrence.title,
    Series.unit_id,
    Series.rank,
    Occurrence.starts_at,
    Occurrence.ends_at,
    Occurrence.presenter_id,
    Occurrence.room_id,
    Series.bitrate_bps,
)
# So many windows go into one question, a day's each for as long as is checked; more are asked as
# one long window.
_WINDOWS = CHECKED.days + 10


async def bookings_during(
    connection: AsyncConnection, windows: Sequence[tuple[datetime, datetime]]
) -> list[Booking]:
    """All that takes place at some moment of these windows."""
    if not windows:
        return []
    if len(windows) > _WINDOWS:
        windows = [(min(start for start, _ in windows), max(end for _, end in windows))]
    # An occurrence is at most a week long; without this bound the index on the start is no help.
    longest = timedelta(days=7)
    meets = or_(
        *(
            and_(
                Occurrence.starts_at < end,
                Occurrence.starts_at >= start - longest,
                Occurrence.ends_at > start,
            )
            for start, end in windows
        )
    )
    rows = (
        await connection.execute(
            select(*_BOOKING)
            .join(Series, Series.id == Occurrence.series_id)
            .where(meets, Occurrence.state.in_(TAKING))
        )
    ).all()
    audiences = await audiences_of(connection, sorted({row.series_id for row in rows}))
    return [Booking(*row[:9], audiences[row.series_id], row.bitrate_bps) for row in rows]


async def lines_of(connection: AsyncConnection, audience: Sequence[Reach]) -> list[Line]:
    """The bottlenecks that a stream to this audience passes, and no others."""
    if not audience:
        return []
    above = {path for reach in audience for path in lineage(reach.path)}
    subtrees = [reach.path for reach in audience if reach.kind is Reaches.SUBTREE]
    found = await connection.execute(
        select(Unit.id, Unit.path, Unit.line_bps).where(
            Unit.line_bps.is_not(None),
            or_(
                Unit.path.in_(above),
                *(and_(Unit.path >= path, Unit.path < past(path)) for path in subtrees),
            ),
        )
    )
    return [Line(unit_id, path, line_bps) for unit_id, path, line_bps in found if line_bps]


async def check(
    connection: AsyncConnection,
    mine: Sequence[Booking],
    now: datetime,
    *,
    with_ways: bool = True,
) -> Checked:
    """The clashes of these occurrences with all that is confirmed, and ways out of the first."""
    ordered = sorted(mine, key=lambda booking: booking.starts_at)
    others = await bookings_during(connection, [(one.starts_at, one.ends_at) for one in ordered])
    lines = await lines_of(connection, ordered[0].audience) if ordered else []
    findings = find(ordered, others, lines)
    ways = None
    if findings and with_ways:
        first = findings[0].mine
        around = (first.starts_at - MOST_SHIFT, first.ends_at + MOST_SHIFT)
        ways = ways_out(first, findings, await bookings_during(connection, [around]), lines, now)
    return Checked(len(ordered), findings, ways)
