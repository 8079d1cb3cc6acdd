"""A centre with the small network in it, behind a real HTTP server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.schedule.conftest import Source as Source
from tests.schedule.conftest import folder, fresh, postgres_server, sqlite_folder
from tests.schedule.network import Network, load
from tests.web.centre.house import opened, served
from tests.web.centre.people import Browser, Clock, give_passwords
from web.centre.centre import Centre

__all__ = ["folder", "postgres_server", "sqlite_folder"]


@pytest.fixture
def source(request: pytest.FixtureRequest) -> Source:
    """SQLite, unless a test asks for "postgres_server" by an indirect parameter."""
    found: Source = request.getfixturevalue(getattr(request, "param", "sqlite_folder"))
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def centre(source: Source, folder: Path, clock: Clock) -> AsyncIterator[Centre]:
    database = await fresh(source, folder / "network.db", "network")
    async with opened(database, clock, folder) as one:
        await give_passwords(one.store)
        yield one


@pytest.fixture
async def network(centre: Centre) -> Network:
    return await load(centre.store)


@pytest.fixture
async def url(centre: Centre) -> AsyncIterator[str]:
    async with served(centre) as where:
        yield where


@pytest.fixture
async def browser(url: str) -> AsyncIterator[Callable[[str], Awaitable[Browser]]]:
    """Opens a browser in which somebody signed in, by login; "" for nobody."""
    opened: list[Browser] = []

    async def sign_in(login: str) -> Browser:
        one = Browser(url)
        opened.append(one)
        if login:
            await one.sign_in(login)
        return one

    yield sign_in
    for one in opened:
        await one.close()
