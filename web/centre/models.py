"""Types that several parts of the API share: what its fields may be, and its errors."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from schedule.bookings import Checked
from schedule.clashes import Booking, Clash, WaysOut
from schedule.clashes import Finding as Found
from web.centre.table import MOST_ID

MOST_LINES = 100

Id = Annotated[int, Field(ge=1, le=MOST_ID)]
# Whether a text makes sense is decided in `schedule.fields`; the bounds here keep it small.
Short = Annotated[str, StringConstraints(max_length=500)]
Prose = Annotated[str, StringConstraints(max_length=20_000)]
Secret = Annotated[str, StringConstraints(max_length=1000)]
# Goes into a question to the database, and PostgreSQL has no NUL.
Words = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f]*$")]
Switch = Literal["0", "1"]

_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _moment(value: object) -> datetime:
    """RFC 3339, with an offset; between 1971 and 2199, so that differences stay in range."""
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        raise ValueError("it must be a moment such as 2026-03-02T01:00:00Z")
    # Python reads six digits of a second at most, and leap seconds not at all.
    text = re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", value.upper()).replace(":60", ":59")
    found = datetime.fromisoformat(text)
    if not 1971 <= found.year <= 2198:
        raise ValueError("it must be between 1971 and 2198")
    return found.astimezone(UTC)


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""A moment that is sent to us."""

WallClock = Annotated[
    str,
    StringConstraints(
        max_length=19,
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?$",
    ),
]
"""A wall clock; it stands beside a time zone, and has no offset: 2026-03-02T09:00:00."""


class OtherBooking(BaseModel):
    """What something clashes with."""

    series_id: int
    occurrence_id: int
    title: str
    unit_id: int
    rank: int
    starts_at: datetime
    ends_at: datetime

    @classmethod
    def of(cls, one: Booking) -> Self:
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class Finding(BaseModel):
    """One clash, as `schedule.clashes.Finding`; of over-booked lines the first hundred."""

    clash: Clash
    starts_at: datetime
    ends_at: datetime
    other: OtherBooking
    mine_yields: bool
    path: str
    lines: list[int]
    free_bps: int | None

    @classmethod
    def of(cls, one: Found) -> Self:
        return cls(
            clash=one.clash,
            starts_at=one.mine.starts_at,
            ends_at=one.mine.ends_at,
            other=OtherBooking.of(one.other),
            mine_yields=one.mine_yields,
            path=one.path,
            lines=list(one.lines[:MOST_LINES]),
            free_bps=one.free_bps,
        )


class Clashes(BaseModel):
    """What a check of a plan found. ways: out of the first clash."""

    occurrences: int
    findings: list[Finding]
    ways: WaysOut | None

    @classmethod
    def of(cls, found: Checked) -> Self:
        return cls(
            occurrences=found.occurrences,
            findings=[Finding.of(one) for one in found.findings],
            ways=found.ways,
        )


class Problem(BaseModel):
    """Why a request was not done: a sentence for people, and the field at fault if it is one's.

    clashes: for a plan that cannot be confirmed like this.
    """

    error: str
    field: str | None = None
    clashes: Clashes | None = None
