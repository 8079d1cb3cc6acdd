"""Courses and meetings: writing, checking, handing in, approving, cancelling, copying."""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel

from schedule import calendar, planning, reminders, series, units
from schedule.errors import Conflict, Invalid, NotFound
from schedule.planning import Saved
from schedule.rights import Action
from schedule.timetable import read_wall_clock
from web.centre import finding
from web.centre.models import Clashes, Id, Short, Switch, WallClock
from web.centre.plans import Plan, SavedAnswer, SeriesAnswer
from web.centre.table import Ask, Body, Listed, On, Paging, Query, Raw, Route

ICS = Raw("text/calendar", "An iCalendar file.", 2 * 1024 * 1024)


class SeriesAsked(Paging):
    """What a unit and all below it organise, in one state or any."""

    unit_id: Id
    state: Literal["", "draft", "submitted", "confirmed", "refused", "cancelled"] = ""


class Anyway(Query):
    """anyway 1: over the booking of a higher unit too."""

    anyway: Switch = "0"


class UnitAsked(Query):
    """Which unit."""

    unit_id: Id


class ImportAsked(UnitAsked):
    """For which unit, and as what. dry_run 1: say what would be done."""

    kind: Literal["course", "meeting"] = "meeting"
    dry_run: Switch = "0"


class Written(Body):
    """A plan that is being written. series_id: which stored one it is, if it is one."""

    plan: Plan
    series_id: Id | None = None


class Reason(Body):
    """Why."""

    reason: Short


class WeekCopied(Body):
    """The week from `monday` on (a wall clock at midnight), so many weeks on."""

    unit_id: Id
    monday: WallClock
    weeks: int


class NotImported(BaseModel):
    """An event that cannot be a course or meeting, and why."""

    title: str
    reason: str


class ImportedAnswer(BaseModel):
    """What a calendar file became: drafts; after a dry run their ids are nobody's."""

    saved: list[SeriesAnswer]
    skipped: list[NotImported]


async def list_series(ask: Ask) -> Listed[SeriesAnswer]:
    path, query = await finding.unit_asked(ask), ask.query
    if not query.after.isascii() or not (query.after or "0").isdecimal() or len(query.after) > 18:
        raise Invalid("after must be the next of another page", "after")
    found = await series.series_below(
        ask.connection, path, query.state, int(query.after or 0), query.limit + 1
    )
    items = [SeriesAnswer.of(one) for one in found[: query.limit]]
    return Listed(items=items, next=str(items[-1].id) if len(found) > query.limit else None)


async def see_series(ask: Ask) -> SeriesAnswer:
    return SeriesAnswer.of(await series.series(ask.connection, ask.at["series_id"]))


async def _told(ask: Ask, saved: Saved) -> SavedAnswer:
    """Lower organisers hear in the same transaction that something goes before theirs."""
    await reminders.tell_overridden(ask.connection, saved.overridden, ask.now, ask.centre.policy)
    return SavedAnswer.of(saved)


async def write_series(ask: Ask) -> SavedAnswer:
    saved = await planning.save(ask.connection, ask.body.draft(), ask.now, ask.person.id)
    return await _told(ask, saved)


async def change_series(ask: Ask) -> SavedAnswer:
    await ask.demand_at(Action.PLAN, ask.body.unit_id)
    saved = await planning.save(
        ask.connection,
        ask.body.draft(),
        ask.now,
        ask.person.id,
        series_id=ask.at["series_id"],
        anyway=ask.query.anyway == "1",
    )
    return await _told(ask, saved)


async def check_series(ask: Ask) -> Clashes:
    series_id = ask.body.series_id or 0
    if series_id:
        ask.demand(Action.PLAN, await finding.series_path(ask, series_id))
    found = await planning.check(ask.connection, ask.body.plan.draft(), ask.now, series_id)
    return Clashes.of(found)


async def submit_series(ask: Ask) -> SavedAnswer:
    saved = await planning.submit(
        ask.connection,
        ask.at["series_id"],
        ask.now,
        ask.person.id,
        anyway=ask.query.anyway == "1",
    )
    return await _told(ask, saved)


async def approve_series(ask: Ask) -> SavedAnswer:
    return await _told(
        ask, await planning.approve(ask.connection, ask.at["series_id"], ask.now, ask.person.id)
    )


async def refuse_series(ask: Ask) -> SeriesAnswer:
    return SeriesAnswer.of(
        await planning.refuse(
            ask.connection, ask.at["series_id"], ask.body.reason, ask.now, ask.person.id
        )
    )


async def cancel_series(ask: Ask) -> SeriesAnswer:
    return SeriesAnswer.of(
        await planning.cancel(ask.connection, ask.at["series_id"], ask.now, ask.person.id)
    )


async def remove_series(ask: Ask) -> None:
    await planning.remove(ask.connection, ask.at["series_id"], ask.now, ask.person.id)


async def copy_week(ask: Ask) -> list[SeriesAnswer]:
    body: WeekCopied = ask.body
    monday = read_wall_clock(body.monday, "monday")
    made = await planning.copy_week(
        ask.connection, body.unit_id, monday, body.weeks, ask.now, ask.person.id
    )
    return [SeriesAnswer.of(one) for one in made]


async def list_approvals(ask: Ask) -> Listed[SeriesAnswer]:
    path = await finding.unit_asked(ask)
    found = await planning.waiting_for_approval(ask.connection, path)
    return Listed(items=[SeriesAnswer.of(one) for one in found])


async def import_calendar(ask: Ask) -> ImportedAnswer:
    """Reading a calendar takes up to a second of work, so it has a thread."""
    query: ImportAsked = ask.query
    store = ask.centre.store
    async with store.reading() as connection:
        zone = (await units.unit(connection, query.unit_id)).time_zone
    events, unread = await asyncio.to_thread(
        calendar.read, ask.body, query.unit_id, zone, query.kind
    )
    skipped = [NotImported(title=one.title, reason=one.reason) for one in unread]
    saved: list[SeriesAnswer] = []
    async with store.writing() as connection, connection.begin_nested() as undoable:
        ask.transaction = connection
        await ask.demand_at(Action.PLAN, query.unit_id)
        for event in events:
            try:
                async with connection.begin_nested():
                    made = await planning.save(
                        connection, event.draft, ask.now, ask.person.id, uid=event.uid
                    )
                    for when, edit in event.edits.items():
                        made = await planning.edit(
                            connection, made.series.id, when, edit, ask.now, ask.person.id
                        )
            except (Invalid, Conflict, NotFound) as error:
                skipped.append(NotImported(title=event.draft.title, reason=str(error)))
            else:
                saved.append(SeriesAnswer.of(made.series))
        if query.dry_run == "1":
            await undoable.rollback()
    return ImportedAnswer(saved=saved, skipped=skipped)


# Not the words beside it, which answer other methods with a 405.
_ONE = "/api/series/{series_id:(?!check$|copy-week$|import$)[^/]+}"
_PLAN = On(Action.PLAN, finding.of_series)
_APPROVE = On(Action.APPROVE, finding.above_series)
ROUTES = [
    Route("GET", "/api/series", On(Action.SEE, finding.unit_asked), list_series,
          "The courses and meetings that a unit and all below it organise.",
          answer=Listed[SeriesAnswer], query=SeriesAsked),
    Route("POST", "/api/series", On(Action.PLAN, finding.unit_said), write_series,
          "Write a plan down, as a draft.", answer=SavedAnswer, body=Plan, status=201),
    Route("POST", "/api/series/check", On(Action.PLAN, finding.plan_said), check_series,
          "The clashes that a plan would have, and ways out of the first; nothing is stored.",
          answer=Clashes, body=Written, only_reads=True),
    Route("POST", "/api/series/copy-week", On(Action.PLAN, finding.unit_said), copy_week,
          "Copy what a unit organised in one week, as drafts.",
          answer=list[SeriesAnswer], body=WeekCopied, status=201),
    Route("POST", "/api/series/import", On(Action.PLAN, finding.unit_asked), import_calendar,
          "Enter the events of a calendar file as drafts of a unit.",
          answer=ImportedAnswer, query=ImportAsked, body=ICS, by_itself=True),
    Route("GET", _ONE, On(Action.SEE, finding.series_seen), see_series,
          "One course or meeting.", answer=SeriesAnswer),
    Route("PUT", _ONE, _PLAN, change_series,
          "Change a plan; what is confirmed is worked out anew, and may clash.",
          answer=SavedAnswer, body=Plan, query=Anyway),
    Route("POST", _ONE + "/submit", _PLAN, submit_series,
          "Hand a draft in: it is confirmed, or waits for the approval of the unit above.",
          answer=SavedAnswer, query=Anyway),
    Route("POST", _ONE + "/approve", _APPROVE, approve_series, "Confirm what was handed in.",
          answer=SavedAnswer),
    Route("POST", _ONE + "/refuse", _APPROVE, refuse_series,
          "Send what was handed in back with a reason.", answer=SeriesAnswer, body=Reason),
    Route("POST", _ONE + "/cancel", _PLAN, cancel_series,
          "Cancel a course or meeting: all of it that has not begun.", answer=SeriesAnswer),
    Route("DELETE", _ONE, _PLAN, remove_series,
          "Take out a plan for good: a draft, or what was cancelled before any of it took place."),
    Route("GET", "/api/approvals", On(Action.APPROVE, finding.unit_asked), list_approvals,
          "What units right below this one have handed in to it.",
          answer=Listed[SeriesAnswer], query=UnitAsked),
]  # fmt: skip
