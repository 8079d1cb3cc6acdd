"""A course or meeting as JSON: between `schedule.series.Draft` and what the editor sends."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Self

from pydantic import BaseModel, Field

from schedule.agenda import OccurrenceInfo
from schedule.planning import Saved
from schedule.series import MOST_AUDIENCE, MOST_MATERIAL, Draft, SeriesInfo
from schedule.timetable import LONGEST_S, Edit, read_wall_clock, stored
from web.centre.models import Id, OtherBooking, Prose, Short, WallClock
from web.centre.table import Body

MOST_SINGLE = 1_000


class Material(Body):
    """Something to read: a web address, or a path on this server."""

    title: Short
    url: str = Field(max_length=2_000)


class Asked(Body):
    """One entry of an audience."""

    kind: Literal["unit", "subtree", "site", "station"]
    id: Id


class Plan(Body):
    """A course or meeting as somebody writes it; see `schedule.series.Draft`."""

    kind: Literal["course", "meeting"]
    title: Short
    unit_id: Id
    starts_local: WallClock
    duration_s: int = Field(ge=60, le=LONGEST_S)
    time_zone: Short
    source: Literal["live", "recorded"] = "live"
    presenter_id: Id | None = None
    room_id: Id | None = None
    rule: Short = ""
    rehearsal_s: int = Field(default=0, ge=0, le=86_400)
    agenda: Prose = ""
    material: list[Material] = Field(default=[], max_length=MOST_MATERIAL)
    audience: list[Asked] = Field(default=[], max_length=MOST_AUDIENCE)
    course: Short = ""
    bitrate_bps: int = Field(default=1_000_000, ge=0, le=100_000_000)
    excluded: list[WallClock] = Field(default=[], max_length=MOST_SINGLE)
    added: list[WallClock] = Field(default=[], max_length=MOST_SINGLE)

    def draft(self) -> Draft:
        """The plan as the schedule wants it; Invalid for a wall clock that is none."""
        values = {name: getattr(self, name) for name in Plan.model_fields}
        return Draft(
            **values
            | {
                "starts_local": read_wall_clock(self.starts_local),
                "material": tuple((one.title, one.url) for one in self.material),
                "audience": tuple((one.kind, one.id) for one in self.audience),
                "excluded": tuple(read_wall_clock(one, "excluded") for one in self.excluded),
                "added": tuple(read_wall_clock(one, "added") for one in self.added),
            }
        )

    @classmethod
    def of(cls, draft: Draft) -> Plan:
        # What is stored was checked when it came in, from here or out of a calendar file.
        return Plan.model_construct(
            **{name: getattr(draft, name) for name in Plan.model_fields}
            | {
                "starts_local": stored(draft.starts_local),
                "material": [
                    Material.model_construct(title=title, url=url) for title, url in draft.material
                ],
                "audience": [
                    Asked.model_construct(kind=kind, id=target)  # type: ignore[arg-type] # from the store
                    for kind, target in draft.audience
                ],
                "excluded": [stored(one) for one in draft.excluded],
                "added": [stored(one) for one in draft.added],
            }
        )


class Single(Body):
    """What one occurrence has of its own; see `schedule.timetable.Edit`."""

    starts_local: WallClock | None = None
    duration_s: int | None = Field(default=None, ge=60, le=LONGEST_S)
    title: Short | None = None
    presenter_id: Id | None = None
    room_id: Id | None = None
    cancelled: bool = False

    def edit(self) -> Edit:
        values = {name: getattr(self, name) for name in Single.model_fields}
        starts = self.starts_local and read_wall_clock(self.starts_local)
        return Edit(**values | {"starts_local": starts or None})


class SingleOf(Single):
    """The same, with the wall clock at which the rule puts the occurrence."""

    recurrence: WallClock


class SeriesAnswer(BaseModel):
    """A stored course or meeting; see `schedule.series.SeriesInfo`."""

    id: int
    uid: str
    state: str
    revision: int
    rank: int
    refusal: str
    changed_at: datetime
    plan: Plan
    edits: list[SingleOf]

    @classmethod
    def of(cls, info: SeriesInfo) -> Self:
        edits = [
            SingleOf(
                recurrence=stored(when),
                starts_local=None if edit.starts_local is None else stored(edit.starts_local),
                duration_s=edit.duration_s,
                title=edit.title,
                presenter_id=edit.presenter_id,
                room_id=edit.room_id,
                cancelled=edit.cancelled,
            )
            for when, edit in sorted(info.edits.items())
        ]
        return cls(
            id=info.id,
            uid=info.uid,
            state=info.state,
            revision=info.revision,
            rank=info.rank,
            refusal=info.refusal,
            changed_at=info.changed_at,
            plan=Plan.of(info.plan),
            edits=edits,
        )


class OccurrenceAnswer(BaseModel):
    """One lesson or meeting; see `schedule.agenda.OccurrenceInfo`."""

    id: int
    series_id: int
    recurrence: WallClock
    kind: str
    source: str
    title: str
    unit_id: int
    starts_at: datetime
    ends_at: datetime
    rehearsal_s: int
    time_zone: str
    presenter_id: int | None
    room_id: int | None
    state: str
    course: str

    @classmethod
    def of(cls, info: OccurrenceInfo) -> Self:
        values = {name: getattr(info, name) for name in cls.model_fields}
        return cls(**values | {"recurrence": stored(info.recurrence)})


class SavedAnswer(BaseModel):
    """What became of a plan. overridden: bookings of lower units that it goes before."""

    series: SeriesAnswer
    occurrences: int
    overridden: list[OtherBooking]

    @classmethod
    def of(cls, saved: Saved) -> Self:
        return cls(
            series=SeriesAnswer.of(saved.series),
            occurrences=saved.occurrences,
            overridden=[OtherBooking.of(one) for one in saved.overridden],
        )
