"""People and the roles that they have for units.

All functions work inside the caller's transaction; rights are checked by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.errors import Invalid, NotFound
from schedule.rights import Grant, Role
from schedule.store import insert_row, update_row
from schedule.tables import Person, Unit
from schedule.tables import Role as RoleRow
from schedule.units import below, unit


@dataclass(frozen=True, slots=True)
class PersonInfo:
    """A person, without what proves who they are."""

    id: int
    unit_id: int
    login: str
    name: str
    email: str
    phone: str
    language: str
    active: bool


@dataclass(frozen=True, slots=True)
class NewPerson:
    """What is said about a person when they are entered."""

    unit_id: int
    login: str
    name: str
    email: str = ""
    phone: str = ""
    language: str = "zh"
    active: bool = True


PERSON_COLUMNS = (
    Person.id,
    Person.unit_id,
    Person.login,
    Person.name,
    Person.email,
    Person.phone,
    Person.language,
    Person.active,
)


async def person(connection: AsyncConnection, person_id: int) -> PersonInfo:
    """A person by id; NotFound."""
    query = select(*PERSON_COLUMNS).where(Person.id == person_id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound("there is no such person")
    return PersonInfo(*row)


async def person_by_login(connection: AsyncConnection, login: str) -> PersonInfo:
    """A person by the name that they sign in with; NotFound."""
    query = select(*PERSON_COLUMNS).where(Person.login == login)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound("there is no such person")
    return PersonInfo(*row)


async def person_by_email(connection: AsyncConnection, email: str) -> PersonInfo:
    """The one active person with an address; NotFound, also where it is several people's."""
    query = (
        select(*PERSON_COLUMNS)
        .where(func.lower(Person.email) == email.strip().lower(), Person.active)
        .limit(2)
    )
    rows = (await connection.execute(query)).all() if email.strip() else []
    if len(rows) != 1:
        raise NotFound("there is no such person")
    return PersonInfo(*rows[0])


async def people_below(
    connection: AsyncConnection, path: str, after: str = "", most: int = 200
) -> list[PersonInfo]:
    """The people of a unit and all below it, by login, those after the login `after`."""
    found = await connection.execute(
        select(*PERSON_COLUMNS)
        .join(Unit, Unit.id == Person.unit_id)
        .where(below(path), Person.login > after)
        .order_by(Person.login)
        .limit(most)
    )
    return [PersonInfo(*row) for row in found]


def person_values(new: NewPerson) -> dict[str, Any]:
    """The columns of a person, each checked; Invalid."""
    return {
        "unit_id": new.unit_id,
        "login": fields.code(new.login, "login"),
        "name": fields.line(new.name, "name"),
        "email": fields.email(new.email),
        "phone": fields.phone(new.phone),
        "language": fields.language(new.language),
        "active": new.active,
    }


async def add_person(connection: AsyncConnection, new: NewPerson) -> PersonInfo:
    """Enter a person; Invalid, Conflict when the login is taken, NotFound."""
    values = person_values(new)
    await unit(connection, new.unit_id)
    taken = f"the login {values['login']!r} is taken"
    return await person(
        connection, await insert_row(connection, Person, values | {"password_hash": ""}, taken)
    )


async def change_person(
    connection: AsyncConnection, person_id: int, changes: Mapping[str, Any]
) -> PersonInfo:
    """Change some fields of a person; Invalid, Conflict, NotFound."""
    now = await person(connection, person_id)
    known = {name: getattr(now, name) for name in NewPerson.__dataclass_fields__}
    unknown = changes.keys() - known.keys()
    if unknown:
        raise Invalid(f"a person has no field {min(unknown)!r} to change", min(unknown))
    values = person_values(NewPerson(**(known | dict(changes))))
    await unit(connection, values["unit_id"])
    await update_row(
        connection, Person, person_id, values, f"the login {values['login']!r} is taken"
    )
    return await person(connection, person_id)


async def grant(connection: AsyncConnection, person_id: int, unit_id: int, role: Role) -> None:
    """Give a person a role for a unit; nothing happens when they have it. NotFound."""
    await person(connection, person_id)
    await unit(connection, unit_id)
    row = {"person_id": person_id, "unit_id": unit_id, "role": role.value}
    held = select(RoleRow.role).filter_by(**row)
    if (await connection.execute(held)).first() is None:
        await connection.execute(insert(RoleRow), row)


async def revoke(connection: AsyncConnection, person_id: int, unit_id: int, role: Role) -> None:
    """Take a role from a person; nothing happens when they do not have it."""
    await connection.execute(
        delete(RoleRow).where(
            RoleRow.person_id == person_id, RoleRow.unit_id == unit_id, RoleRow.role == role.value
        )
    )


async def grants_of(connection: AsyncConnection, person_id: int) -> tuple[Grant, ...]:
    """A person's roles, as `schedule.rights` wants them; none for a person who is not active."""
    found = await connection.execute(
        select(RoleRow.role, Unit.path)
        .join(Unit, Unit.id == RoleRow.unit_id)
        .join(Person, Person.id == RoleRow.person_id)
        .where(RoleRow.person_id == person_id, Person.active)
        .order_by(Unit.path, RoleRow.role)
    )
    return tuple(Grant(Role(role), path) for role, path in found)


async def holders(
    connection: AsyncConnection, unit_id: int, roles: Sequence[Role]
) -> list[PersonInfo]:
    """The active people who have one of the roles for exactly this unit, by login."""
    found = await connection.execute(
        select(*PERSON_COLUMNS)
        .join(RoleRow, RoleRow.person_id == Person.id)
        .where(RoleRow.unit_id == unit_id, RoleRow.role.in_(roles), Person.active)
        .distinct()
        .order_by(Person.login)
    )
    return [PersonInfo(*row) for row in found]
