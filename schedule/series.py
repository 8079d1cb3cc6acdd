"""One course or meeting: its fields as people write them, checked, and as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import bookings, timetable, units
from schedule import fields as checked
from schedule.errors import Invalid, NotFound
from schedule.people import person
from schedule.tables import Audience, Series, Unit
from schedule.timetable import LONGEST_S, Edit, Plan, read_wall_clock, slots, stored
from schedule.units import below, place

KINDS = ("course", "meeting")
SOURCES = ("live", "recorded")
MOST_AUDIENCE = 5_000
MOST_MATERIAL = 50


@dataclass(frozen=True, slots=True)
class Draft:
    """What somebody plans. starts_local: a wall clock in `time_zone`, naive.

    audience: ("unit" | "subtree" | "site" | "station", id). material: (title, address). course: for
    a recorded lesson, the id of the course in the library. rehearsal_s: before the start.
    """

    kind: str
    title: str
    unit_id: int
    starts_local: datetime
    duration_s: int
    time_zone: str
    source: str = "live"
    presenter_id: int | None = None
    room_id: int | None = None
    rule: str = ""
    rehearsal_s: int = 0
    agenda: str = ""
    material: tuple[tuple[str, str], ...] = ()
    audience: tuple[tuple[str, int], ...] = ()
    course: str = ""
    bitrate_bps: int = 1_000_000
    excluded: tuple[datetime, ...] = ()
    added: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class SeriesInfo:
    """A stored course or meeting, with its audience."""

    id: int
    uid: str
    state: str
    revision: int
    rank: int
    refusal: str
    changed_at: datetime
    plan: Draft
    edits: Mapping[datetime, Edit] = field(default_factory=dict)


async def values_of(connection: AsyncConnection, draft: Draft) -> dict[str, Any]:
    """The columns of a draft, each checked; Invalid, NotFound."""
    if draft.kind not in KINDS:
        raise Invalid(f"kind must be one of {', '.join(KINDS)}", "kind")
    if draft.source not in SOURCES:
        raise Invalid(f"source must be one of {', '.join(SOURCES)}", "source")
    course = checked.code(draft.course, "course") if draft.course else ""
    if draft.source == "recorded" and not course:
        raise Invalid("a recorded lesson needs a course of the library", "course")
    if draft.presenter_id is not None:
        await person(connection, draft.presenter_id)
    if draft.room_id is not None:
        await place(connection, "site", draft.room_id)
    if len(draft.material) > MOST_MATERIAL:
        raise Invalid(f"at most {MOST_MATERIAL} pieces of material", "material")
    organiser = await units.unit(connection, draft.unit_id)
    values = {
        "kind": draft.kind,
        "source": draft.source,
        "unit_id": organiser.id,
        "rank": organiser.depth,
        "title": checked.line(draft.title, "title"),
        "presenter_id": draft.presenter_id,
        "room_id": draft.room_id,
        "time_zone": checked.time_zone(draft.time_zone),
        "starts_local": stored(read_wall_clock(stored(draft.starts_local))),
        "duration_s": checked.within(draft.duration_s, "duration_s", 60, LONGEST_S),
        "rehearsal_s": checked.within(draft.rehearsal_s, "rehearsal_s", 0, 86_400),
        "rule": timetable.checked_rule(draft.rule),
        "agenda": checked.prose(draft.agenda, "agenda"),
        "material": [_material(title, url) for title, url in draft.material],
        "course": course,
        "bitrate_bps": checked.within(draft.bitrate_bps, "bitrate_bps", 0, 100_000_000),
    }
    check_slots(draft)
    return values


def _material(title: str, url: str) -> dict[str, str]:
    address = checked.line(url, "material", 2_000)
    if urlsplit(address).scheme not in ("http", "https", "") or address.startswith("//"):
        raise Invalid("material must be a web address or a path on this server", "material")
    return {"title": checked.line(title, "material"), "url": address}


def check_slots(draft: Draft) -> None:
    """A series must happen at all, and no occurrence may begin before the last one ended."""
    plan = as_plan(draft)
    begins = timetable.instant(plan.starts_local, plan.time_zone)
    found = slots(plan, begins, begins + bookings.HORIZON)
    if not found:
        raise Invalid("it never happens: no occurrence is left", "rule")
    for one, following in pairwise(found):
        if following.starts_at < one.ends_at:
            raise Invalid(
                f"the occurrence of {following.recurrence:%Y-%m-%d %H:%M} begins before the one "
                "before it ends",
                "duration_s",
            )


def as_plan(draft: Draft, edits: Mapping[datetime, Edit] | None = None) -> Plan:
    """When a draft happens."""
    return Plan(
        draft.starts_local,
        draft.duration_s,
        draft.time_zone,
        draft.rule,
        frozenset(draft.excluded),
        frozenset(draft.added),
        edits or {},
    )


async def state_of(connection: AsyncConnection, series_id: int) -> str:
    state = await connection.scalar(select(Series.state).where(Series.id == series_id))
    if state is None:
        raise NotFound("there is no such course or meeting")
    return state


async def series(connection: AsyncConnection, series_id: int) -> SeriesInfo:
    """A course or meeting with its audience and single changes; NotFound."""
    found = await series_list(connection, [series_id])
    if not found:
        raise NotFound("there is no such course or meeting")
    return found[0]


async def series_list(connection: AsyncConnection, series_ids: Sequence[int]) -> list[SeriesInfo]:
    """Several of them, by id; those that are not there are left out."""
    # Those of the same name in the table.
    own = [column.name for column in fields(Draft) if hasattr(Series, column.name)]
    rows = (
        (
            await connection.execute(
                select(
                    Series.id,
                    Series.uid,
                    Series.state,
                    Series.revision,
                    Series.rank,
                    Series.refusal,
                    Series.changed_at,
                    *(getattr(Series, name) for name in own),
                )
                .where(Series.id.in_(series_ids))
                .order_by(Series.id)
            )
        )
        .mappings()
        .all()
    )
    audiences: dict[int, list[tuple[str, int]]] = {}
    for series_id, kind, target in await connection.execute(
        select(Audience.series_id, Audience.kind, Audience.target_id)
        .where(Audience.series_id.in_(series_ids))
        .order_by(Audience.kind, Audience.target_id)
    ):
        audiences.setdefault(series_id, []).append((kind, target))
    plans = await bookings.plans_of(connection, series_ids)
    found = []
    for row in rows:
        plan = plans[row["id"]]
        values = {name: row[name] for name in own}
        values |= {
            "starts_local": plan.starts_local,
            "material": tuple((one["title"], one["url"]) for one in row["material"]),
            "audience": tuple(audiences.get(row["id"], ())),
            "excluded": tuple(sorted(plan.excluded)),
            "added": tuple(sorted(plan.added)),
        }
        found.append(
            SeriesInfo(
                row["id"],
                row["uid"],
                row["state"],
                row["revision"],
                row["rank"],
                row["refusal"],
                row["changed_at"],
                Draft(**values),
                dict(plan.edits),
            )
        )
    return found


async def count_states(connection: AsyncConnection, path: str) -> dict[str, int]:
    """How many courses and meetings of a unit and all below it are in each state."""
    found = await connection.execute(
        select(Series.state, func.count())
        .join(Unit, Unit.id == Series.unit_id)
        .where(below(path))
        .group_by(Series.state)
    )
    return dict(found.all())


async def series_below(
    connection: AsyncConnection, path: str, state: str = "", after_id: int = 0, most: int = 100
) -> list[SeriesInfo]:
    """What a unit and all below it organise, in one state or any, by id, page by page."""
    query = (
        select(Series.id)
        .join(Unit, Unit.id == Series.unit_id)
        .where(below(path), Series.id > after_id)
        .order_by(Series.id)
        .limit(most)
    )
    if state:
        query = query.where(Series.state == state)
    return await series_list(connection, list((await connection.execute(query)).scalars()))
