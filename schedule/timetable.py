"""When things happen: recurrence, exceptions, single changes, time zones (pure).

A plan says the wall clock of its first occurrence in a time zone and, if it repeats, an RRULE
(RFC 5545 section 3.3.10). The rule is worked out on the wall clock, then each result becomes a
moment: so nine o'clock stays nine o'clock across a clock change. A wall clock that a change leaves
out counts with the offset before the change, one that comes twice is the first (sections 3.3.5 and
3.8.5.3): a lesson at 02:30 on the night when 02:00 becomes 03:00 begins at 03:30. A duration is
real time.

The first occurrence is the plan's start whether or not the rule hits it, and counts for COUNT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schedule import fields
from schedule.errors import Invalid
from schedule.recurrence import expand
from schedule.recurrence import parse as recurrence_rule

# What one plan may come to within one question; a lesson every hour of a year is 8,760.
MOST_SLOTS = 10_000
EARLIEST, LATEST = datetime(1970, 1, 1), datetime(2200, 1, 1)
LONGEST_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Edit:
    """What one occurrence has of its own; None: as the series says.

    starts_local: the wall clock in the series' time zone.
    """

    starts_local: datetime | None = None
    duration_s: int | None = None
    title: str | None = None
    presenter_id: int | None = None
    room_id: int | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """When a series happens. All wall clocks are naive datetimes in `time_zone`.

    excluded, added: recurrences left out or added (EXDATE, RDATE). edits: by the recurrence that
    they change, an added one too.
    """

    starts_local: datetime
    duration_s: int
    time_zone: str
    rule: str = ""
    excluded: frozenset[datetime] = frozenset()
    added: frozenset[datetime] = frozenset()
    edits: Mapping[datetime, Edit] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Slot:
    """One occurrence in time. recurrence: the wall clock at which the rule put it: its identity."""

    recurrence: datetime
    starts_at: datetime
    ends_at: datetime
    edit: Edit | None = None


def instant(wall_clock: datetime, time_zone: str) -> datetime:
    """The moment of a wall clock, in UTC."""
    return wall_clock.replace(tzinfo=fields.zone(time_zone), fold=0).astimezone(UTC)


def wall_clock(moment: datetime, time_zone: str) -> datetime:
    """What the clocks of a time zone show at a moment, without a time zone."""
    return moment.astimezone(fields.zone(time_zone)).replace(tzinfo=None, fold=0)


def day_number(moment: datetime, time_zone: str) -> int:
    """The day of a moment in a time zone, as 20260302."""
    shown = wall_clock(moment, time_zone)
    return shown.year * 10_000 + shown.month * 100 + shown.day


def slots(plan: Plan, since: datetime, until: datetime) -> list[Slot]:
    """The occurrences that are on at some moment from `since` until just before `until`, in order.

    Cancelled ones are left out. Invalid when there are more than MOST_SLOTS.
    """
    found = [
        slot
        for recurrence in _recurrences(plan, until)
        if (slot := _slot(plan, recurrence)) and slot.ends_at > since and slot.starts_at < until
    ]
    return sorted(found, key=lambda slot: (slot.starts_at, slot.recurrence))


def slot_of(plan: Plan, recurrence: datetime) -> Slot | None:
    """The occurrence with this identity; None when the plan has none or it is cancelled."""
    horizon = instant(recurrence, plan.time_zone) + timedelta(days=1)
    return _slot(plan, recurrence) if recurrence in set(_recurrences(plan, horizon)) else None


def first(plan: Plan, since: datetime, within: timedelta = timedelta(days=800)) -> Slot | None:
    """The first occurrence that is not over at `since`, None when none begins `within`."""
    found = slots(plan, since, since + within)
    return found[0] if found else None


@dataclass(frozen=True, slots=True)
class Now:
    """What is on at a moment, and what comes next with the time until then."""

    running: Sequence[Slot]
    coming: Slot | None
    wait_s: float | None


def at(now: datetime, known: Iterable[Slot], lead_s: float = 0) -> Now:
    """What is due at `now`: running from `lead_s` before its start until its end."""
    lead = timedelta(seconds=lead_s)
    ordered = sorted(known, key=lambda slot: slot.starts_at)
    running = [slot for slot in ordered if slot.starts_at - lead <= now < slot.ends_at]
    coming = next((slot for slot in ordered if slot.starts_at - lead > now), None)
    wait_s = None if coming is None else (coming.starts_at - lead - now).total_seconds()
    return Now(running, coming, wait_s)


def _slot(plan: Plan, recurrence: datetime) -> Slot | None:
    edit = plan.edits.get(recurrence)
    if edit is not None and edit.cancelled:
        return None
    starts_local = recurrence
    duration_s = plan.duration_s
    if edit is not None:
        starts_local = edit.starts_local or recurrence
        duration_s = edit.duration_s or duration_s
    starts_at = instant(starts_local, plan.time_zone)
    return Slot(recurrence, starts_at, starts_at + timedelta(seconds=duration_s), edit)


def _recurrences(plan: Plan, until: datetime) -> Iterator[datetime]:
    """All recurrences up to `until`, and later ones that an edit may have brought forward."""
    last = wall_clock(until, plan.time_zone)
    for edited in plan.edits:
        last = max(last, edited)
    seen: set[datetime] = set()
    for recurrence in _in_order(plan, last):
        if recurrence in seen or recurrence in plan.excluded:
            continue
        seen.add(recurrence)
        if len(seen) > MOST_SLOTS:
            raise Invalid(f"the rule makes more than {MOST_SLOTS} occurrences", "rule")
        yield recurrence


def _in_order(plan: Plan, last: datetime) -> Iterator[datetime]:
    yield from plan.added
    yield plan.starts_local
    if not plan.rule:
        return
    rule = recurrence_rule(plan.rule)
    count = 1
    for recurrence in expand(rule, plan.starts_local, last, plan.time_zone):
        if recurrence == plan.starts_local:
            continue
        count += 1
        if rule.count is not None and count > rule.count:
            return
        yield recurrence


def checked_rule(text: str) -> str:
    """A rule that a plan may be saved with, as stored; "" for a plan that happens once."""
    if not text.strip():
        return ""
    rule = recurrence_rule(text)
    if rule.frequency == "MINUTELY":
        raise Invalid("a lesson every minute is none, the rule may be HOURLY at most", "rule")
    return rule.text()


def stored(wall_clock: datetime) -> str:
    """A wall clock as it stands in the store: 2026-03-02T09:00:00."""
    return wall_clock.isoformat(timespec="seconds")


def read_wall_clock(text: str, field_name: str = "starts_local") -> datetime:
    """A wall clock as people and calendars write it, without a time zone; Invalid."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        found = EARLIEST.replace(tzinfo=UTC)
    if found.tzinfo is not None or not EARLIEST <= found < LATEST:
        raise Invalid(f"{field_name} must be a time such as 2026-03-02T09:00", field_name)
    return found.replace(microsecond=0)
