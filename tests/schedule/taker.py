"""A process that takes reports of stays over HTTP, as the centre does: acknowledged when committed.

    python -m tests.schedule.taker DATABASE PORT

It settles all the time, as the centre does, so that a kill may hit it in the middle of that.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

from aiohttp import web

from schedule.reports import Attendee, StayReport, report_stays
from schedule.settling import settle
from schedule.store import Store, open_store
from tests.schedule.network import NOW


async def main(database: str, port: int) -> None:
    store = await open_store(database)
    app = web.Application()
    app.router.add_post("/stays", lambda request: _take(store, request))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        await settle(store, NOW)
        await asyncio.sleep(0.02)


async def _take(store: Store, request: web.Request) -> web.Response:
    reports = [
        StayReport(
            one["source"],
            one["occurrence"],
            Attendee("site", one["site"]),
            datetime.fromisoformat(one["at"]),
            datetime.fromisoformat(one["at"]),
        )
        for one in await request.json()
    ]
    async with store.writing() as connection:
        taken = await report_stays(connection, reports)
    return web.json_response({"kept": taken.kept})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
