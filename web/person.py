"""`terrace person add`: a person with a password, and the first administrator of a centre.

Whoever may read and write the database may do this: it is how a centre gets its first
administrator, and how one gets in again whose password is lost.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import audit, people, units
from schedule.errors import NotFound
from schedule.people import NewPerson
from schedule.rights import Role
from schedule.store import open_store
from schedule.units import NewUnit
from web.centre import signin

FIRST_UNIT = "centre"


@dataclass(frozen=True, slots=True)
class Added:
    """A login with its password. made: the person was not there before."""

    login: str
    password: str
    made: bool


async def add(
    database: str, login: str, *, name: str, unit: str, admin: bool, password: str = ""
) -> Added:
    """Make a person, or give a known one another password; with `admin`, the role for the unit.

    unit: its code, "" for the unit at the top, which is made in an empty database. password: ""
    makes one. Raises `schedule.errors.ScheduleError`.
    """
    password = password or secrets.token_urlsafe(12)
    hashed = await signin.Passwords().make(password, login)
    now = datetime.now(UTC)
    store = await open_store(database)
    try:
        async with store.writing() as connection:
            unit_id = await _unit(connection, unit)
            try:
                person, made = await people.person_by_login(connection, login), False
            except NotFound:
                new = NewPerson(unit_id, login, name or login)
                person, made = await people.add_person(connection, new), True
            await signin.set_password(connection, person.id, hashed)
            if admin:
                await people.grant(connection, person.id, unit_id, Role.ADMINISTRATOR)
            what = {"login": person.login, "admin": admin, "by": "terrace person add"}
            await audit.record(connection, now, None, "person add", f"person:{person.id}", what)
    finally:
        await store.close()
    return Added(person.login, password, made)


async def _unit(connection: AsyncConnection, code: str) -> int:
    if code:
        return (await units.unit_by_code(connection, code)).id
    roots = await units.children(connection, None)
    if roots:
        return roots[0].id
    return (await units.add_unit(connection, NewUnit(FIRST_UNIT, "Centre", "centre", None))).id


async def is_empty(database: str) -> bool:
    """Whether a database has no unit yet, and so nobody who could sign in; migrates it."""
    store = await open_store(database)
    try:
        async with store.reading() as connection:
            return not await units.children(connection, None)
    finally:
        await store.close()
