"""Invitations: which units are asked to an occurrence, what they answer, and who has not yet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    ColumnElement,
    String,
    and_,
    case,
    cast,
    delete,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.bookings import audiences_of
from schedule.clashes import Reach, Reaches
from schedule.errors import Conflict, Invalid, NotFound
from schedule.steps import note_once
from schedule.store import upsert
from schedule.tables import Invitation, Occurrence, Series, Step, Unit
from schedule.units import past

URGENT = timedelta(hours=2)


class Reply(StrEnum):
    """What a unit answers. A leave is a no with a reason that counts as excused."""

    YES = "yes"
    NO = "no"
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Answer:
    """One unit's invitation. reply "": not answered."""

    unit_id: int
    unit_name: str
    unit_path: str
    reply: str
    reason: str
    replied_at: datetime | None


@dataclass(frozen=True, slots=True)
class Answers:
    """How many units answered what."""

    invited: int
    yes: int
    no: int
    leave: int

    @property
    def open(self) -> int:
        return self.invited - self.yes - self.no - self.leave


async def invite(connection: AsyncConnection, occurrence_id: int) -> int:
    """Invite all units of the audience, in one statement; how many are invited now.

    Those invited already keep their answers; those not in the audience any more, and unanswered,
    are taken out. NotFound.
    """
    series_id = await connection.scalar(
        select(Occurrence.series_id).where(Occurrence.id == occurrence_id)
    )
    if series_id is None:
        raise NotFound("there is no such lesson or meeting")
    audience = (await audiences_of(connection, [series_id]))[series_id]
    asked = select(literal(occurrence_id), Unit.id, literal(""), literal("")).where(
        _in_audience(audience)
    )
    columns = ["occurrence_id", "unit_id", "reply", "reason"]
    await connection.execute(
        upsert(Invitation, connection.dialect.name)
        .from_select(columns, asked)
        .on_conflict_do_nothing()
    )
    await connection.execute(
        delete(Invitation).where(
            Invitation.occurrence_id == occurrence_id,
            Invitation.reply == "",
            Invitation.unit_id.not_in(select(Unit.id).where(_in_audience(audience))),
        )
    )
    count = select(func.count()).where(Invitation.occurrence_id == occurrence_id)
    return await connection.scalar(count.select_from(Invitation)) or 0


async def invite_ahead(
    connection: AsyncConnection,
    now: datetime,
    ahead: timedelta,
    *,
    rest: timedelta = timedelta(),
    most: int = 1_000_000,
) -> list[int]:
    """Invite to what begins within `ahead`, each once for every state of its plan; to which.

    rest: so long a plan is left alone after it was changed, unless it begins within URGENT, so that
    three corrections in a row are one invitation. most: how many at once; when so many are returned
    there may be more.
    """
    noted = select(Step.step).where(
        Step.occurrence_id == Occurrence.id,
        Step.step == literal("invite ") + cast(Series.revision, String),
    )
    coming = await connection.execute(
        select(Occurrence.id, Series.revision)
        .join(Series, Series.id == Occurrence.series_id)
        .where(
            Occurrence.state == "planned",
            Occurrence.starts_at > now,
            Occurrence.starts_at <= now + ahead,
            or_(Series.changed_at <= now - rest, Occurrence.starts_at <= now + URGENT),
            ~noted.exists(),
        )
        .order_by(Occurrence.starts_at)
        .limit(most)
    )
    invited = []
    for occurrence_id, revision in coming.all():
        if await note_once(connection, occurrence_id, f"invite {revision}", now):
            await invite(connection, occurrence_id)
            invited.append(occurrence_id)
    return invited


def _in_audience(audience: tuple[Reach, ...]) -> ColumnElement[bool]:
    subtrees = {reach.path for reach in audience if reach.kind is Reaches.SUBTREE}
    single = {reach.path for reach in audience if reach.kind is not Reaches.SUBTREE}
    return or_(
        Unit.path.in_(single),
        *(and_(Unit.path >= path, Unit.path < past(path)) for path in sorted(subtrees)),
    )


async def reply(
    connection: AsyncConnection,
    occurrence_id: int,
    unit_id: int,
    answer: Reply,
    reason: str,
    now: datetime,
    person_id: int | None,
) -> None:
    """Answer for a unit; it may change its mind. Invalid, NotFound, Conflict when it is over."""
    text = fields.line(reason, "reason", 500, needed=answer is Reply.LEAVE)
    state = await connection.scalar(select(Occurrence.state).where(Occurrence.id == occurrence_id))
    if state in ("ended", "published", "missed", "cancelled"):
        raise Conflict(f"the lesson or meeting is {state}")
    if answer not in Reply:
        raise Invalid(f"reply must be one of {', '.join(Reply)}", "reply")
    done = await connection.execute(
        update(Invitation)
        .where(Invitation.occurrence_id == occurrence_id, Invitation.unit_id == unit_id)
        .values(reply=answer.value, reason=text, replied_by=person_id, replied_at=now)
    )
    if done.rowcount != 1:
        raise NotFound("the unit is not invited")


async def answers(connection: AsyncConnection, occurrence_id: int, path: str) -> Answers:
    """How many units of a subtree answered what."""
    row = (
        await connection.execute(
            select(
                func.count(),
                *(func.sum(case((Invitation.reply == one.value, 1), else_=0)) for one in Reply),
            )
            .select_from(Invitation)
            .join(Unit, Unit.id == Invitation.unit_id)
            .where(
                Invitation.occurrence_id == occurrence_id,
                Unit.path >= path,
                Unit.path < past(path),
            )
        )
    ).one()
    return Answers(*(int(one or 0) for one in row))


async def listed(
    connection: AsyncConnection,
    occurrence_id: int,
    path: str,
    reply: Reply | None = None,
    *,
    after: str = "",
    most: int = 500,
) -> list[Answer]:
    """The units of a subtree that gave this answer, or none yet; in the order of the tree.

    after: the path of the last unit of the page before.
    """
    found = await connection.execute(
        select(
            Invitation.unit_id,
            Unit.name,
            Unit.path,
            Invitation.reply,
            Invitation.reason,
            Invitation.replied_at,
        )
        .join(Unit, Unit.id == Invitation.unit_id)
        .where(
            Invitation.occurrence_id == occurrence_id,
            Invitation.reply == (reply.value if reply else ""),
            Unit.path >= path,
            Unit.path < past(path),
            Unit.path > after,
        )
        .order_by(Unit.path)
        .limit(most)
    )
    return [Answer(*row) for row in found]
