"""Importing and exporting who belongs where, on both databases."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import func, select

from schedule import audit, people, roster, units
from schedule.errors import Invalid
from schedule.rights import Grant, Role
from schedule.roster_lines import Outcome
from schedule.store import Store
from schedule.tables import Station, Unit
from schedule.units import NewUnit
from tests.patience import PATIENCE
from tests.schedule.network import NOW, Network


async def bring(
    store: Store, kind: str, text: str, *, dry_run: bool = False, within: list[str] | None = None
) -> Outcome:
    async with store.writing() as connection:
        return await roster.import_csv(
            connection, kind, text.encode(), NOW, None, dry_run=dry_run, within=within
        )


async def take(store: Store, kind: str, path: str = "1/") -> str:
    async with store.reading() as connection:
        return "".join(await roster.export_csv(connection, kind, path))


def bad(outcome: Outcome) -> list[tuple[int, str, str]]:
    return [(one.line, one.column, one.reason) for one in outcome.bad]


HEADER = "code,parent,name,tier,line_kbps\n"


async def test_a_tree_comes_in_in_any_order_of_lines(store: Store) -> None:
    text = (
        HEADER + "x,c,County,county,8000\nc,p,City,city,\np,r,Province,province,\nr,,Centre,centre,"
    )
    dry = await bring(store, "units", text, dry_run=True)
    assert (dry.added, dry.bad_lines) == (4, 0)
    async with store.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(Unit)) == 0
    assert (await bring(store, "units", text)).added == 4
    again = await bring(store, "units", text)
    assert (again.added, again.changed, again.unchanged) == (0, 0, 4)
    async with store.writing() as connection:
        found = await units.subtree(connection, "1/")
        assert [(one.code, one.depth, one.line_bps) for one in found] == [
            ("r", 0, None), ("p", 1, None), ("c", 2, None), ("x", 3, 8_000_000)
        ]  # fmt: skip
        # Ids go on behind those that the import gave.
        assert (await units.add_unit(connection, NewUnit("n", "n", "n", found[0].id))).id == 5
        noted = await audit.entries(connection, subject="units")
    assert [one.detail["added"] for one in noted] == [0, 4]


async def test_each_bad_line_is_listed_with_its_reason_and_nothing_is_written(
    network: Network,
) -> None:
    outcome = await bring(
        network.store,
        "units",
        HEADER
        + "a b,C,Name,city,\n"  # line 2
        + "n1,C,,city,\n"
        + "n2,nowhere,Name,city,\n"
        + "n3,n2,Name,city,\n"
        + "n4,n5,Name,city,\n"
        + "n5,n4,Name,city,\n"
        + "n6,C,Name,city,fast\n"
        + "n7,C,Name,city,\n"
        + "n7,C,Name,city,\n",
        dry_run=False,
    )
    assert [(line, column) for line, column, _ in sorted(bad(outcome))] == [
        (2, "code"), (3, "name"), (4, "parent"), (5, "parent"), (6, "parent"), (7, "parent"),
        (8, "line_kbps"), (10, "code"),
    ]  # fmt: skip
    reasons = {line: reason for line, _, reason in bad(outcome)}
    assert reasons[4] == "the parent 'nowhere' is neither in the file nor in the store"
    assert "below itself" in reasons[6]
    assert "line 9 already" in reasons[10]
    async with network.store.reading() as connection:
        count = await connection.scalar(select(func.count()).select_from(Unit))
    assert count == len(network.units)


async def test_a_branch_moves_with_all_that_is_below_it(network: Network) -> None:
    outcome = await bring(network.store, "units", HEADER + "P1A,P2,P1A,city,\n")
    assert (outcome.changed, outcome.bad_lines) == (1, 0)
    async with network.store.reading() as connection:
        found = await units.subtree(connection, network.units["P2"].path)
    assert sorted(one.code for one in found) == ["P1A", "P1Ax", "P1Ay", "P2", "P2A", "P2Ax"]
    assert {one.depth for one in found if one.code in ("P1Ax", "P2Ax")} == {3}


async def test_what_a_file_does_not_say_stays(network: Network) -> None:
    async with network.store.writing() as connection:
        await units.change_unit(connection, network.units["P1"].id, {"duty_minutes": 1200})
    await bring(network.store, "units", "code,parent,name,tier\nP1,C,New name,province\n")
    async with network.store.reading() as connection:
        found = await units.unit(connection, network.units["P1"].id)
    assert (found.name, found.duty_minutes) == ("New name", 1200)


async def test_nobody_imports_outside_of_what_they_keep(network: Network) -> None:
    within = [network.units["P1"].path]
    outcome = await bring(
        network.store,
        "units",
        HEADER
        + "P2,C,Mine,province,\nn1,C,n,city,\nn2,P1,n,city,\nn3,n2,n,county,\nP2A,P1,P2A,x,\n",
        within=within,
    )
    assert [line for line, _, _ in bad(outcome)] == [2, 3, 6]
    places = await bring(
        network.store, "sites", "code,unit,name\nP2Ax-1,P1A,Stolen\nn,P2,n\n", within=within
    )
    assert [line for line, _, _ in bad(places)] == [2, 3]
    folk = await bring(
        network.store,
        "people",
        "login,unit,name,roles\nboss-P2,P1,x,\nn1,P1,n,administrator@C\nn2,P1,n,operator\n",
        within=within,
    )
    assert [line for line, _, _ in bad(folk)] == [2, 3]


async def test_sites_stations_and_people_come_in_and_go_out(network: Network) -> None:
    await bring(network.store, "sites", "code,unit,name\nS1,P1A,=HYPERLINK(1)\nP1Ax-1,P1B,Moved\n")
    await bring(network.store, "stations", "code;unit;name\nB1;P1Ax;一号\n")
    text = "login,unit,name,phone,roles\nli,P1A,李老师,+86 10 555,presenter operator@P1Ax\n"
    assert (await bring(network.store, "people", text)).added == 1
    assert "S1,P1A,'=HYPERLINK(1)" in await take(network.store, "sites")
    assert "B1,P1Ax,一号" in await take(network.store, "stations")
    line = "li,P1A,李老师,,'+86 10 555,zh,presenter@P1A operator@P1Ax"
    assert line in await take(network.store, "people")
    async with network.store.reading() as connection:
        li = await people.person_by_login(connection, "li")
        assert set(await people.grants_of(connection, li.id)) == {
            Grant(Role.PRESENTER, network.units["P1A"].path),
            Grant(Role.OPERATOR, network.units["P1Ax"].path),
        }


@pytest.mark.parametrize("kind", roster.KINDS)
async def test_an_export_imported_again_changes_nothing(network: Network, kind: str) -> None:
    text = await take(network.store, kind)
    outcome = await bring(network.store, kind, text)
    assert (outcome.added, outcome.changed, outcome.bad_lines) == (0, 0, 0)
    assert outcome.unchanged == len(text.splitlines()) - 1
    assert await take(network.store, kind) == text


async def test_an_unknown_kind_is_refused(network: Network) -> None:
    with pytest.raises(Invalid, match="one of"):
        await bring(network.store, "secrets", "code\n1\n")


async def test_a_country_comes_in_within_a_minute(store: Store) -> None:
    """3,000 counties under 30 provinces, and 50,000 stations. About 5 s on an idle core."""
    lines = ["code,parent,name,tier", "C,,Centre,centre"]
    lines += [f"P{n},C,Province {n},province" for n in range(30)]
    lines += [f"X{n},P{n % 30},County {n},county" for n in range(3_000)]
    stations = ["code,unit,name", *(f"S{n},X{n % 3000},Station {n}" for n in range(50_000))]
    began = time.monotonic()
    assert (await bring(store, "units", "\n".join(lines))).added == 3_031
    assert (await bring(store, "stations", "\n".join(stations))).added == 50_000
    assert time.monotonic() - began < 60 * PATIENCE
    async with store.reading() as connection:
        assert await connection.scalar(select(func.count()).select_from(Station)) == 50_000
