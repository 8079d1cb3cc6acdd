"""A fresh, migrated database for each test: once on SQLite, once on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from schedule.store import Store, database_url, open_store
from tests.schedule import postgres
from tests.schedule.network import Network, build, load

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
_numbers = itertools.count(1)


# What a test's database begins as: only tables, or with the small network in it.
TEMPLATES: dict[str, Callable[[Store], Awaitable[None]] | None] = {"tables": None, "network": build}


async def _prepare(url: str, fill: Callable[[Store], Awaitable[None]] | None) -> None:
    store = await open_store(url)
    if fill is not None:
        await fill(store)
    await store.close()


async def _execute(url: str, statement: str) -> None:
    engine = create_async_engine(database_url(url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        for name, fill in TEMPLATES.items():
            asyncio.run(_execute(server.url("postgres"), f"CREATE DATABASE {name}"))
            asyncio.run(_prepare(server.url(name), fill))
        yield server


@pytest.fixture(scope="session")
def sqlite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sqlite")
    for name, fill in TEMPLATES.items():
        asyncio.run(_prepare(str(folder / name), fill))
    return folder


Source = Path | postgres.Server


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest) -> Source:
    """Where a test's database comes from: files to copy, or a server that holds templates."""
    fixture = "sqlite_folder" if request.param == "sqlite" else "postgres_server"
    found: Source = request.getfixturevalue(fixture)
    return found


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="terrace-db-", dir=postgres.quick_folder()) as name:
        yield Path(name)


@pytest.fixture
async def database(source: Source, folder: Path) -> str:
    """The `database` setting of a fresh, migrated database."""
    return await fresh(source, folder / "terrace.db")


@pytest.fixture
async def other_database(source: Source, folder: Path) -> str:
    """A second one."""
    return await fresh(source, folder / "other.db")


async def fresh(source: Source, path: Path, template: str = "tables") -> str:
    if isinstance(source, Path):
        shutil.copy(source / template, path)
        return str(path)
    name = f"test{next(_numbers)}"
    await _execute(source.url("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
    return source.url(name)


async def wipe(source: Source, database: str) -> None:
    """Take a database away as a disaster does, and make an empty one of that name."""
    if isinstance(source, Path):
        for end in ("", "-wal", "-shm"):
            Path(database + end).unlink(missing_ok=True)
        return
    name = database_url(database).database
    await _execute(source.url("postgres"), f"DROP DATABASE {name}")
    await _execute(source.url("postgres"), f"CREATE DATABASE {name}")


@pytest.fixture
async def empty_database(source: Source, folder: Path) -> str:
    """The `database` setting of a database without tables."""
    if isinstance(source, Path):
        return str(folder / "empty.db")
    name = f"empty{next(_numbers)}"
    await _execute(source.url("postgres"), f"CREATE DATABASE {name}")
    return source.url(name)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    opened = await open_store(database)
    yield opened
    await opened.close()


@pytest.fixture
async def network(source: Source, folder: Path) -> AsyncIterator[Network]:
    opened = await open_store(await fresh(source, folder / "network.db", "network"))
    yield await load(opened)
    await opened.close()


@pytest.fixture
def make_other_kind(
    sqlite_folder: Path, postgres_server: postgres.Server, folder: Path
) -> Callable[[Network], Awaitable[str]]:
    """Makes a fresh database of the kind that a network's is not."""

    async def make(network: Network) -> str:
        source: Source = postgres_server if network.store.kind == "sqlite" else sqlite_folder
        return await fresh(source, folder / "kind.db")

    return make
