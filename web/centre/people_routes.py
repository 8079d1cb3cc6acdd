"""People and their roles.

Whoever keeps the people of a unit can take over an account there: they set its password. So an
account with roles elsewhere is kept only by those who keep the people of all these units.
"""

from __future__ import annotations

from pydantic import BaseModel
from sqlalchemy import select

from schedule import audit, people
from schedule.errors import Refused
from schedule.people import NewPerson, PersonInfo
from schedule.rights import Action, Role
from schedule.tables import Role as RoleRow
from schedule.tables import Unit
from web.centre import finding, signin
from web.centre.models import Id, Secret, Short
from web.centre.table import Ask, Body, Listed, On, Paging, Route
from web.centre.tree_routes import paged


class RoleOf(BaseModel):
    """A role for a unit and all below it."""

    unit_id: int
    unit_name: str
    role: Role


class PersonWithRoles(BaseModel):
    """A person and their roles, those of somebody who is not active too."""

    person: PersonInfo
    roles: list[RoleOf]


class Presenter(BaseModel):
    """Somebody who may be named as presenter."""

    id: int
    unit_id: int
    name: str


class PeopleAsked(Paging):
    """The people of a unit and all below it."""

    unit_id: Id


class PersonSaid(Body):
    """A new person; they can sign in when they have a password."""

    unit_id: Id
    login: Short
    name: Short
    email: Short = ""
    phone: Short = ""
    language: Short = "zh"
    active: bool = True


class PersonChanged(Body):
    """What is to be different about a person."""

    unit_id: Id | None = None
    login: Short | None = None
    name: Short | None = None
    email: Short | None = None
    phone: Short | None = None
    language: Short | None = None
    active: bool | None = None


class RoleSaid(Body):
    """A role for a unit and all below it."""

    unit_id: Id
    role: Role


class PasswordSaid(Body):
    """A password for somebody else."""

    password: Secret


async def _roles_of(ask: Ask, person_id: int) -> list[tuple[RoleOf, str]]:
    found = await ask.connection.execute(
        select(RoleRow.unit_id, Unit.name, RoleRow.role, Unit.path)
        .join(Unit, Unit.id == RoleRow.unit_id)
        .where(RoleRow.person_id == person_id)
        .order_by(Unit.path, RoleRow.role)
    )
    return [
        (RoleOf(unit_id=unit_id, unit_name=name, role=Role(role)), path)
        for unit_id, name, role, path in found
    ]


async def _demand_whole(ask: Ask, person_id: int) -> None:
    """Refused, unless the people of all units where this person has a role are kept."""
    for _, path in await _roles_of(ask, person_id):
        ask.demand(Action.KEEP_PEOPLE, path)


async def list_people(ask: Ask) -> Listed[PersonInfo]:
    path = await finding.unit_asked(ask)
    query: PeopleAsked = ask.query
    found = await people.people_below(ask.connection, path, query.after, query.limit + 1)
    return paged(found, query.limit, lambda one: one.login)


async def list_presenters(ask: Ask) -> Listed[Presenter]:
    page = await list_people(ask)
    return Listed(
        items=[
            Presenter(id=one.id, unit_id=one.unit_id, name=one.name)
            for one in page.items
            if one.active
        ],
        next=page.next,
    )


async def see_person(ask: Ask) -> PersonWithRoles:
    person_id = ask.at["person_id"]
    found = await people.person(ask.connection, person_id)
    return PersonWithRoles(person=found, roles=[one for one, _ in await _roles_of(ask, person_id)])


async def add_person(ask: Ask) -> PersonInfo:
    made = await people.add_person(ask.connection, NewPerson(**ask.body.model_dump()))
    await ask.note("add person", f"person:{made.id}", login=made.login, unit_id=made.unit_id)
    return made


async def change_person(ask: Ask) -> PersonInfo:
    person_id, changes = ask.at["person_id"], ask.body.model_dump(exclude_none=True)
    await _demand_whole(ask, person_id)
    if "unit_id" in changes:
        await ask.demand_at(Action.KEEP_PEOPLE, changes["unit_id"])
    changed = await people.change_person(ask.connection, person_id, changes)
    if not changed.active:
        await signin.end_all(ask.connection, person_id)
    await ask.note("change person", f"person:{person_id}", **changes)
    return changed


async def give_role(ask: Ask) -> PersonWithRoles:
    person_id, body = ask.at["person_id"], ask.body
    await people.grant(ask.connection, person_id, body.unit_id, body.role)
    await ask.note("give role", f"person:{person_id}", unit_id=body.unit_id, role=body.role)
    return await see_person(ask)


async def take_role(ask: Ask) -> PersonWithRoles:
    person_id, body = ask.at["person_id"], ask.body
    await people.revoke(ask.connection, person_id, body.unit_id, body.role)
    await ask.note("take role", f"person:{person_id}", unit_id=body.unit_id, role=body.role)
    return await see_person(ask)


async def give_password(ask: Ask) -> None:
    """The hash takes long, so it is made between the two transactions, and rights asked in both."""
    person_id = ask.at["person_id"]
    if person_id == ask.person.id:
        raise Refused("change your own password with the old one")
    async with ask.centre.store.reading() as connection:
        login = (await people.person(connection, person_id)).login
    hashed = await ask.centre.passwords.make(ask.body.password, login)
    async with ask.centre.store.writing() as connection:
        ask.transaction = connection
        ask.demand(Action.KEEP_PEOPLE, await finding.of_person(ask))
        await _demand_whole(ask, person_id)
        await signin.set_password(connection, person_id, hashed)
        await audit.record(
            connection, ask.now, ask.person.id, "give password", f"person:{person_id}"
        )


_PERSON = "/api/people/{person_id}"
_KEEP = On(Action.KEEP_PEOPLE, finding.of_person)
_ROLE = On(Action.KEEP_PEOPLE, finding.unit_said)
ROUTES = [
    Route("GET", "/api/people", On(Action.KEEP_PEOPLE, finding.unit_asked), list_people,
          "The people of a unit and all below it, by login.",
          answer=Listed[PersonInfo], query=PeopleAsked),
    Route("GET", "/api/presenters", On(Action.PLAN, finding.unit_asked), list_presenters,
          "The people of a unit and all below it who may be named as presenter.",
          answer=Listed[Presenter], query=PeopleAsked),
    Route("POST", "/api/people", On(Action.KEEP_PEOPLE, finding.unit_said), add_person,
          "Enter a person.", answer=PersonInfo, body=PersonSaid, status=201),
    Route("GET", _PERSON, _KEEP, see_person, "A person and their roles.", answer=PersonWithRoles),
    Route("PATCH", _PERSON, _KEEP, change_person, "Change some fields of a person.",
          answer=PersonInfo, body=PersonChanged),
    Route("PUT", _PERSON + "/roles", _ROLE, give_role, "Give a person a role for a unit.",
          answer=PersonWithRoles, body=RoleSaid),
    Route("DELETE", _PERSON + "/roles", _ROLE, take_role, "Take a role for a unit from a person.",
          answer=PersonWithRoles, body=RoleSaid),
    Route("POST", _PERSON + "/password", _KEEP, give_password,
          "Give somebody a password; all their sessions end.", body=PasswordSaid, by_itself=True),
]  # fmt: skip
