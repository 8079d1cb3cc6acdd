"""Units, sites, stations and people as CSV files, in and out."""

from __future__ import annotations

import functools
from typing import Any

from aiohttp import web

from schedule import roster
from schedule.rights import Action, places
from schedule.roster_lines import Outcome
from web.centre import finding
from web.centre.models import Id, Switch
from web.centre.table import Ask, On, Query, Raw, Route, Somewhere

CSV = Raw("text/csv", "A CSV file, in UTF-8.")
# What a person must be allowed to get a file of a kind, and to send one.
ACTIONS = {
    "units": (Action.SEE, Action.KEEP_UNITS),
    "sites": (Action.SEE, Action.KEEP_ROOMS),
    "stations": (Action.SEE, Action.KEEP_ROOMS),
    "people": (Action.KEEP_PEOPLE, Action.KEEP_PEOPLE),
}


class RosterAsked(Query):
    """Of which unit, and all below it."""

    unit_id: Id


class ImportAsked(Query):
    """dry_run 1: say what would be done."""

    dry_run: Switch = "0"


def csv_file(text: str, name: str) -> web.Response:
    """A CSV file that a browser saves under a name."""
    return web.Response(
        text=text,
        content_type="text/csv",
        charset="utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


async def _get(ask: Ask, kind: str) -> web.Response:
    path = await finding.unit_asked(ask)
    return csv_file("".join(await roster.export_csv(ask.connection, kind, path)), kind)


async def _put(ask: Ask, kind: str) -> Any:
    dry_run = ask.query.dry_run == "1"
    # A look at a large file must not keep others from writing.
    store = ask.centre.store
    async with store.reading() if dry_run else store.writing() as connection:
        return await roster.import_csv(
            connection,
            kind,
            ask.body,
            ask.now,
            ask.person.id,
            dry_run=dry_run,
            within=places(ask.session.grants, ACTIONS[kind][1]),
        )


ROUTES = [
    route
    for kind, (see, keep) in ACTIONS.items()
    for route in (
        Route("GET", f"/api/roster/{kind}", On(see, finding.unit_asked),
              functools.partial(_get, kind=kind), f"The {kind} of a unit and below as a CSV file.",
              answer=CSV, query=RosterAsked, operation=f"export_{kind}"),
        Route("POST", f"/api/roster/{kind}", Somewhere(keep),
              functools.partial(_put, kind=kind),
              f"Enter and change {kind} from a CSV file; with bad lines nothing is written.",
              answer=Outcome, query=ImportAsked, body=CSV, by_itself=True,
              operation=f"import_{kind}"),
    )
]  # fmt: skip
