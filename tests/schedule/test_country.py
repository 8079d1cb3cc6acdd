"""What must hold for a country, in a smaller form; and a country that joins while the centre dies.

The figures for the whole country are measured by tests/bench/national.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from sqlalchemy import func, select

from schedule import agenda, attendance, planning
from schedule.agenda import Whose
from schedule.series import Draft
from schedule.settling import settle
from schedule.store import Store
from schedule.tables import Attendance, Join, Unsettled
from tests.patience import PATIENCE
from tests.schedule import national
from tests.schedule.national import FIRST_DAY, LAST_DAY, SMALL, ZONE, Size
from tests.schedule.network import MONDAY_9, NOW

ROOT = Path(__file__).parents[2]
COUNTRY = Size(31, 333, 2_851, 0, 10, 0)


async def test_a_smaller_country_s_questions_are_answered_at_once(store: Store) -> None:
    """200 counties, 200 occurrences in a week, 20,000 attendance rows. The bounds are generous."""
    await national.build(store, SMALL)
    assert await national.attend(store, SMALL) == 20_000
    draft = Draft(
        "meeting", "New", 1, MONDAY_9, 2700, ZONE, audience=(("subtree", 1),),
        rule="FREQ=WEEKLY;COUNT=10",
    )  # fmt: skip
    began = time.monotonic()
    async with store.reading() as connection:
        checked = await planning.check(connection, draft, NOW)
        totals = await attendance.roll_up(connection, "1/", FIRST_DAY, LAST_DAY)
        rows = (
            await connection.execute(
                select(func.sum(Attendance.first), func.sum(Attendance.class_s))
            )
        ).one()
        week = await agenda.occurrences(connection, Whose(), NOW, NOW + timedelta(days=7))
    assert time.monotonic() - began < 10 * PATIENCE
    assert checked.occurrences == 10
    assert checked.findings
    assert checked.ways is not None
    assert len(week) == 200
    assert len(totals) == SMALL.units
    top = next(one for one in totals if one.unit_id == 1)
    assert (top.classes, top.class_s) == tuple(rows)
    assert (top.units, top.owing) == (200, 200)


async def test_thin_lines_of_a_whole_country_are_watched(store: Store) -> None:
    size = replace(SMALL, line_bps=1_500_000, attended=0)
    await national.build(store, size)
    draft = Draft("meeting", "New", 1, MONDAY_9, 2700, ZONE, audience=(("subtree", 1),))
    async with store.reading() as connection:
        found = await planning.check(connection, draft, NOW)
    over = {unit for one in found.findings for unit in one.lines}
    counties = {size.county(n) for n in range(size.counties)}
    assert over
    assert over <= counties


class Centre:
    """The process that takes reports, which is killed and started again on the same port."""

    def __init__(self, database: str) -> None:
        self._database = database
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        if not self.port:
            server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            server.close()
            await server.wait_closed()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.schedule.taker", self._database, str(self.port),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(90):
            assert await self._process.stdout.readline() == b"ready\n"

    async def kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
            self._process = None


@contextlib.asynccontextmanager
async def centre(database: str) -> AsyncIterator[Centre]:
    running = Centre(database)
    await running.start()
    try:
        yield running
    finally:
        await running.kill()


async def test_a_country_joins_while_the_centre_is_killed_and_started_again(
    store: Store, database: str
) -> None:
    """2,851 counties, reported by 48 nodes that say everything until it is acknowledged.

    The centre is killed in the middle, and at the end. Each county is there once, none is missing.
    """
    await national.build(store, COUNTRY)
    half = asyncio.Event()
    acknowledged = 0
    rng = random.Random(5)

    async def node(number: int, session: aiohttp.ClientSession, port: int) -> None:
        nonlocal acknowledged
        counties = range(number, COUNTRY.counties, 48)
        waiting: list[dict[str, Any]] = [
            {
                "source": f"node{number}/{county}",
                "occurrence": 1,
                "site": COUNTRY.county(county),
                "at": (NOW + timedelta(days=1, seconds=county % 60)).isoformat(),
            }
            for county in counties
        ]
        while waiting:
            some = waiting[:10]
            try:
                async with session.post(f"http://127.0.0.1:{port}/stays", json=some) as answer:
                    assert (await answer.json())["kept"] == len(some)
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1 + rng.random() * 0.2)
                continue
            acknowledged += len(some)
            # Now and then an acknowledgement gets lost: the same is said again.
            waiting = waiting[10:] if rng.random() > 0.1 else waiting
            if acknowledged > COUNTRY.counties / 3:
                half.set()

    async with (
        centre(database) as running,
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as nodes,
    ):
        for number in range(48):
            nodes.create_task(node(number, session, running.port))
        await half.wait()
        await running.kill()
        await running.start()
    # Killed again at the end of the block, perhaps while it settled.
    await settle(store, NOW)
    async with store.reading() as connection:
        counts = [
            await connection.scalar(select(func.count()).select_from(table))
            for table in (Join, Attendance, Unsettled)
        ]
        totals = await attendance.roll_up(connection, "1/", 20260301, 20260331)
    assert counts == [COUNTRY.counties, COUNTRY.counties, 0]
    top = next(one for one in totals if one.unit_id == 1)
    assert (top.classes, top.attendees) == (COUNTRY.counties, COUNTRY.counties)
