"""The database: opening it, bringing it up to date, and the two kinds of transaction.

The `database` setting is a path or a URL: `sqlite:///terrace.db` (the default kind) or
`postgresql://user@host/name`. Everything above this file is the same for both.

In SQLite one writer works at a time. Writers of this process queue up in a fair lock, those of
other processes wait in SQLite; a write transaction takes the write lock when it begins, so that it
never fails half-way because someone else was faster.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Insert, event, text, update
from sqlalchemy import insert as plain_insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from schedule import room_tables as room_tables  # so that the metadata is whole
from schedule.errors import Conflict, StoreError
from schedule.tables import Base

log = logging.getLogger("schedule.store")

MIGRATIONS = Path(__file__).parent / "migrations"
# How long a writer waits for another process's transaction.
SQLITE_WAIT_S = 30
OPEN_TRIES, OPEN_AGAIN_S = 20, 0.05
CLOSE_WITHIN_S = 5.0
# Parameters of one statement: SQLite takes 32,766, PostgreSQL's protocol 32,767.
PARAMETERS = 30_000
# Two processes that start together must not both migrate. Any number that nothing else uses.
_MIGRATION_LOCK = 0x7E88ACE


class Store:
    """An open database. Made by `open_store`, closed by `close`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.kind = engine.dialect.name
        self._writers = asyncio.Lock()
        self._closed = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes nothing and sees one state of the database throughout."""
        async with self._connection() as connection:
            if self.kind == "postgresql":
                connection = await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is kept when the block ends well and undone when it does not."""
        turn = self._writers if self.kind == "sqlite" else contextlib.nullcontext()
        async with turn, self._connection() as connection:
            connection = await connection.execution_options(terrace_write=True)
            async with connection.begin():
                yield connection

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool, that `close` waits for until it is back there."""
        if self._closed:
            raise StoreError("the database is closed")
        self._under_way += 1
        self._idle.clear()
        try:
            connection = await self.engine.connect()
        except BaseException:
            self._over()
            raise
        try:
            yield connection
        finally:
            giving_back = asyncio.create_task(connection.close(), name="database-give-back")
            giving_back.add_done_callback(lambda _: self._over())
            # Whoever is cancelled here as well leaves it to `close` to wait.
            await asyncio.shield(giving_back)

    def _over(self) -> None:
        self._under_way -= 1
        if not self._under_way:
            self._idle.set()

    async def revision(self) -> str | None:
        """The schema's version in the database, None where there is none yet."""
        async with self._connection() as connection:
            return await connection.run_sync(_current)

    async def migrate(self) -> None:
        """Bring the schema up to date; StoreError when the database is of a newer Terrace."""
        async with self.writing() as connection:
            if self.kind == "postgresql":
                await connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        """Close the database once the transactions that are under way are over; no new one begins.

        A transaction that is cancelled a second time, as at the end of the event loop, while its
        connection is being closed waits for aiosqlite's thread, which has ended: for ever.
        """
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("database-busy transactions=%d", self._under_way)
        await self.engine.dispose()


def database_url(setting: str) -> URL:
    """The `database` setting as SQLAlchemy's URL, with the driver filled in.

    StoreError for anything but SQLite and PostgreSQL. A bare path is an SQLite file.
    """
    if "://" not in setting:
        return URL.create("sqlite+aiosqlite", database=setting)
    try:
        url = make_url(setting)
    except (ArgumentError, ValueError):
        raise StoreError(
            "the database must be a path or a URL such as postgresql://terrace@host/terrace"
        ) from None
    drivers = {
        "sqlite": "sqlite+aiosqlite",
        "postgres": "postgresql+asyncpg",
        "postgresql": "postgresql+asyncpg",
    }
    family = url.drivername.partition("+")[0]
    if family not in drivers:
        raise StoreError(
            f"a database of kind {family!r} is not supported, use sqlite or postgresql"
        )
    if family == "sqlite" and not url.database:
        raise StoreError("an SQLite database needs a file, such as sqlite:///terrace.db")
    return url.set(drivername=drivers[family])


async def open_store(setting: str, *, migrate: bool = True) -> Store:
    """Open the database; create the file and bring the schema up to date unless told otherwise.

    StoreError when it cannot be opened or its schema is not this version's.
    """
    url = database_url(setting)
    if url.drivername.startswith("sqlite"):
        engine = create_async_engine(url, connect_args={"timeout": SQLITE_WAIT_S})
        _prepare_sqlite(engine)
    else:
        engine = create_async_engine(
            url,
            pool_size=8,
            max_overflow=8,
            pool_pre_ping=True,
            # Compiling a roll-up takes PostgreSQL longer (0.6 s) than running it (0.3 s).
            connect_args={"server_settings": {"jit": "off", "application_name": "terrace"}},
        )
    store = Store(engine)
    try:
        if migrate:
            await _migrate(store)
        elif await store.revision() != newest_revision():
            raise StoreError("the database's tables are not this version's, run the migrations")
    except (SQLAlchemyError, OSError) as error:
        await store.close()
        where = url.render_as_string(hide_password=True)
        raise StoreError(f"the database {where} cannot be used: {_reason(error)}") from error
    except BaseException:
        await store.close()
        raise
    return store


async def _migrate(store: Store) -> None:
    """Bring the schema up to date.

    Two who open a new SQLite file in the same moment both want to change its journal, and in that
    step SQLite waits for nobody: whoever is refused tries again.
    """
    for tries_left in reversed(range(OPEN_TRIES)):
        try:
            await store.migrate()
        except OperationalError as error:
            if not tries_left or "database is locked" not in str(error):
                raise
            await asyncio.sleep(OPEN_AGAIN_S)
        else:
            return


def _reason(error: BaseException) -> str:
    first = str(error.orig) if isinstance(error, DBAPIError) and error.orig else str(error)
    return re.sub(r"^<class '[^']*'>: ", "", first.splitlines()[0] if first else repr(error))


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Foreign keys on, a write-ahead log, what is committed is on the disk, and our own BEGIN."""

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver would begin too late, at the first write
        cursor = connection.cursor()
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            # 16 MiB for each connection, of which there may be fifteen; the rest is the system's.
            "cache_size = -16384",
            "temp_store = MEMORY",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "invalidate")
    def given_up(connection: Any, _record: object, _error: object) -> None:
        # Whoever worked with it was cancelled. As long as one of its statements is not collected as
        # garbage, SQLite keeps a closed connection, and with it the lock of all writers.
        with contextlib.suppress(sqlite3.Error):
            connection.rollback()

    @event.listens_for(engine.sync_engine, "begin")
    def began(connection: Connection) -> None:
        writes = connection.get_execution_options().get("terrace_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


# Migrations


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    """The schema's version that this Terrace works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _upgrade(connection: Connection) -> None:
    known = {one.revision for one in ScriptDirectory.from_config(_config()).walk_revisions()}
    current = _current(connection)
    if current is not None and current not in known:
        raise StoreError("the database was made by a newer Terrace, install that or a later one")
    if current != newest_revision():
        command.upgrade(_config(connection), "head")


# Statements that both databases understand and SQLAlchemy has no common word for


def upsert(table: type[Base], kind: str) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do when the row is there already."""
    if kind == "postgresql":
        return postgresql.insert(table)
    return sqlite.insert(table)


async def insert_many(
    connection: AsyncConnection, statement: Insert, rows: Sequence[dict[str, Any]]
) -> None:
    """Insert many rows, in as many statements as their size asks for."""
    for start in range(0, len(rows), 5_000):
        await connection.execute(statement, rows[start : start + 5_000])


# A savepoint around each write, so that a taken code does not end the caller's transaction.


async def insert_row(
    connection: AsyncConnection, table: type[Any], values: dict[str, Any], taken: str
) -> int:
    """Insert a row and return its id; Conflict(taken) when a constraint forbids it."""
    try:
        async with connection.begin_nested():
            found = await connection.execute(plain_insert(table).values(values).returning(table.id))
            return int(found.scalar_one())
    except IntegrityError as error:
        raise Conflict(taken) from error


async def update_row(
    connection: AsyncConnection, table: type[Any], row_id: int, values: dict[str, Any], taken: str
) -> None:
    """Change the row with an id; Conflict(taken) when a constraint forbids it."""
    try:
        async with connection.begin_nested():
            await connection.execute(update(table).where(table.id == row_id).values(values))
    except IntegrityError as error:
        raise Conflict(taken) from error
