"""A course of the library in the plans: whose class it was, and when it is played."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import update

from schedule import showings
from schedule.tables import Occurrence
from tests.schedule.network import MONDAY_9, NOW, Network

DAY = timedelta(days=1)


async def test_a_class_and_its_lessons_are_found_by_their_course(network: Network) -> None:
    """The replay of a live class, and lessons that show the same course later; not what is past."""
    await network.confirmed(network.draft("P1A"))
    later = MONDAY_9.replace(hour=15)
    recorded = network.draft("P2", title="Again", source="recorded", course="physics")
    await network.confirmed(
        replace(recorded, starts_local=later, rule="FREQ=DAILY;COUNT=3", duration_s=600)
    )
    async with network.store.writing() as connection:
        mine = Occurrence.title == "Mathematics"
        await connection.execute(update(Occurrence).where(mine).values(course="physics"))
    async with network.store.reading() as connection:
        assert await showings.class_of(connection, "physics") == network.units["P1A"].path
        assert await showings.class_of(connection, "film") is None
        found = await showings.planned(connection, "physics", NOW, DAY)
        one = (await showings.planned(connection, "physics", NOW, timedelta()))[0]
        last = await showings.planned(connection, "physics", NOW + 3.5 * DAY, DAY)
        assert await showings.planned(connection, "film", NOW, DAY) == []
    nine = NOW.replace(day=2, hour=1)
    assert [(each.title, each.starts_at - nine) for each in found] == [
        ("Again", timedelta(hours=6)),
        ("Mathematics", DAY),
        ("Again", DAY + timedelta(hours=6)),
        ("Again", 2 * DAY + timedelta(hours=6)),
    ]
    assert {each.unit for each in found} == {network.units["P1A"].name, network.units["P2"].name}
    assert one.title == "Again"  # No replays: the class itself plays nothing from the library.
    assert last == []
