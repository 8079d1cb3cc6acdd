"""The record of who changed what: written in the transaction of the change itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule.tables import Audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One change. person_id None: the machine itself. subject: "unit:12", "series:7"."""

    id: int
    at: datetime
    person_id: int | None
    action: str
    subject: str
    detail: Mapping[str, Any]


async def record(
    connection: AsyncConnection,
    now: datetime,
    person_id: int | None,
    action: str,
    subject: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Note a change. No secrets belong into `detail`; it is JSON."""
    await connection.execute(
        insert(Audit),
        {
            "at": now,
            "person_id": person_id,
            "action": action,
            "subject": subject,
            "detail": dict(detail or {}),
        },
    )


async def entries(
    connection: AsyncConnection, *, subject: str = "", before_id: int = 2**62, most: int = 100
) -> list[Entry]:
    """The newest changes first, of one subject or of all; `before_id` pages on."""
    query = select(
        Audit.id, Audit.at, Audit.person_id, Audit.action, Audit.subject, Audit.detail
    ).where(Audit.id < before_id)
    if subject:
        query = query.where(Audit.subject == subject)
    found = await connection.execute(query.order_by(Audit.id.desc()).limit(most))
    return [Entry(*row) for row in found]
