"""Secret ballots: opening and closing, the issue desk, results."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
from datetime import datetime
from typing import Annotated, Literal, Self

from aiohttp import web
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.access import AccessError
from schedule import ballots, people, units
from schedule.ballots import BallotInfo, Turnout, Voters
from schedule.errors import Conflict, Invalid, Refused
from schedule.rights import Action, may
from web.centre import finding
from web.centre.models import Id, Short
from web.centre.room_models import Option
from web.centre.roster_routes import CSV, csv_file
from web.centre.table import Ask, Body, On, Passed, Route
from web.room import ballots as secret

AsWhom = Annotated[
    str, StringConstraints(max_length=20, pattern=r"^(site|person):[1-9][0-9]{0,8}$")
]


class BallotSaid(Body):
    """A question with two to ten options. voters: one vote for each unit, or for each person."""

    question: Short
    options: list[Option] = Field(min_length=2, max_length=10)
    voters: Voters = "units"
    minutes: int = Field(default=5, ge=1, le=1440)


class Blinded(Body):
    """What is signed without being seen.

    as: who asks, as at the event connection: "site:12" votes for its unit. unit_id: for which unit
    somebody who is signed in votes, if not for their own.
    """

    blinded: str = Field(max_length=1024, pattern=r"^[A-Za-z0-9_-]*$")
    unit_id: Id | None = None
    as_: AsWhom | None = Field(default=None, alias="as")


class Signed(BaseModel):
    """The signature on it."""

    signed: str


class TurnoutAnswer(BaseModel):
    """How many papers a unit's voters took, of how many it could; invited 0: nobody knows."""

    unit_id: int
    unit: str
    papers: int
    invited: int

    @classmethod
    def of(cls, one: Turnout) -> Self:
        return cls(unit_id=one.unit_id, unit=one.unit, papers=one.papers, invited=one.invited)


class BallotAnswer(BaseModel):
    """A ballot. result: null until it is counted; votes: in the box; spoilt: could not be read."""

    id: int
    question: str
    options: list[str]
    voters: Literal["units", "people"]
    open: bool
    opened_at: datetime
    until: datetime
    closed_at: datetime | None
    votes: int
    result: list[int] | None
    spoilt: int
    turnout: list[TurnoutAnswer]


async def open_ballot(ask: Ask) -> BallotAnswer:
    room = await ask.centre.rooms.opened(ask.at["occurrence_id"])
    said: BallotSaid = ask.body
    async with ask.centre.store.reading() as connection:
        await ballots.checked(connection, room.id, said.question, said.options)
    made = await asyncio.to_thread(secret.new_keys)
    keys = ballots.Keys(made.signer, made.seal, made.signer_key, made.seal_key)

    async def write(connection: AsyncConnection) -> BallotInfo:
        return await ballots.add(
            connection,
            room.id,
            said.question,
            said.options,
            said.voters,
            said.minutes,
            keys,
            # Making the keys has taken its time.
            ask.centre.clock(),
        )

    info = await ask.centre.rooms.keep(room, write)
    assert info is not None
    ask.centre.rooms.take_ballot(room, info)
    await ask.centre.rooms.note(room, ask.person.id, "open ballot", {"ballot": info.id})
    async with ask.centre.store.reading() as connection:
        return await _answer(connection, room.id, info, ask.now)


async def close_ballot(ask: Ask) -> None:
    room = await ask.centre.rooms.opened(ask.at["occurrence_id"])
    await ask.centre.rooms.end_ballot(room, ask.at["ballot_id"])
    detail = {"ballot": ask.at["ballot_id"]}
    await ask.centre.rooms.note(room, ask.person.id, "close ballot", detail)


async def see_ballot(ask: Ask) -> BallotAnswer:
    occurrence_id = ask.at["occurrence_id"]
    info = await ballots.ballot(ask.connection, occurrence_id, ask.at["ballot_id"])
    return await _answer(ask.connection, occurrence_id, info, ask.now)


async def _answer(
    connection: AsyncConnection, occurrence_id: int, info: BallotInfo, now: datetime
) -> BallotAnswer:
    turnout = await ballots.turnout(connection, occurrence_id, info)
    return BallotAnswer(
        id=info.id,
        question=info.question,
        options=info.options,
        voters="units" if info.voters == "units" else "people",
        open=info.closed_at is None and now < info.until,
        opened_at=info.opened_at,
        until=info.until,
        closed_at=info.closed_at,
        votes=await ballots.vote_count(connection, info.id),
        result=info.result,
        spoilt=info.spoilt,
        turnout=[TurnoutAnswer.of(one) for one in turnout],
    )


async def export_ballot(ask: Ask) -> web.Response:
    occurrence_id = ask.at["occurrence_id"]
    info = await ballots.ballot(ask.connection, occurrence_id, ask.at["ballot_id"])
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["question", _plain(info.question)])
    for at, option in enumerate(info.options):
        table.writerow([_plain(option), info.result[at] if info.result is not None else ""])
    table.writerow(["spoilt", info.spoilt])
    table.writerow([])
    table.writerow(["unit_id", "unit", "papers", "invited"])
    for one in await ballots.turnout(ask.connection, occurrence_id, info):
        table.writerow([one.unit_id, _plain(one.unit), one.papers, one.invited])
    return csv_file("\ufeff" + out.getvalue(), f"ballot-{info.id}")


def _plain(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


# The issue desk


async def sign_paper(ask: Ask) -> Signed:
    occurrence_id, ballot_id = ask.at["occurrence_id"], ask.at["ballot_id"]
    said: Blinded = ask.body
    async with ask.centre.store.reading() as connection:
        info = await ballots.ballot(connection, occurrence_id, ballot_id)
        if ask.grant is not None:
            voter, unit_id = await _by_pass(ask, connection, info)
        else:
            voter, unit_id = await _by_session(ask, connection, info)
        if info.closed_at is not None or ask.now >= info.until:
            raise Conflict("the ballot is closed")
        if info.voters == "units":
            await ballots.demand_invited(connection, occurrence_id, unit_id)
        keys = await ballots.keys_of(connection, ballot_id)
    # Signed before it is noted: what is no blinded message uses up nobody's paper.
    try:
        signed = await asyncio.to_thread(secret.sign, keys.signer_key, said.blinded)
    except secret.BallotError as error:
        raise Invalid(str(error).rstrip("."), "blinded") from error
    asked = hashlib.sha256(said.blinded.encode()).hexdigest()
    async with ask.centre.store.writing() as connection:
        await ballots.give_paper(connection, ballot_id, voter, unit_id, asked)
    return Signed(signed=signed)


async def _by_session(ask: Ask, connection: AsyncConnection, info: BallotInfo) -> tuple[str, int]:
    """Who votes: a unit that this person answers for, or the person."""
    ask.transaction = connection
    kind, _, number = (ask.body.as_ or "").partition(":")
    unit_id = ask.body.unit_id or ask.person.unit_id
    if info.voters == "units":
        if kind == "site":
            unit_id = (await units.place(connection, "site", int(number))).unit_id
        path = (await units.unit(connection, unit_id)).path
        ask.demand(Action.REPLY, path)
        return f"unit:{unit_id}", unit_id
    path_seen = await finding.occurrence_seen(ask)
    if path_seen is not None and not may(ask.session.grants, Action.SEE, path_seen):
        raise Refused("you are not asked to this meeting, and have no vote in it")
    return f"person:{ask.person.id}", ask.person.unit_id


async def _by_pass(ask: Ask, connection: AsyncConnection, info: BallotInfo) -> tuple[str, int]:
    """The same by a token of the meeting: a site's for its unit, a person's for themselves."""
    grant, stream = ask.grant, f"class-{ask.at['occurrence_id']}"
    assert grant is not None
    kind, _, number = (ask.body.as_ or grant.subject).partition(":")
    is_id = number.isascii() and number.isdecimal() and len(number) < 10
    if info.voters == "units" and kind == "site" and is_id:
        grant.require_publish(f"{stream}.site-{number}")
        place = await units.place(connection, "site", int(number))
        return f"unit:{place.unit_id}", place.unit_id
    if info.voters == "people" and kind == "person" and is_id:
        grant.require_view(stream)
        if not ask.centre.access.open and grant.subject != f"person:{number}":
            raise AccessError(403, "This token is another person's.")
        found = await people.person(connection, int(number))
        return f"person:{found.id}", found.unit_id
    raise Refused(f"this ballot is for {info.voters}, and this pass is for none of them")


_BALLOTS = "/api/occurrences/{occurrence_id}/room/ballots"
_CONTROL = On(Action.CONTROL, finding.of_occurrence)
ROUTES = [
    Route("POST", _BALLOTS, _CONTROL, open_ballot,
          "Open a secret ballot.", answer=BallotAnswer, body=BallotSaid, by_itself=True),
    Route("GET", _BALLOTS + "/{ballot_id}", _CONTROL, see_ballot,
          "A ballot with its turnout, and its result once it is counted.", answer=BallotAnswer),
    Route("GET", _BALLOTS + "/{ballot_id}/result.csv", _CONTROL, export_ballot,
          "The same as a CSV file.", answer=CSV),
    Route("POST", _BALLOTS + "/{ballot_id}/close", _CONTROL, close_ballot,
          "Close a ballot; it is counted when the votes that are on their way have come.",
          by_itself=True),
    Route("POST", _BALLOTS + "/{ballot_id}/signatures", Passed(), sign_paper,
          "A blind signature for a voter: one each, the same for the same question.",
          answer=Signed, body=Blinded, by_itself=True),
]  # fmt: skip
