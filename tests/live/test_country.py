"""A whole country joins one class by the centre's own door, while the centre is killed."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import func, select, update

from schedule.store import open_store
from schedule.tables import Attendance, AttendanceDay, Join, Occurrence, Person, Unsettled
from tests.live.centres import READY_WITHIN_S, Api, Killable, settings, signed_in
from tests.live.tree import end_process, free_ports, until
from tests.schedule import national
from tests.schedule.conftest import (
    database,
    folder,
    postgres_server,
    source,
    sqlite_folder,
)
from tests.schedule.national import Size
from tests.web.centre.people import HASHER, PASSWORD

__all__ = ["database", "folder", "postgres_server", "source", "sqlite_folder"]
pytestmark = [pytest.mark.live, pytest.mark.alone]

COUNTRY = Size(31, 333, 2_851, 0, 10, 0)
LESSON = 1
JOIN_S = 6.0
"""In which all counties begin to report; a class of a country takes a minute for it."""
LOST = 0.1
"""The part of the acknowledgements that never arrive, so that the same is told again."""


async def prepare(database: str) -> None:
    """A country, of which one class is on the air, and its administrator's password."""
    now = datetime.now(UTC)
    store = await open_store(database)
    await national.build(store, COUNTRY, datetime.now() + timedelta(days=2))
    async with store.writing() as connection:
        await connection.execute(
            update(Occurrence)
            .where(Occurrence.id == LESSON)
            .values(state="on_air", on_air_at=now, starts_at=now, ends_at=now + timedelta(hours=1))
        )
        await connection.execute(
            update(Person).where(Person.id == 1).values(password_hash=HASHER.hash(PASSWORD))
        )
    await store.close()


class Country:
    """2,851 counties, each with a node of its own that tells until it is acknowledged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._rng = random.Random(5)
        self.acknowledged = 0
        self.half = asyncio.Event()

    async def join(self) -> None:
        # More at once are in the kernel's queue.
        connector = aiohttp.TCPConnector(limit=200)
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
            asyncio.TaskGroup() as counties,
        ):
            for number in range(COUNTRY.counties):
                counties.create_task(self._tell(http, number))

    async def _tell(self, http: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(self._rng.random() * JOIN_S)
        at = datetime.now(UTC)
        report: dict[str, Any] = {
            "source": f"county-{number}/viewer-1",
            "occurrence_id": LESSON,
            "attendee_kind": "site",
            "attendee_id": COUNTRY.county(number),
            "joined_at": at.isoformat(),
            "seen_at": at.isoformat(),
        }
        while True:
            try:
                async with http.post(
                    f"{self._url}/api/reports/stays", json={"reports": [report]}
                ) as answer:
                    assert answer.status == 200, await answer.text()
                    assert (await answer.json())["kept"] == 1
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.2 + self._rng.random() * 0.3)
                continue
            if self._rng.random() < LOST:
                continue
            self.acknowledged += 1
            if self.acknowledged * 2 >= COUNTRY.counties:
                self.half.set()
            return


async def test_a_country_joins_while_its_centre_is_killed(database: str, tmp_path: Path) -> None:
    """Each county is there once, none is missing: in the reports, the attendance and its sums."""
    await prepare(database)
    (tmp_path / "terrace.toml").write_text(settings(tmp_path, database))
    centre = Killable(tmp_path, free_ports(1)[0])
    try:
        await centre.ready()
        country = Country(centre.node.url)
        joining = asyncio.create_task(country.join())
        await country.half.wait()
        assert country.acknowledged < COUNTRY.counties
        centre.node.kill()
        centre.start()
        await joining
        await centre.ready()
        async with signed_in(centre.node.url, PASSWORD, "p1") as api:
            await _all_are_there(api)
    finally:
        end_process(centre.node.process)
    store = await open_store(database)
    async with store.reading() as connection:
        counts = {
            table: await connection.scalar(select(func.count()).select_from(table))
            for table in (Join, Attendance, Unsettled)
        }
        attended = await connection.scalar(select(func.sum(AttendanceDay.attendees)))
    await store.close()
    assert counts == {Join: COUNTRY.counties, Attendance: COUNTRY.counties, Unsettled: 0}
    assert attended == COUNTRY.counties


async def _all_are_there(api: Api) -> None:
    """The board shows each county once, and the totals of the country count each once."""
    path = f"/api/occurrences/{LESSON}/attendance?unit_id=1"
    today = datetime.now(UTC).date()
    days = f"from={today - timedelta(days=2)}&to={today + timedelta(days=2)}"

    async def look() -> bool:
        there = {one["unit_id"]: one["attendees"] for one in (await api.get(path))["there"]}
        assert set(there.values()) <= {1}
        totals = await api.get(f"/api/attendance/totals?unit_id=1&{days}")
        return bool(len(there) == COUNTRY.counties == totals[0]["total"]["attendees"])

    await until("all counties are there, and settled", look, READY_WITHIN_S)
