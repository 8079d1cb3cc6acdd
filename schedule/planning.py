"""Courses and meetings: writing, checking, approving, changing, cancelling and copying them.

The states of a series:

    draft -> submitted -> confirmed -> cancelled
      ^          |            |
      +-- refused+            +-> (its occurrences live on their own, see schedule/sessions.py)

A draft takes up nobody. `submit` confirms it, unless the unit above asks for its approval. What is
confirmed is worked out into occurrences, and only these clash. Where a higher unit plans over a
lower one's booking, the lower organiser is told (`overridden`); a lower unit cannot confirm over a
higher one's booking without saying `anyway`.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from schedule import audit, bookings, timetable, units
from schedule import fields as checked
from schedule.agenda import Whose, occurrences
from schedule.bookings import Checked
from schedule.clashes import Booking, Reaches
from schedule.errors import Conflict, Invalid, NotFound
from schedule.people import person
from schedule.series import (
    MOST_AUDIENCE,
    Draft,
    SeriesInfo,
    as_plan,
    check_slots,
    series,
    series_list,
    state_of,
    values_of,
)
from schedule.store import insert_row
from schedule.tables import (
    Attendance,
    Audience,
    Change,
    HeadCount,
    Invitation,
    Join,
    Occurrence,
    RollCall,
    Series,
    Step,
    Unit,
    Unsettled,
)
from schedule.timetable import LONGEST_S, Edit, Plan, slots, stored
from schedule.units import place


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of a series. overridden: bookings of lower units that it goes before."""

    series: SeriesInfo
    occurrences: int
    overridden: Sequence[Booking] = ()


class Clashing(Conflict):
    """It cannot be confirmed like this: others go first. `checked` says which, and the ways out."""

    def __init__(self, found: Checked) -> None:
        first = next(one for one in found.findings if one.mine_yields)
        super().__init__(
            f"{first.clash} clash with {first.other.title!r}, which goes first; "
            "move it, or confirm it anyway"
        )
        self.checked = found


# Writing


async def save(
    connection: AsyncConnection,
    draft: Draft,
    now: datetime,
    person_id: int | None,
    *,
    series_id: int | None = None,
    uid: str = "",
    anyway: bool = False,
) -> Saved:
    """Store a plan: a new one as a draft, or changes of one that keeps its state.

    A confirmed one is worked out anew, and may clash. Invalid, NotFound, Clashing; Conflict for one
    that is cancelled.
    """
    values = await values_of(connection, draft) | {"changed_at": now}
    audience = sorted({(Reaches(kind).value, target) for kind, target in draft.audience})
    if len(audience) > MOST_AUDIENCE:
        raise Invalid(f"an audience has at most {MOST_AUDIENCE} entries", "audience")
    await bookings.reaches_of(connection, audience)
    edits: Mapping[datetime, Edit] = {}
    if series_id is None:
        values |= {
            "uid": uid or f"{secrets.token_hex(12)}@terrace",
            "state": "draft",
            "revision": 0,
            "refusal": "",
            "created_by": person_id,
            "created_at": now,
        }
        series_id = await insert_row(
            connection, Series, values, "this calendar entry is there already"
        )
        action = "plan"
    else:
        state = await state_of(connection, series_id)
        if state == "cancelled":
            raise Conflict("it is cancelled; plan a new one")
        edits = _carried(await bookings.plan_of(connection, series_id), draft)
        await connection.execute(
            update(Series)
            .where(Series.id == series_id)
            .values(values | {"revision": Series.revision + 1})
        )
        await connection.execute(delete(Audience).where(Audience.series_id == series_id))
        await connection.execute(delete(Change).where(Change.series_id == series_id))
        action = "change plan"
    if audience:
        await connection.execute(
            insert(Audience),
            [
                {"series_id": series_id, "kind": kind, "target_id": target}
                for kind, target in audience
            ],
        )
    await _store_changes(connection, series_id, draft, edits)
    await audit.record(
        connection, now, person_id, action, f"series:{series_id}", {"title": values["title"]}
    )
    if await state_of(connection, series_id) == "confirmed":
        return await _confirm(connection, series_id, now, anyway=anyway)
    return Saved(await series(connection, series_id), 0)


def _carried(before: Plan, draft: Draft) -> Mapping[datetime, Edit]:
    """The single changes of a plan after it was changed itself.

    They go along when the whole series is moved, so that what was cancelled stays cancelled.
    """
    shift = draft.starts_local - before.starts_local
    if before.rule != draft.rule:
        shift = timedelta()
    return {
        when + shift: replace(edit, starts_local=edit.starts_local and edit.starts_local + shift)
        for when, edit in before.edits.items()
    }


async def _store_changes(
    connection: AsyncConnection, series_id: int, draft: Draft, edits: Mapping[datetime, Edit]
) -> None:
    kinds = dict.fromkeys(edits, "changed") | dict.fromkeys(draft.added, "added")
    kinds |= dict.fromkeys(draft.excluded, "excluded")
    rows = [
        {
            "series_id": series_id,
            "recurrence": stored(when),
            "kind": kind,
            "fields": bookings.stored_edit(edits.get(when, Edit())),
        }
        for when, kind in kinds.items()
    ]
    if rows:
        await connection.execute(insert(Change), rows)


# Checking and confirming


async def check(
    connection: AsyncConnection, draft: Draft, now: datetime, series_id: int = 0
) -> Checked:
    """The clashes that a plan would have, while it is being written; nothing is stored.

    Invalid when it makes no sense yet, NotFound.
    """
    check_slots(draft)
    organiser = await units.unit(connection, draft.unit_id)
    audience = await bookings.reaches_of(connection, draft.audience)
    edits = (await bookings.plan_of(connection, series_id)).edits if series_id else {}
    found = slots(as_plan(draft, edits), now, now + bookings.CHECKED)
    if not found:
        # It begins later than that: look at its first weeks.
        begins = timetable.instant(draft.starts_local, draft.time_zone)
        found = slots(as_plan(draft, edits), max(now, begins), begins + bookings.CHECKED)
    mine = [
        Booking(
            series_id,
            0,
            (slot.edit and slot.edit.title) or draft.title,
            organiser.id,
            organiser.depth,
            slot.starts_at,
            slot.ends_at,
            (slot.edit and slot.edit.presenter_id) or draft.presenter_id,
            (slot.edit and slot.edit.room_id) or draft.room_id,
            audience,
            draft.bitrate_bps if draft.source == "live" else 0,
        )
        for slot in found
    ]
    return await bookings.check(connection, mine, now)


async def submit(
    connection: AsyncConnection,
    series_id: int,
    now: datetime,
    person_id: int | None,
    *,
    anyway: bool = False,
) -> Saved:
    """Hand a draft in: it is confirmed, or waits where the unit above asks for its approval.

    Clashing unless `anyway`; Conflict when it is no draft (any more).
    """
    info = await series(connection, series_id)
    if info.state not in ("draft", "refused"):
        raise Conflict(f"it is {info.state} already")
    organiser = await units.unit(connection, info.plan.unit_id)
    asks = (
        organiser.parent_id is not None
        and (await units.unit(connection, organiser.parent_id)).asks_approval
    )
    if not asks:
        return await _confirm(connection, series_id, now, anyway=anyway, person_id=person_id)
    if not anyway:
        _demand_no_clash(await check(connection, info.plan, now, series_id))
    await _set_state(connection, series_id, info.state, "submitted", now, person_id)
    return Saved(await series(connection, series_id), 0)


async def approve(
    connection: AsyncConnection, series_id: int, now: datetime, person_id: int | None
) -> Saved:
    """Confirm what was submitted. Whoever approves has seen the clashes. Conflict, NotFound."""
    if await state_of(connection, series_id) != "submitted":
        raise Conflict("it is not waiting for approval")
    return await _confirm(connection, series_id, now, anyway=True, person_id=person_id)


async def refuse(
    connection: AsyncConnection, series_id: int, reason: str, now: datetime, person_id: int | None
) -> SeriesInfo:
    """Send what was submitted back with a reason. Conflict, NotFound, Invalid without one."""
    refusal = checked.line(reason, "reason", 500)
    await _set_state(connection, series_id, "submitted", "refused", now, person_id)
    await connection.execute(update(Series).where(Series.id == series_id).values(refusal=refusal))
    return await series(connection, series_id)


async def cancel(
    connection: AsyncConnection, series_id: int, now: datetime, person_id: int | None
) -> SeriesInfo:
    """Cancel a course or meeting: all its occurrences that have not begun. Conflict, NotFound."""
    state = await state_of(connection, series_id)
    if state == "cancelled":
        raise Conflict("it is cancelled already")
    await _set_state(connection, series_id, state, "cancelled", now, person_id)
    await bookings.work_out(connection, series_id, now)
    return await series(connection, series_id)


async def remove(
    connection: AsyncConnection, series_id: int, now: datetime, person_id: int | None
) -> None:
    """Take a plan out for good: a draft, or what was cancelled before any of it took place.

    What took place, or somebody attended, stays for the record. Conflict, NotFound.
    """
    info = await series(connection, series_id)
    if info.state in ("submitted", "confirmed"):
        raise Conflict(f"it is {info.state}; cancel it first")
    own = select(Occurrence.id).where(Occurrence.series_id == series_id)
    begun = own.where(Occurrence.state.not_in(("planned", "cancelled"))).limit(1)
    if (await connection.execute(begun)).first() is not None:
        raise Conflict("some of it took place, and stays for the record")
    for told in (Join, HeadCount, RollCall, Attendance):
        one = select(told.occurrence_id).where(told.occurrence_id.in_(own)).limit(1)
        if (await connection.execute(one)).first() is not None:
            raise Conflict("somebody attended it, so it stays for the record")
    for table in (Step, Invitation, Unsettled):
        await connection.execute(delete(table).where(table.occurrence_id.in_(own)))
    for part in (Occurrence, Audience, Change):
        await connection.execute(delete(part).where(part.series_id == series_id))
    await connection.execute(delete(Series).where(Series.id == series_id))
    await audit.record(
        connection, now, person_id, "remove plan", f"series:{series_id}", {"title": info.plan.title}
    )


async def edit(
    connection: AsyncConnection,
    series_id: int,
    recurrence: datetime,
    change: Edit,
    now: datetime,
    person_id: int | None,
    *,
    anyway: bool = False,
) -> Saved:
    """Move, change or cancel one occurrence; `Edit()` takes a change back.

    recurrence: the wall clock at which the rule puts it. NotFound, Invalid, Clashing, Conflict when
    it has begun.
    """
    info = await series(connection, series_id)
    rest = as_plan(info.plan)
    if timetable.slot_of(rest, recurrence) is None:
        raise NotFound("the series has no occurrence at that time")
    begun = select(Occurrence.id).where(
        Occurrence.series_id == series_id,
        Occurrence.recurrence == stored(recurrence),
        Occurrence.state.not_in(("planned", "cancelled")),
    )
    if (await connection.execute(begun)).first() is not None:
        raise Conflict("it has begun already")
    if change.title is not None:
        change = replace(change, title=checked.line(change.title, "title"))
    if change.duration_s is not None:
        checked.within(change.duration_s, "duration_s", 60, LONGEST_S)
    if change.presenter_id is not None:
        await person(connection, change.presenter_id)
    if change.room_id is not None:
        await place(connection, "site", change.room_id)
    await _store_edit(connection, series_id, recurrence, change, recurrence in info.plan.added)
    await connection.execute(
        update(Series)
        .where(Series.id == series_id)
        .values(revision=Series.revision + 1, changed_at=now)
    )
    await audit.record(
        connection,
        now,
        person_id,
        "change occurrence",
        f"series:{series_id}",
        {"recurrence": stored(recurrence)} | bookings.stored_edit(change),
    )
    if info.state == "confirmed":
        return await _confirm(connection, series_id, now, anyway=anyway)
    return Saved(await series(connection, series_id), 0)


async def _store_edit(
    connection: AsyncConnection, series_id: int, recurrence: datetime, change: Edit, added: bool
) -> None:
    key = {"series_id": series_id, "recurrence": stored(recurrence)}
    values = bookings.stored_edit(change)
    await connection.execute(
        delete(Change).where(Change.series_id == series_id, Change.recurrence == key["recurrence"])
    )
    if values or added:
        kind = "added" if added else "changed"
        await connection.execute(insert(Change), key | {"kind": kind, "fields": values})


def _demand_no_clash(found: Checked) -> None:
    if any(one.mine_yields for one in found.findings):
        raise Clashing(found)


async def _confirm(
    connection: AsyncConnection,
    series_id: int,
    now: datetime,
    *,
    anyway: bool,
    person_id: int | None = None,
) -> Saved:
    info = await series(connection, series_id)
    found = await check(connection, info.plan, now, series_id)
    if not anyway:
        _demand_no_clash(found)
    if info.state != "confirmed":
        await _set_state(connection, series_id, info.state, "confirmed", now, person_id)
    count = await bookings.work_out(connection, series_id, now)
    overridden = {
        one.other.occurrence_id: one.other for one in found.findings if not one.mine_yields
    }
    return Saved(await series(connection, series_id), count, tuple(overridden.values()))


async def _set_state(
    connection: AsyncConnection,
    series_id: int,
    before: str,
    after: str,
    now: datetime,
    person_id: int | None,
) -> None:
    """From one state to the next, if nobody else was faster."""
    done = await connection.execute(
        update(Series)
        .where(Series.id == series_id, Series.state == before)
        .values(state=after, changed_at=now, revision=Series.revision + 1)
    )
    if done.rowcount != 1:
        raise Conflict(f"it is not {before} any more")
    await audit.record(connection, now, person_id, after, f"series:{series_id}")


async def waiting_for_approval(connection: AsyncConnection, path: str) -> list[SeriesInfo]:
    """What units right below this one have submitted to it."""
    unit_id = int(path.rstrip("/").rsplit("/", 1)[-1])
    found = await connection.execute(
        select(Series.id)
        .join(Unit, Unit.id == Series.unit_id)
        .where(Series.state == "submitted", Unit.parent_id == unit_id)
        .order_by(Series.changed_at)
    )
    return await series_list(connection, [series_id for (series_id,) in found])


async def copy_week(
    connection: AsyncConnection,
    unit_id: int,
    monday: datetime,
    weeks: int,
    now: datetime,
    person_id: int | None,
) -> list[SeriesInfo]:
    """Copy what a unit organised in the week from `monday` on, some weeks on, as drafts.

    monday: a wall clock at midnight in the unit's time zone. Each occurrence becomes a draft of its
    own; what repeats into the other week by itself is not copied.
    """
    organiser = await units.unit(connection, unit_id)
    since = timetable.instant(monday, organiser.time_zone)
    until = timetable.instant(monday + timedelta(days=7), organiser.time_zone)
    shift = timedelta(days=7 * checked.within(weeks, "weeks", 1, 60))
    own = await occurrences(connection, Whose(within=organiser.path), since, until)
    made = []
    for one in own:
        if one.unit_id != unit_id or one.starts_at < since:
            continue
        info = await series(connection, one.series_id)
        starts = timetable.wall_clock(one.starts_at, info.plan.time_zone) + shift
        if timetable.slot_of(as_plan(info.plan, info.edits), one.recurrence + shift) is not None:
            continue
        draft = replace(
            info.plan,
            title=one.title,
            starts_local=starts,
            duration_s=int((one.ends_at - one.starts_at).total_seconds()),
            presenter_id=one.presenter_id,
            room_id=one.room_id,
            rule="",
            excluded=(),
            added=(),
        )
        made.append((await save(connection, draft, now, person_id)).series)
    return made
