"""What a centre does by itself, again and again. A loop that fails is logged and goes on.

All of it runs on the loop of the HTTP side; packets have threads of their own. Several centres on
one database may do the same at once: the store says who has what.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from schedule import bookings, invitations, leases, reminders, rooms, settling
from schedule.life import Policy
from schedule.outbox import Outbox
from schedule.sessions import Machinery, Runner
from web.centre import signin
from web.centre.centre import Centre
from web.centre.timetables import Timetables

log = logging.getLogger("web.centre.background")

INVITE_AHEAD: Final = timedelta(days=14)
REST: Final = timedelta(minutes=5)
"""After a change of a plan, before its units are invited (anew)."""
KEEP_LEASES: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Loop:
    """One thing to do every so many seconds, the first time at once."""

    name: str
    every_s: float
    do: Callable[[], Awaitable[object]]


def loops(
    centre: Centre,
    machinery: Machinery,
    timetables: Timetables,
    outbox: Outbox,
    owner: str,
    policy: Policy,
) -> list[Loop]:
    """What the schedule wants done (schedule/README.md), and the stations' timetables."""
    store, clock = centre.store, centre.clock
    runner = Runner(store, machinery, owner, clock, policy)

    async def settle() -> None:
        await settling.settle(store, clock())

    async def remind() -> None:
        async with store.writing() as connection:
            await reminders.remind(connection, clock(), centre.policy)

    async def invite() -> None:
        now = clock()
        # One class at a time: who waits to write, a joining county too, waits for one at most.
        while True:
            async with store.writing() as connection:
                invited = await invitations.invite_ahead(
                    connection, now, INVITE_AHEAD, rest=REST, most=1
                )
                for id in invited:
                    await reminders.send_invitations(connection, id, now, centre.policy)
            if not invited:
                return

    async def hourly() -> None:
        now = clock()
        async with store.writing() as connection:
            await bookings.roll_on(connection, now)
        async with store.writing() as connection:
            await leases.sweep(connection, now - KEEP_LEASES)
            await signin.sweep(connection, now, centre.lifetime)
        async with store.reading() as connection:
            named = await rooms.named_pages(connection)
        swept = await centre.slides.sweep(named)
        if swept:
            log.info("slides-swept files=%d", swept)

    return [
        Loop("classes", 1.0, runner.work),
        Loop("attendance", 5.0, settle),
        Loop("reminders", 5.0, remind),
        Loop("invitations", 30.0, invite),
        Loop("messages", 2.0, outbox.work),
        Loop("hourly", 3600.0, hourly),
        Loop("timetables", 30.0, timetables.issue),
    ]


async def run(all_loops: list[Loop]) -> None:
    """Run them until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for one in all_loops:
            tasks.create_task(_again(one), name=f"centre-{one.name}")


async def _again(one: Loop) -> None:
    while True:
        try:
            await one.do()
        except Exception:
            log.exception("background-failed loop=%s again_s=%g", one.name, one.every_s)
        await asyncio.sleep(one.every_s)
