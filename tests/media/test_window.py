"""When and how much a line may be used."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from media.window import Hours, HoursError, Line

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: ZoneInfo = SHANGHAI) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


NIGHT = Hours.parse("22:00-06:00")


@pytest.mark.parametrize(
    ("now", "opens_in_h"),
    [
        ("2026-05-04T21:00", 1),
        ("2026-05-04T22:00", 0),
        ("2026-05-05T00:00", 0),
        ("2026-05-05T05:59", 0),
        ("2026-05-05T06:00", 16),
    ],
)
def test_a_night_over_midnight(now: str, opens_in_h: float) -> None:
    assert NIGHT.opens_in_s(at(now), SHANGHAI) == 3600 * opens_in_h


def test_open_time_between_two_moments() -> None:
    assert NIGHT.open_s(at("2026-05-04T12:00"), at("2026-05-06T12:00"), SHANGHAI) == 16 * 3600
    assert NIGHT.open_s(at("2026-05-04T23:00"), at("2026-05-05T01:00"), SHANGHAI) == 2 * 3600
    assert NIGHT.open_s(at("2026-05-04T07:00"), at("2026-05-04T21:00"), SHANGHAI) == 0
    assert Hours().open_s(100.0, 400.0, UTC) == 300


def test_when_so_much_open_time_will_have_passed() -> None:
    noon = at("2026-05-04T12:00")
    assert NIGHT.done_at(noon, 3600, SHANGHAI) == at("2026-05-04T23:00")
    assert NIGHT.done_at(noon, 9 * 3600, SHANGHAI) == at("2026-05-05T23:00")
    assert NIGHT.done_at(noon, 1e9, SHANGHAI) == float("inf")


def test_the_night_of_the_change_of_summer_time_is_an_hour_shorter() -> None:
    evening, morning = at("2026-03-28T12:00", BERLIN), at("2026-03-29T12:00", BERLIN)
    assert NIGHT.open_s(evening, morning, BERLIN) == 7 * 3600


@pytest.mark.parametrize(
    "text", ["22-6", "25:00-06:00", "22:00-24:30", "06:00-06:00", "22:00–6:00"]
)
def test_hours_that_cannot_be_read(text: str) -> None:
    with pytest.raises(HoursError, match="22:00-06:00"):
        Hours.parse(text)


def test_a_closed_line_waits_for_its_hours() -> None:
    line = Line(NIGHT, SHANGHAI)
    assert line.wait_s(at("2026-05-04T21:59")) == 60
    assert line.wait_s(at("2026-05-04T22:01")) == 0


def test_a_day_s_bytes_end_at_local_midnight_and_outlive_a_restart() -> None:
    now = at("2026-05-04T23:00")
    line = Line(zone=SHANGHAI, day_bytes=1000)
    line.take(now, 999)
    assert line.wait_s(now) == 0
    line.take(now, 1)
    assert line.wait_s(now) == 3600

    after = Line(zone=SHANGHAI, day_bytes=1000)
    after.restore(line.state())
    assert after.wait_s(now) == 3600
    assert after.wait_s(at("2026-05-05T00:00")) == 0


@pytest.mark.parametrize("state", [None, [], {"day": 3, "bytes": 1}, {"day": "x", "bytes": -1}])
def test_a_state_that_makes_no_sense_is_passed_over(state: object) -> None:
    line = Line(day_bytes=1000)
    line.restore(state)
    assert line.wait_s(0.0) == 0


def test_a_capped_line_is_as_fast_as_its_cap_and_no_faster() -> None:
    line, now, taken = Line(rate_bps=80_000), 1000.0, 0
    while now < 1060:
        wait = line.wait_s(now)
        if wait:
            now += wait
        line.take(now, 4000)
        taken += 4000
    assert taken == pytest.approx(10_000 * 61, rel=0.02)


def test_a_clock_that_is_set_back_does_not_stop_a_capped_line() -> None:
    line = Line(rate_bps=80_000)
    line.take(1_000_000.0, 30_000)
    assert line.wait_s(10.0) < 3


def test_what_the_line_will_bring() -> None:
    noon, next_noon = at("2026-05-04T12:00"), at("2026-05-05T12:00")
    night = Line(NIGHT, SHANGHAI)
    assert night.may_carry_bytes(noon, next_noon, 512_000) == 8 * 3600 * 64_000
    capped = Line(NIGHT, SHANGHAI, rate_bps=256_000)
    assert capped.may_carry_bytes(noon, next_noon, 512_000) == 8 * 3600 * 32_000
    counted = Line(NIGHT, SHANGHAI, day_bytes=50_000_000)
    assert counted.may_carry_bytes(noon, next_noon, 512_000) == 100_000_000
