"""How a box is, as it tells its county every minute: signed (`typ` REPORT), small, bounded.

The answer (`ReportAnswer`) brings what the box needs to know: the serial of its newest timetable,
a token for courses and live classes, how many entries of its logbook the county holds, and what
the county wants to see.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

REPORT: Final = "terrace-report"
MAX_BYTES: Final = 600_000
MAX_PICTURE_BASE64: Final = 400_000

Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
Short = Annotated[str, Field(max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class FaultRow(_Part):
    """One fault of `media.faults`."""

    code: str = Field(max_length=40, pattern=r"^[a-z-]+$")
    about: Short = ""
    since: Number
    values: dict[str, str | Number] = Field(default={}, max_length=16)
    sentence: str = Field(default="", max_length=500)


class HealthRow(_Part):
    """The machine; None where it does not say."""

    disk_total_mb: Number | None = None
    disk_free_mb: Number | None = None
    cache_used_mb: Number | None = None
    cache_budget_mb: Number | None = None
    celsius: Number | None = None
    memory_free_mb: Number | None = None
    load: Number | None = None
    uptime_s: Number | None = None
    line_bps: Number | None = None
    """What the line brought lately; 0 while nothing is known."""


class AheadRow(_Part):
    """One of the next items, and whether it will play."""

    id: Short
    title: str = Field(max_length=200)
    kind: Short
    starts_at: Number
    duration_s: Number
    state: Short
    percent: Number | None = None
    ready_at: Number | None = None


class ShownRow(_Part):
    """What the television shows."""

    show: Short
    item: Short = ""
    title: str = Field(default="", max_length=200)
    trouble: Short = ""


class ClockRow(_Part):
    """The believed clock."""

    doubt: bool
    reason: Short = ""
    source: Short = ""
    asked_at: Number | None = None


class Report(_Part):
    """One report. `sequence` grows with each: an old one that is sent again is not taken."""

    station: str = Field(max_length=64)
    sequence: int = Field(ge=0, le=2**53)
    now: Number
    version: Short = ""
    serial: int = 0
    """Of the timetable that is in force, 0 if there is none."""
    lan_url: Short = ""
    shown: ShownRow
    coming: tuple[AheadRow, ...] = Field(default=(), max_length=5)
    faults: tuple[FaultRow, ...] = Field(default=(), max_length=64)
    health: HealthRow = HealthRow()
    clock: ClockRow
    waiting: int = Field(default=0, ge=0)
    """Entries of the logbook that are not acknowledged."""
    token_good_s: Number = 0
    """For how long the box's token is good."""
    identity: str = Field(default="", max_length=64_000)
    """The signed identity, for a county that has forgotten its stations."""
    picture: str = Field(default="", max_length=MAX_PICTURE_BASE64)
    """JPEG of the television in base64."""


class ReportAnswer(_Part):
    """What the county answers."""

    serial: int = Field(default=0, ge=0)
    token: str = Field(default="", max_length=4096)
    token_good_s: Number = 0
    entries: int = Field(default=0, ge=0)
    want: tuple[Literal["picture"], ...] = ()
