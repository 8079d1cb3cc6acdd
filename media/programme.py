"""The timetable of a station: a signed document that says what plays when.

The county makes it, signs it (`typ` TYP) and serves it; the station keeps the newest good one on
disk and plays by it with no line at all. The document's times are absolute (UTC); `time_zone` only
says how people there write them, and where their days and months begin.

All functions here are pure: they take `now` in Unix seconds and return what follows from it. Where
two items overlap, the one with the higher priority is shown, then the one that began later; an item
that was talked over comes back where it would be by now, as on any television channel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Annotated, Final, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_serializer,
    model_validator,
)

TYP: Final = "terrace-timetable"
MAX_BYTES: Final = 1_000_000
"""A signed timetable has at most this size; a year of eight items a day is 700 kB."""
MAX_ITEMS: Final = 4000
MAX_ITEM_S: Final = 12 * 3600
PREPARE_S: Final = 7 * 86400.0
"""What is due within this time is fetched ahead and never evicted."""

_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it must have no line breaks or control characters")
    return text


Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
StreamName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]


class Kind(StrEnum):
    """Where the picture of an item comes from."""

    COURSE = "course"
    LIVE = "live"


class Item(BaseModel):
    """One entry of the timetable."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Id
    title: Text
    kind: Kind
    starts_at: AwareDatetime
    duration_s: int = Field(ge=1, le=MAX_ITEM_S)
    course: Id | None = None
    renditions: tuple[Id, ...] = Field(default=(), max_length=8)
    """Names in order of preference, the first that fits is fetched; empty: the best that does."""
    stream: StreamName | None = None
    priority: int = Field(default=0, ge=-100, le=100)

    @model_validator(mode="after")
    def _says_what_to_play(self) -> Self:
        if self.kind is Kind.COURSE and self.course is None:
            raise ValueError("a recorded item must name its course")
        if self.kind is Kind.LIVE and self.stream is None:
            raise ValueError("a live item must name its stream")
        return self

    @field_serializer("starts_at")
    def _in_utc(self, value: datetime) -> str:
        return _iso(value)

    @property
    def start_s(self) -> float:
        return self.starts_at.timestamp()

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s


class Programme(BaseModel):
    """A whole timetable. `station` is a station's id or the name of a group of them.

    `serial` grows with every issue: a station never goes back to an older one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    station: Id
    serial: int = Field(ge=1, le=2**53)
    issued_at: AwareDatetime
    valid_until: AwareDatetime
    time_zone: str = Field(default="Asia/Shanghai", max_length=64)
    items: tuple[Item, ...] = Field(default=(), max_length=MAX_ITEMS)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not _ZONE.fullmatch(self.time_zone):
            raise ValueError("time_zone must be a name such as Asia/Shanghai")
        if self.valid_until <= self.issued_at:
            raise ValueError("valid_until must be later than issued_at")
        seen: set[str] = set()
        for item in self.items:
            if item.id in seen:
                raise ValueError(f"two items have the id {item.id!r}")
            seen.add(item.id)
        return self

    @field_serializer("issued_at", "valid_until")
    def _in_utc(self, value: datetime) -> str:
        return _iso(value)

    def item(self, item_id: str) -> Item | None:
        """The item with this id."""
        return next((one for one in self.items if one.id == item_id), None)


class ProgrammeError(ValueError):
    """A timetable cannot be used. The text is one sentence."""


def parse(document: bytes) -> Programme:
    """Reads a timetable that was verified already, or the plan that is to be signed.

    Raises `ProgrammeError` with the first thing that is wrong.
    """
    if len(document) > MAX_BYTES:
        raise ProgrammeError(
            f"the timetable has {len(document)} bytes and at most {MAX_BYTES} are read: "
            "issue it for a shorter time"
        )
    try:
        return Programme.model_validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the timetable"
        what = first["msg"].removeprefix("Value error, ")
        raise ProgrammeError(f"{place}: {what[:1].lower()}{what[1:]}") from None


# ------------------------------------------------------------ what follows from `now`


@dataclass(frozen=True, slots=True)
class Slot:
    """A time in which nothing interrupts one item: from `from_s` until before `to_s`."""

    item: Item
    from_s: float
    to_s: float


def playing(items: Sequence[Item], now: float) -> Item | None:
    """The item whose time it is; None between items."""
    due = [one for one in items if one.start_s <= now < one.end_s]
    return max(due, key=_rank) if due else None


def coming(items: Sequence[Item], now: float, count: int) -> list[Item]:
    """The next items that begin after `now`, the soonest first."""
    return sorted((one for one in items if one.start_s > now), key=_begin)[:count]


def next_change(items: Sequence[Item], now: float) -> float:
    """When what is shown can change next; infinity if never."""
    edges = (edge for one in items for edge in (one.start_s, one.end_s) if edge > now)
    return min(edges, default=math.inf)


def slots(items: Sequence[Item], from_s: float, to_s: float) -> Iterator[Slot]:
    """What is shown between two times, in order; the times between items are left out."""
    now = from_s
    while now < to_s:
        until = min(next_change(items, now), to_s)
        item = playing(items, now)
        if item is not None:
            yield Slot(item, now, until)
        now = until


def due_courses(items: Sequence[Item], now: float, within_s: float = PREPARE_S) -> list[Item]:
    """The recorded items that are on or begin within a time, the most urgent first."""
    return sorted(
        (
            one
            for one in items
            if one.kind is Kind.COURSE and one.end_s > now and one.start_s < now + within_s
        ),
        key=_begin,
    )


def quiet(items: Sequence[Item], now: float, margin_s: float) -> bool:
    """Whether no item is on or within `margin_s` of `now` on either side."""
    return all(now < one.start_s - margin_s or now >= one.end_s + margin_s for one in items)


def zone(name: str) -> tzinfo:
    """The time zone of this name; UTC where the system does not know it."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC


def month_of(now: float, time_zone: str) -> str:
    """The month there, such as `2026-11`."""
    return (datetime.fromtimestamp(0, zone(time_zone)) + timedelta(seconds=now)).strftime("%Y-%m")


def _rank(item: Item) -> tuple[int, float, str]:
    return item.priority, item.start_s, item.id


def _begin(item: Item) -> tuple[float, int, str]:
    return item.start_s, -item.priority, item.id


def _iso(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
