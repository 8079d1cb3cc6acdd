"""Leases: of several centre processes, one at a time works on a thing.

A lease is a row; whoever has written it last, and not too long ago, owns it. Its fence grows with
every new owner, so what an owner writes after losing the lease can be told from what the new one
writes. The processes' clocks must agree to within a few seconds, as everywhere in a network whose
certificates have dates.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import case, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.store import upsert
from schedule.tables import Lease


async def take(
    connection: AsyncConnection, name: str, owner: str, now: datetime, length: timedelta
) -> int | None:
    """Take a lease, or prolong one's own; its fence, or None when somebody else has it."""
    statement = upsert(Lease, connection.dialect.name).values(
        name=name, owner=owner, until=now + length, fence=1
    )
    fresh = statement.excluded
    found = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "owner": fresh.owner,
                "until": fresh.until,
                "fence": Lease.fence + case((Lease.owner == owner, 0), else_=1),
            },
            where=or_(Lease.owner == owner, Lease.until <= now),
        ).returning(Lease.fence)
    )
    row = found.first()
    return None if row is None else int(row[0])


async def holds(connection: AsyncConnection, name: str, owner: str, fence: int) -> bool:
    """Whether the lease is still the same owner's under the same fence. Locks it until the end."""
    row = (
        await connection.execute(
            select(Lease.owner, Lease.fence).where(Lease.name == name).with_for_update()
        )
    ).first()
    return row is not None and (row.owner, row.fence) == (owner, fence)


async def release(connection: AsyncConnection, name: str, owner: str, now: datetime) -> None:
    """Give a lease back, so that the next one need not wait for its end."""
    await connection.execute(
        update(Lease).where(Lease.name == name, Lease.owner == owner).values(until=now)
    )


async def sweep(connection: AsyncConnection, before: datetime) -> None:
    """Forget leases that ended long ago."""
    await connection.execute(delete(Lease).where(Lease.until < before))
