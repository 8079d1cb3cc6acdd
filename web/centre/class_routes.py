"""Lessons and meetings as they take place: calendars, control, invitations, who is there."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field
from sqlalchemy import select

from schedule import agenda, attendance, invitations, learning, planning, reminders, sessions, units
from schedule.agenda import Whose
from schedule.attendance import Present
from schedule.errors import Invalid
from schedule.feeds import names_of
from schedule.invitations import Answer, Reply
from schedule.rights import Action, lineage, may
from schedule.series import series
from schedule.tables import Occurrence
from web.centre import finding
from web.centre.models import Id, Moment, Short
from web.centre.plans import OccurrenceAnswer, SavedAnswer, Single
from web.centre.roster_routes import CSV, csv_file
from web.centre.series_routes import Anyway
from web.centre.table import Ask, Body, Listed, On, Paging, Query, Route, SignedIn

LONGEST_WINDOW = timedelta(days=100)
MOST_SHOWN = 2_000
TODAY = timedelta(days=7)
# A stay without a sign of life for so long has ended.
ALIVE = timedelta(seconds=90)


class WindowAsked(Query):
    """Whose calendar, in a window of a hundred days at most; nobody named: one's own.

    within: only what this unit and those below it organise.
    """

    from_: Moment = Field(alias="from")
    to: Moment
    unit_id: Id | None = None
    person_id: Id | None = None
    site_id: Id | None = None
    station_id: Id | None = None
    within: Id | None = None


class Stage(BaseModel):
    """An occurrence with all that a page about it shows. stream: what it is called on the nodes.

    may: what the person may do here, on the organising unit. answers: of all units invited.
    """

    occurrence: OccurrenceAnswer
    stream: str
    now: datetime
    on_air_at: datetime | None
    ended_at: datetime | None
    extended_until: datetime | None
    end_asked_at: datetime | None
    unit_name: str
    presenter_name: str
    room_name: str
    agenda: str
    may: list[Action]


class Today(BaseModel):
    """What is next for whoever asks, by the server's clock."""

    now: datetime
    items: list[OccurrenceAnswer]


class Longer(Body):
    """By how many minutes."""

    minutes: int = Field(ge=1, le=1440)


class Until(BaseModel):
    """The new end."""

    extended_until: datetime


class PartAsked(Paging):
    """Of which unit and all below it; none: of all."""

    unit_id: Id | None = None


class InvitationsAsked(PartAsked):
    """Which answers: "open" are those who have not answered."""

    reply: Literal["open", "yes", "no", "leave"] = "open"


class AnswersGiven(BaseModel):
    """How many units answered what."""

    invited: int
    yes: int
    no: int
    leave: int
    open: int


class Invited(BaseModel):
    """Units that gave one answer, page by page, and how many gave which."""

    answers: AnswersGiven
    items: list[Answer]
    next: str | None = None


class ReplySaid(Body):
    """A unit's answer; a leave needs a reason."""

    reply: Reply
    reason: Short = ""


class There(BaseModel):
    """How many sites, stations and persons of a unit are there now."""

    unit_id: int
    attendees: int


class Attending(BaseModel):
    """Who is there now, and who attended, page by page."""

    there: list[There]
    items: list[Present]
    next: str | None = None


async def list_occurrences(ask: Ask) -> Listed[OccurrenceAnswer]:
    query: WindowAsked = ask.query
    if not timedelta() < query.to - query.from_ <= LONGEST_WINDOW:
        raise Invalid("to must be after from, by a hundred days at most", "to")
    found = await agenda.occurrences(
        ask.connection, await _whose(ask), query.from_, query.to, most=MOST_SHOWN + 1
    )
    more = found[MOST_SHOWN].starts_at.isoformat() if len(found) > MOST_SHOWN else None
    items = [OccurrenceAnswer.of(one) for one in found[:MOST_SHOWN]]
    return Listed(items=items, next=more)


async def _whose(ask: Ask) -> Whose:
    query: WindowAsked = ask.query
    paths: dict[str, str] = {}
    for name in ("unit_id", "within"):
        if (unit_id := getattr(query, name)) is not None:
            paths[name] = await ask.demand_at(Action.SEE, unit_id)
    for kind, place_id in (("site", query.site_id), ("station", query.station_id)):
        if place_id is not None:
            place = await units.place(
                ask.connection, "site" if kind == "site" else "station", place_id
            )
            await ask.demand_at(Action.SEE, place.unit_id)
    if query.person_id is not None and query.person_id != ask.person.id:
        ask.demand(Action.SEE, await finding.home_of(ask, query.person_id))
    if query.model_fields_set <= {"from_", "to"}:
        return await _own(ask)
    return Whose(
        person_id=query.person_id,
        unit_path=paths.get("unit_id"),
        site_id=query.site_id,
        station_id=query.station_id,
        within=paths.get("within"),
    )


async def _own(ask: Ask) -> Whose:
    """What somebody presents, and what their unit organises or is asked to."""
    home = await units.unit(ask.connection, ask.person.unit_id)
    return Whose(person_id=ask.person.id, unit_path=home.path)


async def see_today(ask: Ask) -> Today:
    found = await agenda.occurrences(
        ask.connection, await _own(ask), ask.now, ask.now + TODAY, most=50
    )
    return Today(now=ask.now, items=[OccurrenceAnswer.of(one) for one in found])


async def see_occurrence(ask: Ask) -> Stage:
    found = await agenda.occurrence(ask.connection, ask.at["occurrence_id"])
    info = await series(ask.connection, found.series_id)
    names = await names_of(ask.connection, [info])
    row = (
        await ask.connection.execute(
            select(
                Occurrence.on_air_at,
                Occurrence.ended_at,
                Occurrence.extended_until,
                Occurrence.end_asked_at,
            ).where(Occurrence.id == found.id)
        )
    ).one()
    path = await finding.series_path(ask, found.series_id)
    return Stage(
        occurrence=OccurrenceAnswer.of(found),
        stream=f"class-{found.id}",
        now=ask.now,
        **row._mapping,
        unit_name=names.units.get(found.unit_id, ""),
        presenter_name=names.people.get(found.presenter_id or 0, ""),
        room_name=names.rooms.get(found.room_id or 0, ""),
        agenda=info.plan.agenda,
        may=[action for action in Action if may(ask.session.grants, action, path)],
    )


async def change_occurrence(ask: Ask) -> SavedAnswer:
    found = await agenda.occurrence(ask.connection, ask.at["occurrence_id"])
    saved = await planning.edit(
        ask.connection,
        found.series_id,
        found.recurrence,
        ask.body.edit(),
        ask.now,
        ask.person.id,
        anyway=ask.query.anyway == "1",
    )
    await reminders.tell_overridden(ask.connection, saved.overridden, ask.now, ask.centre.policy)
    return SavedAnswer.of(saved)


async def start_occurrence(ask: Ask) -> None:
    await sessions.start_now(ask.connection, ask.at["occurrence_id"], ask.now)
    await ask.note("start", f"occurrence:{ask.at['occurrence_id']}")


async def end_occurrence(ask: Ask) -> None:
    await sessions.end_now(ask.connection, ask.at["occurrence_id"], ask.now)
    await ask.note("end", f"occurrence:{ask.at['occurrence_id']}")


async def extend_occurrence(ask: Ask) -> Until:
    occurrence_id, minutes = ask.at["occurrence_id"], ask.body.minutes
    until = await sessions.extend(ask.connection, occurrence_id, minutes, ask.now)
    await ask.note("extend", f"occurrence:{occurrence_id}", minutes=minutes)
    return Until(extended_until=until)


async def _part(ask: Ask) -> str | None:
    """The unit of which somebody wants to see the part; none: all, for the organiser."""
    if ask.query.unit_id is not None:
        return await finding.unit_asked(ask)
    return await finding.of_occurrence(ask)


async def _part_path(ask: Ask) -> str:
    if ask.query.unit_id is not None:
        return await finding.unit_asked(ask)
    return lineage(await finding.of_occurrence(ask))[0]


async def list_invitations(ask: Ask) -> Invited:
    occurrence_id, query, path = ask.at["occurrence_id"], ask.query, await _part_path(ask)
    await agenda.occurrence(ask.connection, occurrence_id)
    counts = await invitations.answers(ask.connection, occurrence_id, path)
    reply = None if query.reply == "open" else Reply(query.reply)
    found = await invitations.listed(
        ask.connection, occurrence_id, path, reply, after=query.after, most=query.limit + 1
    )
    items = found[: query.limit]
    return Invited(
        answers=AnswersGiven(
            invited=counts.invited,
            yes=counts.yes,
            no=counts.no,
            leave=counts.leave,
            open=counts.open,
        ),
        items=items,
        next=items[-1].unit_path if len(found) > query.limit else None,
    )


async def reply_to_invitation(ask: Ask) -> None:
    occurrence_id, unit_id = ask.at["occurrence_id"], ask.at["unit_id"]
    await invitations.reply(
        ask.connection,
        occurrence_id,
        unit_id,
        ask.body.reply,
        ask.body.reason,
        ask.now,
        ask.person.id,
    )
    await ask.note("reply", f"occurrence:{occurrence_id}", unit_id=unit_id, reply=ask.body.reply)


async def see_attendance(ask: Ask) -> Attending:
    occurrence_id, query, path = ask.at["occurrence_id"], ask.query, await _part_path(ask)
    await agenda.occurrence(ask.connection, occurrence_id)
    number, _, attendee = query.after.partition("/")
    if query.after and not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise Invalid("after must be the next of another page", "after")
    there = await attendance.there_now(ask.connection, occurrence_id, path, ask.now - ALIVE)
    found = await attendance.present_at(
        ask.connection,
        occurrence_id,
        path,
        after=(int(number or 0), attendee),
        most=query.limit + 1,
    )
    items = found[: query.limit]
    last = items[-1] if len(found) > query.limit else None
    return Attending(
        there=[There(unit_id=one, attendees=count) for one, count in sorted(there.items())],
        items=items,
        next=last and f"{last.unit_id}/{last.attendee}",
    )


async def export_attendance(ask: Ask) -> object:
    occurrence_id, path = ask.at["occurrence_id"], await _part_path(ask)
    await agenda.occurrence(ask.connection, occurrence_id)
    pieces = [one async for one in learning.class_csv(ask.connection, occurrence_id, path)]
    return csv_file("".join(pieces), f"attendance-{occurrence_id}")


async def export_statements(ask: Ask) -> list[dict[str, object]]:
    return await learning.statements(
        ask.connection, ask.at["occurrence_id"], ask.now, ask.centre.public_url
    )


class UnitPart(Query):
    """Of which unit and all below it; none: of all."""

    unit_id: Id | None = None


_ONE = "/api/occurrences/{occurrence_id}"
_CONTROL = On(Action.CONTROL, finding.of_occurrence)
_PART = On(Action.SEE, _part)
ROUTES = [
    Route("GET", "/api/today", SignedIn(), see_today, "What is next for me, for a week.",
          answer=Today),
    Route("GET", "/api/occurrences", SignedIn(), list_occurrences,
          "What takes place in a window, in order. `next` is `from` of the rest, if it was too "
          "much.", answer=Listed[OccurrenceAnswer], query=WindowAsked, also=(403,)),
    Route("GET", _ONE, On(Action.SEE, finding.occurrence_seen), see_occurrence,
          "One lesson or meeting.", answer=Stage),
    Route("PATCH", _ONE, On(Action.PLAN, finding.of_occurrence), change_occurrence,
          "Move, change or cancel one lesson or meeting; an empty change takes it back.",
          answer=SavedAnswer, body=Single, query=Anyway),
    Route("POST", _ONE + "/start", _CONTROL, start_occurrence,
          "Begin before the time, as soon as somebody presents."),
    Route("POST", _ONE + "/end", _CONTROL, end_occurrence, "End what is on the air."),
    Route("POST", _ONE + "/extend", _CONTROL, extend_occurrence,
          "Go on for some minutes past the end.", answer=Until, body=Longer),
    Route("GET", _ONE + "/invitations", _PART, list_invitations,
          "Which units are invited, and what they answer.",
          answer=Invited, query=InvitationsAsked),
    Route("PUT", _ONE + "/invitations/{unit_id}", On(Action.REPLY, finding.unit_at),
          reply_to_invitation, "Answer an invitation for a unit.", body=ReplySaid),
    Route("GET", _ONE + "/attendance", _PART, see_attendance,
          "Who is there now, and who attended.", answer=Attending, query=PartAsked),
    Route("GET", _ONE + "/attendance.csv", _PART, export_attendance,
          "Who attended, as a CSV file.", answer=CSV, query=UnitPart),
    Route("GET", _ONE + "/xapi", On(Action.SEE, finding.of_occurrence), export_statements,
          "Who saw what, as xAPI statements of the video profile.",
          answer=list[dict[str, object]]),
]  # fmt: skip
