"""The room of a meeting in the store: its state, what was said by name, roll-call, polls, slides.

All functions work inside the caller's transaction. What the state means is decided in `floor`;
who may change it, by the caller.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import fields
from schedule.errors import Conflict, Invalid, NotFound
from schedule.floor import Presence
from schedule.room_tables import Deck, Poll, Room, RoomEvent, RoomMark
from schedule.store import PARAMETERS, upsert
from schedule.tables import Invitation, Occurrence, Person, Series, Site, Unit

MOST_OPTIONS: Final = 10
MOST_POLLS: Final = 200
MOST_DECKS: Final = 50
MOST_LISTED: Final = 2000
SAID_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Meeting:
    """An occurrence, as its room tells of it."""

    id: int
    title: str
    state: str
    starts_at: datetime
    ends_at: datetime
    unit_id: int
    unit: str
    presenter_id: int | None
    presenter: str


@dataclass(frozen=True, slots=True)
class Place:
    """A site with the unit that it belongs to."""

    id: int
    name: str
    unit_id: int
    unit: str


@dataclass(frozen=True, slots=True)
class Said:
    """What a site or person said or did; see `room_tables.RoomEvent`."""

    id: int
    at: datetime
    kind: str
    who: str
    detail: Mapping[str, Any]
    state: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as it comes up the tree. id: its name, the same however often it comes."""

    id: str
    at: datetime
    kind: str
    who: str
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PollInfo:
    """A quick question as it stands."""

    id: int
    question: str
    options: list[str]
    open: bool
    shown: bool
    counts: list[int]
    voters: int
    asked_at: datetime


@dataclass(frozen=True, slots=True)
class DeckInfo:
    """Slides: pages of {"sha256", "bytes", "width", "height"}."""

    id: int
    name: str
    media_type: str
    pages: list[dict[str, Any]]
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Mark:
    """A site in the roll-call. people: how many it said were in the room."""

    site_id: int
    presence: str
    people: int
    by_site: bool
    at: datetime


# The meeting and its places


async def meeting(connection: AsyncConnection, occurrence_id: int) -> Meeting:
    """The meeting that an occurrence is; NotFound."""
    row = (
        await connection.execute(
            select(
                Occurrence.id,
                Occurrence.title,
                Occurrence.state,
                Occurrence.starts_at,
                func.coalesce(Occurrence.extended_until, Occurrence.ends_at),
                Series.unit_id,
                Unit.name,
                Occurrence.presenter_id,
                func.coalesce(Person.name, ""),
            )
            .join(Series, Series.id == Occurrence.series_id)
            .join(Unit, Unit.id == Series.unit_id)
            .outerjoin(Person, Person.id == Occurrence.presenter_id)
            .where(Occurrence.id == occurrence_id)
        )
    ).first()
    if row is None:
        raise NotFound("there is no such lesson or meeting")
    return Meeting(*row)


async def places(connection: AsyncConnection, site_ids: Collection[int]) -> dict[int, Place]:
    """Sites with their units, by id, of those that there are."""
    found: dict[int, Place] = {}
    ids = sorted(site_ids)
    for start in range(0, len(ids), PARAMETERS):
        rows = await connection.execute(
            select(Site.id, Site.name, Unit.id, Unit.name)
            .join(Unit, Unit.id == Site.unit_id)
            .where(Site.id.in_(ids[start : start + PARAMETERS]))
        )
        found |= {row[0]: Place(*row) for row in rows}
    return found


async def invited_sites(
    connection: AsyncConnection, occurrence_id: int, unit_ids: Sequence[int], most: int
) -> list[int]:
    """The sites of the units that are invited, in the order of the tree.

    Where units are named, the sites of these, in their order.
    """
    query = select(Site.id, Site.unit_id).join(Unit, Unit.id == Site.unit_id)
    if unit_ids:
        query = query.where(Site.unit_id.in_(unit_ids))
    else:
        query = query.join(
            Invitation,
            and_(Invitation.unit_id == Unit.id, Invitation.occurrence_id == occurrence_id),
        )
    rows = (await connection.execute(query.order_by(Unit.path, Site.code).limit(most))).all()
    rank = {unit_id: at for at, unit_id in enumerate(unit_ids)}
    return [row.id for row in sorted(rows, key=lambda row: rank.get(row.unit_id, 0))]


# The room


async def room(connection: AsyncConnection, occurrence_id: int) -> tuple[str, Mapping[str, Any]]:
    """The state of a room and its document; "" and nothing where it was never opened."""
    row = (
        await connection.execute(
            select(Room.state, Room.document).where(Room.occurrence_id == occurrence_id)
        )
    ).first()
    return (row.state, row.document) if row is not None else ("", {})


async def open_rooms(connection: AsyncConnection) -> list[int]:
    """The rooms that are open: what a process that starts takes up."""
    found = await connection.execute(select(Room.occurrence_id).where(Room.state == "open"))
    return [row[0] for row in found]


async def put_room(
    connection: AsyncConnection,
    occurrence_id: int,
    state: str,
    document: Mapping[str, Any],
    now: datetime,
) -> None:
    """Keep a room as it is now."""
    closed_at = now if state == "closed" else None
    values = {"state": state, "document": dict(document), "closed_at": closed_at}
    statement = upsert(Room, connection.dialect.name).values(
        occurrence_id=occurrence_id, opened_at=now, **values
    )
    await connection.execute(
        statement.on_conflict_do_update(index_elements=["occurrence_id"], set_=values)
    )


# What is said by name


async def keep_events(
    connection: AsyncConnection, occurrence_id: int, events: Sequence[NewEvent]
) -> list[NewEvent]:
    """Keep what was not kept before; returns that, in order."""
    new: list[NewEvent] = []
    for one in events:
        done = await connection.execute(
            upsert(RoomEvent, connection.dialect.name)
            .values(
                event_id=one.id,
                occurrence_id=occurrence_id,
                at=one.at,
                kind=one.kind,
                who=one.who,
                detail=dict(one.detail),
                state="",
            )
            .on_conflict_do_nothing()
            .returning(RoomEvent.id)
        )
        if done.first() is not None:
            new.append(one)
    return new


_SAID = (
    RoomEvent.id,
    RoomEvent.at,
    RoomEvent.kind,
    RoomEvent.who,
    RoomEvent.detail,
    RoomEvent.state,
)


async def said(
    connection: AsyncConnection, occurrence_id: int, kind: str, most: int = SAID_SHOWN
) -> list[Said]:
    """The newest events of a kind, the oldest of them first."""
    found = await connection.execute(
        select(*_SAID)
        .where(RoomEvent.occurrence_id == occurrence_id, RoomEvent.kind == kind)
        .order_by(RoomEvent.id.desc())
        .limit(most)
    )
    return [Said(*row) for row in found][::-1]


async def judge(
    connection: AsyncConnection, occurrence_id: int, say_id: int, approved: bool
) -> None:
    """Show a word to all, or hide it; NotFound."""
    done = await connection.execute(
        update(RoomEvent)
        .where(
            RoomEvent.id == say_id,
            RoomEvent.occurrence_id == occurrence_id,
            RoomEvent.kind == "say",
        )
        .values(state="approved" if approved else "hidden")
    )
    if not done.rowcount:
        raise NotFound("nobody has said this here")


# The roll-call


async def mark(
    connection: AsyncConnection,
    occurrence_id: int,
    site_id: int,
    presence: Presence,
    now: datetime,
    *,
    person_id: int | None = None,
    people: int | None = None,
) -> None:
    """Mark a site. What a site says of itself does not change what the host has marked."""
    values: dict[str, Any] = {"presence": presence, "by_person_id": person_id, "at": now}
    if people is not None:
        values["people"] = people
    statement = upsert(RoomMark, connection.dialect.name).values(
        occurrence_id=occurrence_id, site_id=site_id, **({"people": 0} | values)
    )
    change: dict[str, Any] = dict(values)
    where = None
    if person_id is None:
        where = RoomMark.by_person_id.is_(None)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["occurrence_id", "site_id"], set_=change, where=where
        )
    )


async def marks(connection: AsyncConnection, occurrence_id: int) -> list[Mark]:
    """The roll-call of a meeting, as far as it went."""
    found = await connection.execute(
        select(
            RoomMark.site_id, RoomMark.presence, RoomMark.people, RoomMark.by_person_id, RoomMark.at
        )
        .where(RoomMark.occurrence_id == occurrence_id)
        .order_by(RoomMark.at)
        .limit(MOST_LISTED)
    )
    return [Mark(row[0], row[1], row[2], row[3] is None, row[4]) for row in found]


# Polls


def options(given: Sequence[str]) -> list[str]:
    """What can be answered: two to ten different lines; Invalid."""
    found = [fields.line(one, "options", 100) for one in given]
    if not 2 <= len(found) <= MOST_OPTIONS or len(set(found)) != len(found):
        raise Invalid(f"give two to {MOST_OPTIONS} different options", "options")
    return found


_POLL = (
    Poll.id,
    Poll.question,
    Poll.options,
    Poll.open,
    Poll.shown,
    Poll.counts,
    Poll.voters,
    Poll.asked_at,
)


async def add_poll(
    connection: AsyncConnection,
    occurrence_id: int,
    question: str,
    given: Sequence[str],
    now: datetime,
) -> PollInfo:
    """Ask something; the questions before it are closed, for pages show one. Invalid, Conflict."""
    known = await polls(connection, occurrence_id)
    if len(known) >= MOST_POLLS:
        raise Conflict(f"a meeting has at most {MOST_POLLS} questions")
    found = options(given)
    await connection.execute(
        update(Poll).where(Poll.occurrence_id == occurrence_id).values(open=False)
    )
    values = {
        "occurrence_id": occurrence_id,
        "question": fields.line(question, "question", 500),
        "options": found,
        "open": True,
        "shown": False,
        "counts": [0] * len(found),
        "voters": 0,
        "asked_at": now,
    }
    made = await connection.execute(insert(Poll).values(values).returning(*_POLL))
    return PollInfo(*made.one())


async def polls(connection: AsyncConnection, occurrence_id: int) -> list[PollInfo]:
    """The questions of a meeting, the oldest first."""
    found = await connection.execute(
        select(*_POLL).where(Poll.occurrence_id == occurrence_id).order_by(Poll.id)
    )
    return [PollInfo(*row) for row in found]


async def change_poll(
    connection: AsyncConnection, occurrence_id: int, poll_id: int, values: Mapping[str, Any]
) -> None:
    """Open, close, show or hide a question; NotFound."""
    done = await connection.execute(
        update(Poll).where(Poll.id == poll_id, Poll.occurrence_id == occurrence_id).values(**values)
    )
    if not done.rowcount:
        raise NotFound("there is no such question here")


def with_counts(one: PollInfo, newer: PollInfo) -> PollInfo:
    """A question with the counts of its newer copy."""
    return replace(one, counts=newer.counts, voters=newer.voters)


# Slides


_DECK = (Deck.id, Deck.name, Deck.media_type, Deck.pages, Deck.made_at)


async def add_deck(
    connection: AsyncConnection,
    occurrence_id: int,
    name: str,
    media_type: str,
    pages: Sequence[Mapping[str, Any]],
    now: datetime,
    person_id: int | None,
) -> DeckInfo:
    """Keep what an upload became; Invalid, Conflict."""
    known = await connection.scalar(
        select(func.count()).select_from(Deck).where(Deck.occurrence_id == occurrence_id)
    )
    if (known or 0) >= MOST_DECKS:
        raise Conflict(f"a meeting has at most {MOST_DECKS} decks of slides")
    values = {
        "occurrence_id": occurrence_id,
        "name": fields.line(name, "name", 200),
        "media_type": media_type,
        "pages": [dict(one) for one in pages],
        "made_at": now,
        "made_by": person_id,
    }
    made = await connection.execute(insert(Deck).values(values).returning(*_DECK))
    return DeckInfo(*made.one())


async def decks(connection: AsyncConnection, occurrence_id: int) -> list[DeckInfo]:
    """The slides of a meeting, in the order in which they were sent."""
    found = await connection.execute(
        select(*_DECK).where(Deck.occurrence_id == occurrence_id).order_by(Deck.id)
    )
    return [DeckInfo(*row) for row in found]


async def remove_deck(connection: AsyncConnection, occurrence_id: int, deck_id: int) -> None:
    """Forget a deck; its pages stay where they are kept until nobody names them. NotFound."""
    done = await connection.execute(
        delete(Deck).where(Deck.id == deck_id, Deck.occurrence_id == occurrence_id)
    )
    if not done.rowcount:
        raise NotFound("there is no such deck here")


async def named_pages(connection: AsyncConnection) -> set[str]:
    """The SHA-256 of every page that some deck has."""
    found = await connection.stream_scalars(select(Deck.pages))
    return {str(page["sha256"]) async for pages in found for page in pages}
