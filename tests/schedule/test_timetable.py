"""Clock changes to the minute, exceptions and single changes, and what is due at a moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from schedule.errors import Invalid
from schedule.timetable import (
    Edit,
    Plan,
    at,
    checked_rule,
    day_number,
    first,
    instant,
    read_wall_clock,
    slot_of,
    slots,
    wall_clock,
)

SHANGHAI = "Asia/Shanghai"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "clock", "moment"),
    [
        # No clock changes; Urumqi's own time is two hours behind Beijing's.
        ("Asia/Shanghai", "2026-03-29T09:00", "2026-03-29T01:00"),
        ("Asia/Urumqi", "2026-03-29T09:00", "2026-03-29T03:00"),
        # Spring: the minute before, the first and last minute that do not exist, the one after.
        ("Europe/Berlin", "2026-03-29T01:59", "2026-03-29T00:59"),
        ("Europe/Berlin", "2026-03-29T02:00", "2026-03-29T01:00"),
        ("Europe/Berlin", "2026-03-29T02:59", "2026-03-29T01:59"),
        ("Europe/Berlin", "2026-03-29T03:00", "2026-03-29T01:00"),
        ("America/New_York", "2026-03-08T01:59", "2026-03-08T06:59"),
        ("America/New_York", "2026-03-08T02:30", "2026-03-08T07:30"),
        ("America/New_York", "2026-03-08T03:00", "2026-03-08T07:00"),
        # Autumn: an hour that comes twice is the first; then the one after.
        ("Europe/Berlin", "2026-10-25T01:59", "2026-10-24T23:59"),
        ("Europe/Berlin", "2026-10-25T02:00", "2026-10-25T00:00"),
        ("Europe/Berlin", "2026-10-25T02:59", "2026-10-25T00:59"),
        ("Europe/Berlin", "2026-10-25T03:00", "2026-10-25T02:00"),
        ("America/New_York", "2026-11-01T01:30", "2026-11-01T05:30"),
        ("America/New_York", "2026-11-01T02:00", "2026-11-01T07:00"),
    ],
)
def test_a_wall_clock_is_a_moment_to_the_minute(zone: str, clock: str, moment: str) -> None:
    assert instant(datetime.fromisoformat(clock), zone) == utc(moment)


@pytest.mark.parametrize(
    ("zone", "change", "before", "after"),
    [
        ("Asia/Shanghai", "2026-03-29", 1, 1),
        ("Asia/Urumqi", "2026-03-29", 3, 3),
        ("Europe/Berlin", "2026-03-29", 8, 7),
        ("Europe/Berlin", "2026-10-25", 7, 8),
        ("America/New_York", "2026-03-08", 14, 13),
        ("America/New_York", "2026-11-01", 13, 14),
    ],
)
def test_nine_o_clock_stays_nine_o_clock(zone: str, change: str, before: int, after: int) -> None:
    """A daily lesson over a change: the hour in UTC moves, the wall clock and the length do not."""
    day = datetime.fromisoformat(change)
    plan = Plan(day - timedelta(days=2) + timedelta(hours=9), 2700, zone, "FREQ=DAILY;COUNT=5")
    found = slots(plan, utc("2026-01-01"), utc("2027-01-01"))
    assert [slot.starts_at.hour for slot in found] == [before, before, after, after, after]
    assert {wall_clock(slot.starts_at, zone).hour for slot in found} == {9}
    assert {slot.ends_at - slot.starts_at for slot in found} == {timedelta(minutes=45)}


def test_a_meeting_over_the_change_lasts_as_long_as_it_was_planned() -> None:
    plan = Plan(datetime(2026, 3, 29, 1, 30), 3600, "Europe/Berlin")
    slot = first(plan, utc("2026-03-01"))
    assert slot is not None
    assert wall_clock(slot.ends_at, "Europe/Berlin") == datetime(2026, 3, 29, 3, 30)


WEEKLY = Plan(datetime(2026, 3, 2, 9), 2700, SHANGHAI, "FREQ=WEEKLY;COUNT=4")
SPRING = (utc("2026-03-01"), utc("2026-06-01"))


def days(plan: Plan) -> list[str]:
    return [f"{wall_clock(slot.starts_at, SHANGHAI):%m-%d %H:%M}" for slot in slots(plan, *SPRING)]


def test_an_exception_leaves_one_out_and_does_not_add_one_at_the_end() -> None:
    plan = Plan(
        WEEKLY.starts_local,
        WEEKLY.duration_s,
        SHANGHAI,
        WEEKLY.rule,
        excluded=frozenset({datetime(2026, 3, 9, 9)}),
        added=frozenset({datetime(2026, 3, 10, 14)}),
    )
    assert days(plan) == ["03-02 09:00", "03-10 14:00", "03-16 09:00", "03-23 09:00"]


def test_a_single_change_keeps_its_identity_and_leaves_the_others() -> None:
    moved = datetime(2026, 3, 16, 9)
    edits = {
        moved: Edit(starts_local=datetime(2026, 3, 3, 15), duration_s=600, title="Moved"),
        datetime(2026, 3, 23, 9): Edit(cancelled=True),
    }
    plan = Plan(WEEKLY.starts_local, WEEKLY.duration_s, SHANGHAI, WEEKLY.rule, edits=edits)
    assert days(plan) == ["03-02 09:00", "03-03 15:00", "03-09 09:00"]
    slot = slot_of(plan, moved)
    assert slot is not None
    assert slot.ends_at - slot.starts_at == timedelta(minutes=10)
    assert slot_of(plan, datetime(2026, 3, 23, 9)) is None
    assert slot_of(plan, datetime(2026, 3, 4, 9)) is None


def test_what_was_brought_forward_is_found_in_a_window_before_its_old_place() -> None:
    edits = {datetime(2026, 3, 23, 9): Edit(starts_local=datetime(2026, 3, 4, 9))}
    plan = Plan(WEEKLY.starts_local, WEEKLY.duration_s, SHANGHAI, WEEKLY.rule, edits=edits)
    found = slots(plan, utc("2026-03-03"), utc("2026-03-05"))
    assert [slot.recurrence for slot in found] == [datetime(2026, 3, 23, 9)]


def test_a_window_has_what_is_on_in_it_and_not_what_touches_it() -> None:
    """09:00 to 09:45 in Shanghai is 01:00 to 01:45 in UTC."""
    plan = Plan(datetime(2026, 3, 2, 9), 2700, SHANGHAI)
    assert slots(plan, utc("2026-03-02T01:44"), utc("2026-03-02T02:00"))
    assert not slots(plan, utc("2026-03-02T01:45"), utc("2026-03-02T02:00"))
    assert not slots(plan, utc("2026-03-02T00:00"), utc("2026-03-02T01:00"))


def test_what_is_due() -> None:
    known = slots(WEEKLY, *SPRING)
    before = at(utc("2026-03-02T00:59:30"), known)
    assert (before.running, before.wait_s) == ([], 30)
    during = at(utc("2026-03-02T01:00:00"), known)
    assert during.running == [known[0]]
    assert during.coming == known[1]
    assert at(utc("2026-03-02T00:59:30"), known, lead_s=60).running == [known[0]]
    assert at(utc("2026-03-02T01:45:00"), known).running == []
    over = at(utc("2026-05-01"), known)
    assert (over.coming, over.wait_s) == (None, None)


def test_a_day_is_that_of_its_time_zone() -> None:
    assert day_number(utc("2026-03-01T16:00"), SHANGHAI) == 20260302


@pytest.mark.parametrize(
    "rule",
    [
        "every day",
        "FREQ=SECONDLY",
        "FREQ=MINUTELY",
        "FREQ=DAILY;FREQ=DAILY",
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=3;UNTIL=20260601T000000Z",
        "FREQ=DAILY;UNTIL=20261301",
        "FREQ=DAILY;UNTIL=soon",
        "FREQ=WEEKLY;BYDAY=2MO",
        "FREQ=WEEKLY;BYMONTHDAY=3",
        "FREQ=MONTHLY;BYWEEKNO=3",
        "FREQ=MONTHLY;BYYEARDAY=3",
        "FREQ=MONTHLY;BYSETPOS=1",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;BYHOUR=24",
        "FREQ=DAILY;X-EVIL=1",
        "FREQ=DAILY\r\nATTENDEE:x",
        "FREQ=DAILY;BYHOUR=" + ",".join(["1"] * 2000),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str) -> None:
    with pytest.raises(Invalid) as caught:
        checked_rule(rule)
    assert caught.value.field == "rule"


def test_a_rule_is_stored_in_one_form() -> None:
    assert checked_rule("rrule:byday=mo,we;freq=weekly;count=3;") == (
        "FREQ=WEEKLY;COUNT=3;BYDAY=MO,WE"
    )
    assert checked_rule("  ") == ""


def test_a_rule_that_never_hits_ends() -> None:
    plan = Plan(datetime(2026, 3, 2, 9), 60, SHANGHAI, "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")
    assert len(slots(plan, utc("2026-01-01"), utc("2036-01-01"))) == 1
    slip = Plan(datetime(2026, 3, 2, 9), 60, SHANGHAI, "FREQ=DAILY;INTERVAL=7;BYDAY=WE")
    assert len(slots(slip, utc("2026-01-01"), utc("2036-01-01"))) == 1


def test_too_many_occurrences_are_refused() -> None:
    plan = Plan(datetime(2026, 3, 2, 9), 60, SHANGHAI, "FREQ=HOURLY")
    with pytest.raises(Invalid, match="more than 10000"):
        slots(plan, utc("2026-01-01"), utc("2036-01-01"))


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-03-02T09:00Z", "0001-01-01T00:00"])
def test_what_is_no_wall_clock_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        read_wall_clock(text)
