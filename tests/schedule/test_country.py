"""What must hold for a country, in a smaller form.

The figures for the whole country are measured by tests/bench/national.py; a whole country joins in
tests/live/test_country.py.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import func, select

from schedule import agenda, attendance, planning
from schedule.agenda import Whose
from schedule.series import Draft
from schedule.store import Store
from schedule.tables import Attendance
from tests.patience import PATIENCE
from tests.schedule import national
from tests.schedule.national import FIRST_DAY, LAST_DAY, SMALL, ZONE
from tests.schedule.network import MONDAY_9, NOW


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
