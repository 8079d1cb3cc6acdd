"""What nodes and stations report of who attends, as JSON, and how it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import reports, units
from schedule.reports import Attendee, AttendeeKind, CountReport, StayReport, Taken
from web.centre.models import Id, Moment, Words
from web.centre.table import Body

# So that a batch fits into the body of a request; who has more sends another.
MOST_REPORTS = 1_000
MOST_PRESENT = 2_000


class Reported(Body):
    """What all reports say; source is the reporter's own name for it.

    A village box is known by its station's code: that, and no number, stands in its tokens.
    """

    source: str = Field(min_length=1, max_length=200, pattern=r"^[ -~]+$")
    occurrence_id: Id
    attendee_kind: AttendeeKind
    attendee_id: Id | None = None
    station_code: str = Field(default="", max_length=64, pattern=r"^[ -~]*$")

    @model_validator(mode="after")
    def _one_attendee(self) -> Self:
        by_code = bool(self.station_code)
        if by_code == (self.attendee_id is not None):
            raise ValueError("give attendee_id, or the station_code of a station")
        if by_code and self.attendee_kind != "station":
            raise ValueError("only a station has a station_code")
        return self

    def attendee(self, stations: Mapping[str, int]) -> Attendee:
        """stations: ids by code. A code that nobody has makes an attendee that is not there."""
        id = self.attendee_id or stations.get(self.station_code, 0)
        return Attendee(self.attendee_kind, id)


class Stay(Reported):
    """A stay; see `schedule.reports.StayReport`."""

    joined_at: Moment
    seen_at: Moment
    left_at: Moment | None = None
    from_s: int | None = Field(default=None, ge=0, le=604_800)
    to_s: int | None = Field(default=None, ge=0, le=604_800)


class Counted(Reported):
    """A head count, with the logins of those who answered the roll-call."""

    counted_at: Moment
    people: int = Field(ge=0, le=reports.MOST_PEOPLE)
    present: list[Words] = Field(default=[], max_length=MOST_PRESENT)


class Stays(Body):
    """Stays, new ones and news of known ones."""

    reports: list[Stay] = Field(max_length=MOST_REPORTS)


class Counts(Body):
    """Head counts."""

    reports: list[Counted] = Field(max_length=MOST_REPORTS)


async def stations_of(connection: AsyncConnection, told: Sequence[Reported]) -> Mapping[str, int]:
    """The stations that are meant by their codes in a batch of reports."""
    codes = {one.station_code for one in told} - {""}
    if not codes:
        return {}
    return await units.place_ids(connection, "station", codes)


async def keep_counts(connection: AsyncConnection, told: Sequence[Counted]) -> Taken:
    """Keep what is reported of head counts. Raises as `schedule.reports.report_counts`."""
    stations = await stations_of(connection, told)
    counts = [
        CountReport(
            one.source, one.occurrence_id, one.attendee(stations), one.counted_at, one.people,
            tuple(one.present),
        )
        for one in told
    ]  # fmt: skip
    return await reports.report_counts(connection, counts)


async def keep_stays(connection: AsyncConnection, told: Sequence[Stay]) -> Taken:
    """Keep what is reported of stays. Raises as `schedule.reports.report_stays`."""
    stations = await stations_of(connection, told)
    stays = [
        StayReport(
            one.source, one.occurrence_id, one.attendee(stations), one.joined_at, one.seen_at,
            one.left_at, one.from_s, one.to_s,
        )
        for one in told
    ]  # fmt: skip
    return await reports.report_stays(connection, stays)
