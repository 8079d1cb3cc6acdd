"""A room in memory, and what the tree is told of it (pure).

`state_of` is the whole state as keys and values; what differs from what was told before is told.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from schedule.floor import Floor, site_of
from schedule.rooms import DeckInfo, Mark, Meeting, Place, PollInfo, Said

CODEC: Final = "VP8"
NO_STREAMS: Final[frozenset[str]] = frozenset()
MOST_SAID: Final = 50
MOST_SOURCES: Final = 64
OWN: Final = ("presenter", "second", "screen", "file")
"""The sources that are the meeting's own; names for them are the pages' business."""


@dataclass(slots=True)
class LineTest:
    """A site's last line test."""

    site_id: int
    at: datetime
    result: dict[str, Any]
    ready: bool
    todo: tuple[str, ...]


@dataclass(slots=True)
class BallotTold:
    """A secret ballot as pages see it. counted: it is over, and its result is known."""

    id: int
    question: str
    options: list[str]
    voters: str
    until: datetime
    signer: dict[str, Any]
    seal: dict[str, Any]
    open: bool
    counted: bool
    result: list[int] | None


@dataclass(slots=True, eq=False)
class Cue:
    """A cut that waits for its source."""

    source: str


@dataclass(slots=True)
class Room:
    """One room. state: "" before it was opened, "open", "closed".

    places: the sites whose names are known here. sites, viewers: who is there, as the tree says.
    told: what the tree was told last. cue: what a cut waits for.
    """

    id: int
    meeting: Meeting
    state: str
    floor: Floor
    places: dict[int, Place] = field(default_factory=dict)
    sites: frozenset[int] = frozenset()
    viewers: int = 0
    live: frozenset[str] = NO_STREAMS
    marks: dict[int, Mark] = field(default_factory=dict)
    tests: dict[int, LineTest] = field(default_factory=dict)
    media: dict[int, dict[str, bool]] = field(default_factory=dict)
    """What each site says of its camera, its microphone and its page. Not kept."""
    said: deque[Said] = field(default_factory=lambda: deque(maxlen=MOST_SAID))
    polls: dict[int, PollInfo] = field(default_factory=dict)
    decks: dict[int, DeckInfo] = field(default_factory=dict)
    ballots: dict[int, BallotTold] = field(default_factory=dict)
    file_name: str = ""
    cue: Cue | None = None
    cut_made: bool = False
    told: dict[str, Any] = field(default_factory=dict)
    uncounted: set[int] = field(default_factory=set)
    """Polls whose counts are not in the database yet."""
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def stream(self) -> str:
        """The stream that all watch."""
        return f"class-{self.id}"

    def stream_of(self, source: str) -> str:
        """The stream of a source."""
        return f"{self.stream}.{source}"

    def name_of(self, source: str | None) -> str:
        """The name that is shown for a site; "" for the meeting's own sources."""
        site = site_of(source) if source else None
        place = self.places.get(site) if site is not None else None
        return place.name if place is not None else ""

    @property
    def named(self) -> set[int]:
        """The sites whose names are needed."""
        floor = self.floor
        sources = [*floor.floor, *floor.stage, *floor.asked, *self.live, floor.programme.instead_of]
        sources += [floor.programme.source or "", self.cue.source if self.cue is not None else ""]
        found = {site_of(one) for one in sources if one} - {None}
        found |= set(floor.order) | set(floor.hands) | set(self.tests) | set(self.marks)
        if floor.rollcall is not None:
            found |= set(floor.rollcall.sites)
        return {one for one in found if one is not None} | set(self.sites)


def moment(at: datetime | None) -> str | None:
    """A moment as the state has it: RFC 3339."""
    return None if at is None else at.isoformat()


def state_of(room: Room) -> dict[str, Any]:
    """Everything that clients of a room are told, by key; None for what is not."""
    floor = room.floor
    return {
        "meeting": _meeting(room),
        "programme": _programme(room),
        "sources": _sources(room),
        "floor": {
            name: {
                "heard": turn.heard,
                "muted": turn.muted,
                "since": moment(turn.since),
                "lost": name in floor.lost,
            }
            for name, turn in floor.floor.items()
        },
        "order": {"sites": list(floor.order), "at": floor.order_at},
        "stage": list(floor.stage),
        "wanted": wanted(room),
        "hands": list(floor.hands),
        "slides": _slides(room),
        "poll": _poll(room.polls.values()),
        "ballot": _ballot(room.ballots.values()),
        "rollcall": _rollcall(room),
        "linetest": None
        if floor.linetest_at is None
        else {"asked_at": moment(floor.linetest_at)},
        "chat": {"on": floor.chat_on, "items": [_word(room, one) for one in _approved(room)]},
        "counts": {"sites": len(room.sites), "viewers": room.viewers, "hands": len(floor.hands)},
    } | {
        f"deck:{deck.id}": {"pages": deck.pages, "type": deck.media_type, "name": deck.name}
        for deck in room.decks.values()
    }  # fmt: skip


def wanted(room: Room) -> dict[str, str]:
    """What is to come up the tree: as the floor says, and what a cut waits for."""
    found: dict[str, str] = dict(room.floor.wanted())
    if room.cue is not None and site_of(room.cue.source) is not None:
        found[room.cue.source] = "full"
    return found if room.state == "open" else {}


def changes(told: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What is to be told: what is new or differs, and None for what is gone."""
    found = {key: value for key, value in now.items() if key not in told or told[key] != value}
    return found | dict.fromkeys(told.keys() - now.keys())


def _meeting(room: Room) -> dict[str, Any]:
    one = room.meeting
    return {
        "id": one.id,
        "title": one.title,
        "unit": one.unit,
        "presenter": one.presenter,
        "starts_at": moment(one.starts_at),
        "ends_at": moment(one.ends_at),
        "state": one.state,
        "room": room.state,
        "codec": CODEC,
    }


def _programme(room: Room) -> dict[str, Any]:
    one = room.floor.programme
    return {
        "source": one.source,
        "name": room.name_of(one.source),
        "muted": one.muted,
        "since": moment(one.since),
        "lost": one.source in room.floor.lost,
        "instead_of": one.instead_of,
        "instead_of_name": room.name_of(one.instead_of),
    }


def source_told(room: Room, source: str) -> dict[str, Any]:
    """A source with what is shown for it."""
    site = site_of(source)
    place = room.places.get(site) if site is not None else None
    name = room.file_name if source == "file" else ""
    return {
        "id": source,
        "name": place.name if place is not None else name,
        "unit": place.unit if place is not None else "",
        "kind": "site" if site is not None else source,
        "live": source in room.live,
    }


def _sources(room: Room) -> list[dict[str, Any]]:
    """The sources that somebody sees, hears or asks for; the host's page has all of them."""
    floor = room.floor
    named = [*OWN, floor.programme.source or "", *floor.floor, *floor.stage, *floor.wanted()]
    if floor.rollcall is not None and floor.rollcall.called is not None:
        named.append(f"site-{floor.rollcall.called}")
    found = [one for one in dict.fromkeys(named) if one and (one not in OWN or one in room.live)]
    return [source_told(room, one) for one in found[:MOST_SOURCES]]


def _slides(room: Room) -> dict[str, Any] | None:
    if room.floor.slides is None:
        return None
    deck, page = room.floor.slides
    return {"deck": deck, "page": page} if deck in room.decks else None


def _poll(polls: Collection[PollInfo]) -> dict[str, Any] | None:
    """The newest question, if it is open or its result is shown."""
    newest = max(polls, key=lambda one: one.id, default=None)
    if newest is None or not (newest.open or newest.shown):
        return None
    return {
        "id": newest.id,
        "question": newest.question,
        "options": newest.options,
        "open": newest.open,
        "shown": newest.shown,
        "counts": newest.counts if newest.shown else [],
        "voters": newest.voters,
    }


def _ballot(ballots: Collection[BallotTold]) -> dict[str, Any] | None:
    newest = max(ballots, key=lambda one: one.id, default=None)
    if newest is None:
        return None
    return {
        "id": newest.id,
        "question": newest.question,
        "options": newest.options,
        "voters": newest.voters,
        "open": newest.open,
        "until": moment(newest.until),
        "signer": newest.signer,
        "seal": newest.seal,
        "result": newest.result,
    }


def _rollcall(room: Room) -> dict[str, Any] | None:
    call = room.floor.rollcall
    if call is None:
        return None
    place = room.places.get(call.called) if call.called is not None else None
    return {
        "site": call.called,
        "unit": place.unit if place is not None else "",
        "name": place.name if place is not None else "",
        "done": max(call.at, 0),
        "total": len(call.sites),
    }


def _approved(room: Room) -> list[Said]:
    return [one for one in room.said if one.state == "approved"]


def _word(room: Room, one: Said) -> dict[str, Any]:
    kind, _, number = one.who.partition(":")
    place = room.places.get(int(number)) if kind == "site" and number.isdecimal() else None
    return {
        "id": one.id,
        "text": str(one.detail.get("text", "")),
        "name": place.name if place is not None else "",
        "at": moment(one.at),
    }
