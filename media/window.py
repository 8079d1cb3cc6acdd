"""When and how much a line may be used: hours of the day, bytes a day, bits a second. Pure.

A village's line is often cheap at night only, counted by the megabyte, or shared with an office.
Times are Unix seconds; hours are those of the station's time zone, over changes of summer time too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

_HOURS: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)
_FAR_DAYS: Final = 400
BURST_S: Final = 1.0
"""How much of the rate cap may be taken at once, in seconds of it."""


class HoursError(ValueError):
    """The text is no hours; the message says what they look like."""


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of every day, in minutes from local midnight; `end` <= `begin` is the next morning."""

    begin: int = 0
    end: int = 24 * 60

    @classmethod
    def parse(cls, text: str) -> Hours:
        """`22:00-06:00`; an empty text is the whole day. Raises HoursError."""
        if not text:
            return cls()
        match = _HOURS.fullmatch(text)
        if match is None:
            raise HoursError("hours must look like 22:00-06:00")
        hour, minute, end_hour, end_minute = (int(part) for part in match.groups())
        begin, end = 60 * hour + minute, 60 * end_hour + end_minute
        if end > 24 * 60 or begin == end:
            raise HoursError("hours must look like 22:00-06:00, with an end other than the begin")
        return cls(begin, end)

    @property
    def always(self) -> bool:
        """Whether this is the whole day."""
        return self.begin == 0 and self.end == 24 * 60

    def spans(self, now: float, zone: tzinfo) -> Iterator[tuple[float, float]]:
        """The open spans that end after `now`, in order, about a year of them."""
        if self.always:
            yield now, now + _FAR_DAYS * 86400
            return
        today = datetime.fromtimestamp(now, zone).date()
        for day in range(-1, _FAR_DAYS):
            begin = _moment(today + timedelta(day), self.begin, zone)
            later = self.end <= self.begin
            end = _moment(today + timedelta(day + later), self.end, zone)
            if end > now and end > begin:
                yield begin, end

    def opens_in_s(self, now: float, zone: tzinfo) -> float:
        """Seconds until the line may be used; 0 while it may."""
        begin, _ = next(self.spans(now, zone))
        return max(0.0, begin - now)

    def open_s(self, now: float, end: float, zone: tzinfo) -> float:
        """For how many seconds between now and `end` the line may be used."""
        total = 0.0
        for begin, finish in self.spans(now, zone):
            if begin >= end:
                break
            total += max(0.0, min(finish, end) - max(begin, now))
        return total

    def done_at(self, now: float, needed_s: float, zone: tzinfo) -> float:
        """When `needed_s` seconds of open time will have passed; infinity beyond a year."""
        for begin, end in self.spans(now, zone):
            start = max(begin, now)
            if end - start >= needed_s:
                return start + needed_s
            needed_s -= end - start
        return float("inf")


@dataclass(slots=True)
class Line:
    """What one line may carry for us; asked before bytes are taken, told after.

    day_bytes: at most so many from one local midnight to the next (0: any number).
    rate_bps: at most so many bits a second (0: as fast as it goes).
    spent_day, spent_bytes: kept over a restart by whoever owns this (`state`, `restore`).
    """

    hours: Hours = Hours()
    zone: tzinfo = UTC
    day_bytes: int = 0
    rate_bps: float = 0.0
    spent_day: str = ""
    spent_bytes: int = 0
    _tokens: float = field(default=0.0, repr=False)
    _filled_s: float = field(default=0.0, repr=False)

    def wait_s(self, now: float) -> float:
        """Seconds until anything may be taken; 0 when it may be now."""
        closed = self.hours.opens_in_s(now, self.zone)
        if closed > 0:
            return closed
        self._roll(now)
        if self.day_bytes and self.spent_bytes >= self.day_bytes:
            tomorrow = datetime.fromtimestamp(now, self.zone).date() + timedelta(1)
            return max(1.0, _moment(tomorrow, 0, self.zone) - now)
        if self.rate_bps:
            self._fill(now)
            return max(0.0, -self._tokens * 8 / self.rate_bps)
        return 0.0

    def take(self, now: float, size_bytes: int) -> None:
        """Count bytes that have come. They may be more than there was left: what follows waits."""
        self._roll(now)
        self.spent_bytes += size_bytes
        if self.rate_bps:
            self._fill(now)
            self._tokens -= size_bytes

    def _fill(self, now: float) -> None:
        # A clock that was set back must not stop the line for as long.
        passed = max(0.0, now - self._filled_s)
        self._tokens = min(self.rate_bps / 8 * BURST_S, self._tokens + self.rate_bps / 8 * passed)
        self._filled_s = now

    def may_carry_bytes(self, now: float, end: float, measured_bps: float) -> float:
        """What will come over the line between now and `end` at this measured rate."""
        rate = min(measured_bps, self.rate_bps) if self.rate_bps else measured_bps
        carried = self.hours.open_s(now, end, self.zone) * rate / 8
        if self.day_bytes:
            self._roll(now)
            days = max(0, (_day(end, self.zone) - _day(now, self.zone)).days)
            left = max(0, self.day_bytes - self.spent_bytes) + days * self.day_bytes
            return min(carried, left)
        return carried

    def state(self) -> dict[str, object]:
        """What must outlive the process."""
        return {"day": self.spent_day, "bytes": self.spent_bytes}

    def restore(self, state: object) -> None:
        """Take back a `state`; anything else is passed over, as if nothing had been spent."""
        if not isinstance(state, dict):
            return
        day, spent = state.get("day"), state.get("bytes")
        if isinstance(day, str) and type(spent) is int and 0 <= spent < 1 << 60:
            self.spent_day, self.spent_bytes = day, spent

    def _roll(self, now: float) -> None:
        today = _day(now, self.zone).isoformat()
        if today != self.spent_day:
            self.spent_day, self.spent_bytes = today, 0


def _day(now: float, zone: tzinfo) -> date:
    return datetime.fromtimestamp(now, zone).date()


def _moment(day: date, minutes: int, zone: tzinfo) -> float:
    """Unix seconds of so many minutes on the wall clock of a day."""
    if minutes == 24 * 60:
        day, minutes = day + timedelta(1), 0
    return datetime.combine(day, time(minutes // 60, minutes % 60), zone).timestamp()
