"""What came of it: reports of nodes, totals, logbooks; feeds; the audit log; stuck messages."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Literal

from aiohttp import web
from pydantic import BaseModel, Field
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import attendance, audit, feeds, learning, outbox, people, units
from schedule.agenda import Whose
from schedule.attendance import LogEntry, Total
from schedule.errors import Conflict, Invalid, NotFound
from schedule.outbox import Stuck
from schedule.reports import Taken
from schedule.rights import Action, may
from schedule.tables import FeedLink, Person, Site, Station, Unit
from web.centre import finding, signin
from web.centre.models import Id
from web.centre.reported import Counts, Stays, keep_counts
from web.centre.roster_routes import CSV, csv_file
from web.centre.table import (
    Anyone,
    Ask,
    Body,
    Listed,
    Node,
    On,
    Paging,
    Query,
    Raw,
    Route,
    SignedIn,
)

ICS = Raw("text/calendar", "A calendar.")
MOST_FEEDS = 50
LOOK_BACK = timedelta(days=30)

# Reports


async def report_stays(ask: Ask) -> Taken:
    """By itself: in a transaction with what others report at the same time."""
    return await ask.centre.keeper.keep(ask.body.reports)


async def report_counts(ask: Ask) -> Taken:
    return await keep_counts(ask.connection, ask.body.reports)


# Totals and logbooks


class Days(Query):
    """A period in days, both included, such as 2026-03-01."""

    from_: str = Field(alias="from", pattern=r"^(19[89]|20[0-9]|21[0-8])[0-9]-[0-9]{2}-[0-9]{2}$")
    to: str = Field(pattern=r"^(19[89]|20[0-9]|21[0-8])[0-9]-[0-9]{2}-[0-9]{2}$")


class TotalsAsked(Days):
    """Of which unit. months: by how many the monthly duty is multiplied."""

    unit_id: Id
    months: int = Field(default=1, ge=1, le=120)


class TotalOf(BaseModel):
    """A unit with its total."""

    unit: units.UnitInfo
    total: Total


def _days(query: Days) -> tuple[int, int]:
    found = []
    for name, text in (("from", query.from_), ("to", query.to)):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise Invalid(f"{name} must be a day such as 2026-03-01", name) from None
        found.append(day.year * 10_000 + day.month * 100 + day.day)
    return found[0], found[1]


async def see_totals(ask: Ask) -> list[TotalOf]:
    top = await units.unit(ask.connection, ask.query.unit_id)
    first, last = _days(ask.query)
    totals = {
        one.unit_id: one
        for one in await attendance.roll_up(ask.connection, top.path, first, last, ask.query.months)
    }
    shown = [top, *await units.children(ask.connection, top.id)]
    return [TotalOf(unit=one, total=totals[one.id]) for one in shown]


async def export_duty(ask: Ask) -> web.Response:
    path = await finding.unit_asked(ask)
    first, last = _days(ask.query)
    pieces = await learning.duty_csv(ask.connection, path, first, last, ask.query.months)
    return csv_file("".join(pieces), "attendance")


async def see_logbook(ask: Ask) -> list[LogEntry]:
    return await attendance.logbook(ask.connection, ask.at["unit_id"], *_days(ask.query))


async def export_logbook(ask: Ask) -> web.Response:
    unit_id = ask.at["unit_id"]
    pieces = await learning.logbook_csv(ask.connection, unit_id, *_days(ask.query))
    return csv_file("".join(pieces), f"logbook-{unit_id}")


# Feeds


class FeedSaid(Body):
    """Whose calendar."""

    kind: Literal["person", "unit", "site", "station"]
    target_id: Id


class FeedInfo(BaseModel):
    """A secret address of mine. url: only when it is made, it is not kept. title: whose calendar,
    "" for what is not there any more.
    """

    id: int
    kind: str
    target_id: int
    title: str
    created_at: datetime
    url: str | None = None


async def _demand_seen(ask: Ask, kind: str, target_id: int) -> None:
    """Refused, unless the signed-in person may see this calendar. NotFound."""
    if kind == "unit":
        await ask.demand_at(Action.SEE, target_id)
    elif kind != "person":
        place = await units.place(ask.connection, _place(kind), target_id)
        await ask.demand_at(Action.SEE, place.unit_id)
    elif target_id != ask.person.id:
        ask.demand(Action.SEE, await finding.home_of(ask, target_id))


def _place(kind: str) -> units.Place:
    return "site" if kind == "site" else "station"


async def list_feeds(ask: Ask) -> list[FeedInfo]:
    found = await ask.connection.execute(
        select(FeedLink.id, FeedLink.kind, FeedLink.target_id, FeedLink.created_at)
        .where(FeedLink.person_id == ask.person.id)
        .order_by(FeedLink.id)
    )
    return [
        FeedInfo(**row._mapping, title=await _title_of(ask.connection, row.kind, row.target_id))
        for row in found
    ]


async def _title_of(connection: AsyncConnection, kind: str, target_id: int) -> str:
    named: Mapping[str, type[Person | Unit | Site | Station]] = {
        "person": Person, "unit": Unit, "site": Site, "station": Station,
    }  # fmt: skip
    table = named[kind]
    return await connection.scalar(select(table.name).where(table.id == target_id)) or ""


async def make_feed(ask: Ask) -> FeedInfo:
    kind, target_id = ask.body.kind, ask.body.target_id
    await _demand_seen(ask, kind, target_id)
    if len(await list_feeds(ask)) >= MOST_FEEDS:
        raise Conflict(f"you have {MOST_FEEDS} feeds already, remove one first")
    token = secrets.token_urlsafe(24)
    values = {
        "token_hash": signin.digest(token), "person_id": ask.person.id, "kind": kind,
        "target_id": target_id, "created_at": ask.now,
    }  # fmt: skip
    made = await ask.connection.execute(insert(FeedLink).values(values).returning(FeedLink.id))
    feed_id = made.scalar_one()
    await ask.note("make feed", f"{kind}:{target_id}", feed_id=feed_id)
    return await _shown(ask, feed_id, token)


async def renew_feed(ask: Ask) -> FeedInfo:
    feed_id, token = ask.at["feed_id"], secrets.token_urlsafe(24)
    done = await ask.connection.execute(
        update(FeedLink)
        .where(FeedLink.id == feed_id, FeedLink.person_id == ask.person.id)
        .values(token_hash=signin.digest(token), created_at=ask.now)
    )
    if done.rowcount != 1:
        raise NotFound("you have no such feed")
    await ask.note("renew feed", f"feed:{feed_id}")
    return await _shown(ask, feed_id, token)


async def _shown(ask: Ask, feed_id: int, token: str) -> FeedInfo:
    """A feed with its address, this once."""
    known = next(one for one in await list_feeds(ask) if one.id == feed_id)
    return known.model_copy(update={"url": f"{ask.centre.public_url}/feeds/{token}.ics"})


async def remove_feed(ask: Ask) -> None:
    done = await ask.connection.execute(
        delete(FeedLink).where(
            FeedLink.id == ask.at["feed_id"], FeedLink.person_id == ask.person.id
        )
    )
    if done.rowcount != 1:
        raise NotFound("you have no such feed")
    await ask.note("remove feed", f"feed:{ask.at['feed_id']}")


async def read_feed(ask: Ask) -> web.Response:
    """Shows what its owner may see now: with their role gone, it is gone."""
    connection = ask.connection
    row = (
        await connection.execute(
            select(FeedLink.person_id, FeedLink.kind, FeedLink.target_id).where(
                FeedLink.token_hash == signin.digest(ask.at["token"])
            )
        )
    ).first()
    gone = NotFound("there is no such calendar (any more)")
    if row is None:
        raise gone
    owner = await people.person(connection, row.person_id)
    grants = await people.grants_of(connection, owner.id)
    if not owner.active:
        raise gone
    whose, title, unit_id = Whose(), "", None
    if row.kind == "person":
        target = await people.person(connection, row.target_id)
        whose, title = Whose(person_id=target.id), target.name
        unit_id = None if target.id == owner.id else target.unit_id
    elif row.kind == "unit":
        about = await units.unit(connection, row.target_id)
        whose, title, unit_id = Whose(unit_path=about.path), about.name, about.id
    else:
        place = await units.place(connection, _place(row.kind), row.target_id)
        site = place.id if row.kind == "site" else None
        whose = Whose(site_id=site, station_id=None if site else place.id)
        title, unit_id = place.name, place.unit_id
    if unit_id is not None:
        path = (await units.unit(connection, unit_id)).path
        if not may(grants, Action.SEE, path):
            raise gone
    page_url = f"{ask.centre.public_url}/centre/series/"
    feed = await feeds.feed(connection, whose, title, ask.now, page_url)
    headers = {"ETag": feed.etag, "Cache-Control": "private, no-cache"}
    known = ask.request.if_none_match or ()
    if any(f'"{one.value}"' == feed.etag for one in known):
        return web.Response(status=304, headers=headers)
    return web.Response(
        body=feed.body, content_type="text/calendar", charset="utf-8", headers=headers
    )


# The audit log, and messages that were not sent


class AuditAsked(Paging):
    """About what: "unit:12", "series:7"; "": everything."""

    subject: str = Field(default="", max_length=64, pattern=r"^[ -~]*$")


class EntryBy(BaseModel):
    """One change. person_name: None for the machine itself, which has no person_id either."""

    id: int
    at: datetime
    person_id: int | None
    person_name: str | None
    action: str
    subject: str
    detail: dict[str, object]


class MessagesAsked(Query):
    """How many."""

    limit: int = Field(default=100, ge=1, le=500)


async def list_audit(ask: Ask) -> Listed[EntryBy]:
    query: AuditAsked = ask.query
    if query.after and not (
        query.after.isascii() and query.after.isdecimal() and len(query.after) < 19
    ):
        raise Invalid("after must be the next of another page", "after")
    before = int(query.after) if query.after else 2**62
    found = await audit.entries(
        ask.connection, subject=query.subject, before_id=before, most=query.limit + 1
    )
    names = await _names_of(ask.connection, {one.person_id for one in found})
    items = [
        EntryBy(
            id=one.id, at=one.at, person_id=one.person_id, action=one.action, subject=one.subject,
            person_name=names.get(one.person_id or 0), detail=dict(one.detail),
        )
        for one in found[: query.limit]
    ]  # fmt: skip
    return Listed(items=items, next=str(items[-1].id) if len(found) > query.limit else None)


async def _names_of(connection: AsyncConnection, ids: set[int | None]) -> dict[int, str]:
    found = await connection.execute(
        select(Person.id, Person.name).where(Person.id.in_(ids - {None}))
    )
    return dict(found.all())


async def list_messages(ask: Ask) -> Listed[Stuck]:
    found = await outbox.stuck(ask.connection, ask.now - LOOK_BACK, ask.query.limit)
    return Listed(items=found)


async def send_message_again(ask: Ask) -> None:
    await outbox.send_again(ask.connection, ask.at["message_id"], ask.now)
    await ask.note("send again", f"message:{ask.at['message_id']}")


async def ignore_message(ask: Ask) -> None:
    await outbox.ignore(ask.connection, ask.at["message_id"])
    await ask.note("ignore", f"message:{ask.at['message_id']}")


_TOP = On(Action.AUDIT, finding.top)
_SEEN = On(Action.SEE, finding.unit_asked)
ROUTES = [
    Route("POST", "/api/reports/stays", Node(), report_stays,
          "Stays, as nodes and stations saw them; what comes twice counts once.",
          answer=Taken, body=Stays, by_itself=True),
    Route("POST", "/api/reports/counts", Node(), report_counts,
          "Head counts and roll-calls; what comes twice counts once.",
          answer=Taken, body=Counts),
    Route("GET", "/api/attendance/totals", _SEEN, see_totals,
          "The totals of a unit, and of each right below it.",
          answer=list[TotalOf], query=TotalsAsked),
    Route("GET", "/api/attendance/duty.csv", _SEEN, export_duty,
          "The hours of every unit of a subtree against its duty.", answer=CSV, query=TotalsAsked),
    Route("GET", "/api/attendance/{unit_id}/logbook", On(Action.SEE, finding.unit_at), see_logbook,
          "The classes that a unit attended in a period.", answer=list[LogEntry], query=Days),
    Route("GET", "/api/attendance/{unit_id}/logbook.csv", On(Action.SEE, finding.unit_at),
          export_logbook, "The same as a CSV file.", answer=CSV, query=Days),
    Route("GET", "/api/feeds", SignedIn(), list_feeds, "My feeds, without their addresses.",
          answer=list[FeedInfo]),
    Route("POST", "/api/feeds", SignedIn(), make_feed,
          "Make a secret address for a calendar that I may see.",
          answer=FeedInfo, body=FeedSaid, status=201),
    Route("POST", "/api/feeds/{feed_id}/renew", SignedIn(), renew_feed,
          "Give a feed of mine another address; the one before is good no longer.",
          answer=FeedInfo),
    Route("DELETE", "/api/feeds/{feed_id}", SignedIn(), remove_feed, "Remove a feed of mine."),
    Route("GET", "/feeds/{token}.ics", Anyone(), read_feed,
          "A calendar, for whoever knows its address.", answer=ICS, also=(304,)),
    Route("GET", "/api/audit", _TOP, list_audit, "Who changed what, the newest first.",
          answer=Listed[EntryBy], query=AuditAsked),
    Route("GET", "/api/messages", _TOP, list_messages,
          "Messages that failed, or of which nobody knows.",
          answer=Listed[Stuck], query=MessagesAsked),
    Route("POST", "/api/messages/{message_id}/send", _TOP, send_message_again,
          "Send such a message (again)."),
    Route("POST", "/api/messages/{message_id}/ignore", _TOP, ignore_message,
          "Let such a message be; it is not listed any more."),
]  # fmt: skip
