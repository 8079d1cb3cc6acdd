"""The machine that makes the timetable happen: for each occurrence, what `life` says is next.

A runner looks at what is due, takes the lease of each occurrence, does one step after the other and
notes each in the store, together with what it changes, if the lease is still its own. Several
runners share the work; when one dies, another takes over as soon as its leases have ended. What
the steps do to the live side is behind `Machinery`: each must bear being done twice, for a process
may die between doing a step and noting it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import bookings, leases, life, reports
from schedule.clashes import Booking, find
from schedule.errors import Conflict, NotFound
from schedule.life import WISH_END, WISH_START, Do, Facts, Policy, Session, State
from schedule.steps import note_once
from schedule.store import Store
from schedule.tables import Occurrence, Series, Step

logger = logging.getLogger(__name__)

LEASE = timedelta(seconds=60)
# A step that takes longer is broken off and tried again.
STEP_S = 45
AT_ONCE = 16
# Overruns are asked about when something else begins so soon after the end.
NEXT = timedelta(minutes=15)
LONGEST_REHEARSAL = timedelta(days=1)


class Machinery(Protocol):
    """The live side, as the machine needs it. Every method must bear being called twice."""

    async def facts(self, session: Session) -> Facts:
        """Whether somebody presents now."""
        ...

    async def warm(self, session: Session) -> None: ...
    async def rehearse(self, session: Session) -> None: ...
    async def go_on_air(self, session: Session) -> None: ...
    async def record(self, session: Session) -> None: ...
    async def ask(self, session: Session) -> None: ...
    async def end(self, session: Session) -> None: ...

    async def publish(self, session: Session) -> str | None:
        """The id of the course that the recording became, "" when there is none, None: not yet."""
        ...

    async def announce(self, session: Session) -> None: ...


class Runner:
    """One process's part of the machine. owner: a name that no other process has, nor had."""

    def __init__(
        self,
        store: Store,
        machinery: Machinery,
        owner: str,
        clock: Callable[[], datetime],
        policy: Policy | None = None,
    ) -> None:
        self._store = store
        self._machinery = machinery
        self._owner = owner
        self._clock = clock
        self._policy = policy or Policy()

    async def work(self) -> int:
        """Do what is due; how many steps were done. One occurrence's failure ends at it."""
        async with self._store.reading() as connection:
            due = await due_sessions(connection, self._clock(), self._policy)
        turn = asyncio.Semaphore(AT_ONCE)

        async def run(session: Session) -> int:
            async with turn:
                try:
                    return await self._run(session.id)
                except Exception:
                    logger.exception("session_step_failed occurrence=%d", session.id)
                    return 0

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(run(session)) for session in due]
        return sum(task.result() for task in running)

    async def _run(self, occurrence_id: int) -> int:
        name = f"occurrence:{occurrence_id}"
        done = 0
        try:
            while True:
                now = self._clock()
                async with self._store.writing() as connection:
                    # Taken anew for each step, for a step may last as long as a lease.
                    fence = await leases.take(connection, name, self._owner, now, LEASE)
                if fence is None:
                    return done
                async with self._store.reading() as connection:
                    session = await load(connection, occurrence_id, now)
                facts = await self._machinery.facts(session)
                step = life.next_step(session, facts, now, self._policy)
                if step is None or not await self._do(step, session, facts, now, name, fence):
                    return done
                done += 1
        finally:
            async with self._store.writing() as connection:
                await leases.release(connection, name, self._owner, self._clock())

    async def _do(
        self,
        step: Do,
        session: Session,
        facts: Facts,
        now: datetime,
        lease: str,
        fence: int,
    ) -> bool:
        """Do a step and note it; False when it is not done yet, or is not ours any more."""
        values: Mapping[str, Any] = {}
        async with asyncio.timeout(STEP_S):
            if step is Do.PUBLISH:
                course = await self._machinery.publish(session)
                if course is None:
                    return False
                values = {"course": course}
            else:
                values = await self._act(step, session, facts, now)
        async with self._store.writing() as connection:
            if not await leases.holds(connection, lease, self._owner, fence):
                return False
            return await _note(connection, step, session, values, now)

    async def _act(
        self, step: Do, session: Session, facts: Facts, now: datetime
    ) -> Mapping[str, Any]:
        """What a step does outside of the store, and what it changes in it."""
        machinery = self._machinery
        match step:
            case Do.WARM:
                await machinery.warm(session)
            case Do.REHEARSE:
                await machinery.rehearse(session)
                return {"state": State.REHEARSAL.value}
            case Do.GO_ON_AIR:
                await machinery.go_on_air(session)
                return {"state": State.ON_AIR.value, "on_air_at": now}
            case Do.RECORD:
                await machinery.record(session)
            case Do.ASK:
                await machinery.ask(session)
                return {"end_asked_at": now}
            case Do.END:
                await machinery.end(session)
                over = life.ended_at(session, facts, now)
                return {"state": State.ENDED.value, "ended_at": over}
            case Do.MISS:
                await machinery.end(session)
                return {"state": State.MISSED.value}
            case Do.ANNOUNCE:
                await machinery.announce(session)
                return {"state": State.PUBLISHED.value}
            case Do.CLOSE if not session.is_live:
                return {"state": State.PUBLISHED.value}
            case _:
                pass
        return {}


async def _note(
    connection: AsyncConnection,
    step: Do,
    session: Session,
    values: Mapping[str, Any],
    now: datetime,
) -> bool:
    if step is Do.ASK:
        # Asked again for a later end: the only step that may happen more than once.
        await note_once(connection, session.id, f"{step} {session.ends_at:%Y%m%dT%H%M%S}", now)
    elif not await note_once(connection, session.id, step, now):
        return False
    if step is Do.CLOSE:
        await reports.close(connection, session.id, session.ended_at or now)
    if values:
        await connection.execute(
            update(Occurrence)
            .where(Occurrence.id == session.id, Occurrence.state == session.state.value)
            .values(**values)
        )
    logger.info("session_step occurrence=%d step=%s", session.id, step.replace(" ", "_"))
    return True


# Reading

_SESSION = (
    Occurrence.id,
    Occurrence.series_id,
    Occurrence.title,
    Occurrence.state,
    Series.source,
    Occurrence.starts_at,
    Occurrence.ends_at,
    Occurrence.extended_until,
    Series.rehearsal_s,
    Occurrence.on_air_at,
    Occurrence.ended_at,
    Occurrence.end_asked_at,
    Occurrence.course,
)


def _session(row: Any, done: frozenset[str]) -> Session:
    return Session(
        row.id,
        row.series_id,
        row.title,
        State(row.state),
        row.source == "live",
        row.starts_at,
        max(row.ends_at, row.extended_until or row.ends_at),
        row.rehearsal_s,
        row.on_air_at,
        row.ended_at,
        row.end_asked_at,
        row.course,
        done,
    )


async def due_sessions(connection: AsyncConnection, now: datetime, policy: Policy) -> list[Session]:
    """The occurrences that may have a step to do, without what comes next after them."""
    ahead = now + LONGEST_REHEARSAL + timedelta(seconds=policy.warm_s)
    rows = (
        await connection.execute(
            select(*_SESSION)
            .join(Series, Series.id == Occurrence.series_id)
            .where(
                or_(
                    and_(
                        Occurrence.state.in_(("planned", "rehearsal")),
                        Occurrence.starts_at <= ahead,
                    ),
                    Occurrence.state.in_(("on_air", "ended")),
                )
            )
            .order_by(Occurrence.starts_at)
        )
    ).all()
    done: dict[int, set[str]] = {row.id: set() for row in rows}
    for occurrence_id, step in await connection.execute(
        select(Step.occurrence_id, Step.step).where(Step.occurrence_id.in_(done))
    ):
        done[occurrence_id].add(step)
    found = [_session(row, frozenset(done[row.id])) for row in rows]
    return [
        one
        for one in found
        if one.state in (State.ON_AIR, State.ENDED)
        or WISH_START in one.done
        or life.opens_at(one, policy) <= now
    ]


async def load(connection: AsyncConnection, occurrence_id: int, now: datetime) -> Session:
    """One session, with what comes next after it; NotFound."""
    row = (
        await connection.execute(
            select(*_SESSION)
            .join(Series, Series.id == Occurrence.series_id)
            .where(Occurrence.id == occurrence_id)
        )
    ).first()
    if row is None:
        raise NotFound("there is no such lesson or meeting")
    steps = await connection.execute(select(Step.step).where(Step.occurrence_id == occurrence_id))
    session = _session(row, frozenset(step for (step,) in steps))
    if session.state is not State.ON_AIR:
        return session
    return replace(session, next_at=await _next_at(connection, session, now))


async def _next_at(connection: AsyncConnection, session: Session, now: datetime) -> datetime | None:
    """When the first thing begins that this session would clash with if it went on."""
    ends_at = max(session.ends_at, now)
    around = await bookings.bookings_during(connection, [(session.starts_at, ends_at + NEXT)])
    own = [one for one in around if one.occurrence_id == session.id]
    if not own:
        return None
    longer = replace(own[0], ends_at=ends_at + NEXT)
    others = [one for one in around if one.starts_at >= session.ends_at - NEXT]
    findings = find([longer], [one for one in others if one.starts_at > session.starts_at])
    return min((one.other.starts_at for one in findings), default=None)


async def booking_of(connection: AsyncConnection, occurrence_id: int) -> Booking:
    """An occurrence as a booking, with its extended end; NotFound when it takes up nobody."""
    row = (
        await connection.execute(
            select(Occurrence.starts_at, Occurrence.ends_at, Occurrence.extended_until).where(
                Occurrence.id == occurrence_id
            )
        )
    ).first()
    if row is not None:
        window = (row.starts_at, row.ends_at)
        for one in await bookings.bookings_during(connection, [window]):
            if one.occurrence_id == occurrence_id:
                return replace(one, ends_at=max(one.ends_at, row.extended_until or one.ends_at))
    raise NotFound("there is no such lesson or meeting, or it is over")


# What people ask for


async def start_now(connection: AsyncConnection, occurrence_id: int, now: datetime) -> None:
    """Begin before the time, as soon as somebody presents. Conflict, NotFound."""
    session = await load(connection, occurrence_id, now)
    if session.state not in (State.PLANNED, State.REHEARSAL):
        raise Conflict(f"it is {session.state}")
    await note_once(connection, occurrence_id, WISH_START, now)


async def end_now(connection: AsyncConnection, occurrence_id: int, now: datetime) -> None:
    """End what is on the air, early or late. Conflict, NotFound."""
    session = await load(connection, occurrence_id, now)
    if session.state is not State.ON_AIR:
        raise Conflict(f"it is {session.state}")
    await note_once(connection, occurrence_id, WISH_END, now)


async def extend(
    connection: AsyncConnection, occurrence_id: int, minutes: int, now: datetime
) -> datetime:
    """Go on for some minutes past the end, or past now; the new end. Conflict, NotFound."""
    session = await load(connection, occurrence_id, now)
    if session.state is not State.ON_AIR:
        raise Conflict(f"it is {session.state}")
    until = max(session.ends_at, now) + timedelta(minutes=max(1, min(minutes, 24 * 60)))
    await connection.execute(
        update(Occurrence).where(Occurrence.id == occurrence_id).values(extended_until=until)
    )
    return until
