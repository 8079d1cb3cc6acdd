"""Reminders and notices: who is told what, when, and through which channel.

What is due is worked out once for each occurrence and offset, in the transaction that notes that it
was; the messages go into the outbox under keys that name occurrence, start, offset and recipient.
So a centre that is killed and started again tells nobody twice, and a lesson that moves is told
about anew. A reminder that is too late for its own offset gives way to the next one: who starts the
centre ten minutes before a lesson does not get the reminder of the day before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import calendar
from schedule.clashes import Booking
from schedule.feeds import names_of
from schedule.invitations import invite
from schedule.outbox import Outgoing, put
from schedule.rights import Role
from schedule.series import series
from schedule.steps import note_once
from schedule.tables import Invitation, Occurrence, Person, Series, Unit, milliseconds
from schedule.tables import Role as RoleRow
from schedule.timetable import wall_clock
from schedule.words import say


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is reminded when. offsets: before the start. by: channel to the person's field.

    page_url: what comes before an occurrence's id in its page's address.
    """

    offsets: tuple[timedelta, ...] = (timedelta(days=1), timedelta(minutes=30))
    by: Mapping[str, str] = field(default_factory=lambda: {"email": "email"})
    page_url: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """A person as far as telling them something goes."""

    id: int
    name: str
    email: str
    phone: str
    language: str


_RECIPIENT = (Person.id, Person.name, Person.email, Person.phone, Person.language)


def due_offset(
    now: datetime, starts_at: datetime, offsets: Sequence[timedelta]
) -> timedelta | None:
    """Which reminder is due now: of those whose time has come, the last before the start (pure)."""
    if now >= starts_at:
        return None
    return min((one for one in offsets if starts_at - one <= now), default=None)


async def remind(connection: AsyncConnection, now: datetime, policy: Policy) -> int:
    """Put the reminders that are due into the outbox; for how many occurrences.

    Told are the presenter, and the operators and administrators of the units that are invited and
    have not declined.
    """
    if not policy.offsets:
        return 0
    rows = (
        await connection.execute(
            select(
                Occurrence.id,
                Occurrence.title,
                Occurrence.starts_at,
                Occurrence.ends_at,
                Occurrence.presenter_id,
                Series.time_zone,
            )
            .join(Series, Series.id == Occurrence.series_id)
            .where(
                Occurrence.state.in_(("planned", "rehearsal")),
                Occurrence.starts_at > now,
                Occurrence.starts_at <= now + max(policy.offsets),
            )
            .order_by(Occurrence.starts_at)
        )
    ).all()
    done = 0
    for row in rows:
        offset = due_offset(now, row.starts_at, policy.offsets)
        if offset is None:
            continue
        mark = f"remind {offset.total_seconds():.0f} {milliseconds(row.starts_at)}"
        if not await note_once(connection, row.id, mark, now):
            continue
        # Of what was planned a moment ago nobody may be invited yet, and this comes only once.
        await invite(connection, row.id)
        told = await _attending(connection, row.id, row.presenter_id)
        values = {
            "title": row.title,
            "when": f"{wall_clock(row.starts_at, row.time_zone):%Y-%m-%d %H:%M}",
            "zone": row.time_zone,
            "minutes": str(round((row.ends_at - row.starts_at).total_seconds() / 60)),
            "link": f"{policy.page_url}{row.id}" if policy.page_url else "",
        }
        key = f"remind:{row.id}:{milliseconds(row.starts_at)}:{offset.total_seconds():.0f}"
        messages = _messages("reminder", key, told, values, policy, now, row.starts_at)
        await put(connection, messages)
        done += 1
    return done


async def _attending(
    connection: AsyncConnection, occurrence_id: int, presenter_id: int | None
) -> list[Recipient]:
    found = await connection.execute(
        select(*_RECIPIENT)
        .join(RoleRow, RoleRow.person_id == Person.id)
        .join(Invitation, Invitation.unit_id == RoleRow.unit_id)
        .where(
            Invitation.occurrence_id == occurrence_id,
            Invitation.reply.in_(("", "yes")),
            RoleRow.role.in_((Role.OPERATOR.value, Role.ADMINISTRATOR.value)),
            Person.active,
        )
    )
    people = {row[0]: Recipient(*row) for row in found}
    if presenter_id is not None:
        presenter = await connection.execute(
            select(*_RECIPIENT).where(Person.id == presenter_id, Person.active)
        )
        people |= {row[0]: Recipient(*row) for row in presenter}
    return [people[one] for one in sorted(people)]


async def responsible(connection: AsyncConnection, unit_id: int) -> list[Recipient]:
    """The administrators of a unit, who answer for what it plans."""
    found = await connection.execute(
        select(*_RECIPIENT)
        .join(RoleRow, RoleRow.person_id == Person.id)
        .where(
            RoleRow.unit_id == unit_id,
            RoleRow.role == Role.ADMINISTRATOR.value,
            Person.active,
        )
        .order_by(Person.id)
    )
    return [Recipient(*row) for row in found]


def _messages(
    kind: str,
    key: str,
    people: Iterable[Recipient],
    values: Mapping[str, str],
    policy: Policy,
    due_at: datetime,
    expires_at: datetime,
    calendars: Mapping[int, str] | None = None,
) -> list[Outgoing]:
    messages = []
    for person in people:
        subject, body = say(kind, person.language, values)
        for channel, address_field in policy.by.items():
            address = getattr(person, address_field)
            if address:
                messages.append(
                    Outgoing(
                        f"{key}:{channel}:{person.id}",
                        channel,
                        address,
                        subject,
                        body,
                        due_at,
                        expires_at,
                        (calendars or {}).get(person.id, ""),
                    )
                )
    return messages


async def send_invitations(
    connection: AsyncConnection, occurrence_id: int, now: datetime, policy: Policy
) -> int:
    """Tell the invited units of an occurrence that have not answered; how many messages.

    With the course or meeting attached as calendars understand it. A change of the plan is a new
    invitation, asking twice for the same is not.
    """
    row = (
        await connection.execute(
            select(
                Occurrence.series_id,
                Occurrence.title,
                Occurrence.starts_at,
                Series.time_zone,
                Series.revision,
                Series.unit_id,
                Unit.name,
            )
            .join(Series, Series.id == Occurrence.series_id)
            .join(Unit, Unit.id == Series.unit_id)
            .where(Occurrence.id == occurrence_id)
        )
    ).one()
    found = await connection.execute(
        select(*_RECIPIENT)
        .join(RoleRow, RoleRow.person_id == Person.id)
        .join(Invitation, Invitation.unit_id == RoleRow.unit_id)
        .where(
            Invitation.occurrence_id == occurrence_id,
            Invitation.reply == "",
            RoleRow.role.in_((Role.OPERATOR.value, Role.ADMINISTRATOR.value)),
            Person.active,
        )
        .distinct()
        .order_by(Person.id)
    )
    people = [Recipient(*one) for one in found]
    info = await series(connection, row.series_id)
    names = await names_of(connection, [info])
    organisers = [one for one in await responsible(connection, row.unit_id) if one.email]

    def written() -> dict[int, str]:
        return {
            person.id: calendar.invitation(
                info, names, now, (row.name, organisers[0].email), (person.name, person.email)
            ).decode()
            for person in people
            if organisers and person.email
        }

    # A class may have thousands to invite, each with a calendar file of their own.
    calendars = await asyncio.to_thread(written)
    values = {
        "title": row.title,
        "unit": row.name,
        "when": f"{wall_clock(row.starts_at, row.time_zone):%Y-%m-%d %H:%M}",
        "zone": row.time_zone,
        "link": f"{policy.page_url}{occurrence_id}" if policy.page_url else "",
    }
    key = f"invite:{occurrence_id}:{row.revision}"
    messages = _messages("invitation", key, people, values, policy, now, row.starts_at, calendars)
    await put(connection, messages)
    return len(messages)


async def tell_overridden(
    connection: AsyncConnection, overridden: Sequence[Booking], now: datetime, policy: Policy
) -> int:
    """Tell the organisers whose bookings a higher unit has planned over; how many messages."""
    return await _tell("overridden", connection, overridden, now, policy)


async def ask_about_overrun(
    connection: AsyncConnection, booking: Booking, now: datetime, policy: Policy
) -> int:
    """Ask the organisers, and the presenter, whether to go on past the end; how many messages."""
    return await _tell("overrun", connection, [booking], now, policy)


async def _tell(
    kind: str,
    connection: AsyncConnection,
    bookings: Sequence[Booking],
    now: datetime,
    policy: Policy,
) -> int:
    count = 0
    for one in bookings:
        zone = await connection.scalar(select(Series.time_zone).where(Series.id == one.series_id))
        values = {
            "title": one.title,
            "when": f"{wall_clock(one.starts_at, zone or 'UTC'):%Y-%m-%d %H:%M}",
            "link": f"{policy.page_url}{one.occurrence_id}" if policy.page_url else "",
        }
        people = {person.id: person for person in await responsible(connection, one.unit_id)}
        if kind == "overrun" and one.presenter_id is not None:
            found = await connection.execute(
                select(*_RECIPIENT).where(Person.id == one.presenter_id, Person.active)
            )
            people |= {row[0]: Recipient(*row) for row in found}
        key = f"{kind}:{one.occurrence_id}:{milliseconds(one.ends_at)}"
        expires_at = max(one.ends_at, now) + timedelta(hours=1)
        messages = _messages(kind, key, people.values(), values, policy, now, expires_at)
        await put(connection, messages)
        count += len(messages)
    return count
