"""Measure the schedule with a whole country in it: `python -m tests.bench.national [options]`.

1 centre, 31 provinces, 333 cities, 2,851 counties with a site each, 50,000 stations, a week of
2,000 occurrences, 5 million attendance rows.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select, text

from schedule import agenda, attendance, feeds, planning, units
from schedule.agenda import Whose
from schedule.reports import Attendee, StayReport, report_stays
from schedule.series import Draft
from schedule.settling import settle
from schedule.store import Store, open_store
from schedule.tables import Attendance, Occurrence
from tests.schedule import national, postgres
from tests.schedule.national import FIRST_DAY, LAST_DAY, ZONE, Size
from tests.schedule.network import MONDAY_9, NOW

ROUNDS = 7
WEEK = (NOW, NOW + timedelta(days=7))


def main() -> int:
    """Build, measure, print one row for each question."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.national", description=__doc__)
    parser.add_argument(
        "--postgres", action="store_true", help="on a PostgreSQL server of its own, not on SQLite"
    )
    parser.add_argument("--rows", type=int, default=5_000_000, help="attendance rows (5000000)")
    arguments = parser.parse_args()
    size = replace(Size(), attended=arguments.rows)
    if arguments.postgres:
        with postgres.running(durable=True) as server:
            asyncio.run(_measure(server.url("postgres"), size))
    else:
        with tempfile.TemporaryDirectory(prefix="terrace-bench-") as folder:
            asyncio.run(_measure(str(Path(folder) / "bench.db"), size))
    return 0


async def _measure(database: str, size: Size) -> None:
    store = await open_store(database)
    version = await _version(store)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {version}")
    await _once(f"{size.units} units, {size.stations} stations, {size.occurrences} occurrences in",
                lambda: national.build(store, size))  # fmt: skip
    await _once(f"{size.attended} attendance rows in", lambda: national.attend(store, size))
    await _questions(store, size)
    await _joins(store, size)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{'peak memory of this process':<64}{peak_kib / 1024:9.0f} MiB")
    await store.close()


async def _version(store: Store) -> str:
    query = "SELECT sqlite_version()" if store.kind == "sqlite" else "SHOW server_version"
    async with store.reading() as connection:
        return f"{store.kind} {await connection.scalar(text(query))}"


async def _questions(store: Store, size: Size) -> None:
    county = size.county(700)
    once = Draft(
        "course", "New", county, MONDAY_9, 2700, ZONE, presenter_id=3, room_id=county,
        audience=(("unit", county),),
    )  # fmt: skip
    everybody = replace(once, unit_id=1, audience=(("subtree", 1),))
    weekly = replace(everybody, rule="FREQ=DAILY;COUNT=60")
    async with store.reading() as connection:
        path = (await units.unit(connection, county)).path

    def check(draft: Draft) -> Callable[[], Awaitable[object]]:
        async def ask() -> object:
            async with store.reading() as connection:
                return await planning.check(connection, draft, NOW)

        return ask

    async def roll_up() -> object:
        async with store.reading() as connection:
            return await attendance.roll_up(connection, "1/", FIRST_DAY, LAST_DAY)

    async def roll_up_rows() -> object:
        async with store.reading() as connection:
            return (
                await connection.execute(
                    select(Attendance.unit_id, func.sum(Attendance.class_s)).group_by(
                        Attendance.unit_id
                    )
                )
            ).all()

    async def week() -> object:
        async with store.reading() as connection:
            return await agenda.occurrences(connection, Whose(unit_path=path), *WEEK)

    async def whole_week() -> object:
        async with store.reading() as connection:
            return await agenda.occurrences(connection, Whose(), *WEEK)

    async def feed() -> object:
        async with store.reading() as connection:
            return await feeds.feed(connection, Whose(unit_path=path), "x", NOW)

    async def present() -> object:
        async with store.reading() as connection:
            return await attendance.present_at(connection, 5, "1/")

    for name, ask in {
        "clash check, a county's class": check(once),
        "clash check, a class for the whole country": check(everybody),
        "clash check, the same on 60 days": check(weekly),
        "roll-up of all units, from the sums of days": roll_up,
        "a county's week": week,
        "everybody's week": whole_week,
        "a county's calendar feed": feed,
        "500 rows of a class's list": present,
    }.items():
        await _several(name, ask)
    await _once("for comparison: sum by unit from the rows themselves", roll_up_rows)


async def _joins(store: Store, size: Size) -> None:
    """All counties join one class, in reports of 50, each its own transaction; then settle."""
    async with store.reading() as connection:
        lesson = await connection.scalar(select(func.max(Occurrence.id))) or 0
    joined = NOW + timedelta(days=1)
    reports = [
        StayReport(f"bench/{n}", lesson, Attendee("site", size.county(n)), joined, joined)
        for n in range(size.counties)
    ]

    async def join() -> object:
        for start in range(0, len(reports), 50):
            async with store.writing() as connection:
                await report_stays(connection, reports[start : start + 50])
        return None

    await _once(f"{size.counties} counties join", join)
    await _once("the same settled", lambda: settle(store, joined))


async def _once(name: str, do: Callable[[], Awaitable[object]]) -> None:
    began = time.perf_counter()
    await do()
    print(f"{name:<64}{time.perf_counter() - began:9.1f} s", flush=True)


async def _several(name: str, do: Callable[[], Awaitable[object]]) -> None:
    """The first time, and median and worst of the others."""
    times_ms = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await do()
        times_ms.append((time.perf_counter() - began) * 1000)
    rest = times_ms[1:]
    print(
        f"{name:<64}{statistics.median(rest):9.1f} ms, first {times_ms[0]:.1f}, "
        f"worst {max(rest):.1f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
