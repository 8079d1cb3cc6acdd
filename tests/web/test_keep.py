"""`terrace backup` and `terrace restore` as a person uses them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schedule import units
from schedule.store import open_store
from schedule.units import NewUnit
from web import cli, command


async def fill(database: Path) -> None:
    store = await open_store(str(database))
    async with store.writing() as connection:
        await units.add_unit(connection, NewUnit("C", "Centre", "centre", None))
    await store.close()


async def name(database: Path) -> str:
    store = await open_store(str(database))
    async with store.reading() as connection:
        found = await units.unit_by_code(connection, "C")
    await store.close()
    return found.name


def test_a_backup_is_written_and_restored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, file = tmp_path / "a.db", tmp_path / "b.db", tmp_path / "k.zip"
    asyncio.run(fill(first))
    assert cli.main(["backup", str(file), "--database", str(first)]) == 0
    assert cli.main(["restore", str(file), "--database", str(second)]) == 0
    assert asyncio.run(name(second)) == "Centre"
    assert f"{file}: 1 rows" in capsys.readouterr().out
    assert cli.main(["restore", str(file), "--database", str(second)]) == command.FAILED
    assert "not empty" in capsys.readouterr().err


def test_what_is_not_there_is_not_backed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["backup", str(tmp_path / "k.zip"), "--database", str(tmp_path / "no.db")]
    assert cli.main(arguments) == command.FAILED
    assert "there is no database" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
