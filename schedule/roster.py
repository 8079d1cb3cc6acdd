"""Who belongs where, as CSV files: units, sites, stations, people, in and out.

An import is an update: a line whose code (login) is in the store changes what is there, one whose
code is new adds it, and nothing is ever removed. Columns that a file does not have are left as they
are. All lines are checked before the first is written, each against its own rules and against the
others, and the dry run says what would be done and why each bad line is bad. An import with bad
lines writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import audit, cells, fields
from schedule.errors import Invalid
from schedule.people import NewPerson, person_values
from schedule.rights import Role
from schedule.roster_lines import Outcome, allowed, checked, count
from schedule.roster_tree import UNIT_COLUMNS, import_units
from schedule.store import insert_many
from schedule.tables import Person, Site, Station, Unit
from schedule.tables import Role as RoleRow
from schedule.units import below

KINDS = ("units", "sites", "stations", "people")


async def import_csv(
    connection: AsyncConnection,
    kind: str,
    data: bytes,
    now: datetime,
    person_id: int | None,
    *,
    dry_run: bool = True,
    within: Sequence[str] | None = None,
) -> Outcome:
    """Import a file, or say what it would do. Invalid for a file that cannot be read at all.

    within: paths of the subtrees in which the person may do this; None for everywhere.
    """
    if kind not in KINDS:
        raise Invalid(f"it must be one of {', '.join(KINDS)}", "kind")
    outcome = Outcome()
    text = cells.decode(data)
    if kind == "units":
        await import_units(connection, text, outcome, dry_run=dry_run, within=within)
    elif kind == "people":
        await _people(connection, text, outcome, dry_run=dry_run, within=within)
    else:
        table = Site if kind == "sites" else Station
        await _places(connection, table, text, outcome, dry_run=dry_run, within=within)
    if not dry_run and not outcome.bad_lines:
        counts = {"added": outcome.added, "changed": outcome.changed}
        await audit.record(connection, now, person_id, "import", kind, counts)
    return outcome


# Sites and stations

PLACE_COLUMNS = ("code", "unit", "name")


async def _unit_paths(connection: AsyncConnection) -> dict[str, tuple[int, str]]:
    found = await connection.execute(select(Unit.code, Unit.id, Unit.path))
    return {code: (unit_id, path) for code, unit_id, path in found}


def _unit_id(code: str, units: Mapping[str, tuple[int, str]], within: Sequence[str] | None) -> int:
    found = units.get(code.strip())
    if found is None:
        raise Invalid(f"there is no unit with the code {code.strip()[:64]!r}", "unit")
    if not allowed(found[1], within):
        raise Invalid("you may not add to this unit", "unit")
    return found[0]


async def _places(
    connection: AsyncConnection,
    table: type[Site] | type[Station],
    text: str,
    outcome: Outcome,
    *,
    dry_run: bool,
    within: Sequence[str] | None,
) -> None:
    units = await _unit_paths(connection)
    paths = dict(units.values())
    before = {
        row.code: {"unit_id": row.unit_id, "name": row.name}
        for row in await connection.execute(select(table.code, table.unit_id, table.name))
    }

    def check(_line: int, row: dict[str, str]) -> dict[str, Any]:
        here = before.get(row["code"].strip())
        if here is not None and not allowed(paths[here["unit_id"]], within):
            raise Invalid("the code belongs to a unit that you may not change", "code")
        return {
            "unit_id": _unit_id(row["unit"], units, within),
            "name": fields.line(row["name"], "name"),
        }

    lines = cells.read(text, PLACE_COLUMNS)
    good = {
        values["code"]: (line, values)
        for line, _row, values in checked(lines, "code", outcome, check)
    }
    count(outcome, good, {code: one | {"code": code} for code, one in before.items()})
    if not dry_run and not outcome.bad_lines:
        await _write(connection, table, "code", good, before)


async def _write(
    connection: AsyncConnection,
    table: type[Site] | type[Station] | type[Person],
    key: str,
    good: Mapping[str, tuple[int, dict[str, Any]]],
    before: Mapping[str, Mapping[str, Any]],
) -> None:
    rows = [values for _line, values in good.values()]
    await insert_many(connection, insert(table), [one for one in rows if one[key] not in before])
    changed = [
        {f"new_{name}": value for name, value in one.items() if name != key} | {"which": one[key]}
        for one in rows
        if one[key] in before
        and any(before[one[key]][name] != value for name, value in one.items() if name != key)
    ]
    if changed:
        names = [name.removeprefix("new_") for name in changed[0] if name != "which"]
        await connection.execute(
            update(table)
            .where(getattr(table, key) == bindparam("which"))
            .values({name: bindparam(f"new_{name}") for name in names}),
            changed,
        )


# People

PERSON_COLUMNS = ("login", "unit", "name", "email", "phone", "language", "roles")


async def _people(
    connection: AsyncConnection,
    text: str,
    outcome: Outcome,
    *,
    dry_run: bool,
    within: Sequence[str] | None,
) -> None:
    units = await _unit_paths(connection)
    paths = dict(units.values())
    names = ("unit_id", "name", "email", "phone", "language", "active")
    before = {
        row.login: {name: getattr(row, name) for name in names}
        for row in await connection.execute(
            select(Person.login, *(getattr(Person, name) for name in names))
        )
    }
    wanted_roles: dict[str, set[tuple[int, str]]] = {}

    def check(_line: int, row: dict[str, str]) -> dict[str, Any]:
        login = row["login"].strip()
        here = before.get(login)
        if here is not None and not allowed(paths[here["unit_id"]], within):
            raise Invalid("the login belongs to a unit that you may not change", "login")
        unit_id = _unit_id(row["unit"], units, within)
        new = NewPerson(unit_id, login, row["name"])
        kept = ("email", "phone", "language", "active")
        if here is not None:
            new = replace(new, **{name: here[name] for name in kept})
        given: dict[str, Any] = {name: row[name] for name in ("email", "phone") if name in row}
        if row.get("language", "").strip():
            given["language"] = row["language"]
        roles = _roles(row.get("roles", ""), unit_id, units, within)
        values = person_values(replace(new, **given))
        wanted_roles[login] = roles
        return values

    lines = cells.read(text, ("login", "unit", "name"), PERSON_COLUMNS[3:])
    good = {
        values["login"]: (line, values)
        for line, _row, values in checked(lines, "login", outcome, check)
    }
    count(outcome, good, {login: one | {"login": login} for login, one in before.items()})
    if dry_run or outcome.bad_lines:
        return
    fresh = {
        login: (line, values if login in before else values | {"password_hash": ""})
        for login, (line, values) in good.items()
    }
    await _write(connection, Person, "login", fresh, before)
    await _grant(connection, {login: wanted_roles[login] for login in good})


def _roles(
    text: str, own_unit: int, units: Mapping[str, tuple[int, str]], within: Sequence[str] | None
) -> set[tuple[int, str]]:
    """Roles as "presenter operator@110101": for the person's own unit, or for another one."""
    found = set()
    for one in text.replace(",", " ").replace(";", " ").split():
        name, _, code = one.partition("@")
        try:
            role = Role(name.casefold())
        except ValueError:
            known = ", ".join(role.value for role in Role)
            raise Invalid(f"{name[:20]!r} is no role, use {known}", "roles") from None
        found.add((_unit_id(code, units, within) if code else own_unit, role.value))
    return found


async def _grant(connection: AsyncConnection, wanted: dict[str, set[tuple[int, str]]]) -> None:
    ids = dict((await connection.execute(select(Person.login, Person.id))).all())
    held = {
        tuple(row)
        for row in await connection.execute(
            select(RoleRow.person_id, RoleRow.unit_id, RoleRow.role)
        )
    }
    rows = [
        {"person_id": ids[login], "unit_id": unit_id, "role": role}
        for login, roles in wanted.items()
        for unit_id, role in sorted(roles)
        if (ids[login], unit_id, role) not in held
    ]
    await insert_many(connection, insert(RoleRow), rows)


# Out


async def export_csv(connection: AsyncConnection, kind: str, path: str) -> list[str]:
    """A file with all of one kind in a unit and below it, in pieces; what was imported comes back.

    Invalid for an unknown kind.
    """
    if kind == "units":
        parents = Unit.__table__.alias()
        found = await connection.execute(
            select(
                Unit.code, parents.c.code, Unit.name, Unit.tier, Unit.time_zone,
                Unit.line_bps / 1000, Unit.duty_minutes, Unit.asks_approval,
            )
            .outerjoin(parents, parents.c.id == Unit.parent_id)
            .where(below(path))
            .order_by(Unit.depth, Unit.code)
        )  # fmt: skip
        rows: list[list[Any]] = [
            [*row[:5], row[5] and round(row[5]), row[6], "yes" if row[7] else "no"] for row in found
        ]
        return list(cells.write(UNIT_COLUMNS, rows))
    if kind in ("sites", "stations"):
        table = Site if kind == "sites" else Station
        places = await connection.execute(
            select(table.code, Unit.code, table.name)
            .join(Unit, Unit.id == table.unit_id)
            .where(below(path))
            .order_by(table.code)
        )
        return list(cells.write(PLACE_COLUMNS, places))
    if kind == "people":
        return await _people_out(connection, path)
    raise Invalid(f"it must be one of {', '.join(KINDS)}", "kind")


async def _people_out(connection: AsyncConnection, path: str) -> list[str]:
    roles: dict[int, list[str]] = {}
    for person_id, role, code in await connection.execute(
        select(RoleRow.person_id, RoleRow.role, Unit.code)
        .join(Unit, Unit.id == RoleRow.unit_id)
        .order_by(Unit.code, RoleRow.role)
    ):
        roles.setdefault(person_id, []).append(f"{role}@{code}")
    found = await connection.execute(
        select(
            Person.id, Person.login, Unit.code, Person.name, Person.email, Person.phone,
            Person.language,
        )
        .join(Unit, Unit.id == Person.unit_id)
        .where(below(path))
        .order_by(Person.login)
    )  # fmt: skip
    rows = [[*row[1:], " ".join(roles.get(row[0], ()))] for row in found]
    return list(cells.write(PERSON_COLUMNS, rows))
