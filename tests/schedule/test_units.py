"""The tree of units in the store, and who and what belongs to it."""

from __future__ import annotations

import pytest

from schedule import people, units
from schedule.errors import Conflict, Invalid, NotFound
from schedule.people import NewPerson
from schedule.rights import Grant, Role
from schedule.store import Store
from schedule.units import NewUnit, UnitInfo


async def add(store: Store, code: str, parent: UnitInfo | None = None, **more: object) -> UnitInfo:
    new = NewUnit(code, f"Unit {code}", "unit", parent.id if parent else None, **more)  # type: ignore[arg-type]
    async with store.writing() as connection:
        return await units.add_unit(connection, new)


async def test_a_subtree_is_the_unit_and_all_below_it(store: Store) -> None:
    centre = await add(store, "C")
    provinces = [await add(store, f"P{n}", centre) for n in range(11)]
    city = await add(store, "P1-1", provinces[1])
    async with store.reading() as connection:
        found = await units.subtree(connection, provinces[1].path)
        assert [one.code for one in found] == ["P1", "P1-1"]
        above = await units.ancestors(connection, city.path)
        assert [one.code for one in above] == ["C", "P1", "P1-1"]
        assert len(await units.children(connection, centre.id)) == 11
        assert [one.code for one in await units.children(connection, None)] == ["C"]


async def test_a_moved_unit_takes_all_below_with_it(store: Store) -> None:
    centre = await add(store, "C")
    one, two = await add(store, "P1", centre), await add(store, "P2", centre)
    city = await add(store, "P1-1", one)
    await add(store, "P1-1-1", city)
    async with store.writing() as connection:
        await units.move_unit(connection, city.id, two.id)
        found = await units.subtree(connection, two.path)
        assert [(unit.code, unit.depth) for unit in found] == [
            ("P2", 1),
            ("P1-1", 2),
            ("P1-1-1", 3),
        ]
        with pytest.raises(Invalid, match="under itself"):
            await units.move_unit(connection, two.id, found[2].id)


async def test_a_taken_code_is_a_conflict_and_the_transaction_goes_on(store: Store) -> None:
    centre = await add(store, "C")
    async with store.writing() as connection:
        with pytest.raises(Conflict, match="'C' is taken"):
            await units.add_unit(connection, NewUnit("C", "again", "unit", None))
        await units.change_unit(connection, centre.id, {"name": "中心", "line_bps": 8_000_000})
    async with store.reading() as connection:
        assert (await units.unit_by_code(connection, "C")).name == "中心"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "a b"),
        ("name", "two\nlines"),
        ("name", " "),
        ("time_zone", "Asia/Atlantis"),
        ("line_bps", -1),
        ("duty_minutes", 50_000),
    ],
)
async def test_a_field_that_makes_no_sense_is_named(
    store: Store, field: str, value: object
) -> None:
    centre = await add(store, "C")
    async with store.writing() as connection:
        with pytest.raises(Invalid) as caught:
            await units.change_unit(connection, centre.id, {field: value})
    assert caught.value.field == field


async def test_search_stays_within_what_may_be_seen(store: Store) -> None:
    centre = await add(store, "C")
    one, two = await add(store, "P1", centre), await add(store, "P2", centre)
    await add(store, "P1-1", one)
    await add(store, "P2-1", two)
    async with store.reading() as connection:
        found = await units.search(connection, "unit p", [two.path])
        assert [unit.code for unit in found] == ["P2", "P2-1"]
        assert await units.search(connection, "%", [centre.path]) == []


async def test_only_an_empty_unit_is_removed(store: Store) -> None:
    centre = await add(store, "C")
    county = await add(store, "X", centre)
    async with store.writing() as connection:
        site = await units.add_place(connection, "site", county.id, "X-1", "Hall")
        for held in (centre, county):
            with pytest.raises(Conflict, match="still has something"):
                await units.remove_unit(connection, held.id)
        await units.remove_place(connection, "site", site.id)
        await units.remove_unit(connection, county.id)
        with pytest.raises(NotFound):
            await units.unit(connection, county.id)


async def test_places_are_listed_page_by_page(store: Store) -> None:
    centre = await add(store, "C")
    county = await add(store, "X", centre)
    async with store.writing() as connection:
        for number in range(5):
            await units.add_place(connection, "station", county.id, f"S{number}", "Station")
        first = await units.places_below(connection, "station", centre.path, most=3)
        rest = await units.places_below(connection, "station", centre.path, first[-1].code, 3)
    assert [one.code for one in first + rest] == ["S0", "S1", "S2", "S3", "S4"]


async def test_roles_come_and_go_and_end_with_the_person(store: Store) -> None:
    centre = await add(store, "C")
    county = await add(store, "X", centre)
    async with store.writing() as connection:
        wang = await people.add_person(connection, NewPerson(county.id, "wang", "王老师"))
        await people.grant(connection, wang.id, county.id, Role.OPERATOR)
        await people.grant(connection, wang.id, county.id, Role.OPERATOR)
        await people.grant(connection, wang.id, centre.id, Role.VIEWER)
        assert await people.grants_of(connection, wang.id) == (
            Grant(Role.VIEWER, centre.path),
            Grant(Role.OPERATOR, county.path),
        )
        held = await people.holders(connection, county.id, [Role.OPERATOR, Role.ADMINISTRATOR])
        assert held == [wang]
        await people.revoke(connection, wang.id, centre.id, Role.VIEWER)
        await people.change_person(connection, wang.id, {"active": False})
        assert await people.grants_of(connection, wang.id) == ()
