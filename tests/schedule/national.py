"""A national plan: units, stations, a full week of meetings and classes, and who attended them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, text

from schedule.settling import SUMS
from schedule.store import Store, insert_many
from schedule.tables import (
    Audience,
    Base,
    Occurrence,
    Person,
    Role,
    Series,
    Site,
    Station,
    Unit,
)
from schedule.timetable import instant, stored
from tests.schedule.network import MONDAY_9, NOW

ZONE = "Asia/Shanghai"
FIRST_DAY, LAST_DAY = 20260301, 20260320


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; the default is the whole country."""

    provinces: int = 31
    cities: int = 333
    counties: int = 2_851
    stations: int = 50_000
    occurrences: int = 2_000
    attended: int = 5_000_000
    line_bps: int = 8_000_000

    @property
    def units(self) -> int:
        return 1 + self.provinces + self.cities + self.counties

    def county(self, number: int) -> int:
        """The id of a county's unit, which is its site's too."""
        return 2 + self.provinces + self.cities + number % self.counties


SMALL = Size(5, 20, 200, 1_000, 200, 20_000)


async def build(store: Store, size: Size, monday_9: datetime = MONDAY_9) -> None:
    """Units, a site in each county, stations, people with a role, and a week full of plans.

    monday_9: nine o'clock on the Monday of that week, as a wall clock. p1 administers everything.
    """
    rng = random.Random(5)
    async with store.writing() as connection:
        units = _units(size)
        await insert_many(connection, insert(Unit), units)
        counties = [unit["id"] for unit in units if unit["tier"] == "county"]
        sites = [
            {"id": unit, "unit_id": unit, "code": f"R{unit}", "name": f"Hall {unit}"}
            for unit in counties
        ]
        await insert_many(connection, insert(Site), sites)
        stations = [
            {"unit_id": counties[n % len(counties)], "code": f"s{n}", "name": f"Station {n}"}
            for n in range(size.stations)
        ]
        await insert_many(connection, insert(Station), stations)
        people = [
            {
                "id": n, "unit_id": units[n % len(units)]["id"], "login": f"p{n}", "name": f"T {n}",
                "email": f"p{n}@x.cn", "phone": "", "language": "zh", "password_hash": "",
                "active": True,
            }
            for n in range(1, 501)
        ]  # fmt: skip
        await insert_many(connection, insert(Person), people)
        roles = [
            {"person_id": one["id"], "unit_id": one["unit_id"], "role": "operator"}
            for one in people
        ]
        roles.append({"person_id": 1, "unit_id": 1, "role": "administrator"})
        await insert_many(connection, insert(Role), roles)
        series, audiences, occurrences = _week(size, units, monday_9, rng)
        await insert_many(connection, insert(Series), series)
        await insert_many(connection, insert(Audience), audiences)
        await insert_many(connection, insert(Occurrence), occurrences)
        if store.kind == "postgresql":
            for table in ("units", "sites", "people", "series", "occurrences"):
                await connection.execute(
                    text(
                        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), "
                        f"(SELECT max(id) FROM {table}))"
                    )
                )
    await analyse(store)


async def analyse(store: Store) -> None:
    """Let the planner know the sizes, as autovacuum or a night's run does."""
    async with store.writing() as connection:
        await connection.execute(text("ANALYZE"))


def _units(size: Size) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []

    def add(parent: dict[str, Any] | None, code: str, tier: str, line_bps: int | None) -> None:
        unit_id = len(rows) + 1
        rows.append(
            {
                "id": unit_id,
                "parent_id": parent and parent["id"],
                "path": f"{parent['path'] if parent else ''}{unit_id}/",
                "depth": parent["depth"] + 1 if parent else 0,
                "code": code,
                "name": f"{tier} {code}",
                "tier": tier,
                "time_zone": ZONE,
                "line_bps": line_bps,
                "duty_minutes": 1200 if tier == "county" else None,
                "asks_approval": False,
            }
        )

    add(None, "C", "centre", None)
    for n in range(size.provinces):
        add(rows[0], f"P{n}", "province", None)
    for n in range(size.cities):
        add(rows[1 + n % size.provinces], f"T{n}", "city", None)
    for n in range(size.counties):
        add(rows[1 + size.provinces + n % size.cities], f"X{n}", "county", size.line_bps)
    return rows


def _week(
    size: Size, units: list[dict[str, Any]], monday_9: datetime, rng: random.Random
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Meetings and classes from Monday to Friday, eight to six; few for all, most for counties."""
    series, audiences, occurrences = [], [], []
    tops = [
        units[:1],
        units[1 : 1 + size.provinces],
        units[1 + size.provinces : 1 + size.provinces + size.cities],
        units[1 + size.provinces + size.cities :],
    ]
    for number in range(1, size.occurrences + 1):
        rank = rng.choices((0, 1, 2, 3), (1, 10, 30, 60))[0]
        unit = rng.choice(tops[rank])
        starts = monday_9 + timedelta(days=rng.randrange(5), minutes=15 * rng.randrange(-4, 36))
        series.append(
            {
                "id": number, "uid": f"{number}@x", "kind": "course", "source": "live",
                "state": "confirmed", "unit_id": unit["id"], "rank": rank,
                "title": f"Class {number}", "presenter_id": rng.randrange(1, 501),
                "room_id": size.county(rng.randrange(size.counties)), "time_zone": ZONE,
                "starts_local": stored(starts), "duration_s": 2700, "rehearsal_s": 600, "rule": "",
                "agenda": "", "material": [], "course": "", "bitrate_bps": 1_000_000,
                "refusal": "", "revision": 0, "created_at": NOW, "changed_at": NOW,
            }
        )  # fmt: skip
        audiences.append({"series_id": number, "kind": "subtree", "target_id": unit["id"]})
        occurrences.append(
            {
                "id": number, "series_id": number, "recurrence": stored(starts),
                "starts_at": instant(starts, ZONE),
                "ends_at": instant(starts, ZONE) + timedelta(minutes=45),
                "title": f"Class {number}", "presenter_id": series[-1]["presenter_id"],
                "room_id": series[-1]["room_id"], "state": "planned", "course": "",
            }
        )  # fmt: skip
    return series, audiences, occurrences


async def attend(store: Store, size: Size, first_day: int = FIRST_DAY) -> int:
    """Attendance rows of all classes, over twenty days, with the sums of the days; how many.

    first_day: of these days, as 20260301.
    """
    per_class = size.attended // size.occurrences
    columns = [column.name for column in Base.metadata.tables["attendance"].columns]

    def rows(first: int, past: int) -> list[tuple[Any, ...]]:
        """In the order of the columns: occurrence, unit, attendee, day, people, seconds, first."""
        found = []
        for occurrence in range(first, past):
            day = first_day + occurrence % 20
            for n in range(per_class):
                unit, live_s = size.county(occurrence * 7 + n), 1800 + (n * 7) % 900
                # More attendees than counties: the later ones are stations.
                who = f"site:{unit}" if n < size.counties else f"station:{n}"
                seen_s = live_s + 300
                found.append(
                    (occurrence, unit, who, day, 20 + n % 30, live_s, 300, seen_s, seen_s, 1)
                )
        return sorted(found)

    # Made once at the end, as a database does that is filled.
    index = "ix_attendance_unit_day"
    async with store.writing() as connection:
        await connection.execute(text(f"DROP INDEX {index}"))
    step = max(1, 100_000 // per_class)
    for first in range(1, size.occurrences + 1, step):
        some = rows(first, min(first + step, size.occurrences + 1))
        async with store.writing() as connection:
            if store.kind == "postgresql":
                raw = (await connection.get_raw_connection()).driver_connection
                assert raw is not None
                await raw.copy_records_to_table("attendance", records=some, columns=columns)
            else:
                marks = ", ".join("?" * len(columns))
                names = ", ".join(columns)
                await connection.exec_driver_sql(
                    f"INSERT INTO attendance ({names}) VALUES ({marks})", some
                )
    async with store.writing() as connection:
        await connection.execute(text(f"CREATE INDEX {index} ON attendance (unit_id, day)"))
        sums = {
            "classes": "sum(first)", "attendees": "count(*)", "people": "sum(people)",
            "live_s": "sum(live_s)", "replay_s": "sum(replay_s)", "class_s": "sum(class_s)",
            "person_s": "sum(people * seen_s)",
        }  # fmt: skip
        await connection.execute(
            text(
                f"INSERT INTO attendance_days (day, unit_id, {', '.join(SUMS)}) "
                f"SELECT day, unit_id, {', '.join(sums[name] for name in SUMS)} "
                "FROM attendance GROUP BY day, unit_id"
            )
        )
    await analyse(store)
    return per_class * size.occurrences
