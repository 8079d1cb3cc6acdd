"""Reports of attendance: stays and head counts, kept as they came.

Nodes report the joins and leaves of their viewers, sites and stations their head counts, roll-calls
and replays. A report is kept under the reporter's own name for it, so that one that comes twice
counts once, and committed before it is acknowledged. In the same transaction the unit's part of the
class is marked as unsettled; `schedule.settling` works such marks off.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import case, func, literal, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.errors import Invalid
from schedule.presence import MOST_S
from schedule.store import insert_many, upsert
from schedule.tables import (
    HeadCount,
    Join,
    Occurrence,
    Person,
    RollCall,
    Site,
    Station,
    Unsettled,
)

AttendeeKind = Literal["site", "station", "person"]
_HOMES: dict[str, type[Site] | type[Station] | type[Person]] = {
    "site": Site,
    "station": Station,
    "person": Person,
}
MOST_REPORTS = 5_000
MOST_PEOPLE = 10_000


@dataclass(frozen=True, slots=True)
class Attendee:
    """Who reports: a site, a station, or a person on their own."""

    kind: AttendeeKind
    id: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class StayReport:
    """A stay as a node, a site or a station reports it, once or again and again while it lasts.

    source: the reporter's name for the stay ("node-7/viewer-1234"). seen_at: when the attendee was
    last known to be there. left_at: None while it lasts. from_s, to_s: for a replay, which part of
    the recording was watched; both None for a live stay.
    """

    source: str
    occurrence_id: int
    attendee: Attendee
    joined_at: datetime
    seen_at: datetime
    left_at: datetime | None = None
    from_s: int | None = None
    to_s: int | None = None


@dataclass(frozen=True, slots=True)
class CountReport:
    """A head count, with the logins of those who answered the roll-call, if there was one."""

    source: str
    occurrence_id: int
    attendee: Attendee
    counted_at: datetime
    people: int
    present: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of reports. unknown: sources whose class or attendee is not there."""

    kept: int
    unknown: tuple[str, ...]


async def report_stays(connection: AsyncConnection, reports: Sequence[StayReport]) -> Taken:
    """Keep stays: new ones, and what is new about known ones. Invalid for what makes no sense.

    An end that was reported stays; a later sign of life of a stay that has ended is a latecomer.
    """
    _check_batch(reports)
    rows: dict[str, dict[str, Any]] = {}
    for one in reports:
        _check_stay(one)
        row = {
            "source": one.source,
            "occurrence_id": one.occurrence_id,
            "attendee": str(one.attendee),
            "mode": "live" if one.from_s is None else "replay",
            "joined_at": one.joined_at,
            "seen_at": one.seen_at,
            "left_at": one.left_at,
            "from_s": one.from_s,
            "to_s": one.to_s,
        }
        rows[one.source] = row if one.source not in rows else _later(rows[one.source], row)
    known, unknown = await _with_units(connection, reports, rows)
    if known:
        statement = upsert(Join, connection.dialect.name)
        fresh = statement.excluded
        await insert_many(
            connection,
            statement.on_conflict_do_update(
                index_elements=["source"],
                set_={
                    "seen_at": _greatest(Join.seen_at, fresh.seen_at),
                    "left_at": func.coalesce(Join.left_at, fresh.left_at),
                    "from_s": _least(Join.from_s, fresh.from_s),
                    "to_s": _greatest(Join.to_s, fresh.to_s),
                },
            ),
            known,
        )
        keys = {(row["occurrence_id"], row["unit_id"]) for row in known}
        await _mark(connection, keys | await _guests_homes(connection, known))
    return Taken(len(known), unknown)


async def report_counts(connection: AsyncConnection, reports: Sequence[CountReport]) -> Taken:
    """Keep head counts; of several with one source the one that was counted last holds. Invalid.

    Who answered a roll-call stays named, whatever a later count says.
    """
    _check_batch(reports)
    newest: dict[str, CountReport] = {}
    for one in reports:
        if one.source not in newest or one.counted_at > newest[one.source].counted_at:
            newest[one.source] = one
    reports = list(newest.values())
    for one in reports:
        fields.within(one.people, "people", 0, MOST_PEOPLE)
        if len(one.present) > MOST_PEOPLE or any(len(login) > 200 for login in one.present):
            raise Invalid("the roll-call is too long", "present")
    known, unknown = await _with_units(
        connection,
        reports,
        {
            one.source: {
                "source": one.source,
                "occurrence_id": one.occurrence_id,
                "attendee": str(one.attendee),
                "counted_at": one.counted_at,
                "people": one.people,
            }
            for one in reports
        },
    )
    people = await _people(connection, {login for one in reports for login in one.present})
    present = {one.source: sorted(set(one.present)) for one in reports}
    calls = []
    for row in known:
        names = present[row["source"]]
        row["unnamed"] = [login for login in names if login not in people]
        calls += [
            {
                "occurrence_id": row["occurrence_id"],
                "person_id": people[login][0],
                "attendee": row["attendee"],
                "unit_id": row["unit_id"],
                "home_id": people[login][1],
            }
            for login in names
            if login in people
        ]
    kind = connection.dialect.name
    statement = upsert(HeadCount, kind)
    fresh = statement.excluded
    await insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["source"],
            set_={name: fresh[name] for name in ("counted_at", "people", "unnamed")},
            where=fresh.counted_at > HeadCount.counted_at,
        ),
        known,
    )
    await insert_many(connection, upsert(RollCall, kind).on_conflict_do_nothing(), calls)
    keys = {(row["occurrence_id"], row["unit_id"]) for row in known}
    await _mark(connection, keys | {(call["occurrence_id"], call["home_id"]) for call in calls})
    return Taken(len(known), unknown)


async def _people(
    connection: AsyncConnection, logins: Collection[str]
) -> dict[str, tuple[int, int]]:
    """Ids and units of people by their logins, of those that are there."""
    wanted = sorted(logins)
    people: dict[str, tuple[int, int]] = {}
    for start in range(0, len(wanted), 5_000):
        found = await connection.execute(
            select(Person.login, Person.id, Person.unit_id).where(
                Person.login.in_(wanted[start : start + 5_000])
            )
        )
        people |= {login: (person_id, unit_id) for login, person_id, unit_id in found}
    return people


def _check_batch(reports: Sequence[StayReport] | Sequence[CountReport]) -> None:
    if len(reports) > MOST_REPORTS:
        raise Invalid(f"at most {MOST_REPORTS} reports at once")
    for one in reports:
        fields.line(one.source, "source", 200)


def _check_stay(one: StayReport) -> None:
    if (one.from_s is None) is not (one.to_s is None):
        raise Invalid("a replay says both where it began and where it ended", "from_s")
    if one.from_s is not None and one.to_s is not None:
        fields.within(one.from_s, "from_s", 0, MOST_S)
        fields.within(one.to_s, "to_s", one.from_s, MOST_S)


def _later(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two reports of one stay within a batch, as one."""
    merged = one | {
        "seen_at": max(one["seen_at"], other["seen_at"]),
        "left_at": one["left_at"] or other["left_at"],
    }
    if one["from_s"] is not None and other["from_s"] is not None:
        merged["from_s"] = min(one["from_s"], other["from_s"])
        merged["to_s"] = max(one["to_s"], other["to_s"])
    return merged


def _greatest(one: Any, other: Any) -> Any:
    return case((one >= other, one), else_=other)


def _least(one: Any, other: Any) -> Any:
    return case((one <= other, one), else_=other)


async def _with_units(
    connection: AsyncConnection,
    reports: Sequence[StayReport] | Sequence[CountReport],
    rows: dict[str, dict[str, Any]],
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows with the units of their attendees, and the sources of those that belong nowhere."""
    occurrences = {one.occurrence_id for one in reports}
    found = await connection.execute(
        select(Occurrence.id).where(Occurrence.id.in_(occurrences), Occurrence.state != "cancelled")
    )
    there = {occurrence_id for (occurrence_id,) in found}
    homes: dict[str, int] = {}
    for kind, table in _HOMES.items():
        ids = {one.attendee.id for one in reports if one.attendee.kind == kind}
        if ids:
            places = await connection.execute(
                select(table.id, table.unit_id).where(table.id.in_(ids))
            )
            homes |= {f"{kind}:{place_id}": unit_id for place_id, unit_id in places}
    known, unknown = [], []
    for source, row in rows.items():
        if row["occurrence_id"] in there and row["attendee"] in homes:
            known.append(row | {"unit_id": homes[row["attendee"]]})
        else:
            unknown.append(source)
    return known, tuple(unknown)


async def _guests_homes(
    connection: AsyncConnection, rows: Sequence[dict[str, Any]]
) -> set[tuple[int, int]]:
    """The units of people who sit in one of these rooms, but belong to another unit."""
    rooms = {(row["occurrence_id"], row["attendee"]) for row in rows}
    found = await connection.execute(
        select(RollCall.occurrence_id, RollCall.attendee, RollCall.home_id).where(
            RollCall.occurrence_id.in_({occurrence_id for occurrence_id, _ in rooms}),
            RollCall.home_id != RollCall.unit_id,
        )
    )
    return {
        (occurrence_id, home_id)
        for occurrence_id, attendee, home_id in found
        if (occurrence_id, attendee) in rooms
    }


async def _mark(connection: AsyncConnection, keys: Iterable[tuple[int, int]]) -> None:
    """Mark what has to be settled. In one order, so that two reporters never wait in a circle.

    The serial is changed even where a mark stands: so a `settle` that is under way, and has not
    seen these reports, waits for them before it takes the mark away.
    """
    statement = upsert(Unsettled, connection.dialect.name)
    await insert_many(
        connection,
        statement.on_conflict_do_update(
            index_elements=["occurrence_id", "unit_id"], set_={"serial": Unsettled.serial + 1}
        ),
        [
            {"occurrence_id": occurrence_id, "unit_id": unit_id, "serial": 1}
            for occurrence_id, unit_id in sorted(keys)
        ],
    )


async def close(connection: AsyncConnection, occurrence_id: int, ended_at: datetime) -> None:
    """End the stays of a class that is over, and have it settled once more."""
    await connection.execute(
        update(Join)
        .where(Join.occurrence_id == occurrence_id, Join.mode == "live", Join.left_at.is_(None))
        .values(left_at=_least(Join.seen_at, literal(ended_at, Join.seen_at.type)))
    )
    rows = await connection.execute(
        union(
            select(Join.unit_id).where(Join.occurrence_id == occurrence_id),
            select(HeadCount.unit_id).where(HeadCount.occurrence_id == occurrence_id),
            select(RollCall.home_id).where(RollCall.occurrence_id == occurrence_id),
        )
    )
    await _mark(connection, {(occurrence_id, unit_id) for (unit_id,) in rows})
