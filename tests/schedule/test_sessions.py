"""The machine over the store: every step once, one owner at a time, on after a crash."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from schedule import agenda, leases, sessions
from schedule.agenda import Whose
from schedule.errors import Conflict
from schedule.life import Facts, Session, State
from schedule.sessions import Runner
from schedule.store import Store
from schedule.tables import Occurrence
from tests.schedule.network import MONDAY_9, NOW, Network, utc

STARTS = utc("2026-03-02T01:00")


class Live:
    """A live side that notes what it was told, with a presenter who comes and goes."""

    def __init__(self) -> None:
        self.now = STARTS
        self.said: list[str] = []
        self.presenting = False
        self.silent_since: datetime | None = None
        self.ready = False
        self.broken: str = ""

    def clock(self) -> datetime:
        return self.now

    def at(self, minutes: float) -> None:
        self.now = STARTS + timedelta(minutes=minutes)

    async def facts(self, session: Session) -> Facts:
        return Facts(self.presenting, self.silent_since)

    async def _say(self, word: str) -> None:
        self.said.append(word)
        await asyncio.sleep(0)
        if word == self.broken:
            raise RuntimeError(word)

    async def warm(self, session: Session) -> None:
        await self._say("warm")

    async def rehearse(self, session: Session) -> None:
        await self._say("rehearse")

    async def go_on_air(self, session: Session) -> None:
        await self._say("on air")

    async def record(self, session: Session) -> None:
        await self._say("record")

    async def ask(self, session: Session) -> None:
        await self._say("ask")

    async def end(self, session: Session) -> None:
        await self._say("end")

    async def publish(self, session: Session) -> str | None:
        await self._say("publish")
        return f"course-{session.id}" if self.ready else None

    async def announce(self, session: Session) -> None:
        await self._say(f"announce {session.course}")


def runner(store: Store, live: Live, owner: str = "me") -> Runner:
    return Runner(store, live, owner, live.clock)


async def plan(network: Network, **more: Any) -> int:
    await network.confirmed(network.draft(rehearsal_s=600, **more))
    async with network.store.reading() as connection:
        found = await agenda.occurrences(connection, Whose(), NOW, NOW + timedelta(days=3))
    return found[-1].id


async def row(store: Store, one: int) -> Any:
    async with store.reading() as connection:
        query = select(
            Occurrence.state, Occurrence.on_air_at, Occurrence.ended_at, Occurrence.course
        )
        return (await connection.execute(query.where(Occurrence.id == one))).one()


async def test_a_class_from_the_first_step_to_the_last(network: Network) -> None:
    one, live = await plan(network), Live()
    run = runner(network.store, live)
    for minutes, said in (
        (-60, []),
        (-15, ["warm"]),
        (-10, ["rehearse"]),
        (0, []),  # nobody there yet
    ):
        live.at(minutes)
        await run.work()
        assert live.said == said
        live.said.clear()
    live.presenting = True
    live.at(2)
    await run.work()
    assert live.said == ["on air", "record"]
    live.presenting, live.silent_since = False, live.now + timedelta(minutes=40)
    live.at(46)
    await run.work()
    assert live.said == ["on air", "record", "end", "publish"]
    live.ready = True
    await run.work()
    assert live.said[4:] == ["publish", f"announce course-{one}"]
    assert await run.work() == 0
    assert tuple(await row(network.store, one)) == (
        "published",
        STARTS + timedelta(minutes=2),
        STARTS + timedelta(minutes=42),
        f"course-{one}",
    )


async def test_a_recorded_lesson_runs_by_itself(network: Network) -> None:
    one, live = await plan(network, source="recorded", course="maths-1"), Live()
    for minutes in (-15, -10, 0, 45):
        live.at(minutes)
        await runner(network.store, live).work()
    assert live.said == ["warm", "rehearse", "on air", "end"]
    found = await row(network.store, one)
    assert (found.state, found.course) == ("published", "maths-1")


async def test_a_step_that_failed_is_done_again_and_no_other(network: Network) -> None:
    """As after a crash between doing a step and noting it."""
    one, live = await plan(network), Live()
    live.presenting = True
    live.broken = "record"
    await runner(network.store, live).work()
    assert (await row(network.store, one)).state == "on_air"
    live.broken = ""
    await runner(network.store, live, "another process").work()
    assert live.said == ["warm", "on air", "record", "record"]


async def test_one_session_s_failure_does_not_hold_up_the_others(network: Network) -> None:
    await plan(network)
    second, live = await plan(network, starts_local=MONDAY_9 + timedelta(minutes=1)), Live()

    class HalfBroken(Live):
        async def warm(self, session: Session) -> None:
            if session.id != second:
                raise OSError("no tree")
            await super().warm(session)

    live = HalfBroken()
    await runner(network.store, live).work()
    assert live.said == ["warm", "rehearse"]


async def test_two_runners_do_each_step_once(network: Network) -> None:
    for minutes in range(6):
        await plan(network, starts_local=MONDAY_9 - timedelta(minutes=minutes))
    live = Live()
    live.presenting = live.ready = True
    runners = [runner(network.store, live, name) for name in ("one", "two", "three")]
    for _ in range(3):
        await asyncio.gather(*(one.work() for one in runners))
    said = Counter(live.said)
    assert said == {"warm": 6, "on air": 6, "record": 6}


async def test_an_overrun_is_asked_about_once_and_never_cut(network: Network) -> None:
    teacher = network.people["P1"]
    one = await plan(network, presenter_id=teacher)
    await plan(network, presenter_id=teacher, starts_local=MONDAY_9 + timedelta(minutes=50))
    live = Live()
    live.presenting = True
    run = runner(network.store, live)
    for minutes in (0, 30, 44, 46, 49):
        live.at(minutes)
        await run.work()
    assert live.said.count("ask") == 1
    assert "end" not in live.said
    async with network.store.writing() as connection:
        until = await sessions.extend(connection, one, 5, live.now)
        assert until == STARTS + timedelta(minutes=54)
        booking = await sessions.booking_of(connection, one)
        assert booking.ends_at == until
    live.at(53)
    await run.work()
    assert live.said.count("ask") == 2
    async with network.store.writing() as connection:
        await sessions.end_now(connection, one, live.now)
    await run.work()
    assert live.said.count("end") == 1
    assert (await row(network.store, one)).ended_at == live.now


async def test_wishes_belong_to_their_states(network: Network) -> None:
    one, live = await plan(network), Live()
    live.at(-12)
    live.presenting = True
    async with network.store.writing() as connection:
        with pytest.raises(Conflict, match="planned"):
            await sessions.end_now(connection, one, live.now)
        await sessions.start_now(connection, one, live.now)
    await runner(network.store, live).work()
    assert (await row(network.store, one)).on_air_at == live.now
    async with network.store.writing() as connection:
        with pytest.raises(Conflict, match="on_air"):
            await sessions.start_now(connection, one, live.now)


async def test_nobody_came(network: Network) -> None:
    one, live = await plan(network), Live()
    live.at(300)
    await runner(network.store, live).work()
    assert (await row(network.store, one)).state == State.MISSED


async def test_a_lease_has_one_owner_and_its_fence_grows(store: Store) -> None:
    length = timedelta(seconds=60)
    later = NOW + timedelta(seconds=61)

    async def take(owner: str, now: datetime) -> int | None:
        async with store.writing() as connection:
            return await leases.take(connection, "x", owner, now, length)

    assert await take("a", NOW) == 1
    assert await take("b", NOW) is None
    assert await take("a", NOW + length / 2) == 1
    assert await take("b", later) is None
    assert await take("b", later + length) == 2
    async with store.writing() as connection:
        assert not await leases.holds(connection, "x", "a", 1)
        assert await leases.holds(connection, "x", "b", 2)
        await leases.release(connection, "x", "b", later)
    assert await take("a", later) == 3
    taken = await asyncio.gather(*(take(f"r{n}", later + length * 2) for n in range(8)))
    assert [fence for fence in taken if fence] == [4]
    async with store.writing() as connection:
        await leases.sweep(connection, later + length * 9)
    assert await take("z", later) == 1
