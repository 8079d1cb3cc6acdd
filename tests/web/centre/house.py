"""A centre in this process on a database of the tests', and its API on a real port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path

from aiohttp import web

from relay.access import Access
from tests.web.centre.people import KEY, PASSWORDS, key_file
from web.centre import app as centre_app
from web.centre.centre import Centre
from web.centre.settings import CentreSettings


@contextlib.asynccontextmanager
async def opened(
    database: str, clock: Callable[[], datetime], folder: Path | None = None
) -> AsyncIterator[Centre]:
    """A centre that is closed with the block. folder: for its files; without, it has none."""
    settings = CentreSettings(database=database)
    if folder is not None:
        files = {"token_key": key_file(folder), "slides": folder / "slides"}
        settings = settings.model_copy(update=files)
    centre = await Centre.open(
        settings,
        public_url="http://centre.example",
        access=Access([KEY.public_key()], open_to_all=False),
        clock=clock,
        passwords=PASSWORDS,
    )
    try:
        yield centre
    finally:
        await centre.close()


@contextlib.asynccontextmanager
async def served(centre: Centre) -> AsyncIterator[str]:
    """Where its API can be asked."""
    app = web.Application()
    centre_app.add(app, centre)
    runner = web.AppRunner(app, access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
