"""A fresh, migrated database for each test: once on SQLite, once on PostgreSQL."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from schedule.store import Store, database_url, open_store
from tests.schedule import postgres

KINDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)]
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        asyncio.run(_prepare(server.url("postgres"), server.url("template")))
        yield server


async def _prepare(maintenance: str, template: str) -> None:
    await _execute(maintenance, "CREATE DATABASE template")
    await (await open_store(template)).close()


async def _execute(url: str, statement: str) -> None:
    engine = create_async_engine(database_url(url), isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"

    async def make() -> None:
        await (await open_store(str(path))).close()

    asyncio.run(make())
    return path


Source = Path | postgres.Server


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest) -> Source:
    """Where a test's database comes from: a file to copy, or a server that holds a template."""
    fixture = "sqlite_template" if request.param == "sqlite" else "postgres_server"
    found: Source = request.getfixturevalue(fixture)
    return found


@pytest.fixture
async def database(source: Source, tmp_path: Path) -> str:
    """The `database` setting of a fresh, migrated database."""
    return await fresh(source, tmp_path / "terrace.db")


@pytest.fixture
async def other_database(source: Source, tmp_path: Path) -> str:
    """A second one."""
    return await fresh(source, tmp_path / "other.db")


async def fresh(source: Source, path: Path) -> str:
    if isinstance(source, Path):
        shutil.copy(source, path)
        return str(path)
    name = f"test{next(_numbers)}"
    await _execute(source.url("postgres"), f"CREATE DATABASE {name} TEMPLATE template")
    return source.url(name)


@pytest.fixture
async def empty_database(source: Source, tmp_path: Path) -> str:
    """The `database` setting of a database without tables."""
    if isinstance(source, Path):
        return str(tmp_path / "empty.db")
    name = f"empty{next(_numbers)}"
    await _execute(source.url("postgres"), f"CREATE DATABASE {name}")
    return source.url(name)


@pytest.fixture
async def store(database: str) -> AsyncIterator[Store]:
    opened = await open_store(database)
    yield opened
    await opened.close()
