"""What the API of a room is asked with and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    StringConstraints,
    model_validator,
)

from schedule import floor as floors
from schedule.floor import Layers, Presence, site_of
from schedule.rooms import DeckInfo, PollInfo
from web.centre.models import Id, Short
from web.centre.room_state import OWN, Room, source_told, state_of
from web.centre.table import Body, Query

SOURCE: str = r"^(presenter|second|screen|file|site-[1-9][0-9]{0,8})$"
Source = Annotated[str, StringConstraints(max_length=20, pattern=SOURCE)]
Option = Annotated[str, StringConstraints(min_length=1, max_length=100)]
MOST_SITES = 2_000

# What is asked


class ProgrammeSaid(Body):
    """What all watch; source null: whoever publishes the class's own stream."""

    source: Source | None
    muted: bool = False


class FloorSaid(Body):
    """How a source has the floor. programme: cut to it as well."""

    heard: bool = True
    muted: bool = False
    programme: bool = False


class OrderSaid(Body):
    """Who speaks after whom, as ids of sites."""

    sites: list[Id] = Field(max_length=floors.MOST_IN_ORDER)


class StageSaid(Body):
    """Who is seen together."""

    sources: list[Source] = Field(max_length=floors.MOST_ON_STAGE)


class Wanted(RootModel[dict[Source, Layers]]):
    """What the director looks at and listens to: sites with the layers that are fetched of them."""

    model_config = ConfigDict(frozen=True, strict=True)


class RollCallSaid(Body):
    """Whose sites are called, in this order; nobody: all who are invited."""

    unit_ids: list[Id] = Field(default=[], max_length=floors.MOST_CALLED)


class PresenceSaid(Body):
    """How a site is marked."""

    presence: Presence


class Called(BaseModel):
    """Who is called now; null: all have been. shown: whether it is in the programme."""

    site_id: int | None
    name: str
    unit: str
    done: int
    total: int
    shown: bool


class Spoken(BaseModel):
    """Who has the floor now. shown: whether it is in the programme."""

    source: str
    shown: bool


class OnSaid(Body):
    """On or off."""

    on: bool


class Judged(Body):
    """Whether all may read it."""

    approved: bool


class PollSaid(Body):
    """A question with two to ten options."""

    question: Short
    options: list[Option] = Field(min_length=2, max_length=10)


class PollChanged(Body):
    """open: answers are taken. shown: all see the result."""

    open: bool | None = None
    shown: bool | None = None


class NextSaid(Body):
    """programme: cut to who is next, too."""

    programme: bool = True


class PassAsked(Query):
    """For whom: a site, or a role of the meeting."""

    site_id: Id | None = None
    role: Literal["", "presenter", "second", "screen", "viewer"] = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.site_id is None) == (not self.role):
            raise ValueError("give a site_id or a role")
        return self


# What is answered


class Pass(BaseModel):
    """A token for a meeting; "" where nodes ask for none. publish: the stream it is for."""

    token: str
    publish: str
    view: str
    expires_at: datetime | None


class HandAnswer(BaseModel):
    """A raised hand. there: whether its site is in the room now."""

    site_id: int
    source: str
    name: str
    unit: str
    text: str
    since: datetime
    there: bool


class SourceAnswer(BaseModel):
    """A source. kind: "site" or its own name; name, unit: of a site. live: media come from it."""

    id: str
    name: str
    unit: str
    kind: str
    live: bool


class SiteAnswer(BaseModel):
    """A site that is in the room. The three are what its page says; null: it has not said."""

    site_id: int
    source: str
    name: str
    unit: str
    live: bool
    camera: bool | None
    microphone: bool | None
    hidden: bool | None


class TestAnswer(BaseModel):
    """A site's last line test. todo: what it has to do before it is ready, the worst first."""

    site_id: int
    name: str
    unit: str
    at: datetime
    ready: bool
    todo: list[str]
    result: dict[str, Any]


class MarkAnswer(BaseModel):
    """A site in the roll-call. by_site: it said so itself."""

    site_id: int
    name: str
    unit: str
    presence: str
    people: int
    by_site: bool
    at: datetime


class WordAnswer(BaseModel):
    """What somebody wrote. state "": nobody has looked at it yet."""

    id: int
    who: str
    name: str
    text: str
    at: datetime
    state: str


class PollAnswer(BaseModel):
    """A question as it stands."""

    id: int
    question: str
    options: list[str]
    open: bool
    shown: bool
    counts: list[int]
    voters: int
    asked_at: datetime

    @classmethod
    def of(cls, one: PollInfo) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class BallotBrief(BaseModel):
    """A secret ballot in the list."""

    id: int
    question: str
    options: list[str]
    voters: str
    open: bool
    until: datetime
    result: list[int] | None


class PageAnswer(BaseModel):
    """A page of slides: a picture under its digest, at /room/files/{sha256}."""

    sha256: str
    bytes: int
    width: int
    height: int


class DeckAnswer(BaseModel):
    """Slides that were sent."""

    id: int
    name: str
    media_type: str
    pages: list[PageAnswer]

    @classmethod
    def of(cls, one: DeckInfo) -> Self:
        pages = [PageAnswer.model_validate(page) for page in one.pages]
        return cls(id=one.id, name=one.name, media_type=one.media_type, pages=pages)


class Attention(BaseModel):
    """A source that the host has to decide about. do: the one thing that is offered.

    what: "lost": nothing comes from it; "replaced": another is in the programme for it; "back": it
    is there again. do: "take floor" (DELETE room/floor/{source}), "cut" (PUT room/programme), or
    "wait" where there is nobody to cut to.
    """

    source: str
    name: str
    what: Literal["lost", "replaced", "back"]
    do: Literal["take floor", "cut", "wait"]
    since: datetime | None


class RoomAnswer(BaseModel):
    """Everything that the host's page shows. state: what all are told, key by key."""

    now: datetime
    stream: str
    room: str
    state: dict[str, Any]
    attention: list[Attention]
    hands: list[HandAnswer]
    sources: list[SourceAnswer]
    sites: list[SiteAnswer]
    viewers: int
    tests: list[TestAnswer]
    marks: list[MarkAnswer]
    words: list[WordAnswer]
    polls: list[PollAnswer]
    ballots: list[BallotBrief]
    decks: list[DeckAnswer]
    file: str

    @classmethod
    def of(cls, room: Room, now: datetime) -> Self:
        return cls(
            now=now,
            stream=room.stream,
            room=room.state,
            state=state_of(room),
            attention=_attention(room),
            hands=_hands(room),
            sources=[_source(room, one) for one in _names(room)],
            sites=_sites(room),
            viewers=room.viewers,
            tests=_tests(room),
            marks=_marks(room),
            words=_words(room),
            polls=[PollAnswer.of(one) for one in room.polls.values()],
            ballots=_ballots(room),
            decks=[DeckAnswer.of(one) for one in room.decks.values()],
            file=room.file_name,
        )


def _attention(room: Room) -> list[Attention]:
    floor = room.floor
    found: list[Attention] = []
    instead_of = floor.programme.instead_of
    for name in sorted(floor.lost):
        turn = floor.floor.get(name)
        since = turn.lost_since if turn is not None else floor.programme.lost_since
        if name != instead_of:
            do: Literal["take floor", "wait"] = "take floor" if site_of(name) else "wait"
            found.append(_about(room, name, "lost", do, since))
    if instead_of:
        back = floor.back.get(instead_of)
        if back is not None:
            found.insert(0, _about(room, instead_of, "back", "cut", back))
        else:
            since = floor.programme.since
            found.insert(0, _about(room, instead_of, "replaced", "take floor", since))
    return found


def _about(
    room: Room,
    source: str,
    what: Literal["lost", "replaced", "back"],
    do: Literal["take floor", "cut", "wait"],
    since: datetime | None,
) -> Attention:
    return Attention(source=source, name=room.name_of(source), what=what, do=do, since=since)


def _place(room: Room, site_id: int) -> tuple[str, str]:
    place = room.places.get(site_id)
    return (place.name, place.unit) if place is not None else ("", "")


def _hands(room: Room) -> list[HandAnswer]:
    found = []
    for one in room.floor.hands.values():
        name, unit = _place(room, one.site_id)
        found.append(
            HandAnswer(
                site_id=one.site_id,
                source=floors.source_of(one.site_id),
                name=name,
                unit=unit,
                text=one.text,
                since=one.since,
                there=one.site_id in room.sites,
            )
        )
    return found


def _names(room: Room) -> list[str]:
    floor = room.floor
    named = [*OWN, floor.programme.source or "", *floor.floor, *floor.stage, *floor.wanted()]
    return [one for one in dict.fromkeys(named) if one]


def _source(room: Room, source: str) -> SourceAnswer:
    return SourceAnswer(**source_told(room, source))


def _sites(room: Room) -> list[SiteAnswer]:
    found = []
    for site_id in sorted(room.sites)[:MOST_SITES]:
        name, unit = _place(room, site_id)
        source = floors.source_of(site_id)
        said = room.media.get(site_id, {})
        found.append(
            SiteAnswer(
                site_id=site_id,
                source=source,
                name=name,
                unit=unit,
                live=source in room.live,
                camera=said.get("camera"),
                microphone=said.get("microphone"),
                hidden=said.get("hidden"),
            )
        )
    return found


def _tests(room: Room) -> list[TestAnswer]:
    found = []
    for one in sorted(room.tests.values(), key=lambda one: one.at, reverse=True)[:MOST_SITES]:
        name, unit = _place(room, one.site_id)
        found.append(
            TestAnswer(
                site_id=one.site_id,
                name=name,
                unit=unit,
                at=one.at,
                ready=one.ready,
                todo=list(one.todo),
                result=one.result,
            )
        )
    return found


def _marks(room: Room) -> list[MarkAnswer]:
    found = []
    for one in room.marks.values():
        name, unit = _place(room, one.site_id)
        found.append(
            MarkAnswer(
                site_id=one.site_id,
                name=name,
                unit=unit,
                presence=one.presence,
                people=one.people,
                by_site=one.by_site,
                at=one.at,
            )
        )
    return found


def _words(room: Room) -> list[WordAnswer]:
    found = []
    for one in room.said:
        kind, _, number = one.who.partition(":")
        name = _place(room, int(number))[0] if kind == "site" and number.isdecimal() else ""
        text = str(one.detail.get("text", ""))
        found.append(
            WordAnswer(id=one.id, who=one.who, name=name, text=text, at=one.at, state=one.state)
        )
    return found


def _ballots(room: Room) -> list[BallotBrief]:
    return [
        BallotBrief(
            id=one.id,
            question=one.question,
            options=one.options,
            voters=one.voters,
            open=one.open,
            until=one.until,
            result=one.result,
        )
        for one in room.ballots.values()
    ]
