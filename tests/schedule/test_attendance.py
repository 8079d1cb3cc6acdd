"""Attendance in the store: reports, settling, roll-up; nothing lost and nothing twice."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from schedule import attendance, reports, settling, units
from schedule.attendance import Total
from schedule.errors import Invalid
from schedule.reports import Attendee, CountReport, StayReport
from schedule.store import Store, open_store
from schedule.tables import Attendance, AttendanceDay, Join, Occurrence, Unsettled
from tests.schedule.network import NOW, Network, utc

BEGINS = utc("2026-03-02T01:00")
DAY = 20260302


@pytest.fixture
async def lesson(network: Network) -> int:
    """A lesson of 45 minutes for everybody, on the air since its time."""
    draft = network.draft("C", audience=(("subtree", network.units["C"].id),))
    await network.confirmed(draft)
    async with network.store.writing() as connection:
        await connection.execute(update(Occurrence).values(on_air_at=BEGINS, state="on_air"))
        found = await connection.execute(select(Occurrence.id))
    return found.scalar_one()


def stay(
    source: str, lesson: int, attendee: Attendee, begins: float, ends: float | None, **more: object
) -> StayReport:
    """Times in minutes after the beginning."""
    joined = BEGINS + timedelta(minutes=begins)
    left = None if ends is None else BEGINS + timedelta(minutes=ends)
    return StayReport(source, lesson, attendee, joined, left or joined, left, **more)  # type: ignore[arg-type]


def site(network: Network, code: str) -> Attendee:
    return Attendee("site", network.sites[code])


async def keep(store: Store, *some: StayReport) -> reports.Taken:
    async with store.writing() as connection:
        return await reports.report_stays(connection, some)


async def rows_of(store: Store) -> list[tuple[str, int, int]]:
    async with store.reading() as connection:
        found = await connection.execute(
            select(Attendance.attendee, Attendance.people, Attendance.seen_s).order_by(
                Attendance.attendee
            )
        )
    return list(found)


async def totals(network: Network, code: str = "C") -> dict[str, Total]:
    names = {unit.id: name for name, unit in network.units.items()}
    async with network.store.reading() as connection:
        found = await attendance.roll_up(connection, network.units[code].path, DAY, DAY)
    return {names[one.unit_id]: one for one in found}


async def sums_hold(store: Store) -> None:
    """The sums of days are those of the rows, exactly."""
    async with store.reading() as connection:
        kept = await connection.execute(
            select(AttendanceDay.day, AttendanceDay.unit_id)
            .add_columns(*(getattr(AttendanceDay, name) for name in settling.SUMS))
            .where(AttendanceDay.attendees > 0)
        )
        of_rows = await connection.execute(
            select(Attendance.day, Attendance.unit_id, *settling.SUM_OF_ROWS).group_by(
                Attendance.day, Attendance.unit_id
            )
        )
        assert sorted(tuple(map(int, row)) for row in kept) == sorted(
            tuple(map(int, row)) for row in of_rows
        )


async def test_a_report_that_comes_again_counts_once(network: Network, lesson: int) -> None:
    who = site(network, "P1Ax")
    await keep(network.store, stay("n/1", lesson, who, 0, None))
    for _ in range(2):
        await keep(network.store, stay("n/1", lesson, who, 0, 30))
        assert await settling.settle(network.store, NOW) == 1
        assert await rows_of(network.store) == [(str(who), 1, 1800)]
    await sums_hold(network.store)


async def test_a_stay_whose_end_nobody_reported_lasts_to_its_last_sign_of_life(
    network: Network, lesson: int
) -> None:
    who = site(network, "P1Ax")
    for minute in (0, 10, 20, 5):
        seen = BEGINS + timedelta(minutes=minute)
        await keep(network.store, StayReport("n/1", lesson, who, BEGINS, seen))
    await settling.settle(network.store, NOW)
    assert await rows_of(network.store) == [(str(who), 1, 1200)]


async def test_live_and_replay_and_the_roll_call_make_one_row_each(
    network: Network, lesson: int
) -> None:
    who = site(network, "P1Ax")
    await keep(
        network.store,
        stay("n/1", lesson, who, 0, 30),
        stay("tv/9", lesson, who, 600, 645, from_s=900, to_s=2700),
    )
    async with network.store.writing() as connection:
        count = CountReport("tv/c1", lesson, who, BEGINS, 25, ("boss-P1Ax", "boss-P2", "who?"))
        for _ in range(2):
            taken = await reports.report_counts(connection, [count])
        assert taken == reports.Taken(1, ())
    await settling.settle(network.store, NOW)
    own, guest = network.people["P1Ax"], network.people["P2"]
    assert await rows_of(network.store) == [
        (f"person:{guest}", 1, 2700),  # counted in their own unit, for what they saw here
        (f"person:{own}", 1, 2700),
        (str(who), 23, 2700),
    ]
    found = await totals(network)
    assert (found["P1Ax"].people, found["P2"].people, found["C"].people) == (24, 1, 25)
    assert found["P1Ax"].class_s == 2700
    # The room's recording is watched on: the guest's row grows with it.
    await keep(network.store, stay("n/2", lesson, who, 30, 45))
    await settling.settle(network.store, NOW)
    assert (await totals(network))["P2"].live_s == 2700
    await sums_hold(network.store)


async def test_what_belongs_nowhere_is_named_and_the_rest_is_kept(
    network: Network, lesson: int
) -> None:
    taken = await keep(
        network.store,
        stay("n/1", lesson, site(network, "P1Ax"), 0, 30),
        stay("n/2", lesson, Attendee("site", 999), 0, 30),
        stay("n/3", 999, site(network, "P1Ax"), 0, 30),
    )
    assert taken == reports.Taken(1, ("n/2", "n/3"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"from_s": 5},
        {"from_s": 5, "to_s": 4},
        {"from_s": -5, "to_s": 4},
        {"from_s": 0, "to_s": 10**9},
    ],
)
async def test_a_replay_that_makes_no_sense_is_refused(
    network: Network, lesson: int, wrong: dict[str, int]
) -> None:
    with pytest.raises(Invalid):
        await keep(network.store, stay("n/1", lesson, site(network, "P1Ax"), 0, 1, **wrong))


async def test_closing_a_class_ends_its_stays(network: Network, lesson: int) -> None:
    who = site(network, "P1Ax")
    ended = BEGINS + timedelta(minutes=40)
    await keep(network.store, StayReport("n/1", lesson, who, BEGINS, BEGINS + timedelta(hours=1)))
    await settling.settle(network.store, NOW)
    async with network.store.writing() as connection:
        await connection.execute(update(Occurrence).values(ended_at=ended, state="ended"))
        path = network.units["C"].path
        assert await attendance.there_now(connection, lesson, path, ended) == {
            network.units["P1Ax"].id: 1
        }
        await reports.close(connection, lesson, ended)
        assert await attendance.there_now(connection, lesson, path, ended) == {}
    await settling.settle(network.store, NOW)
    assert await rows_of(network.store) == [(str(who), 1, 2400)]
    await sums_hold(network.store)


async def test_the_roll_up_reaches_the_top_and_knows_who_owes(
    network: Network, lesson: int
) -> None:
    async with network.store.writing() as connection:
        for code in ("P1Ax", "P1Ay", "P2Ax"):
            await units.change_unit(connection, network.units[code].id, {"duty_minutes": 30})
    await keep(
        network.store,
        stay("n/1", lesson, site(network, "P1Ax"), 0, 45),
        stay("n/2", lesson, site(network, "P1Ay"), 0, 20),
        stay("n/3", lesson, site(network, "P2Ax"), 0, 40),
    )
    await settling.settle(network.store, NOW)
    found = await totals(network)
    assert len(found) == len(network.units)
    shown = {code: (one.units, one.owing, one.met, one.class_s) for code, one in found.items()}
    assert shown["C"] == (3, 3, 2, 6300)
    assert shown["P1"] == (2, 2, 1, 3900)
    assert shown["P1A"] == (2, 2, 1, 3900)
    assert shown["P1B"] == (0, 0, 0, 0)
    assert (await totals(network, "P1A")).keys() == {"P1A", "P1Ax", "P1Ay"}
    async with network.store.reading() as connection:
        other = await attendance.roll_up(connection, network.units["C"].path, 20260303, 20260331)
        listed = await attendance.present_at(connection, lesson, network.units["P1"].path)
    assert {one.classes for one in other} == {0}
    assert [one.unit_name for one in listed] == ["P1Ax", "P1Ay"]


async def test_reports_and_settling_at_once_lose_nothing(
    network: Network, lesson: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reporters and two settling processes at the same time; each stay is two reports."""
    monkeypatch.setattr(settling, "SETTLE_AT_ONCE", 2)
    other = await open_store(network.store.engine.url.render_as_string(hide_password=False))
    codes = list(network.sites)
    finished = asyncio.Event()

    async def report(number: int) -> None:
        for minute in range(5):
            who = site(network, codes[(number + minute) % len(codes)])
            source = f"n{number}/{minute}"
            await keep(network.store, stay(source, lesson, who, minute, None))
            await keep(other, stay(source, lesson, who, minute, minute + 1))

    async def settle(store: Store) -> None:
        while not finished.is_set():
            await settling.settle(store, NOW)
            # SQLite's lock goes to who asks in the right moment, and there must be such a moment.
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        for store in (network.store, other):
            tasks.create_task(settle(store))
        async with asyncio.TaskGroup() as reporters:
            for number in range(6):
                reporters.create_task(report(number))
        finished.set()
    await settling.settle(network.store, NOW)
    async with network.store.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(Join)) == 30
        assert await connection.scalar(select(func.count()).select_from(Unsettled)) == 0
    # Every site was there for five minutes, told in any order by several reporters.
    assert [seen_s for _, _, seen_s in await rows_of(network.store)] == [300] * len(codes)
    await sums_hold(network.store)
    await other.close()


async def test_joins_in_any_order_come_to_the_same(network: Network, lesson: int) -> None:
    rng = random.Random(5)
    batch = [
        stay(f"n/{n}", lesson, site(network, code), n, n + 4)
        for n, code in enumerate(list(network.sites) * 3)
    ]
    open_ended = [
        StayReport(one.source, lesson, one.attendee, one.joined_at, one.joined_at) for one in batch
    ]
    both = batch + open_ended
    rng.shuffle(both)
    await keep(network.store, *both)
    await settling.settle(network.store, datetime.fromisoformat("2026-03-02T03:00+00:00"))
    assert {seen_s for _, _, seen_s in await rows_of(network.store)} == {720}
