"""Courses and meetings from the first draft to their occurrences, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from schedule import agenda, audit, bookings, planning, series, units
from schedule.agenda import OccurrenceInfo, Whose
from schedule.clashes import Clash
from schedule.errors import Conflict, Invalid, NotFound
from schedule.series import Draft
from schedule.timetable import Edit, wall_clock
from tests.schedule.network import MONDAY_9, NOW, Network, utc

SPRING = (utc("2026-03-01"), utc("2026-06-01"))
WEEKLY = "FREQ=WEEKLY;COUNT=4"
NINE = timedelta(hours=9)


async def seen(network: Network, whose: Whose | None = None) -> list[OccurrenceInfo]:
    async with network.store.reading() as connection:
        return await agenda.occurrences(connection, whose or Whose(), *SPRING)


def starts(found: list[OccurrenceInfo]) -> list[str]:
    return [f"{wall_clock(one.starts_at, 'Asia/Shanghai'):%m-%d %H:%M}" for one in found]


async def test_a_draft_takes_up_nobody_and_a_confirmed_plan_is_worked_out(
    network: Network,
) -> None:
    async with network.store.writing() as connection:
        saved = await planning.save(connection, network.draft(rule=WEEKLY), NOW, None)
    assert saved.series.state == "draft"
    assert await seen(network) == []
    async with network.store.writing() as connection:
        done = await planning.submit(connection, saved.series.id, NOW, None)
    assert (done.series.state, done.occurrences) == ("confirmed", 4)
    assert starts(await seen(network)) == [
        "03-02 09:00",
        "03-09 09:00",
        "03-16 09:00",
        "03-23 09:00",
    ]


async def test_what_is_stored_is_what_was_planned(network: Network) -> None:
    draft = network.draft(
        kind="meeting",
        presenter_id=network.people["P1"],
        room_id=network.sites["P1Ax"],
        rule="FREQ=WEEKLY;COUNT=4;BYDAY=MO",
        rehearsal_s=900,
        agenda="1. 开场\n2. =SUM(A1)",
        material=(("Slides", "https://example.org/a.pdf"),),
        audience=(("site", network.sites["P1Bx"]), ("subtree", network.units["P1A"].id)),
        excluded=(datetime(2026, 3, 9, 9),),
        added=(datetime(2026, 3, 10, 9),),
    )
    saved = await network.confirmed(draft)
    async with network.store.reading() as connection:
        assert (await series.series(connection, saved.series.id)).plan == draft


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "party"}, "kind"),
        ({"title": ""}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"time_zone": "Mars"}, "time_zone"),
        ({"duration_s": 5}, "duration_s"),
        ({"rule": "FREQ=NEVER"}, "rule"),
        ({"rule": "FREQ=HOURLY", "duration_s": 7200}, "duration_s"),
        ({"source": "recorded"}, "course"),
        ({"material": (("x", "javascript:alert(1)"),)}, "material"),
        ({"material": (("x", "//evil.example/"),)}, "material"),
        ({"excluded": (MONDAY_9,)}, "rule"),
        ({"bitrate_bps": -1}, "bitrate_bps"),
    ],
)
async def test_a_plan_that_makes_no_sense_names_the_field(
    network: Network, change: dict[str, Any], field: str
) -> None:
    async with network.store.writing() as connection:
        with pytest.raises(Invalid) as caught:
            await planning.save(connection, replace(network.draft(), **change), NOW, None)
    assert caught.value.field == field


async def test_an_audience_that_is_not_there_is_refused(network: Network) -> None:
    async with network.store.writing() as connection:
        with pytest.raises(NotFound, match="audience"):
            await planning.save(connection, network.draft(audience=(("site", 999),)), NOW, None)


async def test_approval_by_the_unit_above_where_it_asks_for_one(network: Network) -> None:
    async with network.store.writing() as connection:
        await units.change_unit(connection, network.units["P1"].id, {"asks_approval": True})
    waiting = await network.confirmed(network.draft("P1A"))
    assert waiting.series.state == "submitted"
    async with network.store.writing() as connection:
        path = network.units["P1"].path
        found = await planning.waiting_for_approval(connection, path)
        assert [one.id for one in found] == [waiting.series.id]
        refused = await planning.refuse(connection, waiting.series.id, "Too early", NOW, None)
        assert (refused.state, refused.refusal) == ("refused", "Too early")
        await planning.submit(connection, waiting.series.id, NOW, None)
        done = await planning.approve(connection, waiting.series.id, NOW, network.people["P1"])
        assert (done.series.state, done.occurrences) == ("confirmed", 1)
        with pytest.raises(Conflict, match="not waiting"):
            await planning.approve(connection, waiting.series.id, NOW, None)
        noted = await audit.entries(connection, subject=f"series:{waiting.series.id}")
    assert [one.action for one in noted] == [
        "confirmed", "submitted", "refused", "submitted", "plan"
    ]  # fmt: skip
    # Its own plans need nobody's approval: the centre does not ask.
    assert (await network.confirmed(network.draft("P1"))).series.state == "confirmed"


async def test_a_lower_unit_does_not_get_past_a_higher_one_by_accident(network: Network) -> None:
    everybody = (("subtree", network.units["C"].id),)
    county = (("unit", network.units["P1Ax"].id),)
    await network.confirmed(network.draft("C", title="National", audience=everybody))
    lower = network.draft("P1A", audience=county)
    with pytest.raises(planning.Clashing, match="'National', which goes first") as caught:
        await network.confirmed(lower)
    ways = caught.value.checked.ways
    assert ways is not None
    assert ways.later == utc("2026-03-02T01:45")
    assert (await network.confirmed(lower, anyway=True)).series.state == "confirmed"


async def test_a_higher_unit_goes_first_and_learns_whom_to_tell(network: Network) -> None:
    county = (("unit", network.units["P1Ax"].id),)
    lower = await network.confirmed(network.draft("P1A", title="Lower", audience=county))
    higher = await network.confirmed(
        network.draft("C", audience=(("subtree", network.units["P1"].id),))
    )
    assert [one.series_id for one in higher.overridden] == [lower.series.id]
    assert len(await seen(network)) == 2


async def test_the_check_while_typing_finds_all_four_kinds(network: Network) -> None:
    async with network.store.writing() as connection:
        await units.change_unit(connection, network.units["P1Ax"].id, {"line_bps": 1_500_000})
    draft = network.draft(
        presenter_id=network.people["P1"],
        room_id=network.sites["P1Ay"],
        audience=(("unit", network.units["P1Ax"].id),),
    )
    await network.confirmed(draft)
    async with network.store.reading() as connection:
        found = await planning.check(connection, draft, NOW)
        assert {one.clash for one in found.findings} == set(Clash)
        later = replace(draft, starts_local=MONDAY_9 + timedelta(minutes=45))
        assert (await planning.check(connection, later, NOW)).findings == []
        recorded = replace(later, source="recorded", course="m1", rule="FREQ=DAILY;COUNT=99")
        assert (await planning.check(connection, recorded, NOW)).occurrences == 99


async def test_a_changed_series_clashes_with_others_and_not_with_itself(network: Network) -> None:
    draft = network.draft(presenter_id=network.people["P1"], rule=WEEKLY)
    saved = await network.confirmed(draft)
    async with network.store.writing() as connection:
        moved = replace(draft, starts_local=MONDAY_9 + timedelta(minutes=15))
        again = await planning.save(connection, moved, NOW, None, series_id=saved.series.id)
    assert again.series.revision > saved.series.revision
    assert starts(await seen(network))[0] == "03-02 09:15"
    assert len(await seen(network)) == 4


async def test_one_occurrence_is_moved_changed_cancelled_and_put_back(network: Network) -> None:
    saved = await network.confirmed(network.draft(rule=WEEKLY))
    second, third = MONDAY_9 + timedelta(days=7), MONDAY_9 + timedelta(days=14)

    async def edit(recurrence: datetime, change: Edit) -> None:
        async with network.store.writing() as connection:
            await planning.edit(connection, saved.series.id, recurrence, change, NOW, None)

    before = await seen(network)
    await edit(second, Edit(starts_local=datetime(2026, 3, 12, 14), title="Test"))
    await edit(third, Edit(cancelled=True))
    after = await seen(network)
    assert starts(after) == ["03-02 09:00", "03-12 14:00", "03-23 09:00"]
    assert (after[1].id, after[1].title) == (before[1].id, "Test")
    await edit(third, Edit())
    assert [one.id for one in await seen(network)] == [one.id for one in before]
    with pytest.raises(NotFound):
        await edit(MONDAY_9 + timedelta(days=1), Edit(cancelled=True))


async def test_single_changes_go_along_when_the_series_moves(network: Network) -> None:
    draft = network.draft(rule=WEEKLY)
    saved = await network.confirmed(draft)
    async with network.store.writing() as connection:
        second = MONDAY_9 + timedelta(days=7)
        await planning.edit(connection, saved.series.id, second, Edit(cancelled=True), NOW, None)
        moved = replace(draft, starts_local=MONDAY_9 + timedelta(hours=1))
        await planning.save(connection, moved, NOW, None, series_id=saved.series.id)
    assert starts(await seen(network)) == ["03-02 10:00", "03-16 10:00", "03-23 10:00"]


async def test_cancelling_takes_what_is_ahead_and_leaves_what_was(network: Network) -> None:
    saved = await network.confirmed(network.draft(rule=WEEKLY))
    later = utc("2026-03-10")
    async with network.store.writing() as connection:
        await planning.cancel(connection, saved.series.id, later, None)
        with pytest.raises(Conflict, match="already"):
            await planning.cancel(connection, saved.series.id, later, None)
        with pytest.raises(Conflict, match="plan a new one"):
            await planning.save(connection, network.draft(), later, None, series_id=saved.series.id)
    assert starts(await seen(network)) == ["03-02 09:00", "03-09 09:00"]


async def test_last_week_s_plan_is_copied_as_drafts(network: Network) -> None:
    """What repeats by itself is not copied, nor what another unit organised."""
    await network.confirmed(network.draft(title="Every week", rule=WEEKLY))
    await network.confirmed(network.draft("P2", title="Others"))
    once = network.draft(title="Once", starts_local=datetime(2026, 3, 4, 15))
    await network.confirmed(once)
    async with network.store.writing() as connection:
        made = await planning.copy_week(
            connection, network.units["P1"].id, datetime(2026, 3, 2), 1, NOW, None
        )
    assert [(one.state, one.plan) for one in made] == [
        ("draft", replace(once, starts_local=datetime(2026, 3, 11, 15)))
    ]


async def test_each_sees_what_concerns_them(network: Network) -> None:
    teacher, hall = network.people["P1"], network.sites["P1Ay"]
    plans: list[Draft] = [
        network.draft("C", title="all", audience=(("subtree", network.units["C"].id),)),
        network.draft("P1", title="city", audience=(("unit", network.units["P1A"].id),)),
        network.draft("P1", title="site", audience=(("site", network.sites["P1Ax"]),)),
        network.draft("P1", title="box", audience=(("station", network.stations["P1Bx"]),)),
        network.draft("P2", title="taught", presenter_id=teacher, room_id=hall),
    ]
    for hour, plan in enumerate(plans):
        await network.confirmed(replace(plan, starts_local=MONDAY_9 + timedelta(hours=hour)))

    async def titles(whose: Whose) -> list[str]:
        return [one.title for one in await seen(network, whose)]

    assert await titles(Whose()) == ["all", "city", "site", "box", "taught"]
    assert await titles(Whose(person_id=teacher)) == ["taught"]
    assert await titles(Whose(unit_path=network.units["P1A"].path)) == ["all", "city"]
    assert await titles(Whose(unit_path=network.units["P2"].path)) == ["all", "taught"]
    assert await titles(Whose(site_id=network.sites["P1Ax"])) == ["all", "site"]
    assert await titles(Whose(site_id=hall)) == ["all", "taught"]
    assert await titles(Whose(station_id=network.stations["P1Bx"])) == ["all", "box"]
    assert await titles(Whose(within=network.units["P1"].path)) == ["city", "site", "box"]


async def test_the_horizon_moves_on(network: Network) -> None:
    await network.confirmed(network.draft(rule="FREQ=WEEKLY"))
    async with network.store.writing() as connection:
        assert await bookings.roll_on(connection, NOW + timedelta(days=100)) == 1
        window = (NOW + timedelta(days=450), NOW + timedelta(days=464))
        found = await agenda.occurrences(connection, Whose(), *window)
    assert len(found) == 2
