"""Units, and their sites and stations."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import Field

from schedule import units
from schedule.rights import Action, places
from schedule.units import NewUnit, Place, PlaceInfo, UnitInfo
from web.centre import finding
from web.centre.models import Id, Short, Words
from web.centre.table import Ask, Body, Handler, Listed, On, Paging, Route, SignedIn


class UnitsAsked(Paging):
    """Which units: those below one, those with some words in name or code, or one's own tops."""

    parent_id: Id | None = None
    search: Words = ""


class UnitSaid(Body):
    """A new unit; see `schedule.units.NewUnit`."""

    code: Short
    name: Short
    tier: Short
    parent_id: Id
    time_zone: Short = units.DEFAULT_ZONE
    line_bps: int | None = Field(default=None, ge=1000, le=10**12)
    duty_minutes: int | None = Field(default=None, ge=0, le=44_640)
    asks_approval: bool = False


class UnitChanged(Body):
    """What is to be different about a unit."""

    code: Short = ""
    name: Short = ""
    tier: Short = ""
    time_zone: Short = ""
    line_bps: int | None = Field(default=None, ge=1000, le=10**12)
    duty_minutes: int | None = Field(default=None, ge=0, le=44_640)
    asks_approval: bool = False


class Moved(Body):
    """Where a unit is put."""

    parent_id: Id


async def list_units(ask: Ask) -> Listed[UnitInfo]:
    query: UnitsAsked = ask.query
    if query.parent_id is not None:
        await ask.demand_at(Action.SEE, query.parent_id)
        found = await units.children(ask.connection, query.parent_id)
    elif query.search.strip():
        within = places(ask.session.grants, Action.SEE)
        found = await units.search(ask.connection, query.search, within, most=query.limit)
        return Listed(items=found)
    else:
        tops = places(ask.session.grants, Action.SEE)
        found = [
            await units.unit(ask.connection, int(path.rstrip("/").rsplit("/", 1)[-1]))
            for path in tops
        ]
    found = sorted((one for one in found if one.code > query.after), key=lambda one: one.code)
    return paged(found, query.limit, lambda one: one.code)


def paged(found: list[Any], limit: int, mark: Callable[[Any], str]) -> Listed[Any]:
    """A page of what was found, which is more than a page when another follows."""
    items = found[:limit]
    return Listed(items=items, next=mark(items[-1]) if len(found) > limit else None)


async def see_unit(ask: Ask) -> UnitInfo:
    return await units.unit(ask.connection, ask.at["unit_id"])


async def see_units_above(ask: Ask) -> list[UnitInfo]:
    return await units.ancestors(ask.connection, await finding.unit_at(ask))


async def add_unit(ask: Ask) -> UnitInfo:
    made = await units.add_unit(ask.connection, NewUnit(**ask.body.model_dump()))
    await ask.note("add unit", f"unit:{made.id}", code=made.code, name=made.name)
    return made


async def change_unit(ask: Ask) -> UnitInfo:
    changes = ask.body.model_dump(exclude_unset=True)
    changed = await units.change_unit(ask.connection, ask.at["unit_id"], changes)
    await ask.note("change unit", f"unit:{changed.id}", **changes)
    return changed


async def move_unit(ask: Ask) -> UnitInfo:
    above = ask.body.parent_id
    await ask.demand_at(Action.KEEP_UNITS, above)
    moved = await units.move_unit(ask.connection, ask.at["unit_id"], above)
    await ask.note("move unit", f"unit:{moved.id}", parent_id=above)
    return moved


async def remove_unit(ask: Ask) -> None:
    gone = await units.unit(ask.connection, ask.at["unit_id"])
    await units.remove_unit(ask.connection, gone.id)
    await ask.note("remove unit", f"unit:{gone.id}", code=gone.code)


# Sites and stations


class PlacesAsked(Paging):
    """The sites or stations of a unit and all below it."""

    unit_id: Id


class PlaceSaid(Body):
    """A site or a station."""

    unit_id: Id
    code: Short
    name: Short


class PlaceChanged(Body):
    """What is to be different about a site or a station."""

    unit_id: Id | None = None
    code: Short | None = None
    name: Short | None = None


async def _list_places(ask: Ask, kind: Place) -> Listed[PlaceInfo]:
    path = await finding.unit_asked(ask)
    query: PlacesAsked = ask.query
    found = await units.places_below(ask.connection, kind, path, query.after, query.limit + 1)
    return paged(found, query.limit, lambda one: one.code)


async def _see_place(ask: Ask, kind: Place) -> PlaceInfo:
    return await units.place(ask.connection, kind, ask.at[f"{kind}_id"])


async def _add_place(ask: Ask, kind: Place) -> PlaceInfo:
    body: PlaceSaid = ask.body
    made = await units.add_place(ask.connection, kind, body.unit_id, body.code, body.name)
    await ask.note(f"add {kind}", f"{kind}:{made.id}", code=made.code, unit_id=made.unit_id)
    return made


async def _change_place(ask: Ask, kind: Place) -> PlaceInfo:
    before = await units.place(ask.connection, kind, ask.at[f"{kind}_id"])
    changes = ask.body.model_dump(exclude_none=True)
    values = {"unit_id": before.unit_id, "code": before.code, "name": before.name} | changes
    await ask.demand_at(Action.KEEP_ROOMS, values["unit_id"])
    changed = await units.change_place(ask.connection, kind, before.id, **values)
    await ask.note(f"change {kind}", f"{kind}:{changed.id}", **changes)
    return changed


async def _remove_place(ask: Ask, kind: Place) -> None:
    gone = await units.place(ask.connection, kind, ask.at[f"{kind}_id"])
    await units.remove_place(ask.connection, kind, gone.id)
    await ask.note(f"remove {kind}", f"{kind}:{gone.id}", code=gone.code)


async def _of_kind(handler: Callable[[Ask, Place], Awaitable[Any]], kind: Place, ask: Ask) -> Any:
    return await handler(ask, kind)


def _place_routes(kind: Place, base: str) -> list[Route]:
    def of(handler: Callable[[Ask, Place], Awaitable[Any]]) -> Handler:
        return functools.partial(_of_kind, handler, kind)

    async def where(ask: Ask) -> str:
        return await finding.of_place(ask, kind)

    one, see, keep = f"{base}/{{{kind}_id}}", On(Action.SEE, where), On(Action.KEEP_ROOMS, where)
    return [
        Route(
            "GET", base, On(Action.SEE, finding.unit_asked), of(_list_places),
            f"The {kind}s of a unit and all below it, by code.",
            answer=Listed[PlaceInfo], query=PlacesAsked, operation=f"list_{kind}s",
        ),
        Route(
            "POST", base, On(Action.KEEP_ROOMS, finding.unit_said), of(_add_place),
            f"Enter a {kind}.",
            answer=PlaceInfo, body=PlaceSaid, status=201, operation=f"add_{kind}",
        ),
        Route("GET", one, see, of(_see_place), f"One {kind}.", answer=PlaceInfo,
              operation=f"see_{kind}"),
        Route("PATCH", one, keep, of(_change_place), f"Rename or move a {kind}.",
              answer=PlaceInfo, body=PlaceChanged, operation=f"change_{kind}"),
        Route("DELETE", one, keep, of(_remove_place), f"Take out a {kind} that no plan names.",
              operation=f"remove_{kind}"),
    ]  # fmt: skip


_UNIT = "/api/units/{unit_id}"
_SEE, _KEEP = On(Action.SEE, finding.unit_at), On(Action.KEEP_UNITS, finding.unit_at)
ROUTES = [
    Route("GET", "/api/units", SignedIn(), list_units,
          "Units: right below one, found by words, or the tops of what one may see.",
          answer=Listed[UnitInfo], query=UnitsAsked, also=(403,)),
    Route("POST", "/api/units", On(Action.KEEP_UNITS, finding.parent_said), add_unit,
          "Make a unit under another one.", answer=UnitInfo, body=UnitSaid, status=201),
    Route("GET", _UNIT, _SEE, see_unit, "One unit.", answer=UnitInfo),
    Route("GET", _UNIT + "/above", _SEE, see_units_above,
          "The units above one, the root first, and that one last.", answer=list[UnitInfo]),
    Route("PATCH", _UNIT, _KEEP, change_unit, "Change some fields of a unit.",
          answer=UnitInfo, body=UnitChanged),
    Route("DELETE", _UNIT, _KEEP, remove_unit, "Take out a unit that nothing belongs to."),
    Route("POST", _UNIT + "/move", _KEEP, move_unit,
          "Put a unit with all below it under another one.", answer=UnitInfo, body=Moved),
    *_place_routes("site", "/api/sites"),
    *_place_routes("station", "/api/places/stations"),
]  # fmt: skip
