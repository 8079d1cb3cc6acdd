"""Recurrence rules: RRULE of RFC 5545 section 3.3.10, worked out on a wall clock (pure).

The rule counts periods (years, months, weeks, days, hours, minutes) from its start, every INTERVAL
of them. In each period it takes the days that pass all of its BY parts, on each of these the times
of day, and of the whole set the positions of BYSETPOS. What a rule does not say is taken from the
start, so that `FREQ=MONTHLY` from the 5th at nine is the 5th at nine of every month.

Nothing here is done by python-dateutil, the common library, for one reason: it looks at the end
only when the rule hits. A rule that never does (`FREQ=DAILY;INTERVAL=7;BYDAY=WE` from a Monday on,
a slip of the hand) keeps it busy until the year 9999: 12.9 s were measured for one such line, which
anybody may send in a calendar file. Here the end bounds the work. The tests compare the two.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from schedule import fields
from schedule.errors import Invalid

FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_DAY = timedelta(days=1)
_NUMBERS = {
    "BYSECOND": (0, 59),
    "BYMINUTE": (0, 59),
    "BYHOUR": (0, 23),
    "BYMONTHDAY": (-31, 31),
    "BYYEARDAY": (-366, 366),
    "BYWEEKNO": (-53, 53),
    "BYMONTH": (1, 12),
    "BYSETPOS": (-366, 366),
}
_UNTIL = re.compile(r"([0-9]{8})(?:T([0-9]{6})(Z?))?")
_BYDAY = re.compile(r"([+-]?[1-9][0-9]?)?(MO|TU|WE|TH|FR|SA|SU)")


@dataclass(frozen=True, slots=True)
class Rule:
    """An RRULE taken apart. An empty tuple is a part that the rule does not have.

    until: as written, "" for none. weekdays: (number, weekday), the number 0 where there is none,
    Monday is 0. week_start: WKST as a weekday.
    """

    frequency: str
    interval: int = 1
    count: int | None = None
    until: str = ""
    seconds: tuple[int, ...] = ()
    minutes: tuple[int, ...] = ()
    hours: tuple[int, ...] = ()
    weekdays: tuple[tuple[int, int], ...] = ()
    month_days: tuple[int, ...] = ()
    year_days: tuple[int, ...] = ()
    weeks: tuple[int, ...] = ()
    months: tuple[int, ...] = ()
    positions: tuple[int, ...] = ()
    week_start: int = 0

    def text(self) -> str:
        """The rule as an RRULE's value, always in the same order."""
        days = ",".join(f"{number or ''}{WEEKDAYS[day]}" for number, day in self.weekdays)
        parts = {
            "FREQ": self.frequency,
            "INTERVAL": str(self.interval) if self.interval != 1 else "",
            "COUNT": str(self.count or ""),
            "UNTIL": self.until,
            "BYMONTH": _list(self.months),
            "BYWEEKNO": _list(self.weeks),
            "BYYEARDAY": _list(self.year_days),
            "BYMONTHDAY": _list(self.month_days),
            "BYDAY": days,
            "BYHOUR": _list(self.hours),
            "BYMINUTE": _list(self.minutes),
            "BYSECOND": _list(self.seconds),
            "BYSETPOS": _list(self.positions),
            "WKST": WEEKDAYS[self.week_start] if self.week_start else "",
        }
        return ";".join(f"{name}={value}" for name, value in parts.items() if value)


def parse(text: str) -> Rule:
    """Read a rule, with or without "RRULE:" before it; Invalid when it is none."""
    if len(text) > 2_000:
        raise Invalid("the rule is longer than 2000 characters", "rule")
    parts: dict[str, str] = {}
    for part in text.strip().upper().removeprefix("RRULE:").rstrip(";").split(";"):
        name, _, value = part.partition("=")
        if name in parts:
            raise Invalid(f"the rule says {name[:20]} twice", "rule")
        parts[name] = value
    frequency = parts.pop("FREQ", "")
    if frequency not in FREQUENCIES:
        raise Invalid(f"the rule needs FREQ= one of {', '.join(FREQUENCIES)}", "rule")
    numbers = {name: _numbers(name, parts.pop(name, "")) for name in _NUMBERS}
    week_start, until = parts.pop("WKST", "MO"), parts.pop("UNTIL", "")
    if week_start not in WEEKDAYS:
        raise Invalid("the rule's WKST must be a day such as MO", "rule")
    if until:
        last_wall_clock(until, "UTC")
    interval, count = parts.pop("INTERVAL", "1"), parts.pop("COUNT", "")
    if not re.fullmatch("[1-9][0-9]{0,3}", interval):
        raise Invalid("the rule's INTERVAL must be 1 to 9999", "rule")
    if count and (until or not re.fullmatch("[1-9][0-9]{0,4}", count)):
        raise Invalid("the rule's COUNT must be 1 to 99999, and not beside UNTIL", "rule")
    rule = Rule(
        frequency,
        int(interval),
        int(count) if count else None,
        until,
        numbers["BYSECOND"],
        numbers["BYMINUTE"],
        numbers["BYHOUR"],
        _weekdays(parts.pop("BYDAY", "")),
        numbers["BYMONTHDAY"],
        numbers["BYYEARDAY"],
        numbers["BYWEEKNO"],
        numbers["BYMONTH"],
        numbers["BYSETPOS"],
        WEEKDAYS.index(week_start),
    )
    if parts:
        raise Invalid(f"the rule's part {min(parts)[:20]!r} is not known", "rule")
    _check(rule)
    return rule


def _list(numbers: Sequence[int]) -> str:
    return ",".join(str(number) for number in numbers)


def _numbers(name: str, text: str) -> tuple[int, ...]:
    least, most = _NUMBERS[name]
    found = []
    for one in text.split(",") if text else ():
        number = int(one) if re.fullmatch(r"[+-]?[0-9]{1,3}", one) else most + 1
        if not least <= number <= most or (number == 0 and least < 0):
            raise Invalid(f"the rule's {name} cannot be {one[:20]!r}", "rule")
        found.append(number)
    return tuple(sorted(set(found)))


def _weekdays(text: str) -> tuple[tuple[int, int], ...]:
    found = []
    for one in text.split(",") if text else ():
        match = _BYDAY.fullmatch(one)
        if match is None or abs(int(match[1] or 0)) > 53:
            raise Invalid(f"the rule's BYDAY cannot be {one[:20]!r}", "rule")
        found.append((int(match[1] or 0), WEEKDAYS.index(match[2])))
    return tuple(dict.fromkeys(found))


def _check(rule: Rule) -> None:
    """The table of RFC 5545 section 3.3.10: which part goes with which frequency."""
    frequency = rule.frequency
    numbered = any(number for number, _ in rule.weekdays)
    others = (
        rule.seconds + rule.minutes + rule.hours + rule.month_days + rule.year_days + rule.weeks
        + rule.months + tuple(day for _, day in rule.weekdays)
    )  # fmt: skip
    wrong = {
        "BYWEEKNO": rule.weeks and frequency != "YEARLY",
        "BYYEARDAY": rule.year_days and frequency in ("DAILY", "WEEKLY", "MONTHLY"),
        "BYMONTHDAY": rule.month_days and frequency == "WEEKLY",
        "a numbered BYDAY": numbered and (frequency not in ("MONTHLY", "YEARLY") or rule.weeks),
        "BYSETPOS": rule.positions and not others,
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise Invalid(f"the rule cannot have {name} like that", "rule")


def last_wall_clock(until: str, time_zone: str) -> datetime:
    """The last wall clock that an UNTIL lets through. A bare date means the whole day."""
    match = _UNTIL.fullmatch(until)
    try:
        if match is None:
            raise ValueError(until)
        day, clock, utc = match.groups()
        if clock is None:
            return datetime.combine(datetime.strptime(day, "%Y%m%d"), time(23, 59, 59))
        moment = datetime.strptime(day + clock, "%Y%m%d%H%M%S")
        if not utc:
            return moment
        there = moment.replace(tzinfo=UTC).astimezone(fields.zone(time_zone))
        return there.replace(tzinfo=None, fold=0)
    except (ValueError, OverflowError):
        raise Invalid("the rule's UNTIL must look like 20260630T155959Z", "rule") from None


def expand(rule: Rule, start: datetime, last: datetime, time_zone: str) -> Iterator[datetime]:
    """What the rule hits from `start` to `last`, both wall clocks, in order, without COUNT."""
    if rule.until:
        last = min(last, last_wall_clock(rule.until, time_zone))
    passes = _day_filter(rule, start)
    if rule.frequency in ("HOURLY", "MINUTELY"):
        found = _by_clock(rule, start, last, passes)
    else:
        found = _by_calendar(rule, start, last, passes)
    for one in found:
        if one > last:
            return
        if one >= start:
            yield one


def _by_calendar(
    rule: Rule, start: datetime, last: datetime, passes: Callable[[date], bool]
) -> Iterator[datetime]:
    times = [
        time(hour, minute, second)
        for hour in rule.hours or (start.hour,)
        for minute in rule.minutes or (start.minute,)
        for second in rule.seconds or (start.second,)
    ]
    for first, past in _periods(rule, start.date(), last.date()):
        days = (date.fromordinal(one) for one in range(first.toordinal(), past.toordinal()))
        hits = [datetime.combine(day, clock) for day in days if passes(day) for clock in times]
        yield from _positions(rule, hits)


def _periods(rule: Rule, start: date, last: date) -> Iterator[tuple[date, date]]:
    """The first day of each period that counts, and the first day after it."""
    if rule.frequency == "YEARLY":
        for year in range(start.year, last.year + 1, rule.interval):
            yield date(year, 1, 1), date(year + 1, 1, 1)
    elif rule.frequency == "MONTHLY":
        months = range(
            start.year * 12 + start.month - 1, last.year * 12 + last.month, rule.interval
        )
        for month in months:
            past = month + 1
            yield date(month // 12, month % 12 + 1, 1), date(past // 12, past % 12 + 1, 1)
    else:
        length = 7 if rule.frequency == "WEEKLY" else 1
        first = start.toordinal()
        if length == 7:
            first -= (start.weekday() - rule.week_start) % 7
        for day in range(first, last.toordinal() + 1, length * rule.interval):
            yield date.fromordinal(day), date.fromordinal(day + length)


def _by_clock(
    rule: Rule, start: datetime, last: datetime, passes: Callable[[date], bool]
) -> Iterator[datetime]:
    hourly = rule.frequency == "HOURLY"
    step = timedelta(hours=rule.interval) if hourly else timedelta(minutes=rule.interval)
    period = start.replace(second=0, minute=0 if hourly else start.minute)
    while period <= last:
        if not passes(period.date()):
            # On to the first period of the next day, in one stride.
            tomorrow = datetime.combine(period.date() + _DAY, time())
            period += -((period - tomorrow) // step) * step
            continue
        if (not rule.hours or period.hour in rule.hours) and (
            hourly or not rule.minutes or period.minute in rule.minutes
        ):
            minutes = (rule.minutes or (start.minute,)) if hourly else (period.minute,)
            hits = [
                period.replace(minute=minute, second=second)
                for minute in minutes
                for second in rule.seconds or (start.second,)
            ]
            yield from _positions(rule, hits)
        period += step


def _positions(rule: Rule, hits: list[datetime]) -> list[datetime]:
    if not rule.positions:
        return hits
    wanted = {at - 1 if at > 0 else len(hits) + at for at in rule.positions}
    return [hit for at, hit in enumerate(hits) if at in wanted]


def _day_filter(rule: Rule, start: datetime) -> Callable[[date], bool]:
    """The condition that a day must meet: all BY parts, and what the start says in their place."""
    months, month_days, weekdays = set(rule.months), set(rule.month_days), rule.weekdays
    if not (rule.weeks or rule.year_days or rule.month_days or rule.weekdays):
        if rule.frequency == "YEARLY" and not months:
            months = {start.month}
        if rule.frequency in ("YEARLY", "MONTHLY"):
            month_days = {start.day}
    if not weekdays and (
        rule.frequency == "WEEKLY" or (rule.weeks and not rule.month_days and not rule.year_days)
    ):
        weekdays = ((0, start.weekday()),)
    year_days, weeks = set(rule.year_days), set(rule.weeks)
    plain = {day for number, day in weekdays if not number}
    numbered = {(number, day) for number, day in weekdays if number}
    in_months = rule.frequency == "MONTHLY" or bool(rule.months)

    def passes(day: date) -> bool:
        if months and day.month not in months:
            return False
        if month_days and not _either(
            month_days, day.day, calendar.monthrange(day.year, day.month)[1]
        ):
            return False
        if weekdays and day.weekday() not in plain:
            if in_months:
                at, size = day.day, calendar.monthrange(day.year, day.month)[1]
            else:
                at, size = day.timetuple().tm_yday, 366 if calendar.isleap(day.year) else 365
            number, from_end = (at - 1) // 7 + 1, -((size - at) // 7 + 1)
            which = day.weekday()
            if (number, which) not in numbered and (from_end, which) not in numbered:
                return False
        if year_days:
            size = 366 if calendar.isleap(day.year) else 365
            if not _either(year_days, day.timetuple().tm_yday, size):
                return False
        return not weeks or _either(weeks, *_week(day, rule.week_start))

    return passes


def _either(wanted: set[int], at: int, size: int) -> bool:
    """Whether a place is wanted, counted from the beginning (1) or from the end (-1)."""
    return at in wanted or at - size - 1 in wanted


def _week(day: date, week_start: int) -> tuple[int, int]:
    """The number of a day's week, and how many weeks its year has.

    The first week of a year is the first with four of its days.
    """
    begins = day.toordinal() - (day.weekday() - week_start) % 7
    year = date.fromordinal(begins + 3).year
    first, past = _first_week(year, week_start), _first_week(year + 1, week_start)
    return (begins - first) // 7 + 1, (past - first) // 7


def _first_week(year: int, week_start: int) -> int:
    fourth = date(year, 1, 4)
    return fourth.toordinal() - (fourth.weekday() - week_start) % 7
