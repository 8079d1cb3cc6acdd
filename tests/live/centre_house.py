"""A centre with its pages in this process, on a real database and a real port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from playwright.async_api import Page

from relay.access import Access
from schedule import planning
from schedule.series import Draft
from tests.schedule.network import Network, build, load
from tests.web.centre.people import KEY, PASSWORDS, give_passwords
from tests.web.test_pages import Node
from web import pages
from web.centre import app as centre_app
from web.centre.centre import Centre
from web.centre.pages import add_centre_pages
from web.centre.settings import CentreSettings

AXE = Path(__file__).parent / "axe" / "axe.min.js"
"""axe-core 4.14.1, MPL-2.0: github.com/dequelabs/axe-core; for tests only."""


@dataclass
class House:
    """An open centre, the network in it, and where browsers reach it."""

    centre: Centre
    network: Network
    url: str

    async def confirmed(self, draft: Draft) -> planning.Saved:
        """Plan something, now, and confirm it."""
        now = self.centre.clock()
        async with self.centre.store.writing() as connection:
            saved = await planning.save(connection, draft, now, None)
            return await planning.submit(connection, saved.series.id, now, None)


@contextlib.asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    """Everybody of the small network may sign in; the clock is the real one."""
    centre = await Centre.open(
        CentreSettings(database=str(folder / "centre.db")),
        public_url="http://centre.example",
        access=Access([KEY.public_key()], open_to_all=False),
        passwords=PASSWORDS,
    )
    await build(centre.store)
    await give_passwords(centre.store)
    app = web.Application()
    centre_app.add(app, centre)
    pages.add_pages(app, Node())
    add_centre_pages(app)
    runner = web.AppRunner(app, access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield House(centre, await load(centre.store), f"http://{host}:{port}")
    finally:
        await runner.cleanup()
        await centre.close()


# A colour that is on its way from one to the other has a contrast that nobody sees for long.
SETTLED = """
Promise.all(document.getAnimations()
  .filter((one) => Number.isFinite(one.effect?.getComputedTiming().endTime))
  .map((one) => one.finished.catch(() => null))).then(() => null)
"""


async def barriers(page: Page) -> list[str]:
    """What axe finds serious or critical on the page once its transitions have ended, in words."""
    await page.evaluate(SETTLED)
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found: dict[str, Any] = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"], "axe looked at nothing"
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
