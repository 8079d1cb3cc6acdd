"""The tree of units, with their sites and stations.

All functions work inside the caller's transaction. Rights are not checked here: the caller has the
person's grants (`people.grants_of`) and asks `schedule.rights`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.errors import Conflict, Invalid, NotFound
from schedule.rights import lineage
from schedule.store import insert_row, update_row
from schedule.tables import Audience, Site, Station, Unit

MOST_DEPTH = 30
DEFAULT_ZONE = "Asia/Shanghai"
Place = Literal["site", "station"]
PLACES: dict[Place, type[Site] | type[Station]] = {"site": Site, "station": Station}


@dataclass(frozen=True, slots=True)
class UnitInfo:
    """A unit as it stands in the store; see `tables.Unit`."""

    id: int
    parent_id: int | None
    path: str
    depth: int
    code: str
    name: str
    tier: str
    time_zone: str
    line_bps: int | None
    duty_minutes: int | None
    asks_approval: bool


@dataclass(frozen=True, slots=True)
class PlaceInfo:
    """A site or a station."""

    id: int
    unit_id: int
    code: str
    name: str


@dataclass(frozen=True, slots=True)
class NewUnit:
    """What is said about a unit when it is made; parent_id None makes a root."""

    code: str
    name: str
    tier: str
    parent_id: int | None
    time_zone: str = DEFAULT_ZONE
    line_bps: int | None = None
    duty_minutes: int | None = None
    asks_approval: bool = False


UNIT_COLUMNS = (
    Unit.id,
    Unit.parent_id,
    Unit.path,
    Unit.depth,
    Unit.code,
    Unit.name,
    Unit.tier,
    Unit.time_zone,
    Unit.line_bps,
    Unit.duty_minutes,
    Unit.asks_approval,
)


def below(path: str) -> ColumnElement[bool]:
    """The condition "this unit or one below it", as one range of the index on `Unit.path`."""
    return and_(Unit.path >= path, Unit.path < past(path))


def past(path: str) -> str:
    """The first text after all paths that begin with `path`: '0' follows '/' in ASCII."""
    return path[:-1] + "0"


# Units


async def unit(connection: AsyncConnection, unit_id: int) -> UnitInfo:
    """The unit with this id; NotFound."""
    row = (await connection.execute(select(*UNIT_COLUMNS).where(Unit.id == unit_id))).first()
    if row is None:
        raise NotFound("there is no such unit")
    return UnitInfo(*row)


async def unit_by_code(connection: AsyncConnection, code: str) -> UnitInfo:
    """The unit with this code; NotFound."""
    row = (await connection.execute(select(*UNIT_COLUMNS).where(Unit.code == code))).first()
    if row is None:
        raise NotFound(f"there is no unit with the code {code[:64]!r}")
    return UnitInfo(*row)


async def children(connection: AsyncConnection, parent_id: int | None) -> list[UnitInfo]:
    """The units right below one, or the roots, by code."""
    found = await connection.execute(
        select(*UNIT_COLUMNS)
        .where(Unit.parent_id.is_not_distinct_from(parent_id))
        .order_by(Unit.code)
    )
    return [UnitInfo(*row) for row in found]


async def subtree(connection: AsyncConnection, path: str, most: int = 10_000) -> list[UnitInfo]:
    """The unit at `path` and all below it, each after the one above it, `most` of them."""
    found = await connection.execute(
        select(*UNIT_COLUMNS).where(below(path)).order_by(Unit.path).limit(most)
    )
    return [UnitInfo(*row) for row in found]


async def ancestors(connection: AsyncConnection, path: str) -> list[UnitInfo]:
    """The units above the one at `path`, the root first, and that one last."""
    found = await connection.execute(
        select(*UNIT_COLUMNS).where(Unit.path.in_(lineage(path))).order_by(Unit.depth)
    )
    return [UnitInfo(*row) for row in found]


async def search(
    connection: AsyncConnection, words: str, within: Sequence[str], most: int = 50
) -> list[UnitInfo]:
    """Units whose name or code contains the words, within some subtrees, the higher ones first."""
    matches = or_(
        Unit.name.icontains(words.strip(), autoescape=True),
        Unit.code.istartswith(words.strip(), autoescape=True),
    )
    found = await connection.execute(
        select(*UNIT_COLUMNS)
        .where(matches, or_(False, *(below(path) for path in within)))
        .order_by(Unit.depth, Unit.name)
        .limit(most)
    )
    return [UnitInfo(*row) for row in found]


def unit_values(new: NewUnit) -> dict[str, Any]:
    """The columns of a unit, each checked, without its place in the tree; Invalid."""
    return {
        "code": fields.code(new.code),
        "name": fields.line(new.name, "name"),
        "tier": fields.line(new.tier, "tier", 32),
        "time_zone": fields.time_zone(new.time_zone),
        "line_bps": None
        if new.line_bps is None
        else fields.within(new.line_bps, "line_bps", 1_000, 10**12),
        "duty_minutes": None
        if new.duty_minutes is None
        else fields.within(new.duty_minutes, "duty_minutes", 0, 44_640),
        "asks_approval": new.asks_approval,
    }


async def add_unit(connection: AsyncConnection, new: NewUnit) -> UnitInfo:
    """Make a unit; Invalid, Conflict when its code is taken, NotFound when its parent is gone."""
    values = unit_values(new)
    above = None if new.parent_id is None else await unit(connection, new.parent_id)
    depth = 0 if above is None else above.depth + 1
    if depth > MOST_DEPTH:
        raise Invalid(f"the tree may be at most {MOST_DEPTH} units deep", "parent_id")
    values |= {"parent_id": new.parent_id, "depth": depth, "path": ""}
    unit_id = await insert_row(connection, Unit, values, f"the code {values['code']!r} is taken")
    path = f"{'' if above is None else above.path}{unit_id}/"
    await connection.execute(update(Unit).where(Unit.id == unit_id).values(path=path))
    return await unit(connection, unit_id)


async def change_unit(
    connection: AsyncConnection, unit_id: int, changes: Mapping[str, Any]
) -> UnitInfo:
    """Change some fields of a unit, but not its parent; Invalid, Conflict, NotFound."""
    now = await unit(connection, unit_id)
    known = {name: getattr(now, name) for name in NewUnit.__dataclass_fields__}
    unknown = changes.keys() - (known.keys() - {"parent_id"})
    if unknown:
        raise Invalid(f"a unit has no field {min(unknown)!r} to change", min(unknown))
    values = unit_values(NewUnit(**(known | dict(changes))))
    await update_row(connection, Unit, unit_id, values, f"the code {values['code']!r} is taken")
    return await unit(connection, unit_id)


async def move_unit(connection: AsyncConnection, unit_id: int, parent_id: int) -> UnitInfo:
    """Put a unit, with all below it, under another one; Invalid when that is below itself."""
    moved, above = await unit(connection, unit_id), await unit(connection, parent_id)
    if above.path.startswith(moved.path):
        raise Invalid("a unit cannot be put under itself or a unit below it", "parent_id")
    deeper = above.depth + 1 - moved.depth
    deepest = await connection.scalar(select(func.max(Unit.depth)).where(below(moved.path)))
    if (deepest or 0) + deeper > MOST_DEPTH:
        raise Invalid(f"the tree may be at most {MOST_DEPTH} units deep", "parent_id")
    prefix = f"{above.path}{unit_id}/"
    await connection.execute(
        update(Unit)
        .where(below(moved.path))
        .values(
            path=prefix + func.substr(Unit.path, len(moved.path) + 1), depth=Unit.depth + deeper
        )
    )
    await connection.execute(update(Unit).where(Unit.id == unit_id).values(parent_id=parent_id))
    return await unit(connection, unit_id)


async def remove_unit(connection: AsyncConnection, unit_id: int) -> None:
    """Take out a unit that nothing belongs to; Conflict otherwise, NotFound."""
    await unit(connection, unit_id)
    asked = select(Audience.series_id).where(
        Audience.kind.in_(("unit", "subtree")), Audience.target_id == unit_id
    )
    held = "the unit still has something that belongs to it, move or remove that first"
    if (await connection.execute(asked.limit(1))).first() is not None:
        raise Conflict(held)
    try:
        async with connection.begin_nested():
            await connection.execute(delete(Unit).where(Unit.id == unit_id))
    except IntegrityError as error:
        raise Conflict(held) from error


# Sites and stations


async def add_place(
    connection: AsyncConnection, kind: Place, unit_id: int, code: str, name: str
) -> PlaceInfo:
    """Enter a site or a station; Invalid, Conflict when the code is taken, NotFound."""
    await unit(connection, unit_id)
    values = {"unit_id": unit_id, "code": fields.code(code), "name": fields.line(name, "name")}
    taken = f"the code {values['code']!r} is taken"
    return PlaceInfo(await insert_row(connection, PLACES[kind], values, taken), **values)  # type: ignore[arg-type]


async def place(connection: AsyncConnection, kind: Place, place_id: int) -> PlaceInfo:
    """A site or station by its id; NotFound."""
    table = PLACES[kind]
    query = select(table.id, table.unit_id, table.code, table.name).where(table.id == place_id)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(f"there is no such {kind}")
    return PlaceInfo(*row)


async def place_ids(
    connection: AsyncConnection, kind: Place, codes: Collection[str]
) -> dict[str, int]:
    """The ids of sites or stations by their codes, of those that there are."""
    table = PLACES[kind]
    found = await connection.execute(select(table.code, table.id).where(table.code.in_(codes)))
    return {str(row.code): int(row.id) for row in found}


async def places_below(
    connection: AsyncConnection, kind: Place, path: str, after: str = "", most: int = 200
) -> list[PlaceInfo]:
    """Sites or stations of a unit and all below it, by code, those after the code `after`."""
    table = PLACES[kind]
    found = await connection.execute(
        select(table.id, table.unit_id, table.code, table.name)
        .join(Unit, Unit.id == table.unit_id)
        .where(below(path), table.code > after)
        .order_by(table.code)
        .limit(most)
    )
    return [PlaceInfo(*row) for row in found]


async def change_place(
    connection: AsyncConnection, kind: Place, place_id: int, *, unit_id: int, code: str, name: str
) -> PlaceInfo:
    """Rename or move a site or station; Invalid, Conflict, NotFound."""
    await place(connection, kind, place_id)
    await unit(connection, unit_id)
    values = {"unit_id": unit_id, "code": fields.code(code), "name": fields.line(name, "name")}
    taken = f"the code {values['code']!r} is taken"
    await update_row(connection, PLACES[kind], place_id, values, taken)
    return await place(connection, kind, place_id)


async def remove_place(connection: AsyncConnection, kind: Place, place_id: int) -> None:
    """Take out a site or station that no plan names; Conflict otherwise, NotFound."""
    await place(connection, kind, place_id)
    named = select(Audience.series_id).where(Audience.kind == kind, Audience.target_id == place_id)
    held = f"the {kind} is still named in a plan, change that first"
    if (await connection.execute(named.limit(1))).first() is not None:
        raise Conflict(held)
    table = PLACES[kind]
    try:
        async with connection.begin_nested():
            await connection.execute(delete(table).where(table.id == place_id))
    except IntegrityError as error:
        raise Conflict(held) from error
