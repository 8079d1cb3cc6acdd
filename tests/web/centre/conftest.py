"""A centre with the small network in it, behind a real HTTP server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from relay.access import Access
from tests.schedule.conftest import Source as Source
from tests.schedule.conftest import folder, fresh, postgres_server, sqlite_folder
from tests.schedule.network import Network, load
from tests.web.centre.people import KEY, PASSWORDS, Browser, Clock, give_passwords
from web.centre import app as centre_app
from web.centre.centre import Centre
from web.centre.settings import CentreSettings

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
    opened = await Centre.open(
        CentreSettings(database=database),
        public_url="http://centre.example",
        access=Access([KEY.public_key()], open_to_all=False),
        clock=clock,
        passwords=PASSWORDS,
    )
    await give_passwords(opened.store)
    yield opened
    await opened.close()


@pytest.fixture
async def network(centre: Centre) -> Network:
    return await load(centre.store)


@pytest.fixture
async def url(centre: Centre) -> AsyncIterator[str]:
    app = web.Application()
    centre_app.add(app, centre)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    yield f"http://{host}:{port}"
    await runner.cleanup()


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
