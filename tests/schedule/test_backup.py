"""Backup, wipe, restore: the same rows and the same answers, from and into either database."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from schedule import agenda, attendance, audit, backup, feeds, invitations, planning, roster, units
from schedule.agenda import Whose
from schedule.errors import Invalid, StoreError
from schedule.reports import Attendee, CountReport, StayReport, report_counts, report_stays
from schedule.series import series_list
from schedule.settling import settle
from schedule.store import Store, open_store
from schedule.tables import Base
from schedule.timetable import Edit
from tests.schedule.network import MONDAY_9, NOW, Network
from tests.schedule.test_units import add


async def live_through(network: Network) -> None:
    """A bit of everything in every table that people see."""
    draft = network.draft(
        "C",
        rule="FREQ=WEEKLY;COUNT=5",
        audience=(("subtree", network.units["P1"].id),),
        material=(("=1+1", "https://example.org/"),),
    )
    saved = await network.confirmed(draft)
    async with network.store.writing() as connection:
        # A unit that hangs below one with a higher id.
        await units.move_unit(connection, network.units["P1A"].id, network.units["P2Ax"].id)
        week = timedelta(days=7)
        edit = Edit(title="第二课", starts_local=MONDAY_9 + week + timedelta(hours=1))
        await planning.edit(connection, saved.series.id, MONDAY_9 + week, edit, NOW, None)
        found = await agenda.occurrences(connection, Whose(), NOW, NOW + week)
        one = found[0].id
        await invitations.invite(connection, one)
        who = Attendee("site", network.sites["P1Ax"])
        begins = found[0].starts_at
        ends = begins + timedelta(minutes=40)
        await report_stays(connection, [StayReport("n/1", one, who, begins, ends, ends)])
        await report_counts(
            connection, [CountReport("c/1", one, who, begins, 9, ("boss-P1Ax", "?"))]
        )
    await settle(network.store, NOW)


async def answers(store: Store) -> dict[str, Any]:
    """What the lists of the service say, all of them."""
    async with store.reading() as connection:
        ids = list(range(1, 20))
        found = await agenda.occurrences(connection, Whose(), NOW, NOW + timedelta(days=60))
        return {
            "units": await units.subtree(connection, "1/"),
            "roster": [await roster.export_csv(connection, kind, "1/") for kind in roster.KINDS],
            "series": await series_list(connection, ids),
            "occurrences": found,
            "invitations": await invitations.listed(connection, found[0].id, "1/"),
            "totals": await attendance.roll_up(connection, "1/", 20260101, 20261231),
            "present": await attendance.present_at(connection, found[0].id, "1/"),
            "logbook": await attendance.logbook(connection, 7, 20260101, 20261231),
            "feed": await feeds.feed(connection, Whose(), "all", NOW),
            "audit": await audit.entries(connection),
        }


async def rows(store: Store) -> dict[str, list[Any]]:
    async with store.reading() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in await connection.execute(select(table))), key=repr
            )
            for table in Base.metadata.sorted_tables
        }


async def test_restored_is_what_was_backed_up(
    network: Network, other_database: str, tmp_path: Path
) -> None:
    await live_through(network)
    path = tmp_path / "terrace.backup"
    made = await backup.back_up(network.store, path, NOW)
    other = await open_store(other_database)
    assert await backup.restore(other, path) == made
    assert await rows(other) == await rows(network.store)
    assert await answers(other) == await answers(network.store)
    assert made.rows["attendance"] == 2
    # Work goes on in the restored store: ids, migrations and all.
    restored = replace(network, store=other)
    saved = await restored.confirmed(restored.draft("P2", title="After"))
    assert saved.series.id == 2
    await add(other, "new")
    await other.close()


@pytest.mark.postgresql
async def test_a_backup_moves_a_centre_to_the_other_database(
    network: Network,
    make_other_kind: Callable[[Network], Any],
    tmp_path: Path,
) -> None:
    await live_through(network)
    path = tmp_path / "terrace.backup"
    await backup.back_up(network.store, path, NOW)
    other = await open_store(await make_other_kind(network))
    assert other.kind != network.store.kind
    await backup.restore(other, path)
    assert await answers(other) == await answers(network.store)
    await other.close()


async def test_a_store_with_something_in_it_is_not_overwritten(
    network: Network, tmp_path: Path
) -> None:
    path = tmp_path / "terrace.backup"
    await backup.back_up(network.store, path, NOW)
    before = await rows(network.store)
    with pytest.raises(StoreError, match="not empty"):
        await backup.restore(network.store, path)
    assert await rows(network.store) == before


def spoil(path: Path, table: str, change: Callable[[bytes], bytes]) -> None:
    """Write the backup anew with one of its files changed."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files[table] = change(files[table])
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("units.jsonl", lambda data: data.replace(b"P1A", b"P1Z")),
        ("units.jsonl", lambda data: data[: len(data) // 2]),
        ("units.jsonl", lambda data: b""),
        ("people.jsonl", lambda data: data + b"[1]\n"),
        ("backup.json", lambda data: b"{}"),
        ("backup.json", lambda data: json.dumps(json.loads(data) | {"revision": "9"}).encode()),
    ],
)
async def test_a_damaged_backup_leaves_the_database_empty(
    network: Network,
    other_database: str,
    tmp_path: Path,
    table: str,
    change: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "terrace.backup"
    await backup.back_up(network.store, path, NOW)
    spoil(path, table, change)
    other = await open_store(other_database)
    with pytest.raises(Invalid):
        await backup.restore(other, path)
    assert not any((await rows(other)).values())
    await other.close()


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + b"\0" * 18, b"no zip file"])
async def test_what_is_no_backup_is_refused(store: Store, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(Invalid):
        await backup.restore(store, path)


async def test_a_backup_that_fails_leaves_the_old_one(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "terrace.backup"
    await backup.back_up(network.store, path, NOW)
    before = path.read_bytes()

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        await backup.back_up(network.store, path, NOW)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["terrace.backup"]
