"""Secret ballots in the store: who was given a paper, and sealed votes that nobody can be found by.

The issue desk knows who asked, and signs without seeing what (RFC 9474): one paper per voter. The
ballot box knows a token that nobody has seen before, and a sealed vote. Neither list has times or
an order, and nothing stands in both. What signatures and seals are is the business of
`web.room.ballots`; here is who may have a paper, and that each token counts once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.errors import Conflict, NotFound, Refused
from schedule.room_tables import Ballot, BallotPaper, BallotVote
from schedule.rooms import options
from schedule.store import PARAMETERS, insert_many, upsert
from schedule.tables import Invitation, Unit

Voters = Literal["units", "people"]
MOST_BALLOTS: Final = 100


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one ballot: public ones as pages read them, private ones as PEM."""

    signer: Mapping[str, Any]
    seal: Mapping[str, Any]
    signer_key: str
    seal_key: str


@dataclass(frozen=True, slots=True)
class BallotInfo:
    """A ballot. result: one number per option, None until it is closed; spoilt: unreadable."""

    id: int
    question: str
    options: list[str]
    voters: str
    signer: dict[str, Any]
    seal: dict[str, Any]
    opened_at: datetime
    until: datetime
    closed_at: datetime | None
    result: list[int] | None
    spoilt: int


@dataclass(frozen=True, slots=True)
class Turnout:
    """How many papers a unit's voters took, of how many it could; 0 where nobody knows."""

    unit_id: int
    unit: str
    papers: int
    invited: int


_COLUMNS = (
    Ballot.id,
    Ballot.question,
    Ballot.options,
    Ballot.voters,
    Ballot.signer,
    Ballot.seal,
    Ballot.opened_at,
    Ballot.until,
    Ballot.closed_at,
    Ballot.result,
    Ballot.spoilt,
)


async def checked(
    connection: AsyncConnection, occurrence_id: int, question: str, given: Sequence[str]
) -> tuple[str, list[str]]:
    """What would be asked, if it can be: before keys are made, which takes long. As `add`."""
    asked = fields.line(question, "question", 500), options(given)
    known = await listed(connection, occurrence_id)
    if any(one.closed_at is None for one in known):
        raise Conflict("close the ballot that is open first")
    if len(known) >= MOST_BALLOTS:
        raise Conflict(f"a meeting has at most {MOST_BALLOTS} ballots")
    return asked


async def add(
    connection: AsyncConnection,
    occurrence_id: int,
    question: str,
    given: Sequence[str],
    voters: Voters,
    minutes: int,
    keys: Keys,
    now: datetime,
) -> BallotInfo:
    """Open a ballot; Invalid, Conflict while another of the meeting is open."""
    asked = await checked(connection, occurrence_id, question, given)
    values = {
        "occurrence_id": occurrence_id,
        "question": asked[0],
        "options": asked[1],
        "voters": voters,
        "signer": dict(keys.signer),
        "seal": dict(keys.seal),
        "signer_key": keys.signer_key,
        "seal_key": keys.seal_key,
        "opened_at": now,
        "until": now + timedelta(minutes=minutes),
        "spoilt": 0,
    }
    made = await connection.execute(insert(Ballot).values(values).returning(*_COLUMNS))
    return BallotInfo(*made.one())


async def listed(connection: AsyncConnection, occurrence_id: int) -> list[BallotInfo]:
    """The ballots of a meeting, the oldest first."""
    found = await connection.execute(
        select(*_COLUMNS).where(Ballot.occurrence_id == occurrence_id).order_by(Ballot.id)
    )
    return [BallotInfo(*row) for row in found]


async def ballot(connection: AsyncConnection, occurrence_id: int, ballot_id: int) -> BallotInfo:
    """One ballot; NotFound."""
    row = (
        await connection.execute(
            select(*_COLUMNS).where(Ballot.id == ballot_id, Ballot.occurrence_id == occurrence_id)
        )
    ).first()
    if row is None:
        raise NotFound("there is no such ballot here")
    return BallotInfo(*row)


async def keys_of(connection: AsyncConnection, ballot_id: int) -> Keys:
    """The keys of a ballot; NotFound."""
    row = (
        await connection.execute(
            select(Ballot.signer, Ballot.seal, Ballot.signer_key, Ballot.seal_key).where(
                Ballot.id == ballot_id
            )
        )
    ).first()
    if row is None:
        raise NotFound("there is no such ballot here")
    return Keys(*row)


async def give_paper(
    connection: AsyncConnection, ballot_id: int, voter: str, unit_id: int, asked_sha256: str
) -> None:
    """Note that a voter gets a signature; Conflict when it had one for something else."""
    done = await connection.execute(
        upsert(BallotPaper, connection.dialect.name)
        .values(ballot_id=ballot_id, voter=voter, unit_id=unit_id, asked_sha256=asked_sha256)
        .on_conflict_do_nothing()
        .returning(BallotPaper.voter)
    )
    if done.first() is not None:
        return
    before = await connection.scalar(
        select(BallotPaper.asked_sha256).where(
            BallotPaper.ballot_id == ballot_id, BallotPaper.voter == voter
        )
    )
    if before != asked_sha256:
        raise Conflict("this voter has been given a ballot paper already")


async def demand_invited(connection: AsyncConnection, occurrence_id: int, unit_id: int) -> None:
    """Refused, unless a unit is invited to the meeting."""
    row = await connection.execute(
        select(Invitation.unit_id).where(
            Invitation.occurrence_id == occurrence_id, Invitation.unit_id == unit_id
        )
    )
    if row.first() is None:
        raise Refused("this unit is not invited to the meeting, and has no vote in it")


async def keep_vote(
    connection: AsyncConnection, ballot_id: int, token_sha256: str, vote: Mapping[str, Any]
) -> bool:
    """Put a sealed vote into the box; False where its token is in there already: the first counts.

    Conflict when the box is closed, NotFound.
    """
    row = (await connection.execute(select(Ballot.closed_at).where(Ballot.id == ballot_id))).first()
    if row is None:
        raise NotFound("there is no such ballot here")
    if row.closed_at is not None:
        raise Conflict("the ballot is closed")
    done = await connection.execute(
        upsert(BallotVote, connection.dialect.name)
        .values(ballot_id=ballot_id, token_sha256=token_sha256, vote=dict(vote))
        .on_conflict_do_nothing()
        .returning(BallotVote.token_sha256)
    )
    return done.first() is not None


async def votes(connection: AsyncConnection, ballot_id: int) -> list[dict[str, Any]]:
    """All sealed votes, in the order of their tokens' hashes."""
    found = await connection.execute(
        select(BallotVote.vote)
        .where(BallotVote.ballot_id == ballot_id)
        .order_by(BallotVote.token_sha256)
    )
    return [row.vote for row in found]


async def vote_count(connection: AsyncConnection, ballot_id: int) -> int:
    """How many votes are in the box."""
    query = select(func.count()).select_from(BallotVote).where(BallotVote.ballot_id == ballot_id)
    return int(await connection.scalar(query) or 0)


async def end(connection: AsyncConnection, ballot_id: int, now: datetime) -> None:
    """Give out no more papers; the box is open yet for what is on its way. Conflict."""
    done = await connection.execute(
        update(Ballot)
        .where(Ballot.id == ballot_id, Ballot.closed_at.is_(None), Ballot.until > now)
        .values(until=now)
    )
    if not done.rowcount:
        raise Conflict("the ballot is closed")


async def close(
    connection: AsyncConnection,
    ballot_id: int,
    result: Sequence[int],
    spoilt: int,
    now: datetime,
) -> None:
    """Note the result. The signer's key goes: nobody gets a paper any more. Conflict.

    The votes are written anew in the order of their tokens: a database file keeps rows in the order
    in which they came.
    """
    done = await connection.execute(
        update(Ballot)
        .where(Ballot.id == ballot_id, Ballot.closed_at.is_(None))
        .values(result=list(result), spoilt=spoilt, closed_at=now, signer_key="")
    )
    if not done.rowcount:
        raise Conflict("the ballot is closed")
    columns = (BallotVote.ballot_id, BallotVote.token_sha256, BallotVote.vote)
    rows = [
        dict(row._mapping)
        for row in await connection.execute(
            select(*columns)
            .where(BallotVote.ballot_id == ballot_id)
            .order_by(BallotVote.token_sha256)
        )
    ]
    await connection.execute(delete(BallotVote).where(BallotVote.ballot_id == ballot_id))
    await insert_many(connection, insert(BallotVote), rows)


async def turnout(
    connection: AsyncConnection, occurrence_id: int, info: BallotInfo
) -> list[Turnout]:
    """Who took part, by unit, in the order of the tree: the invited ones, and others that did."""
    papers = {
        row[0]: int(row[1])
        for row in await connection.execute(
            select(BallotPaper.unit_id, func.count())
            .where(BallotPaper.ballot_id == info.id)
            .group_by(BallotPaper.unit_id)
        )
    }
    rows = await connection.execute(
        select(Unit.id, Unit.name, Invitation.unit_id)
        .outerjoin(
            Invitation,
            and_(Invitation.unit_id == Unit.id, Invitation.occurrence_id == occurrence_id),
        )
        .where(Invitation.unit_id.is_not(None) | Unit.id.in_(list(papers)[:PARAMETERS]))
        .order_by(Unit.path)
    )
    by_unit = info.voters == "units"
    return [
        Turnout(row[0], row[1], papers.get(row[0], 0), int(by_unit and row[2] is not None))
        for row in rows
    ]
