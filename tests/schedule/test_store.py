"""Opening the database: its schema, its transactions, and what is said when it cannot be used."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, insert, select, text

from schedule.errors import StoreError
from schedule.store import SQLITE_WAIT_S, Store, database_url, newest_revision, open_store
from schedule.tables import Base, Lease


async def test_the_migrations_make_what_the_models_say(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, Base.metadata))

    assert await store.revision() == newest_revision()
    async with store.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_two_processes_that_start_together_migrate_once(empty_database: str) -> None:
    stores = await asyncio.gather(open_store(empty_database), open_store(empty_database))
    for store in stores:
        assert await store.revision() == newest_revision()
        await store.close()


async def test_a_database_of_a_newer_terrace_is_refused(database: str) -> None:
    store = await open_store(database)
    async with store.writing() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await store.close()
    with pytest.raises(StoreError, match="newer Terrace"):
        await open_store(database)


async def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    row = {"name": "a", "owner": "b", "until": datetime(2026, 3, 2, tzinfo=UTC), "fence": 1}

    async def fail() -> None:
        async with store.writing() as connection:
            await connection.execute(insert(Lease), row)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    async with store.reading() as connection:
        assert (await connection.execute(select(Lease.name))).all() == []


async def _write(store: Store) -> None:
    async with store.writing() as connection:
        for _ in range(100):
            await connection.execute(text("SELECT 1"))


async def _turns(number: int) -> None:
    """Turns of the event loop, by which somebody else gets so far and no farther."""
    for _ in range(number):
        await asyncio.sleep(0)


def test_closing_waits_for_transactions_that_are_given_up(database: str) -> None:
    """Given up at many moments, and the loop ends at once.

    Whoever is cancelled twice while its connection is closed would wait for aiosqlite for ever.
    """

    async def lived(turns: int) -> None:
        store = await open_store(database, migrate=False)
        writers = [asyncio.create_task(_write(store)) for _ in range(3)]
        await _turns(turns)
        for writer in writers:
            writer.cancel()
        await _turns(1)
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.revision()

    async def made() -> None:
        await (await open_store(database)).close()

    asyncio.run(made())
    for turns in range(100):
        asyncio.run(lived(turns))


async def test_a_writer_that_is_given_up_holds_nobody_up(database: str) -> None:
    """Its lock goes with it, not when the collector comes by what it had begun to read."""
    store, other = [await open_store(database) for _ in range(2)]
    busy = asyncio.Event()

    def begins(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement == str(long):
            busy.set()

    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) "
    many, long = text(count + "SELECT i FROM n"), text(count + "SELECT max(i) FROM n")
    event.listen(store.engine.sync_engine, "before_cursor_execute", begins)

    async def write() -> None:
        async with store.writing() as connection:
            rows = await connection.stream(many)
            assert await rows.fetchone() == (1,)
            await connection.execute(long)

    try:
        writer = asyncio.create_task(write())
        await busy.wait()
        writer.cancel()
        uncollected = await asyncio.gather(writer, return_exceptions=True)
        async with asyncio.timeout(SQLITE_WAIT_S / 3):
            await _write(other)
        assert isinstance(uncollected[0], asyncio.CancelledError)
    finally:
        await store.close()
        await other.close()


async def test_two_writers_of_two_processes_wait_for_each_other(database: str) -> None:
    """Each reads, then writes what it read plus one; a lost update would show."""
    stores = [await open_store(database) for _ in range(2)]
    async with stores[0].writing() as connection:
        await connection.execute(
            text("INSERT INTO leases (name, owner, until, fence) VALUES ('n', '', 0, 0)")
        )

    async def add(store: Store) -> None:
        for _ in range(20):
            async with store.writing() as connection:
                fence = (
                    await connection.execute(select(Lease.fence).with_for_update())
                ).scalar_one()
                await connection.execute(text("UPDATE leases SET fence = :n"), {"n": fence + 1})

    await asyncio.gather(*(add(store) for store in stores))
    async with stores[0].reading() as connection:
        assert (await connection.execute(select(Lease.fence))).scalar_one() == 40
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("setting", "driver", "database"),
    [
        ("terrace.db", "sqlite+aiosqlite", "terrace.db"),
        ("sqlite:///data/terrace.db", "sqlite+aiosqlite", "data/terrace.db"),
        ("postgres://me@db/terrace", "postgresql+asyncpg", "terrace"),
        ("postgresql+psycopg2://me@db/terrace", "postgresql+asyncpg", "terrace"),
    ],
)
def test_the_setting_names_the_database(setting: str, driver: str, database: str) -> None:
    url = database_url(setting)
    assert (url.drivername, url.database) == (driver, database)


@pytest.mark.parametrize("setting", ["mysql://me@db/terrace", "sqlite://", "postgresql://me@db:x/"])
def test_what_is_no_database_is_refused(setting: str) -> None:
    with pytest.raises(StoreError):
        database_url(setting)


async def test_an_unreachable_database_is_one_sentence_without_its_password() -> None:
    with pytest.raises(StoreError) as caught:
        await open_store("postgresql://me:secret@127.0.0.1:9/terrace")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
