"""Slides: what was sent for a meeting, and the page that is shown."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from media.errors import MediaError
from schedule import rooms
from schedule.errors import Conflict, Invalid, NotFound
from schedule.rights import Action
from web.centre import finding
from web.centre.models import Id
from web.centre.room_models import DeckAnswer
from web.centre.room_state import Room
from web.centre.table import Ask, Body, On, Query, Raw, Route

MOST_BYTES = 64 * 1024 * 1024
UPLOAD = Raw(
    "application/pdf",
    "A PDF file, or a PNG, JPEG or WebP picture.",
    MOST_BYTES,
    ("image/png", "image/jpeg", "image/webp", "application/octet-stream"),
)
OVER = ("ended", "published", "missed", "cancelled")


class DeckNamed(Query):
    """What the slides are called."""

    name: str = Field(default="Slides", min_length=1, max_length=200)


class ShownSaid(Body):
    """The page that is shown, from 1; deck null: none."""

    deck: Id | None
    page: int = Field(default=1, ge=1, le=10_000)


async def add_deck(ask: Ask) -> DeckAnswer:
    room = await ask.centre.rooms.room(ask.at["occurrence_id"])
    if room.meeting.state in OVER:
        raise Conflict(f"the meeting is {room.meeting.state}")
    if len(room.decks) >= rooms.MOST_DECKS:
        raise Conflict(f"a meeting has at most {rooms.MOST_DECKS} decks of slides")
    try:
        kind, pages = await ask.centre.slides.draw(ask.body)
    except MediaError as error:
        raise Invalid(str(error)) from error
    async with ask.centre.store.writing() as connection:
        deck = await rooms.add_deck(
            connection,
            room.id,
            ask.query.name,
            kind,
            [one.as_json() for one in pages],
            ask.now,
            ask.person.id,
        )
    room.decks[deck.id] = deck
    ask.centre.rooms.tell(room)
    return DeckAnswer.of(deck)


async def remove_deck(ask: Ask) -> None:
    room, deck = await ask.centre.rooms.room(ask.at["occurrence_id"]), ask.at["deck_id"]
    if room.floor.slides is not None and room.floor.slides[0] == deck:
        raise Conflict("these slides are shown now")
    async with ask.centre.store.writing() as connection:
        await rooms.remove_deck(connection, room.id, deck)
    room.decks.pop(deck, None)
    ask.centre.rooms.tell(room)


async def show_slide(ask: Ask) -> None:
    said: ShownSaid = ask.body

    def do(room: Room) -> None:
        if said.deck is None:
            room.floor.slides = None
            return
        deck = room.decks.get(said.deck)
        if deck is None:
            raise NotFound("there is no such deck here")
        if said.page > len(deck.pages):
            raise Invalid(f"these slides have {len(deck.pages)} pages", "page")
        room.floor.slides = (said.deck, said.page)

    detail: dict[str, Any] = {"deck": said.deck, "page": said.page}
    await ask.centre.rooms.change(
        ask.at["occurrence_id"], ask.person.id, "show slide", do, **detail
    )


_ROOM = "/api/occurrences/{occurrence_id}/room"
_CONTROL = On(Action.CONTROL, finding.of_occurrence)
ROUTES = [
    Route("POST", _ROOM + "/decks", _CONTROL, add_deck,
          "Send slides for a meeting; they are drawn once, and go down the tree page by page.",
          answer=DeckAnswer, query=DeckNamed, body=UPLOAD, by_itself=True),
    Route("DELETE", _ROOM + "/decks/{deck_id}", _CONTROL, remove_deck,
          "Take slides out.", by_itself=True),
    Route("PUT", _ROOM + "/slides", _CONTROL, show_slide,
          "Turn to a page, or show none.", body=ShownSaid, by_itself=True),
]  # fmt: skip
