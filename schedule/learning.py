"""Attendance for others: lists and duty as CSV, learning records as xAPI statements.

The statements follow the video profile of xAPI (https://w3id.org/xapi/video): one "completed" or
"terminated" for each attendee of a class, with the parts of it that were watched. Their ids are
made from what they say, so a record store that gets one twice keeps one.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import cells, units
from schedule.agenda import occurrence
from schedule.attendance import Present, Total, logbook, present_at, roll_up
from schedule.presence import Span, length
from schedule.settling import watched_of
from schedule.tables import Person, Site, Station, Unit
from schedule.timetable import wall_clock

_VERBS = "http://adlnet.gov/expapi/verbs"
_VIDEO = "https://w3id.org/xapi/video"
# Of this part of a class, having watched counts as having completed it.
COMPLETED = 0.9
_IDS = uuid.UUID("6b8f3f0e-6f6a-5f6b-9d35-2c7f7f2c3b5d")

CLASS_COLUMNS = ("unit", "unit_name", "attendee", "name", "people", "live_minutes",
                 "replay_minutes", "minutes")  # fmt: skip
LOGBOOK_COLUMNS = ("starts", "time_zone", "title", "people", "live_minutes", "replay_minutes",
                   "minutes")  # fmt: skip
DUTY_COLUMNS = ("unit", "unit_name", "tier", "duty_minutes", "minutes", "met", "classes", "people",
                "live_minutes", "replay_minutes", "units_below", "units_met")  # fmt: skip


async def class_csv(
    connection: AsyncConnection, occurrence_id: int, path: str
) -> AsyncIterator[str]:
    """Who attended a class, of a unit and all below it, as a CSV file in pieces."""
    after = (0, "")
    header = True
    while True:
        rows = await present_at(connection, occurrence_id, path, after=after, most=2_000)
        names = await _names(connection, {row.attendee for row in rows})
        codes = await _codes(connection, {row.unit_id for row in rows})
        for piece in cells.write(CLASS_COLUMNS, [_class_row(row, names, codes) for row in rows]):
            # One header, one byte order mark: those of the first page.
            yield piece if header else piece.partition("\r\n")[2]
            header = False
        if len(rows) < 2_000:
            return
        after = (rows[-1].unit_id, rows[-1].attendee)


def _class_row(
    row: Present, names: Mapping[str, str], codes: Mapping[int, str]
) -> tuple[object, ...]:
    return (
        codes[row.unit_id],
        row.unit_name,
        row.attendee,
        names.get(row.attendee, ""),
        row.people,
        _minutes(row.live_s),
        _minutes(row.replay_s),
        _minutes(row.seen_s),
    )


async def logbook_csv(
    connection: AsyncConnection, unit_id: int, first_day: int, last_day: int
) -> list[str]:
    """The classes that a unit attended in a period as a CSV file, each with its own wall clock."""
    entries = await logbook(connection, unit_id, first_day, last_day)
    rows = (
        (
            f"{wall_clock(one.starts_at, one.time_zone):%Y-%m-%d %H:%M}",
            one.time_zone,
            one.title,
            one.people,
            _minutes(one.live_s),
            _minutes(one.replay_s),
            _minutes(one.class_s),
        )
        for one in entries
    )
    return list(cells.write(LOGBOOK_COLUMNS, rows))


async def duty_csv(
    connection: AsyncConnection, path: str, first_day: int, last_day: int, months: int = 1
) -> list[str]:
    """The hours of every unit of a subtree against its duty, as a CSV file in pieces."""
    totals = {
        one.unit_id: one for one in await roll_up(connection, path, first_day, last_day, months)
    }
    known = await units.subtree(connection, path, most=1_000_000)
    rows = (_duty_row(unit, totals[unit.id], months) for unit in known)
    return list(cells.write(DUTY_COLUMNS, rows))


def _duty_row(unit: units.UnitInfo, total: Total, months: int) -> tuple[object, ...]:
    duty = None if unit.duty_minutes is None else unit.duty_minutes * months
    met = "" if not duty else ("yes" if total.class_s >= duty * 60 else "no")
    return (
        unit.code,
        unit.name,
        unit.tier,
        duty,
        _minutes(total.class_s),
        met,
        total.classes,
        total.people,
        _minutes(total.live_s),
        _minutes(total.replay_s),
        total.owing,
        total.met,
    )


def _minutes(seconds: int) -> float:
    return round(seconds / 60, 1)


async def _names(connection: AsyncConnection, attendees: Iterable[str]) -> dict[str, str]:
    wanted: dict[str, list[int]] = {}
    for attendee in attendees:
        kind, _, number = attendee.partition(":")
        wanted.setdefault(kind, []).append(int(number))
    found: dict[str, str] = {}
    for kind, table in (("site", Site), ("station", Station), ("person", Person)):
        rows = await connection.execute(
            select(table.id, table.name).where(table.id.in_(wanted.get(kind, [])))
        )
        found |= {f"{kind}:{one}": name for one, name in rows}
    return found


async def _codes(connection: AsyncConnection, unit_ids: Iterable[int]) -> dict[int, str]:
    rows = await connection.execute(select(Unit.id, Unit.code).where(Unit.id.in_(unit_ids)))
    return dict(rows.all())


# xAPI


def statement(
    *,
    home_page: str,
    attendee: str,
    name: str,
    activity: str,
    title: str,
    length_s: int,
    spans: Sequence[Span],
    at: datetime,
) -> dict[str, Any]:
    """One statement of the video profile (pure).

    home_page: the address of this centre, under which accounts are named. activity: the class's own
    address. spans: what was watched, each second once. at: when it was over.
    """
    seen_s = length(spans)
    progress = round(min(1.0, seen_s / length_s), 3) if length_s else 0.0
    completed = progress >= COMPLETED
    verb = "completed" if completed else "terminated"
    extensions = {
        f"{_VIDEO}/extensions/time": spans[-1][1] if spans else 0,
        f"{_VIDEO}/extensions/progress": progress,
        # "[.]" and "[,]" are the profile's own separators.
        f"{_VIDEO}/extensions/played-segments": "[,]".join(
            f"{begins}[.]{ends}" for begins, ends in spans
        ),
    }
    account = {"homePage": home_page, "name": attendee}
    body: dict[str, Any] = {
        "actor": {"objectType": "Agent", "name": name or attendee, "account": account},
        "verb": {"id": f"{_VERBS}/{verb}", "display": {"en": verb}},
        "object": {
            "objectType": "Activity",
            "id": activity,
            "definition": {"type": f"{_VIDEO}/activity-type/video", "name": {"und": title}},
        },
        "result": {
            "completion": completed,
            "duration": f"PT{seen_s}S",
            "extensions": extensions,
        },
        "context": {
            "contextActivities": {"category": [{"id": _VIDEO}]},
            "extensions": {
                f"{_VIDEO}/extensions/length": length_s,
                f"{_VIDEO}/extensions/session-id": str(uuid.uuid5(_IDS, f"{activity} {attendee}")),
                f"{_VIDEO}/extensions/completion-threshold": COMPLETED,
            },
        },
        "timestamp": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "version": "1.0.3",
    }
    identity = f"{activity} {attendee} {extensions[f'{_VIDEO}/extensions/played-segments']}"
    return {"id": str(uuid.uuid5(_IDS, identity))} | body


async def statements(
    connection: AsyncConnection, occurrence_id: int, now: datetime, home_page: str
) -> list[dict[str, Any]]:
    """The statements of one class, one for each attendee who saw anything. NotFound."""
    info = await occurrence(connection, occurrence_id)
    length_s, watched = await watched_of(connection, occurrence_id, now)
    names = await _names(connection, watched)
    return [
        statement(
            home_page=home_page,
            attendee=attendee,
            name=names.get(attendee, ""),
            activity=f"{home_page.rstrip('/')}/occurrences/{occurrence_id}",
            title=info.title,
            length_s=length_s,
            spans=spans,
            at=info.ends_at,
        )
        for attendee, spans in watched.items()
        if spans
    ]
