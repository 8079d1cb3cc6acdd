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

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from dateutil.rrule import rrule, rrulestr

from schedule import fields
from schedule.errors import Invalid

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
    rule = Rule.parse(plan.rule)
    count = 1
    for recurrence in rule.expand(plan.starts_local, last, plan.time_zone):
        if recurrence == plan.starts_local:
            continue
        count += 1
        if rule.count is not None and count > rule.count:
            return
        yield recurrence


# Rules

_PARTS = {
    "INTERVAL": r"[1-9][0-9]{0,3}",
    "BYSECOND": r"LIST:[0-9]{1,2}",
    "BYMINUTE": r"LIST:[0-5]?[0-9]",
    "BYHOUR": r"LIST:(?:2[0-3]|[01]?[0-9])",
    "BYDAY": r"LIST:(?:[+-]?[1-9][0-9]?)?(?:MO|TU|WE|TH|FR|SA|SU)",
    "BYMONTHDAY": r"LIST:[+-]?(?:[12][0-9]|3[01]|0?[1-9])",
    "BYYEARDAY": r"LIST:[+-]?[1-9][0-9]{0,2}",
    "BYWEEKNO": r"LIST:[+-]?(?:[1-4][0-9]|5[0-3]|0?[1-9])",
    "BYMONTH": r"LIST:(?:1[0-2]|0?[1-9])",
    "BYSETPOS": r"LIST:[+-]?[1-9][0-9]{0,2}",
    "WKST": r"(?:MO|TU|WE|TH|FR|SA|SU)",
}
_FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")
# What a plan may be saved with: a rule for every minute is an attack, not a course.
_PLANNED = _FREQUENCIES[:5]
_UNTIL = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")


def _pattern(part: str) -> re.Pattern[str]:
    if part.startswith("LIST:"):
        one = part.removeprefix("LIST:")
        return re.compile(f"{one}(?:,{one}){{0,400}}")
    return re.compile(part)


_PATTERNS = {name: _pattern(part) for name, part in _PARTS.items()}


@dataclass(frozen=True, slots=True)
class Rule:
    """An RRULE taken apart. until: as written, "" for none. rest: the parts that are neither."""

    frequency: str
    rest: str
    count: int | None
    until: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Read a rule, with or without "RRULE:" before it; Invalid when it is none."""
        if len(text) > 2_000:
            raise Invalid("the rule is longer than 2000 characters", "rule")
        parts: dict[str, str] = {}
        for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
            name, _, value = part.partition("=")
            if name in parts:
                raise Invalid(f"the rule says {name} twice", "rule")
            parts[name] = value
        frequency = parts.pop("FREQ", "")
        if frequency not in _FREQUENCIES:
            raise Invalid(f"the rule needs FREQ= one of {', '.join(_FREQUENCIES)}", "rule")
        count, until = parts.pop("COUNT", None), parts.pop("UNTIL", "")
        if count is not None and (until or not re.fullmatch("[1-9][0-9]{0,4}", count)):
            raise Invalid("the rule's COUNT must be 1 to 99999, and not beside UNTIL", "rule")
        if until:
            _until(until, "UTC")
        for name, value in parts.items():
            if name not in _PATTERNS or not _PATTERNS[name].fullmatch(value):
                raise Invalid(f"the rule's part {name[:20]}={value[:40]} cannot be read", "rule")
        rule = cls(
            frequency,
            ";".join(f"{name}={value}" for name, value in parts.items()),
            None if count is None else int(count),
            until,
        )
        rule._check(parts)
        return rule

    def _check(self, parts: Mapping[str, str]) -> None:
        """The table of RFC 5545 section 3.3.10: which part goes with which frequency."""
        numbered = any(one[:-2] for one in parts.get("BYDAY", "").split(",") if one)
        wrong = {
            "BYWEEKNO": "BYWEEKNO" in parts and self.frequency != "YEARLY",
            "BYYEARDAY": "BYYEARDAY" in parts and self.frequency in ("DAILY", "WEEKLY", "MONTHLY"),
            "BYMONTHDAY": "BYMONTHDAY" in parts and self.frequency == "WEEKLY",
            "a numbered BYDAY": numbered
            and (self.frequency not in ("MONTHLY", "YEARLY") or "BYWEEKNO" in parts),
            "BYSETPOS": "BYSETPOS" in parts
            and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise Invalid(f"the rule cannot have {name} like that", "rule")
        self._made(EARLIEST, EARLIEST)

    def text(self) -> str:
        """The rule as an RRULE's value."""
        ends = f";COUNT={self.count}" if self.count is not None else ""
        ends += f";UNTIL={self.until}" if self.until else ""
        return f"FREQ={self.frequency}{ends}" + (f";{self.rest}" if self.rest else "")

    def expand(self, start: datetime, last: datetime, time_zone: str) -> Iterator[datetime]:
        """What the rule hits from `start` to `last`, both wall clocks, without regard to COUNT.

        The end is always given to the library: a rule that never hits would run to the year 9999.
        """
        if self.until:
            last = min(last, _until(self.until, time_zone))
        return iter(self._made(start, last))

    def _made(self, start: datetime, last: datetime) -> rrule:
        text = f"FREQ={self.frequency};UNTIL={last:%Y%m%dT%H%M%S}"
        try:
            made = rrulestr(text + (f";{self.rest}" if self.rest else ""), dtstart=start)
        except (ValueError, TypeError) as error:
            raise Invalid(f"the rule cannot be read: {error}", "rule") from error
        assert isinstance(made, rrule)
        return made


def _until(text: str, time_zone: str) -> datetime:
    """The last wall clock that UNTIL lets through. A bare date means the whole day."""
    match = _UNTIL.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        day, clock, utc = match.groups()
        date = datetime.strptime(day, "%Y%m%d")
        if clock is None:
            return datetime.combine(date.date(), time(23, 59, 59))
        moment = datetime.strptime(day + clock, "%Y%m%d%H%M%S")
    except ValueError:
        raise Invalid("the rule's UNTIL must look like 20260630T155959Z", "rule") from None
    return wall_clock(moment.replace(tzinfo=UTC), time_zone) if utc else moment


def checked_rule(text: str) -> str:
    """A rule that a plan may be saved with, as stored; "" for a plan that happens once."""
    if not text.strip():
        return ""
    rule = Rule.parse(text)
    if rule.frequency not in _PLANNED:
        raise Invalid(f"the rule must be one of {', '.join(_PLANNED)}", "rule")
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
