"""Steps in the life of an occurrence that are done once, whoever does them and however often."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.store import upsert
from schedule.tables import Step


async def note_once(
    connection: AsyncConnection, occurrence_id: int, step: str, now: datetime
) -> bool:
    """Note that a step was done; False when it had been."""
    done = await connection.execute(
        upsert(Step, connection.dialect.name)
        .values(occurrence_id=occurrence_id, step=step, done_at=now)
        .on_conflict_do_nothing()
        .returning(Step.step)
    )
    return done.first() is not None


async def steps_done(connection: AsyncConnection, occurrence_id: int) -> frozenset[str]:
    """The steps of an occurrence that were done."""
    found = await connection.execute(select(Step.step).where(Step.occurrence_id == occurrence_id))
    return frozenset(step for (step,) in found)
