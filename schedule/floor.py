"""Who is heard and seen in a meeting: programme, floor, hands, order, stage, roll-call (pure).

A *source* is "presenter", "second", "screen", "file" or "site-{site id}". The programme is what all
watch; the floor is who may speak beside it; the stage is who is seen together. Everything here is a
plain change of one object by a command of the host, an event of a site, or the time; what follows
from it for streams and pages is read off afterwards. The object goes into the database as one
document, and comes out of it as it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal, Self

from schedule.errors import Conflict, Invalid

MOST_HANDS: Final = 500
"""Hands in the queue; who raises one beyond that is told so, and asks again."""
MOST_ON_FLOOR: Final = 9
MOST_ON_STAGE: Final = 9
MOST_WANTED: Final = 16
MOST_IN_ORDER: Final = 1000
MOST_CALLED: Final = 2000
MOST_TEXT: Final = 200

LOST_AFTER: Final = timedelta(seconds=1.5)
"""A source from which nothing came for so long is lost: a line may break for a moment, and a
browser that is loaded again is back within this; five seconds are promised."""

_SOURCE: Final = re.compile(r"presenter|second|screen|file|site-([1-9][0-9]{0,8})", re.ASCII)
FALLBACKS: Final = ("presenter", "second")
"""Who the programme goes back to when its source is lost, in this order."""

Presence = Literal["present", "absent", "leave"]
Layers = Literal["low", "full"]


def source(text: str) -> str:
    """The name of a source; Invalid."""
    if not _SOURCE.fullmatch(text):
        raise Invalid(f"{text[:40]!r} is no source: presenter, second, screen, file, site-12")
    return text


def site_of(source: str) -> int | None:
    """The site that a source is, None for the presenter's own."""
    found = _SOURCE.fullmatch(source)
    return int(found[1]) if found and found[1] else None


def source_of(site_id: int) -> str:
    """The source that a site is."""
    return f"site-{site_id}"


@dataclass(frozen=True, slots=True)
class Hand:
    """A site that asks to speak, since when, with a line of text."""

    site_id: int
    text: str
    since: datetime


@dataclass(slots=True)
class Turn:
    """A source that has the floor. lost_since: since when nothing comes from it."""

    since: datetime
    heard: bool = True
    muted: bool = False
    lost_since: datetime | None = None


@dataclass(slots=True)
class Programme:
    """What all watch. source None: whoever publishes the class's own stream.

    instead_of: the source that this one stands in for since it was lost; "" for none.
    """

    since: datetime
    source: str | None = None
    muted: bool = False
    instead_of: str = ""
    lost_since: datetime | None = None


@dataclass(slots=True)
class RollCall:
    """The sites that are called, in order, and who is at it: -1 before the first."""

    sites: list[int]
    at: int = -1

    @property
    def called(self) -> int | None:
        """The site that is called now."""
        return self.sites[self.at] if 0 <= self.at < len(self.sites) else None


@dataclass(slots=True)
class Floor:
    """The state of a meeting. order_at: the place in the order that speaks now, -1: none yet."""

    programme: Programme
    hands: dict[int, Hand] = field(default_factory=dict)
    floor: dict[str, Turn] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    order_at: int = -1
    stage: list[str] = field(default_factory=list)
    asked: dict[str, Layers] = field(default_factory=dict)
    """What the director's wall and ear ask for, beside what is in use."""
    rollcall: RollCall | None = None
    slides: tuple[int, int] | None = None
    """The deck and the page (from 1) that is shown."""
    chat_on: bool = False
    linetest_at: datetime | None = None
    back: dict[str, datetime] = field(default_factory=dict)
    """Sources that were lost in the programme and are there again, until the host decides."""
    lost: frozenset[str] = frozenset()
    """Who is missing from floor or programme for so long that people are told. Not kept."""

    # ------------------------------------------------------------ hands

    def raise_hand(self, site_id: int, text: str, now: datetime) -> bool:
        """Put a site into the queue; False when it is full. Its place is that of the first time."""
        known = self.hands.get(site_id)
        if known is None and len(self.hands) >= MOST_HANDS:
            return False
        since = known.since if known is not None else now
        self.hands[site_id] = Hand(site_id, text[:MOST_TEXT], since)
        return True

    def lower_hand(self, site_id: int) -> bool:
        """Take a site out of the queue; whether it was in it."""
        return self.hands.pop(site_id, None) is not None

    # ------------------------------------------------------------ floor

    def give(self, name: str, now: datetime, *, heard: bool = True, muted: bool = False) -> Turn:
        """Give the floor, or change how somebody has it; Conflict when nine have it already."""
        turn = self.floor.get(name)
        if turn is None:
            if len(self.floor) >= MOST_ON_FLOOR:
                raise Conflict(f"{MOST_ON_FLOOR} have the floor already, take it from one first")
            turn = self.floor[name] = Turn(now)
        turn.heard, turn.muted = heard, muted
        if (site := site_of(name)) is not None:
            self.lower_hand(site)
        return turn

    def take(self, name: str) -> bool:
        """Take the floor back; whether it had it."""
        self.back.pop(name, None)
        if self.programme.instead_of == name:
            self.programme.instead_of = ""
        return self.floor.pop(name, None) is not None

    def cut(
        self, name: str | None, now: datetime, *, muted: bool = False, instead_of: str = ""
    ) -> None:
        """Make a source the programme. What it stood in for is forgotten."""
        self.programme = Programme(now, name, muted, instead_of)
        self.back.clear()

    # ------------------------------------------------------------ order, stage, wall

    def set_order(self, sites: Sequence[int]) -> None:
        """Set who speaks after whom; it begins anew. Invalid for a site that comes twice."""
        if len(set(sites)) != len(sites):
            raise Invalid("a site stands in the order twice", "sites")
        if len(sites) > MOST_IN_ORDER:
            raise Invalid(f"an order has at most {MOST_IN_ORDER} sites", "sites")
        self.order, self.order_at = list(sites), -1

    @property
    def speaks_next(self) -> int | None:
        """The site after the one that speaks now."""
        at = self.order_at + 1
        return self.order[at] if at < len(self.order) else None

    def next_in_order(self, now: datetime) -> str:
        """Take the floor from the one that speaks and give it to the next; Conflict at the end."""
        site = self.speaks_next
        if site is None:
            raise Conflict("the speaking order is at its end")
        if 0 <= self.order_at < len(self.order):
            self.take(source_of(self.order[self.order_at]))
        name = source_of(site)
        self.give(name, now)
        self.order_at += 1
        return name

    def set_stage(self, sources: Sequence[str]) -> None:
        """Set who is seen together; Invalid for more than nine."""
        if len(sources) > MOST_ON_STAGE:
            raise Invalid(f"at most {MOST_ON_STAGE} are on stage", "sources")
        self.stage = list(dict.fromkeys(sources))

    def set_asked(self, asked: Mapping[str, Layers]) -> None:
        """Set what the director looks at; Invalid for more than 16."""
        if len(asked) > MOST_WANTED:
            raise Invalid(f"at most {MOST_WANTED} are looked at together")
        self.asked = dict(asked)

    def wanted(self) -> dict[str, Layers]:
        """Which sites are to come up the tree, and how: whole where all see them, else small.

        Who comes next in the order or the roll-call is fetched before it is called, so that the
        cut need not wait for it.
        """
        soon = [self.speaks_next]
        whole = [self.programme.source or "", *self.stage, *self.floor, self.programme.instead_of]
        if self.rollcall is not None:
            at = self.rollcall.at + 1
            soon += self.rollcall.sites[at : at + 1]
            called = self.rollcall.called
            whole += [source_of(called)] if called is not None else []
        found: dict[str, Layers] = {source_of(site): "low" for site in soon if site is not None}
        found |= self.asked
        found |= dict.fromkeys(whole, "full")
        return {name: layers for name, layers in found.items() if site_of(name) is not None}

    # ------------------------------------------------------------ roll-call

    def call_roll(self, sites: Sequence[int]) -> None:
        """Begin a roll-call of these sites, in this order; Invalid."""
        called = list(dict.fromkeys(sites))
        if not called:
            raise Invalid("these units have no sites that could be called", "unit_ids")
        if len(called) > MOST_CALLED:
            raise Invalid(f"a roll-call has at most {MOST_CALLED} sites", "unit_ids")
        self.rollcall = RollCall(called)

    def call_next(self) -> int | None:
        """Call the next site; None when all were called, and it is over. Conflict."""
        if self.rollcall is None:
            raise Conflict("no roll-call is on")
        self.rollcall.at += 1
        if (called := self.rollcall.called) is None:
            self.rollcall = None
        return called

    # ------------------------------------------------------------ what is lost

    def look(self, alive: Collection[str], now: datetime) -> bool:
        """Note who is lost and who is back; whether that changed what people are told.

        `alive`: the sources from which media come now.
        """
        before = (self.lost, set(self.back))
        for name, turn in self.floor.items():
            turn.lost_since = None if name in alive else turn.lost_since or now
        shown = self.programme.source
        if shown is None or shown in alive:
            self.programme.lost_since = None
        else:
            self.programme.lost_since = self.programme.lost_since or now
        turns: dict[str, Turn | Programme] = dict(self.floor)
        if shown is not None:
            turns.setdefault(shown, self.programme)
        self.lost = frozenset(
            name
            for name, turn in turns.items()
            if turn.lost_since is not None and now - turn.lost_since >= LOST_AFTER
        )
        instead_of = self.programme.instead_of
        if instead_of and instead_of in alive:
            self.back.setdefault(instead_of, now)
        else:
            self.back.pop(instead_of, None)
        return before != (self.lost, set(self.back))

    def stand_in(self, alive: Collection[str]) -> str | None:
        """Who is to be put into the programme for its source, which is lost; None: nobody."""
        name = self.programme.source
        if name not in self.lost:
            return None
        return next((one for one in FALLBACKS if one in alive and one != name), None)

    # ------------------------------------------------------------ as a document

    def document(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        call = self.rollcall
        return {
            "programme": {
                "since": self.programme.since.isoformat(),
                "source": self.programme.source,
                "muted": self.programme.muted,
                "instead_of": self.programme.instead_of,
            },
            "hands": [
                [one.site_id, one.text, one.since.isoformat()] for one in self.hands.values()
            ],
            "floor": {
                name: [turn.since.isoformat(), turn.heard, turn.muted]
                for name, turn in self.floor.items()
            },
            "order": self.order,
            "order_at": self.order_at,
            "stage": self.stage,
            "asked": self.asked,
            "rollcall": None if call is None else {"sites": call.sites, "at": call.at},
            "slides": list(self.slides) if self.slides is not None else None,
            "chat_on": self.chat_on,
            "linetest_at": self.linetest_at.isoformat() if self.linetest_at is not None else None,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """What `document` wrote. Who was lost then is looked at anew."""
        programme, call = document["programme"], document["rollcall"]
        slides, asked_at = document["slides"], document["linetest_at"]
        return cls(
            Programme(
                datetime.fromisoformat(programme["since"]),
                programme["source"],
                programme["muted"],
                programme["instead_of"],
            ),
            {
                site: Hand(site, text, datetime.fromisoformat(since))
                for site, text, since in document["hands"]
            },
            {
                name: Turn(datetime.fromisoformat(since), heard, muted)
                for name, (since, heard, muted) in document["floor"].items()
            },
            list(document["order"]),
            document["order_at"],
            list(document["stage"]),
            dict(document["asked"]),
            None if call is None else RollCall(list(call["sites"]), call["at"]),
            (slides[0], slides[1]) if slides is not None else None,
            document["chat_on"],
            datetime.fromisoformat(asked_at) if asked_at is not None else None,
        )
